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

case "${1-}" in
'' | --smoke) ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' benches/replicas.sh >&2
    exit 2
    ;;
esac
PATH=$PATH:/usr/sbin
need nginx nginx redis-server redis-server node nodejs flock util-linux >&2

if [ -z "${MCP_FERRY_BIN-}" ]; then
    cargo build --release --locked --target-dir target
    export MCP_FERRY_BIN=$PWD/target/release/mcp-ferry
fi
rig_target=${CARGO_TARGET_DIR:-$PWD/target/benches}
# As in run.sh: what judges no times shares what the rig's own tests have built.
profile=$([ "${1-}" = --smoke ] && echo dev || echo release)
cargo build --profile "$profile" --locked --manifest-path benches/rig/Cargo.toml --target-dir "$rig_target"

# Two runs at once would measure each other.
mkdir -p target/benches
exec 9>target/benches/lock
flock -w 700 9 || { echo "benches/replicas.sh: another run has been measuring for too long" >&2; exit 1; }
exec node benches/replicas.mjs "$rig_target/${profile/dev/debug}" "$@"
