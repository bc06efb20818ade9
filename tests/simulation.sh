#!/usr/bin/env bash
# 100,000 seeds of the simulation (tests/simulation/main.rs), compiled to be fast. The same sources get the same seeds, so
# that a change is judged by itself; SIMULATION_FROM= (empty) takes others each time, SIMULATION=… so many of them.
set -euo pipefail
cd "$(dirname "$0")/simulation/fast"
sources() { cat ../*.rs ../*/*.rs $(find ../../../src/proto -name '*.rs' | LC_ALL=C sort); }
export SIMULATION=${SIMULATION-100000} SIMULATION_FROM=${SIMULATION_FROM-$(sources | cksum | cut -d ' ' -f 1)}
[[ -n $SIMULATION_FROM ]] || unset SIMULATION_FROM
CARGO_TARGET_DIR=../../../target/simulation exec nice -n 10 cargo test --locked -- --nocapture
