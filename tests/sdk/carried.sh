#!/usr/bin/env bash
# Clients that repeat their Last-Event-ID come back to a ferry that was started again, and to another one with the same keys:
# the server hears of them what they said of themselves. MCP_FERRY_BIN names the ferry's binary; without it,
# target/release/mcp-ferry is used.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh"
exec node "$here/driver/carried.mjs"
