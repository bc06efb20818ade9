#!/usr/bin/env bash
# The official conformance suite, against servers directly and through the ferry's /mcp: both must say the same.
# MCP_FERRY_BIN names the ferry's binary; without it, target/release/mcp-ferry is used.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh"
exec node "$here/conformance/main.mjs"
