# Sourced by the scripts beside it, from the repository's top: what they measure with.

# prepare [--smoke]: builds the ferry, unless MCP_FERRY_BIN names one, and the rig, and then waits for its turn, because two
# runs at once would measure each other. Leaves MCP_FERRY_BIN set, and where the rig's programs are in `rig`.
prepare() {
    local target=${CARGO_TARGET_DIR:-$PWD/target/benches} profile=release
    # What judges no times need not be fast, and shares what the rig's own tests have built.
    [ "${1-}" != --smoke ] || profile=dev
    if [ -z "${MCP_FERRY_BIN-}" ]; then
        cargo build --release --locked --target-dir target
        export MCP_FERRY_BIN=$PWD/target/release/mcp-ferry
    fi
    cargo build --profile "$profile" --locked --manifest-path benches/rig/Cargo.toml --target-dir "$target"
    rig=$target/${profile/dev/debug}

    mkdir -p target/benches
    exec 9>target/benches/lock
    flock -w 700 9 || { echo "$0: another run has been measuring for too long" >&2; exit 1; }
}
