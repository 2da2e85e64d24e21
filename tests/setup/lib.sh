# What the scripts in this folder share; they source it.
# shellcheck shell=bash

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# Installs packages quietly, and waits for an upgrade that runs at boot. It shows apt's output only on failure, removes nothing and starts no service.
install() (
    log=$(mktemp) policy=/usr/sbin/policy-rc.d ours=
    trap 'rm -f "$log"; [[ -z $ours ]] || rm -f "$policy"' EXIT
    # A package's service would start now without asking; a policy-rc.d prevents that. An existing one stays.
    if [[ ! -e $policy ]]; then
        ours=1
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-remove --no-install-recommends "$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; exit 1; }
)
