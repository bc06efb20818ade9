#!/usr/bin/env bash
# What only a real browser can judge, Debian's Chromium driven by playwright-core: CORS and DNS rebinding
# (tests/browser/check.mjs), and the tap's page (tests/browser/tap.mjs), whose pure parts are tried in Node alone first.
#
#   tests/browser.sh                all
#   tests/browser.sh tap hostile    only this part, see tests/browser/tap.mjs
#
# MCP_FERRY_BIN names the binary; without it, target/release/mcp-ferry is used. The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
. tests/lib.sh
need chromium chromium
tests/sdk/install.sh
tests/browser/install.sh
export CHROMIUM
CHROMIUM=$(command -v chromium)

if [[ ${1-} == tap ]]; then
    exec node tests/browser/tap.mjs "${@:2}"
fi
passed=0 failed=0

# part NAME COMMAND...: runs it and adds the figures of its last line; one that has none counts as failed.
part() {
    local name=$1 status=0 log p f
    shift
    log=$(mktemp)
    echo "-- $name"
    "$@" 2>&1 | tee "$log" || status=$?
    if read -r p f < <(tail -n 1 "$log" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p'); then
        passed=$((passed + p)) failed=$((failed + f))
        ((status == 0 || f > 0)) || failed=$((failed + 1))
    else
        echo "FAIL  $name: no figures, exit code $status"
        failed=$((failed + 1))
    fi
    rm -f "$log"
}

part "the page's pure parts" tests/browser/page/run.sh
part "CORS and rebinding" node tests/browser/check.mjs
part "the tap's page" node tests/browser/tap.mjs
echo "$passed passed, $failed failed"
((failed == 0))
