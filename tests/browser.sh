#!/usr/bin/env bash
# CORS and DNS rebinding before a real browser, Debian's Chromium driven by playwright-core: see tests/browser/check.mjs.
# MCP_FERRY_BIN names the binary; without it, target/release/mcp-ferry is used. The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
. tests/lib.sh
need chromium chromium
tests/sdk/install.sh
CHROMIUM=$(command -v chromium) exec node tests/browser/check.mjs
