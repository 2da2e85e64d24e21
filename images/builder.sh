#!/usr/bin/env bash
# Runs a command in a Debian 13 tree that builds for amd64 and arm64: builder.sh COMMAND [ARGUMENT ...].
# The command starts in /src, which is this repository, read-only. /target is $CARGO_TARGET_DIR/builder, else target/builder.
# These paths are the same on every machine, so the binaries are the same too. The tree is made once and kept in $CROSSWAN_CACHE,
# else ~/.cache/crosswan. Nothing is installed on this machine, and its architectures do not change.
# $CROSSWAN_SOURCE builds another folder, as /dist. $CROSSWAN_PACKAGES replaces target/package as /target/package.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")

say() { printf 'builder: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

(($#)) || die "usage: builder.sh COMMAND [ARGUMENT ...]"
[[ $EUID == 0 ]] || die "needs root: the command runs in a Debian tree of its own"
command -v mmdebstrap >/dev/null || die "needs mmdebstrap: tests/setup/debian.sh images installs it"

native=$(dpkg --print-architecture)
case $native in
amd64) other=arm64 triplet=aarch64-linux-gnu ;;
arm64) other=amd64 triplet=x86_64-linux-gnu ;;
*) die "crosswan is built on amd64 and arm64; this machine is $native" ;;
esac
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml")
mirror=${CROSSWAN_MIRROR:-http://deb.debian.org/debian}
packages=(
    ca-certificates dpkg-dev xz-utils
    gcc libc6-dev                                       # ring, the cryptography of rustls, needs C
    "gcc-${triplet//_/-}" "libc6-dev-$other-cross"
    qemu-user                                           # runs programs of the other architecture
)
rust=(rustc cargo "libstd-rust-dev:$other")             # from backports, because trixie's own Rust is too old

# Explains a failure of mmdebstrap, with the remedy where it is known, and exits. $1 is the file with its output.
explain() {
    cat "$1" >&2
    if grep -q "^E: Failed to fetch .*/binary-$other/" "$1"; then
        die "$mirror has no packages for $other. Name a mirror that has them: CROSSWAN_MIRROR=http://…/debian"
    elif grep -q "^E: .* trixie-backports .*Release" "$1"; then
        die "$mirror has no trixie-backports, where Rust $wanted comes from. Name a mirror that has it: CROSSWAN_MIRROR=http://…/debian"
    fi
    die "could not make the Debian 13 to build in: the reason is above"
}

make_tree() {
    local part=$1.part.$$ log
    log=$(mktemp)
    # shellcheck disable=SC2064
    trap "rm -rf --one-file-system '$part' '$log'" EXIT
    say "making a Debian 13 that builds for amd64 and arm64, with Rust from its backports: two to five minutes, once"
    # shellcheck disable=SC2016 # $1 is the hook's
    mmdebstrap --mode=root --variant=minbase --architectures="$native,$other" \
        --include="$(IFS=,; printf '%s' "${packages[*]}")" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' --aptopt='APT::Update::Error-Mode "any"' \
        --customize-hook='chroot "$1" apt-get install -q -y -t trixie-backports '"${rust[*]}" \
        trixie "$part" "deb $mirror trixie main" "deb $mirror trixie-backports main" >"$log" 2>&1 </dev/null || explain "$log"
    mkdir -p "$part"/{src,dist,target,cargo}
    mv "$part" "$1"
}

# Exits unless the tree's compiler is as new as Cargo.toml asks for. $1 is the tree.
check_rust() {
    local found
    found=$(chroot "$1" rustc --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n1) == "$wanted" ]] ||
        die "needs Rust $wanted or newer, and $1 has $found. Remove that folder and run this again: Debian 13's backports may have a newer Rust by now. If they have none, build on a machine of that architecture with rustup's Rust"
}

cache=${CROSSWAN_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/crosswan}
mkdir -p "$cache"
tree=$cache/builder-$(printf '%s\n' "$native" "$mirror" "${packages[@]}" "${rust[@]}" | sha256sum | cut -c1-12)
exec 9>"$cache/builder.lock"
flock 9
if [[ ! -d $tree ]]; then
    # Remove what a killed run left, and older trees unless somebody is building in them.
    for old in "$cache"/builder-*/; do
        [[ ! -d $old ]] || flock -n "$old" rm -rf --one-file-system "$old" || true
    done
    start=$SECONDS
    (make_tree "$tree")
    say "$(chroot "$tree" rustc --version) for amd64 and arm64, in $tree, $(du -sm "$tree" | cut -f1) MB, made in $((SECONDS - start)) s"
fi
check_rust "$tree"
exec 8<"$tree" 9>&-
flock -s 8 # held until the command ends

# Cargo decides by paths and file times what to build again, so another folder gets another path.
source=$(realpath "${CROSSWAN_SOURCE:-$top}") at=${CROSSWAN_SOURCE:+dist}
target=${CARGO_TARGET_DIR:-$top/target}
debs=${CROSSWAN_PACKAGES:-$target/package}
mkdir -p "$target/builder" "$debs"
target=$(realpath "$target/builder") debs=$(realpath "$debs")
# Share the registry's folder with the user's cargo, so that nothing is fetched twice.
registry=${CARGO_HOME:-${HOME:-/root}/.cargo}/registry
mkdir -p "$registry"

rust_target=${triplet/-linux/-unknown-linux}
cargo_target=${rust_target^^}
environment=(
    PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 CARGO_HOME=/cargo CARGO_TARGET_DIR=/target CROSSWAN_BUILDER=1
    "CARGO_TARGET_${cargo_target//-/_}_LINKER=$triplet-gcc" "CC_${rust_target//-/_}=$triplet-gcc"
    "CARGO_TARGET_${cargo_target//-/_}_RUNNER=qemu-${triplet%%-*}"
)
for name in SOURCE_DATE_EPOCH http_proxy https_proxy no_proxy; do
    [[ -z ${!name-} ]] || environment+=("$name=${!name}")
done

# All mounts disappear with the command, however it ends.
# shellcheck disable=SC2016
exec unshare --mount --pid --fork --kill-child --propagation private bash -euc '
    tree=$1 source=$2 at=$3 target=$4 debs=$5 registry=$6
    shift 6
    mount --bind "$tree" "$tree"
    mount -o bind,remount,ro "$tree"
    cd "$tree"
    mount -t proc proc proc
    mount --rbind /dev dev
    mount -t tmpfs -o mode=1777 tmpfs tmp
    mount -t tmpfs -o mode=755 tmpfs cargo
    mkdir cargo/registry
    mount --bind "$registry" cargo/registry
    mount --bind "$source" "$at"
    mount -o bind,remount,ro "$at"
    mount --bind "$target" target
    mkdir -p target/package
    mount --bind "$debs" target/package
    touch cargo/resolv.conf
    cat /etc/resolv.conf >cargo/resolv.conf
    mount --bind cargo/resolv.conf "$(realpath -m etc/resolv.conf)"
    exec chroot . /usr/bin/env -i --chdir="/$at" "$@"' - "$tree" "$source" "${at:-src}" "$target" "$debs" "$registry" "${environment[@]}" "$@"
