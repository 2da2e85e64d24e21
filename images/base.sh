#!/usr/bin/env bash
# Builds the plain Debian 13 that replaces Debian's AMI where there is no AWS, as a disk that boots: base.sh OUT.raw.
# `base.sh --tree OUT.tar` stops before the disk. It builds at most once a day, into a cache folder: $CROSSWAN_CACHE, else
# ~/.cache/crosswan.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

say() { printf 'base: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

tree_only=
[[ ${1-} != --tree ]] || { tree_only=1; shift; }
out=${1-}
[[ $out == *.raw || -n $tree_only ]] || die "usage: base.sh OUT.raw, or base.sh --tree OUT.tar; found '$out'"
[[ $EUID == 0 ]] || die "needs root: the tree's files belong to many users"
command -v mmdebstrap mke2fs >/dev/null || die "needs mmdebstrap and e2fsprogs: tests/setup/debian.sh images installs them"

keys=files/all/etc/systemd/system/ssh-host-keys.service
packages=(
    systemd systemd-sysv udev dbus systemd-resolved     # boots, and gets an address by DHCP
    linux-image-cloud-amd64
    openssh-server sudo                                 # how Packer gets in
    ca-certificates iproute2 netbase
    unattended-upgrades                                 # Debian's AMIs have it, too
)
[[ $(dpkg --print-architecture) == amd64 ]] || packages=("${packages[@]/linux-image-cloud-amd64/linux-image-cloud-$(dpkg --print-architecture)}")

# Sets up what a cloud image has. $1 is the tree.
configure() {
    printf 'crosswan\n' >"$1/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 crosswan\n' >"$1/etc/hosts"
    printf 'LABEL=crosswan / ext4 rw,discard,errors=remount-ro 0 1\n' >"$1/etc/fstab"
    # Debian's links point to the newest kernel, also after an upgrade. A busy QEMU fails the kernel's timer check.
    install -d "$1/boot/grub"
    printf '%s\n' 'linux /vmlinuz root=LABEL=crosswan rw quiet no_timer_check console=tty0 console=ttyS0' 'initrd /initrd.img' boot \
        >"$1/boot/grub/grub.cfg"
    ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"
    printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n' >"$1/etc/systemd/network/90-dhcp.network"
    systemctl --root="$1" --quiet enable systemd-networkd systemd-networkd-wait-online systemd-network-generator
    # This looks for LVM snapshots at every boot; there is no LVM.
    systemctl --root="$1" --quiet mask e2scrub_reap.service
    # Nothing that belongs to one machine; each machine makes its own SSH host keys.
    cp "$here/$keys" "$1/etc/systemd/system"
    systemctl --root="$1" --quiet enable ssh-host-keys.service
    rm -f "$1"/etc/ssh/ssh_host_* "$1/var/lib/systemd/random-seed"
    : >"$1/etc/machine-id"
}

make_tree() {
    work=$(mktemp -d)
    trap 'rm -rf --one-file-system "$work"' EXIT
    local log=$work/log root=$work/tree
    say "fetching and unpacking Debian 13: one to four minutes"
    mmdebstrap --quiet --mode=root --variant=minbase --include="$(IFS=,; printf '%s' "${packages[*]}")" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' trixie "$root" >"$log" 2>&1 ||
        { cat "$log" >&2; die "mmdebstrap failed: its output is above"; }
    configure "$root"
    tar -C "$root" --numeric-owner --xattrs --one-file-system -cf "$1.part.$$" .
    mv "$1.part.$$" "$1"
}

# The tree of today's packages and of this script, built now or found in the cache. Prints its path.
tree() {
    local cache=${CROSSWAN_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/crosswan} file
    mkdir -p "$cache"
    file=$cache/base-$(date +%Y%m%d)-$(cat "$here/base.sh" "$here/$keys" | sha256sum | cut -c1-12).tar
    if [[ ! -s $file ]]; then
        rm -f "$cache"/base-*.tar
        (make_tree "$file") >&2
    fi
    printf '%s\n' "$file"
}

start=$SECONDS
tar=$(tree)
mkdir -p "$(dirname "$out")"
if [[ -n $tree_only ]]; then
    ln -sfn "$tar" "$out"
else
    "$here/disk.sh" "$tar" "$out"
fi
say "$out in $((SECONDS - start)) s"
