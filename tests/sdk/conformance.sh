#!/usr/bin/env bash
# The official conformance suite: against servers directly and through the ferry's /mcp, where both must say the same,
# and with a legacy client behind the ferry as the client under test.
# MCP_FERRY_BIN names the ferry's binary; without it, target/release/mcp-ferry is used.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh"
exec node "$here/conformance/main.mjs"
