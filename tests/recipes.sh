#!/usr/bin/env bash
# The recipes that the README links (fixtures/recipes/) are true: the files are valid for the tools that read them, every
# setting in them exists, and nginx in front of the real binary behaves as its comments say.
# MCP_FERRY_BIN names the binary; without it, target/release/mcp-ferry is built and used.
# tests/recipes/check.py does the checking and prints the last line, `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
. tests/lib.sh

need nginx nginx python3 python3 openssl openssl redis-server redis-server
python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv

# The schemas of Compose and Kubernetes come inside these packages, so checking needs no network.
venv=$PWD/target/tools/recipes-venv
wanted="$venv $(<tests/recipes/requirements.txt)" # a virtual environment does not survive being moved
if [[ $(cat "$venv/installed" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/recipes/requirements.txt
    printf '%s' "$wanted" >"$venv/installed"
fi

[[ -n ${MCP_FERRY_BIN-} ]] || cargo build --release --locked --quiet
exec "$venv/bin/python" tests/recipes/check.py "${MCP_FERRY_BIN:-target/release/mcp-ferry}"
