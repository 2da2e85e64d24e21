#!/usr/bin/env bash
# Prepares a fresh Debian 12 or 13 for `make demo`; as `debian.sh fuzz` also for `make test` and `make fuzz`, as
# `debian.sh lint` for `make lint`, as `debian.sh images` for `make deb`, `make image`, `make vm-test` and `make packer-test`.
# It installs what is missing and says so; when nothing is missing it is silent and quick. It starts and enables no service.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin

packages=(
    gcc libc6-dev make ca-certificates              # to build: ring, the cryptography of rustls, needs a C compiler
    charon-systemd strongswan-swanctl               # the gateways of the lab
    libstrongswan-standard-plugins                  #   AES-GCM; only recommended, so apt alone leaves it out
    libcharon-extra-plugins                         #   kernel-libipsec: ESP without the kernel's
    iptables nftables iproute2 iputils-ping         # the gateways' rules, the lab's routers, and to look around
    python3 python3-venv                            # moto, the lab's EC2
    systemd                                         # systemd-analyze, to check the units
    tcpdump                                         # what is on the wire, in a test
    strace                                          # kills the agent at every step of an apply, in a test
)
if [[ ${1-} == images ]]; then
    packages+=(
        dpkg-dev                                    # the package
        mmdebstrap debian-archive-keyring           # the base disk
        e2fsprogs fdisk grub-pc-bin
        qemu-system-x86 qemu-utils openssh-client   # the machines, and Packer's way into them
        openssl                                     # Packer's TLS to EC2, in its test
    )
    command -v go >/dev/null || packages+=(golang-go) # to build Packer; any version fetches the one that go.mod names
fi
[[ ${1-} == fuzz ]] && packages+=(libclang-rt-dev)  # libFuzzer
[[ ${1-} == lint ]] && packages+=(shellcheck git)   # git fetches cargo-deny's advisories

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

[[ $EUID == 0 ]] || die "needs root, for packages and network namespaces. Become root (su -, or sudo -i) and run the same command again"
command -v apt-get dpkg-query >/dev/null || die "needs Debian 12 or 13; this system has no apt. A container or virtual machine of debian:13 will do"

# --- Packages

missing=()
for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done

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

if ((${#missing[@]})); then
    say "fetching the package lists"
    apt-get -qq update || die "apt-get update failed: is the network there?"
    say "installing ${missing[*]}: a minute or two"
    install "${missing[@]}" || die "apt-get could not install ${missing[*]}: its output is above"
    # charon should not start at this machine's next boot either; `systemctl enable strongswan` if you want it to.
    [[ " ${missing[*]} " != *" charon-systemd "* ]] || systemctl --quiet disable strongswan.service 2>/dev/null || true
fi

# --- Rust

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

rust_is_new_enough() {
    found=none
    command -v rustc cargo >/dev/null || return 1
    found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || { found=none; return 1; }
    [[ $(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n1) == "$wanted" ]]
}

if ! rust_is_new_enough; then
    if command -v rustup >/dev/null && [[ $found != none ]]; then
        die "needs Rust $wanted or newer, found $found. To get it: rustup update stable && rustup default stable"
    fi
    if ! command -v rustup >/dev/null; then
        by_hand="Run this one command, then the same make again:
    apt-get install -y curl && curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
        in_debian() { [[ -n $(apt-cache madison rustup 2>/dev/null) ]]; }
        in_debian || apt-get -qq update || true
        in_debian || die "needs Rust $wanted or newer, found $found, and this Debian has no rustup. $by_hand"
        say "needs Rust $wanted or newer, found $found: installing Debian's rustup"
        # This fails where Debian's rustc is installed, because apt would have to remove it: the user decides.
        install rustup || die "apt-get could not install rustup: its output is above. $by_hand"
    fi
    say "fetching the stable Rust toolchain: a minute or two"
    rustup --quiet default stable >&2
    hash -r
    rust_is_new_enough || die "needs Rust $wanted or newer, and stable is $found. Another rustc comes first in PATH: $(command -v rustc)"
fi

# --- cargo-deny, into cargo's own folder, so that `make clean` does not remove it

if [[ ${1-} == lint ]] && ! command -v cargo-deny >/dev/null; then
    say "building cargo-deny: three to five minutes, once"
    env -u CARGO_TARGET_DIR cargo install --quiet --locked cargo-deny@~0.20
fi
