#!/usr/bin/env bash
# What a POST costs that another replica takes, beside one that the owner takes, and three replicas beside one, on this
# machine and in one run; prints a table.
#
#   benches/replicas.sh           about a minute
#   benches/replicas.sh --smoke   only whether it all works together, some seconds; judges no times
#
# Builds the ferry and the rig first (MCP_FERRY_BIN names a ferry that is already built, CARGO_TARGET_DIR where the rig
# is built). Needs Debian's nginx, redis-server and nodejs, and installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh
. benches/lib.sh

case "${1-}" in
'' | --smoke) ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' benches/replicas.sh >&2
    exit 2
    ;;
esac
PATH=$PATH:/usr/sbin
need nginx nginx redis-server redis-server node nodejs flock util-linux >&2

prepare "$@"
exec node benches/replicas.mjs "$rig" "$@"
