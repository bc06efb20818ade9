#!/usr/bin/env bash
# The gate on dependencies (.deny.toml): licences, duplicate versions, sources. Compiles the pinned cargo-deny into
# target/tools once, without optimisation because the check itself takes a second.
#
# Known vulnerabilities are not checked here: `cargo deny check advisories` fetches its database from GitHub, and a test
# must not turn red by itself on a day when nothing changed. Run it by hand, or on a schedule.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
tools=$PWD/target/tools

if [[ $("$tools/bin/cargo-deny" --version 2>/dev/null) != "cargo-deny $version" ]]; then
    CARGO_TARGET_DIR=$tools/build cargo install --locked --debug --force --root "$tools" "cargo-deny@$version"
    rm -rf "$tools/build"
fi
"$tools/bin/cargo-deny" --locked check licenses bans sources
