#!/usr/bin/env bash
# What real SDK clients do is recorded by the tap and replayed: against the same server and a changed one, through /mcp and
# with 2026-07-28 too. MCP_FERRY_BIN names the ferry's binary; without it, target/release/mcp-ferry is used.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/install.sh"
exec node "$here/driver/replay.mjs"
