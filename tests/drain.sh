#!/usr/bin/env bash
# Stopping under load: 500 calls in flight at SIGTERM, and two ferries restarted one after the other behind a balancer.
# MCP_FERRY_BIN names the ferry's binary; without it, target/release/mcp-ferry is used.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/sdk/install.sh"
exec node "$here/sdk/soak/drain.mjs" "$@"
