#!/usr/bin/env bash
# The one test command: everything that must hold before a change is good, in one go.
#
#   tests/run.sh             all steps
#   tests/run.sh fmt deny    only these
#
# Installs what a fresh Debian machine lacks (as root); caches go under target/. Several steps run at once, every one under
# a time limit; its output is shown indented when it has ended, and is in target/test-logs/ meanwhile. The last line is
# the sum over all steps, `N passed, N failed`: a step that runs tests adds its runner's own figures, any other step
# counts as one. A step that fails without saying so, runs no test, ignores one, or leaves a process behind counts as a
# failure.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
. tests/lib.sh
# Steps find what others have built by its path.
unset CARGO_TARGET_DIR

# name | how its result is read | steps that must have ended before | command
#   one    the exit code is the one test
#   cargo  the `test result:` lines of cargo test
#   line   a last line `N passed, N failed`
# The order is the order of starting. Steps that build in one target directory follow each other, because cargo would make
# them wait anyway; what only has to be done some time (the image's build, the gate on dependencies) gets what the others leave.
steps=(
    "fmt          | one   |             | cargo fmt --check"
    "text         | line  |             | tests/text.sh"
    "build        | one   |             | cargo build --locked && install -D target/debug/mcp-ferry target/tests/mcp-ferry"
    "docker       | line  |             | tests/docker.sh"
    "deny         | one   |             | nice -n 19 tests/deny.sh"
    "sdk          | line  | build       | tests/sdk/run.sh"
    "clippy       | one   | build       | cargo clippy --all-targets --locked -- -D warnings"
    "test         | cargo | clippy      | cargo test --locked --no-fail-fast"
    "vanish       | line  | build       | tests/vanish.sh"
    "soak         | line  | build       | tests/soak.sh 1"
    "replicas     | line  | build       | tests/replicas.sh"
    "conformance  | line  | build       | tests/sdk/conformance.sh"
    "replay       | line  | build       | tests/sdk/replay.sh"
    "carried      | line  | build       | tests/sdk/carried.sh"
    "recipes      | line  | build       | tests/recipes.sh"
    "browser      | line  | build       | tests/browser.sh"
    "admin        | line  | build       | tests/admin.sh"
    "rig          | cargo | test        | cd benches/rig && export CARGO_TARGET_DIR=../../target/benches && cargo fmt --check && cargo clippy --all-targets --locked -- -D warnings && cargo test --locked"
    "doc          | one   | test        | env RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked"
    "benches      | one   | build rig   | benches/run.sh --smoke && benches/replicas.sh --smoke"
    # Thousands of sockets on clocks: these want a core of their own.
    "limits       | line  | sdk test    | tests/limits.sh"
    "drain        | line  | sdk test limits replicas browser | tests/drain.sh"
    # Computes on all cores; it comes when the others, which wait for clocks and peers, are over, but for the benchmarks, which
    # measure nothing here and wait more than they compute.
    "simulation   | cargo | sdk conformance soak drain replicas carried limits vanish recipes browser admin doc | tests/simulation.sh"
)
# So many steps at once; most of them wait more than they compute.
jobs=5
# Nobody debugs these binaries, and the dependencies are compiled once for all steps but the image: the ferry that real
# clients speak to is the one with the checks of a debug build, in a place where no later step of cargo's changes it. C is
# compiled without debugging aids for the same reason.
export MCP_FERRY_BIN=$PWD/target/tests/mcp-ferry
export CFLAGS=-g0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0

# How the steps mark what failed: these lines are said again in the summary.
says_failed='^ *(FAIL|not ok|failed )|\.\.\. FAILED$|^error(\[|:)|panicked at'

# A step counts as hung after this many seconds; far more than any needs, because machines are shared and some steps only
# get what others leave.
limit=2700
logs=target/test-logs
mkdir -p "$logs"
# Every process that a step starts inherits a variable with this and the step's name, whatever session or group it moves
# to; that is how those it leaves behind are found.
run_id="$$-$RANDOM$RANDOM"
passed=0 failed=0 summary=()
declare -A how=() command=() after=() state=() begun=() step_of=()
order=()

