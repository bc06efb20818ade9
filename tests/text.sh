#!/usr/bin/env bash
# House rules that can be read off the repository's own text. Looks at tracked files only; patterns are written so that
# they do not find themselves. The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."

passed=0 failed=0

# none NAME FINDINGS: passes when there are no findings, shows them otherwise.
none() {
    if [[ -z $2 ]]; then
        echo "ok    $1"
        passed=$((passed + 1))
    else
        echo "FAIL  $1"
        head -n 20 <<<"$2" | cut -c1-200 | sed 's/^/      /'
        failed=$((failed + 1))
    fi
}

# found PATTERN PATH...: tracked lines that match. git grep says 1 for "nothing", more for an error.
found() {
    local pattern=$1 status=0
    shift
    git grep -nIE "$pattern" -- "$@" || status=$?
    ((status <= 1)) || echo "git grep failed with $status"
}

none "no path of somebody's machine" \
    "$(found '(^|[^[:alnum:].])/(roo[t]|hom[e]|wor[k]|User[s])/[[:alnum:]._-]|/tm[p]/[[:alnum:]]' . ':!*.lock')"
none "no registry address in a lock file or a setting" "$(
    found '"resolve[d]": *"|^(registry|index-url|extra-index-url|replace-with) *=|artifactor[y]' . ':!*Cargo.lock'
    git grep -n '^source = ' -- '*Cargo.lock' | grep -v 'registry+https://github.com/rust-lang/crates.io-index"$' || true
)"
none "Cargo.lock is tracked" "$(git ls-files --error-unmatch Cargo.lock 2>&1 >/dev/null || true)"
none "nothing unfinished: stubs, ignored tests, marks" "$(
    found '\b(tod[o]!|unimplemente[d]!)|#\[ignor[e]|FIXM[E]|XX[X]|TOD[O]' . ':!*.lock' ':!*package-lock.json'
    found '\.(ski[p]|tod[o]|onl[y])\(|pytest\.mark\.(ski[p]|xfai[l])' '*.py' '*.js' '*.mjs' '*.ts'
)"
none "no merge marks" "$(found '^(<<<<<<<|>>>>>>>) ' .)"
none "no file of a megabyte or more" \
    "$(git ls-files -z | xargs -0 -r du -k --apparent-size -- 2>/dev/null | awk '$1 >= 1024')"

headless=""
while IFS= read -r file; do
    # The first line, or the second after a #! line.
    line=$(head -n 1 "$file")
    [[ $line != '#!'* ]] || line=$(sed -n 2p "$file")
    case $file in
    *.rs) pattern='^(//!|//|#!\[doc)' ;;
    *.py) pattern='^("""|#)' ;;
    *.sh | *.toml | *.yaml | *.conf | *Dockerfile | .ci/run) pattern='^#' ;;
    *.mjs | *.js | *.ts) pattern='^(//|/\*)' ;;
    esac
    [[ $line =~ $pattern ]] || headless+="$file: $line"$'\n'
done < <(git ls-files '*.rs' '*.py' '*.sh' '*.mjs' '*.js' '*.ts' 'Dockerfile' '.ci/run' 'fixtures/recipes/*' '.*.toml')
none "every source file opens with what it is for" "${headless%$'\n'}"

echo "$passed passed, $failed failed"
((failed == 0))
