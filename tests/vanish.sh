#!/usr/bin/env bash
# Peers that vanish without a word, over real links between network namespaces: see tests/vanish/check.py. Needs root and
# the right to make namespaces; without them it fails, and says so. About a minute, nearly all of it waiting.
# MCP_FERRY_BIN names the binary; without it, target/release/mcp-ferry is used. The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
. tests/lib.sh
need python3 python3 ip iproute2

# However this ends, nothing of it stays in the system.
prefix=ferry-$$
finish() {
    local status=$? name
    trap - EXIT
    for name in $(ip netns list | awk -v prefix="$prefix-" 'index($1, prefix) == 1 { print $1 }'); do
        ip netns pids "$name" | xargs -r kill -9 || true
        ip netns delete "$name" || true
    done
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
python3 tests/vanish/check.py "${MCP_FERRY_BIN:-target/release/mcp-ferry}" "$prefix" &
wait $!
