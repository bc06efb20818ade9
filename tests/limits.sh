#!/usr/bin/env bash
# What the ferry holds out against, with the real program and thousands of sockets: slow senders, clients that do not
# read, caps, no descriptors left, a wall clock that jumps, one core, large messages. Loopback only; about a minute.
#   tests/limits.sh [NAME...]     only these of tests/limits/
# MCP_FERRY_BIN names the binary; without it, target/release/mcp-ferry is used. The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
. tests/lib.sh
need python3 python3 prlimit util-linux taskset util-linux faketime faketime

checks=("$@")
((${#checks[@]})) || checks=(keep_alive stalled amplify slow_senders clock descriptors caps)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Two at a time: much of it is waiting for a limit to pass. What each says is shown when it has ended.
export logs
printf '%s\n' "${checks[@]}" | xargs -P 2 -I '{}' bash -c '
    python3 "tests/limits/{}.py" >"$logs/{}" 2>&1 || echo "exit code $?" >>"$logs/{}"
    sed "s/^/{}: /" "$logs/{}"
'
passed=$(cat "$logs"/* | grep -c '^ok  ' || true)
failed=$(cat "$logs"/* | grep -c '^FAIL  ' || true)
# One that ended without a word counts too.
for check in "${checks[@]}"; do
    grep -qE '^(ok|FAIL)  ' "$logs/$check" || failed=$((failed + 1))
done
echo "$passed passed, $failed failed"
((failed == 0))
