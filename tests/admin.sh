#!/usr/bin/env bash
# The metrics before the parser of Prometheus' own Python client, which is strict about OpenMetrics: after a few requests of a
# real ferry (the demo) every line must parse, and the families must be named and typed by the rules.
# MCP_FERRY_BIN names the binary; without it, target/release/mcp-ferry is used. The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
. tests/lib.sh
need python3 python3 curl curl unshare util-linux
python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
binary=${MCP_FERRY_BIN:-target/release/mcp-ferry}
python=target/admin/bin/python
if ! "$python" -c 'import prometheus_client' 2>/dev/null; then
    python3 -m venv target/admin
    "$python" -m pip install --quiet --disable-pip-version-check -r tests/admin/requirements.txt
fi
exec "$python" tests/admin/check.py "$binary"
