#!/usr/bin/env bash
# The pure modules of the tap's page in Node. The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")"
status=0
report=$(node --test --test-reporter=tap ./*.test.mjs) || status=$?
((status == 0)) || echo "$report"
passed=$(sed -nE 's/^# pass ([0-9]+)$/\1/p' <<<"$report")
failed=$(sed -nE 's/^# (fail|cancelled|skipped) ([0-9]+)$/\2/p' <<<"$report" | awk '{ sum += $1 } END { print sum + 0 }')
echo "$passed passed, $failed failed"
((status == 0 && failed == 0))
