#!/usr/bin/env bash
# Installs what judges the exported files (a HAR validator, Mermaid) under target/browser, by the pins of the lock file. Does
# nothing when they are there and the pins unchanged.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
into=$(mkdir -p "$here/../../target/browser" && cd "$here/../../target/browser" && pwd)
exec 8>"$into/lock"
flock -w 900 8 || { echo "another installation holds $into/lock" >&2; exit 1; }
pins=$(sha256sum <"$here/package-lock.json")$(node --version)
if [ "$(cat "$into/stamp" 2>/dev/null)" != "$pins" ]; then
  cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$into/"
  npm ci --prefix "$into" --loglevel=error >/dev/null
  printf '%s' "$pins" >"$into/stamp"
fi
ln -sfn ../../target/browser/node_modules "$here/node_modules"