children() { # children [STEP]: pids of living processes that a step of this run started
    local file pattern="^FERRY_TEST_RUN=$run_id/${1-}"
    for file in $(grep -lsz "$pattern${1+\$}" /proc/[0-9]*/environ); do
        file=${file#/proc/} && echo "${file%/environ}"
    done
}

kill_children() { # kill_children SIGNAL [STEP]
    local pids signal=$1
    shift
    pids=$(children "$@")
    # shellcheck disable=SC2086 # one argument per pid
    [[ -z $pids ]] || kill -s "$signal" $pids 2>/dev/null || true
}

# Steps that were interrupted get some seconds to put away what they made in the system.
finish() {
    local status=$? deadline=$((SECONDS + 8))
    trap - EXIT
    kill_children TERM
    while [[ -n $(children) ]] && ((SECONDS < deadline)); do sleep 0.2; done
    kill_children KILL
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A step's own processes get this long to end after it has.
left_behind() {
    local deadline=$((SECONDS + 5)) pids
    while pids=$(children "$1") && [[ -n $pids ]] && ((SECONDS < deadline)); do
        sleep 0.1
    done
    # shellcheck disable=SC2086
    [[ -z $pids ]] || ps -o pid=,args= -p ${pids//$'\n'/,} || true
}

# figures HOW LOG: prints "passed failed" as the runner itself reported them, nothing if it reported none.
figures() {
    case $1 in
    cargo)
        awk '/^test result: /{ p += $4; f += $6 + $8; n++ } END { if (n) print p, f }' "$2"
        ;;
    line)
        tail -n 1 "$2" | sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p'
        ;;
    esac
}

start_step() {
    local name=$1
    state[$name]=running begun[$name]=$SECONDS
    printf -- '-- %4d s: %s starts\n' "$SECONDS" "$name"
    (
        status=0
        FERRY_TEST_RUN=$run_id/$name timeout --kill-after=10 "$limit" bash -c "${command[$name]}" || status=$?
        # What this shell has computed, and, in the second line, what all those that were waited for have.
        times >"$logs/$name.times"
        exit "$status"
    ) >"$logs/$name.log" 2>&1 &
    step_of[$!]=$name
}

end_step() { # end_step NAME EXIT-CODE
    local name=$1 status=$2 p=0 f=0 why="" left
    state[$name]=ended
    printf '\n== %s: %s\n' "$name" "${command[$name]}"
    sed 's/^/   /' "$logs/$name.log"

    if [[ ${how[$name]} == one ]]; then
        if ((status == 0)); then p=1; else f=1; fi
    else
        read -r p f < <(figures "${how[$name]}" "$logs/$name.log") || { p=0 f=0 why="no result line; "; }
        ((p > 0)) || { why+="no test passed; "; }
        ((status == 0)) || why+="exit code $status; "
        if [[ -n $why ]] && ((f == 0)); then f=1; fi
    fi
    ((status != 124 && status != 137)) || why+="stopped after $limit s; "
    left=$(left_behind "$name")
    if [[ -n $left ]]; then
        why+="left processes behind; "
        f=$((f + 1))
        printf '   left behind:\n%s\n' "$left"
        kill_children KILL "$name"
    fi
    passed=$((passed + p)) failed=$((failed + f))
    summary+=("$(printf '%-12s %5d passed %5d failed %6d s, computed %s  %s' "$name" "$p" "$f" $((SECONDS - begun[$name])) \
        "$(sed -n '2s/ /+/p' "$logs/$name.times")" "${why%; }")")
    printf -- '-- %4d s: %s\n' "$SECONDS" "${summary[-1]}"
    ((f == 0)) || while read -r left; do
        summary+=("    $left")
    done < <(grep -E "$says_failed" "$logs/$name.log" | tail -n 20 | cut -c 1-1000)
}

# Whether everything that NAME comes after has ended, as far as it was asked for.
may_start() {
    local before
    [[ ${state[$1]} == waiting ]] || return 1
    for before in ${after[$1]}; do
        [[ ${state[$before]-ended} == ended ]] || return 1
    done
}

run_steps() {
    local name ended status
    while :; do
        for name in "${order[@]}"; do
            if ((${#step_of[@]} < jobs)) && may_start "$name"; then start_step "$name"; fi
        done
        ((${#step_of[@]})) || return 0
        status=0
        wait -n -p ended "${!step_of[@]}" || status=$?
        name=${step_of[$ended]}
        unset "step_of[$ended]"
        end_step "$name" "$status"
    done
}

tools() {
    need cargo rustup cc gcc make make git git ps procps unshare util-linux openssl openssl \
        node nodejs npm npm python3 python3 nginx nginx buildah buildah debootstrap debootstrap \
        ip iproute2 prlimit util-linux taskset util-linux faketime faketime redis-server redis-server chromium chromium
    python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3-venv
    cargo fmt --version && cargo clippy --version
}

echo "== tools"
if ! tools; then
    echo "a tool is missing, nothing was tested"
    echo "0 passed, 1 failed"
    exit 1
fi

known=" "
for step in "${steps[@]}"; do
    IFS='|' read -r name kind before line <<<"$step"
    read -r name <<<"$name" && read -r kind <<<"$kind" && read -r line <<<"$line"
    known+="$name "
    (($# == 0)) || [[ " $* " == *" $name "* ]] || continue
    order+=("$name")
    how[$name]=$kind after[$name]=$before command[$name]=$line state[$name]=waiting
done
run_steps
for name in "$@"; do
    [[ $known == *" $name "* ]] || { echo "no such step: $name (there are:$known)" >&2 && failed=$((failed + 1)); }
done

printf '\n== summary\n'
printf '%s\n' "${summary[@]}" "total: $SECONDS s"
echo "$passed passed, $failed failed"
((failed == 0))
