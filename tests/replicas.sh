#!/usr/bin/env bash
# Several replicas with a real Redis, nginx and real SDK clients: what crosses, what it costs, who may be killed when, and
# what a Redis that lies gains. See tests/SOAK.md.
#   tests/replicas.sh [NAME...]      the parts of these names, or all
# MCP_FERRY_BIN names the ferry's binary; without it, target/release/mcp-ferry is used.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec </dev/null
. "$here/lib.sh"
PATH=$PATH:/usr/sbin
need redis-server redis-server nginx nginx
"$here/sdk/install.sh"
exec node "$here/sdk/replicas/main.mjs" "$@"
