#!/usr/bin/env bash
# The one test command: everything that must hold before a change is good, in one go.
#
#   tests/run.sh             all steps
#   tests/run.sh fmt deny    only these
#
# Installs what a fresh Debian machine lacks (as root); caches go under target/. Every step runs under a time limit, its
# output is shown indented and kept in target/test-logs/. The last line is the sum over all steps, `N passed, N failed`:
# a step that runs tests adds its runner's own figures, any other step counts as one. A step that fails without saying
# so, runs no test, ignores one, or leaves a process behind counts as a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
. tests/lib.sh

# name | how its result is read | command
#   one    the exit code is the one test
#   cargo  the `test result:` lines of cargo test
#   line   a last line `N passed, N failed`
steps=(
    "fmt          | one   | cargo fmt --check"
    "clippy       | one   | cargo clippy --all-targets --locked -- -D warnings"
    "test         | cargo | cargo test --locked --no-fail-fast"
    "simulation   | cargo | cd tests/simulation/fast && SIMULATION=100000 CARGO_TARGET_DIR=../../../target/simulation cargo test --locked -- --nocapture"
    "doc          | one   | env RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked"
    "deny         | one   | tests/deny.sh"
    "build        | one   | cargo build --release --locked"
    "text         | line  | tests/text.sh"
    "recipes      | line  | tests/recipes.sh"
    "sdk          | line  | tests/sdk/run.sh"
    "conformance  | line  | tests/sdk/conformance.sh"
    "rig          | cargo | cd benches/rig && export CARGO_TARGET_DIR=../../target/benches && cargo fmt --check && cargo clippy --all-targets --locked -- -D warnings && cargo test --locked"
    "benches      | one   | benches/run.sh --smoke"
    "docker       | line  | tests/docker.sh"
)

# A step counts as hung after this many seconds; far more than any needs, because machines are shared.
limit=1800
logs=target/test-logs
mkdir -p "$logs"
# Every process that a step starts inherits this variable, whatever session or group it moves to; that is how those it
# leaves behind are found.
run_id="$$-$RANDOM$RANDOM"
passed=0 failed=0 summary=()

children() { # children: pids of living processes that a step of this run started
    local file
    for file in $(grep -lsz "^FERRY_TEST_RUN=$run_id\$" /proc/[0-9]*/environ); do
        file=${file#/proc/} && echo "${file%/environ}"
    done
}

kill_children() {
    local pids
    pids=$(children)
    # shellcheck disable=SC2086 # one argument per pid
    [[ -z $pids ]] || kill -9 $pids 2>/dev/null || true
}

finish() {
    local status=$?
    trap - EXIT
    kill_children
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A step's own processes get this long to end after it has.
left_behind() {
    local deadline=$((SECONDS + 5)) pids
    while pids=$(children) && [[ -n $pids ]] && ((SECONDS < deadline)); do
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

run_step() {
    local name=$1 how=$2 command=$3
    local log="$logs/$name.log" begin=$SECONDS pid shower status=0 p=0 f=0 why="" left
    printf '\n== %s: %s\n' "$name" "$command"
    : >"$log"
    FERRY_TEST_RUN=$run_id timeout --kill-after=10 "$limit" bash -c "$command" >"$log" 2>&1 &
    pid=$!
    # In the background, because a trap has to wait for a command in the foreground, but not for `wait`.
    tail -n +1 -s 0.2 -f --pid="$pid" "$log" | sed -u 's/^/   /' &
    shower=$!
    wait "$pid" || status=$?
    wait "$shower" || true

    if [[ $how == one ]]; then
        if ((status == 0)); then p=1; else f=1; fi
    else
        read -r p f < <(figures "$how" "$log") || { p=0 f=0 why="no result line; "; }
        ((p > 0)) || { why+="no test passed; "; }
        ((status == 0)) || why+="exit code $status; "
        if [[ -n $why ]] && ((f == 0)); then f=1; fi
    fi
    ((status != 124 && status != 137)) || why+="stopped after $limit s; "
    left=$(left_behind)
    if [[ -n $left ]]; then
        why+="left processes behind; "
        f=$((f + 1))
        printf '   left behind:\n%s\n' "$left"
        kill_children
    fi
    passed=$((passed + p)) failed=$((failed + f))
    summary+=("$(printf '%-12s %5d passed %5d failed %6d s  %s' "$name" "$p" "$f" $((SECONDS - begin)) "${why%; }")")
}

tools() {
    need cargo rustup cc gcc make make git git ps procps unshare util-linux openssl openssl \
        node nodejs npm npm python3 python3 nginx nginx buildah buildah debootstrap debootstrap
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
    IFS='|' read -r name how command <<<"$step"
    read -r name <<<"$name" && read -r how <<<"$how" && read -r command <<<"$command"
    known+="$name "
    if (($# == 0)) || [[ " $* " == *" $name "* ]]; then
        run_step "$name" "$how" "$command"
    fi
done
for name in "$@"; do
    [[ $known == *" $name "* ]] || { echo "no such step: $name (there are:$known)" >&2 && failed=$((failed + 1)); }
done

printf '\n== summary\n'
printf '%s\n' "${summary[@]}" "total: $SECONDS s"
echo "$passed passed, $failed failed"
((failed == 0))
