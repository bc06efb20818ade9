#!/usr/bin/env bash
# Compiles the allocator once for all builds of a test run: it is the larger half of compiling everything, and the same
# in every profile.
#
#   tests/allocator.sh              keeps the one that the release build has compiled
#   tests/allocator.sh COMMAND...   runs a command whose build links the one that was kept, if any was
set -euo pipefail
cd "$(dirname "$0")/.."
kept=$PWD/target/allocator/libjemalloc_pic.a
if (($#)); then
    [[ ! -e $kept ]] || export JEMALLOC_OVERRIDE=$kept
    exec "$@"
fi
built=$(ls -t target/release/build/tikv-jemalloc-sys-*/out/lib/libjemalloc_pic.a | head -n 1)
mkdir -p target/allocator
cmp -s "$built" "$kept" || cp "$built" "$kept"
