#!/usr/bin/env bash
# Installs the pinned SDKs of the rig under target/sdk: npm packages into one node_modules with an alias per
# version, a Python environment per `mcp` version. Does nothing when they are there and the pins unchanged.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
into=$(mkdir -p "$here/../../target/sdk" && cd "$here/../../target/sdk" && pwd)

# Several steps of a test run may want this at the same time.
exec 8>"$into/lock"
flock -w 900 8 || { echo "another installation holds $into/lock" >&2; exit 1; }

# What the pins cannot bring: Node 20 or later, and a Python that can make environments.
missing=()
command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
node -e 'if (parseInt(process.versions.node) < 20) { console.error(`Node 20 or later is needed, found ${process.version}`); process.exit(1) }'

# Runs its arguments unless the stamp says they already ran for these pins.
once() { # stamp-name files-of-pins... -- command...
  local stamp=$into/$1.stamp pins=()
  shift
  while [ "$1" != -- ]; do pins+=("$1"); shift; done
  shift
  local sum
  sum=$(cat "${pins[@]}" | sha256sum)$(node --version)$(python3 --version)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ]; then
    "$@"
    printf '%s' "$sum" >"$stamp"
  fi
}

node_packages() {
  cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$into/"
  # One of the packages asks for Node 22 in its manifest and runs on 20; the warning is noise.
  npm ci --prefix "$into" --loglevel=error >/dev/null
}

python_packages() {
  local version=$1
  rm -rf "$into/py-$version"
  python3 -m venv --without-pip "$into/py-$version"
  "$into/pip/bin/pip" --python "$into/py-$version/bin/python" install --quiet --disable-pip-version-check \
    -r "$here/requirements-$version.txt"
}

# One pip for all of them: bringing it into an environment takes longer than what it installs there.
installer() {
  rm -rf "$into/pip"
  python3 -m venv "$into/pip"
}
once pip /dev/null -- installer

# Side by side: most of the time is waiting for the registries.
jobs=()
once node "$here/package-lock.json" -- node_packages &
jobs+=($!)
for pins in "$here"/requirements-*.txt; do
  version=${pins##*/requirements-}
  version=${version%.txt}
  once "py-$version" "$pins" -- python_packages "$version" &
  jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
ln -sfn ../../target/sdk/node_modules "$here/node_modules"
