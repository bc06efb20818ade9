# Sourced by the test scripts: installing what a fresh Debian machine lacks, and nothing else.

# need COMMAND PACKAGE [COMMAND PACKAGE ...]: installs by apt the packages whose command is missing, all in one go, and
# fails when a command is missing afterwards. A test that cannot run is a failure, never a skip.
need() {
    local -a pairs=("$@") missing=()
    local i
    for ((i = 0; i < ${#pairs[@]}; i += 2)); do
        command -v "${pairs[i]}" >/dev/null || missing+=("${pairs[i + 1]}")
    done
    if ((${#missing[@]})); then
        apt_install "${missing[@]}" || return 1
    fi
    for ((i = 0; i < ${#pairs[@]}; i += 2)); do
        command -v "${pairs[i]}" >/dev/null && continue
        echo "missing: ${pairs[i]} (Debian package ${pairs[i + 1]})" >&2
        return 1
    done
}

# apt_install PACKAGE...: without recommended extras, and without starting the services that packages bring along.
apt_install() {
    local status=0 policy=/usr/sbin/policy-rc.d ours=no
    echo "installing: $*"
    if ((EUID != 0)); then
        echo "cannot install as uid $EUID: run as root, or install them yourself" >&2
        return 1
    fi
    if [[ ! -e $policy ]]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    apt-get -qq update &&
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null || status=$?
    [[ $ours == no ]] || rm -f "$policy"
    return "$status"
}
