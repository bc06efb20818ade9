#!/usr/bin/env bash
# Builds the Dockerfile for real without a Docker engine, then checks and runs the image: Debian's buildah, with chroot
# isolation and the plain VFS storage driver, works as root in places where containers cannot nest.
#
# The Dockerfile's base image cannot be pulled everywhere, so an image of the same name is made here once: Debian by
# debootstrap with those packages of the official image that the build uses, and this machine's own Rust toolchain. The
# crates come from this machine's cargo cache, bound into the build while it runs; nothing of that is in the Dockerfile
# or the image.
#
# Everything lives under target/docker: the storage (about 1 GB, keeps the base image), logs, temporary files.
# tests/docker/check.py does the checking and prints the last line, `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
. tests/lib.sh

need buildah buildah debootstrap debootstrap python3 python3 openssl openssl unshare util-linux flock util-linux tar tar
((EUID == 0)) || { echo "must run as root: it makes root file systems"; exit 1; }

home=$PWD/target/docker
suite=$(sed -nE 's/^FROM rust:\$\{RUST_VERSION\}-([a-z]+) AS build$/\1/p' Dockerfile)
rust=$(rustc --version | cut -d ' ' -f 2)
base=docker.io/library/rust:$rust-$suite
image=localhost/mcp-ferry:test
mkdir -p "$home/tmp"
exec 9>"$home/lock"
flock -w 600 9 || { echo "another run holds $home/lock"; exit 1; }

# Storage of our own: nothing of the machine's containers is read or touched.
cat >"$home/storage.conf" <<EOF
[storage]
driver = "vfs"
runroot = "$home/run"
graphroot = "$home/storage"
EOF
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$home/policy.json"
export CONTAINERS_STORAGE_CONF=$home/storage.conf TMPDIR=$home/tmp BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs

clean() { # leaves the base image only
    buildah rm --all >/dev/null 2>&1 || true
    buildah rmi --force "$image" >/dev/null 2>&1 || true
    buildah rmi --prune >/dev/null 2>&1 || true
    rm -rf "$home/tmp"
    mkdir -p "$home/tmp"
}
checked=no
finish() {
    local status=$?
    trap - EXIT
    clean
    [[ $checked == yes ]] || echo "0 passed, 1 failed"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
clean # an earlier run may have been killed

make_base() {
    local sysroot container root
    sysroot=$(rustc --print sysroot)
    [[ -x $sysroot/bin/cargo && $sysroot != /usr ]] ||
        { echo "needs a Rust toolchain in a directory of its own, as rustup installs it; found $sysroot"; return 1; }
    container=$(buildah from --name base scratch)
    root=$(buildah mount "$container")
    nice -n 19 debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev,make "$suite" "$root" \
        ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$home/debootstrap.log" 2>&1 ||
        { tail -n 20 "$home/debootstrap.log"; return 1; }
    mkdir -p "$root/usr/local/cargo" "$root/usr/local/rustup"
    nice -n 19 tar -C "$sysroot" --exclude=bin/rust-analyzer --exclude=bin/miri -c bin lib | nice -n 19 tar -C "$root/usr/local/rustup" -x
    ln -s ../rustup/bin "$root/usr/local/cargo/bin"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    buildah config --env CARGO_HOME=/usr/local/cargo --env RUSTUP_HOME=/usr/local/rustup \
        --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah umount "$container" >/dev/null
    nice -n 19 buildah commit --quiet --rm --format docker --signature-policy "$home/policy.json" "$container" "$base" >/dev/null
}

begin=$SECONDS
if buildah inspect --type image "$base" >/dev/null 2>&1; then
    echo "base image $base: kept from an earlier run"
else
    echo "base image $base: making it with debootstrap"
    make_base
    echo "base image made in $((SECONDS - begin)) s"
fi

# The build finds the crates in the cache and this machine's cargo settings beside it, both bound in read-only, and
# stays off the network. It optimises less than it would elsewhere: what is tested is the image, and the other tests have
# a binary of the real profile.
cargo fetch --locked --quiet
cache=${CARGO_HOME:-$HOME/.cargo}
binds=(--volume "$cache/registry:/usr/local/cargo/registry:ro" --volume "$home/offline.toml:/.cargo/config.toml:ro")
printf '[net]\noffline = true\n[env]\nCFLAGS = "-g0"\n[profile.release]\nopt-level = 0\nlto = "off"\ncodegen-units = 16\n' >"$home/offline.toml"
[[ ! -f $cache/config.toml ]] || binds+=(--volume "$cache/config.toml:/usr/local/cargo/config.toml:ro")

begin=$SECONDS
# At low priority: it takes minutes, and other tests, which look at clocks, may run beside it.
echo "building the image"
nice -n 19 buildah bud --isolation chroot --format docker --pull-never --signature-policy "$home/policy.json" \
    --build-arg "RUST_VERSION=$rust" "${binds[@]}" --tag "$image" . >"$home/build.log" 2>&1 ||
    { tail -n 60 "$home/build.log"; echo "the build failed"; exit 1; }
echo "image built in $((SECONDS - begin)) s (the log is target/docker/build.log)"

buildah inspect --type image "$image" >"$home/inspect.json"
container=$(buildah from --pull-never --name check "$image")
root=$(buildah mount "$container")

# A network of its own, so that the image's real port is free; mounts and processes of its own, so that none outlives
# the check, however it ends.
checked=yes
unshare --net --mount --pid --fork --kill-child --mount-proc \
    python3 tests/docker/check.py "$root" "$home/inspect.json"
