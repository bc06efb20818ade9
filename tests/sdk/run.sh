#!/usr/bin/env bash
# Real MCP clients against real MCP servers, with the ferry between: see README.md.
#   run.sh [--only 'CLIENT×SERVER×SCENARIO'] [--lanes N]
# MCP_FERRY_BIN names the ferry's binary; without it, target/release/mcp-ferry is used.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh"
exec node "$here/driver/main.mjs" "$@"
