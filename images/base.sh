#!/usr/bin/env bash
# Builds the plain Debian 13 that replaces Debian's AMI where there is no AWS, as a disk that boots: base.sh OUT.raw [ARCH].
# ARCH is amd64 or arm64, by default this machine's. `base.sh --tree OUT.tar [ARCH]` stops before the disk. It builds at most once
# a day, into a cache folder: $CROSSWAN_CACHE, else ~/.cache/crosswan.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

say() { printf 'base: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

tree_only='' make=
[[ ${1-} != --tree ]] || { tree_only=1; shift; }
[[ ${1-} != --make ]] || { make=1 tree_only=1; shift; }     # used by tree() below
native=$(dpkg --print-architecture)
out=${1-} arch=${2:-$native}
[[ $out == *.raw || -n $tree_only ]] || die "usage: base.sh OUT.raw [ARCH], or base.sh --tree OUT.tar [ARCH]; found '$out'"
[[ $arch =~ ^(amd64|arm64)$ ]] || die "ARCH is amd64 or arm64; found '$arch'"
[[ $EUID == 0 ]] || die "needs root: the tree's files belong to many users"
command -v mmdebstrap mke2fs >/dev/null || die "needs mmdebstrap and e2fsprogs: tests/setup/debian.sh images installs them"

keys=files/all/etc/systemd/system/ssh-host-keys.service
packages=(
    systemd systemd-sysv udev dbus systemd-resolved     # boots, and gets an address by DHCP
    "linux-image-cloud-$arch"
    openssh-server sudo                                 # how Packer gets in
    ca-certificates iproute2 netbase
    unattended-upgrades                                 # Debian's AMIs have it, too
)
# On amd64 disk.sh takes GRUB from this machine. For UEFI it is made inside the tree, by packages that are then removed.
console=ttyS0 grub=()
[[ $arch == amd64 ]] || console=ttyAMA0 grub=(grub-efi-arm64-bin grub-common)

# Sets up what a cloud image has. $1 is the tree.
configure() {
    printf 'crosswan\n' >"$1/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 crosswan\n' >"$1/etc/hosts"
    printf 'LABEL=crosswan / ext4 rw,discard,errors=remount-ro 0 1\n' >"$1/etc/fstab"
    # Debian's links point to the newest kernel, also after an upgrade. A busy QEMU fails the kernel's timer check.
    install -d "$1/boot/grub"
    printf '%s\n' "linux /vmlinuz root=LABEL=crosswan rw quiet no_timer_check console=tty0 console=$console" 'initrd /initrd.img' boot \
        >"$1/boot/grub/grub.cfg"
    ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"
    printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n' >"$1/etc/systemd/network/90-dhcp.network"
    systemctl --root="$1" --quiet enable systemd-networkd systemd-networkd-wait-online systemd-network-generator
    # This looks for LVM snapshots at every boot; there is no LVM.
    systemctl --root="$1" --quiet mask e2scrub_reap.service
    ((${#grub[@]} == 0)) || make_efi "$1"
    # Nothing that belongs to one machine; each machine makes its own SSH host keys.
    cp "$here/$keys" "$1/etc/systemd/system"
    systemctl --root="$1" --quiet enable ssh-host-keys.service
    rm -f "$1"/etc/ssh/ssh_host_* "$1/var/lib/systemd/random-seed"
    : >"$1/etc/machine-id"
}

# Puts GRUB where UEFI looks for it on a removable disk. It finds the root file system by its label. $1 is the tree.
make_efi() {
    install -d "$1/boot/efi/EFI/BOOT"
    # shellcheck disable=SC2016
    printf 'search.fs_label crosswan root\nset prefix=($root)/boot/grub\n' >"$1/tmp/early.cfg"
    chroot "$1" grub-mkimage -O arm64-efi -p /boot/grub -c /tmp/early.cfg -o /boot/efi/EFI/BOOT/BOOTAA64.EFI \
        part_msdos ext2 search_label normal configfile linux echo
    rm "$1/tmp/early.cfg"
    # Their removal would make the same initramfs once more, which takes minutes under emulation.
    sed -i.kept 's/^update_initramfs=.*/update_initramfs=no/' "$1/etc/initramfs-tools/update-initramfs.conf"
    DEBIAN_FRONTEND=noninteractive chroot "$1" apt-get -q -y purge --autoremove "${grub[@]}"
    mv "$1/etc/initramfs-tools/update-initramfs.conf.kept" "$1/etc/initramfs-tools/update-initramfs.conf"
}

make_tree() {
    work=$(mktemp -d)
    trap 'rm -rf --one-file-system "$work"' EXIT
    local log=$work/log root=$work/tree
    say "fetching and unpacking Debian 13 for $arch: one to four minutes$([[ $arch == "$native" ]] || printf ', three times that under emulation')"
    packages+=("${grub[@]}")
    mmdebstrap --quiet --mode=root --variant=minbase --architectures="$arch" --include="$(IFS=,; printf '%s' "${packages[*]}")" \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' trixie "$root" >"$log" 2>&1 ||
        { cat "$log" >&2; die "mmdebstrap failed: its output is above"; }
    configure "$root" >"$log" 2>&1 || { cat "$log" >&2; die "the tree could not be configured: the reason is above"; }
    tar -C "$root" --numeric-owner --xattrs --one-file-system -cf "$1.part.$$" .
    mv "$1.part.$$" "$1"
}

# The tree of today's packages and of this script, built now or found in the cache. Prints its path.
tree() {
    local cache=${CROSSWAN_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/crosswan} file
    mkdir -p "$cache"
    file=$cache/base-$arch-$(date +%Y%m%d)-$(cat "$here/base.sh" "$here/$keys" | sha256sum | cut -c1-12).tar
    if [[ ! -s $file ]]; then
        rm -f "$cache/base-$arch"-*.tar
        # Building the tree runs programs of its architecture.
        "$here/emulate.sh" "$arch" "$0" --make "$file" "$arch" >&2 || exit
    fi
    printf '%s\n' "$file"
}

if [[ -n $make ]]; then
    make_tree "$out"
    exit
fi
start=$SECONDS
tar=$(tree)
mkdir -p "$(dirname "$out")"
if [[ -n $tree_only ]]; then
    ln -sfn "$tar" "$out"
else
    "$here/disk.sh" "$tar" "$out"
fi
say "$out in $((SECONDS - start)) s"
