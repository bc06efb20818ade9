#!/usr/bin/env bash
# Real clients under random faults for so many minutes, and the ledger kept from outside: see tests/SOAK.md.
#   tests/soak.sh MINUTES [--seed N]
# MCP_FERRY_BIN names the ferry's binary; without it, target/release/mcp-ferry is used.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/sdk/install.sh"
exec node "$here/sdk/soak/main.mjs" "$@"
