#!/usr/bin/env bash
# Measures mcp-ferry beside nginx on this machine and prints the table of budgets.
#
#   benches/run.sh           the full table, up to fifteen minutes; also written to benches/RESULTS.md
#   benches/run.sh --quick   the same table from fewer and shorter windows, up to two minutes; printed only
#   benches/run.sh --smoke   only whether the rig and the ferry work together, some seconds; judges no times
#
# Builds the ferry and the rig first (MCP_FERRY_BIN names a ferry that is already built, CARGO_TARGET_DIR where the rig
# is built). Needs Debian's nginx and, for 10,000 connections, a limit of 12,000 open files; installs the one and
# raises the other where it may. The full table also tells what the tap costs when nobody watches: from a second build
# without it, and Debian's valgrind, which counts instructions; not where MCP_FERRY_BIN names the ferry.
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/lib.sh

case "${1-}" in
'' | --quick | --smoke) ;;
*)
    sed -n '2,12s/^# \{0,1\}//p' benches/run.sh >&2
    exit 2
    ;;
esac

find_nginx() { command -v nginx || { [ -x /usr/sbin/nginx ] && echo /usr/sbin/nginx; }; }
install() {
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq >&2
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}
if ! find_nginx >/dev/null; then
    install nginx
    # Only the program is wanted: where the package started a service, it is stopped again.
    if [ -d /run/systemd/system ]; then $sudo systemctl disable --now nginx >&2; fi
fi

without_tap=
if [ -z "${1-}${MCP_FERRY_BIN-}" ]; then
    command -v valgrind >/dev/null || install valgrind
    MCP_FERRY_WITHOUT_TAP=1 cargo build --release --locked --target-dir target
    mkdir -p target/benches
    without_tap=$PWD/target/benches/mcp-ferry-without-tap
    cp target/release/mcp-ferry "$without_tap"
fi

ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
if [ "${1-}" != --smoke ] && [ "$(ulimit -n)" -lt 12000 ]; then
    echo "benches/run.sh: open files are limited to $(ulimit -n), 12000 are needed; raise the hard limit" >&2
    exit 1
fi

prepare "$@"
arguments=(--ferry "$MCP_FERRY_BIN" --nginx "$(find_nginx)" --work target/benches/run --command "benches/run.sh${1+ $1}")
case "${1-}" in
'') arguments+=(--results benches/RESULTS.md ${without_tap:+--without-tap "$without_tap"}) ;;
*) arguments+=("$1") ;;
esac
exec "$rig/bench" "${arguments[@]}"
