#!/usr/bin/env bash
# Installs the Rust that Cargo.toml asks for. On a Debian 13 without Rust it is the package from backports, which needs no script
# from the internet; otherwise it is rustup. `rust.sh lint` also installs rustfmt and clippy. debian.sh calls this, as root.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
export PATH=$PATH:$HOME/.cargo/bin

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
# shellcheck source=/dev/null
codename=$(. /etc/os-release; printf '%s' "${VERSION_CODENAME-}")
backports=$codename-backports
sources=/etc/apt/sources.list.d/crosswan-backports.sources

new_enough() { [[ $(printf '%s\n' "$wanted" "$1" | sort -V | head -n1) == "$wanted" ]]; }

rust_is_new_enough() {
    found=none
    command -v rustc cargo >/dev/null || return 1
    found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || { found=none; return 1; }
    new_enough "${found%%-*}"
}

# Prints the version of rustc in backports; prints nothing if there is none.
in_backports() {
    # " rustc | VERSION | http://… SUITE/COMPONENT ARCH Packages"
    apt-cache madison rustc 2>/dev/null | awk -v suite=" $backports/" 'index($0, suite) && !found++ { print $3 }'
}

# Installs Debian's package, or fails. Adding backports changes no other package: apt installs from there only on request.
from_backports() {
    [[ $codename == trixie && $found == none ]] || return
    local version
    if [[ -z $(in_backports) ]]; then
        say "adding $backports to apt's sources, in $sources; apt installs from there only on request"
        printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
            "${CROSSWAN_MIRROR:-http://deb.debian.org/debian}" "$backports" >$sources
        apt-get -qq update >/dev/null 2>&1 || true
    fi
    version=$(in_backports)
    if [[ -z $version ]]; then
        say "there is no rustc in $backports, or it cannot be reached"
        rm -f $sources
        return 1
    elif ! new_enough "${version%%[+-]*}"; then
        say "needs Rust $wanted or newer, and $backports has ${version%%[+-]*}"
        return 1
    fi
    say "installing Rust ${version%%[+-]*} from $backports: a minute or two"
    install -t "$backports" rustc cargo
}

from_rustup() {
    if command -v rustup >/dev/null && [[ $found != none ]]; then
        die "needs Rust $wanted or newer, found $found. To get it: rustup update stable && rustup default stable"
    fi
    if ! command -v rustup >/dev/null; then
        local by_hand="Run this one command, then the same make again:
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
}

if ! rust_is_new_enough; then
    if [[ $EUID != 0 ]]; then
        fetch="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
        command -v curl >/dev/null || fetch="$fetch (curl is missing: as root, apt-get update && apt-get install -y curl)"
        # What root installs with rustup, as on a Debian 12, is root's alone.
        [[ $codename != trixie ]] || fetch="$fetch. Or as root: tests/setup/rust.sh"
        die "needs Rust $wanted or newer, and found $found. As yourself: $fetch"
    fi
    from_backports || from_rustup
    hash -r
    rust_is_new_enough || die "needs Rust $wanted or newer, and found $found. Another rustc comes first in PATH: $(command -v rustc)"
fi
# rustup installs both by default; Debian has a package for each.
if [[ ${1-} == lint ]] && ! command -v rustfmt cargo-clippy >/dev/null; then
    say "installing rustfmt and clippy"
    install -t "$backports" rustfmt rust-clippy || die "rustfmt and clippy are missing, and apt-get could not install them: its output is above"
fi
