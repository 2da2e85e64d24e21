#!/usr/bin/env bash
# Turns a tree of files, a tar, into a disk that boots by itself: disk.sh TREE.tar OUT.raw. The disk boots by UEFI if the tree has
# a boot/efi, otherwise on a PC.
# It needs no loop device and no mount: the file systems are made in place, and GRUB is written where its installer would write it.
set -euo pipefail

tar=$1 out=$2
size=2048 start=1 esp=0                             # MB: the disk, the start of its file system, the UEFI partition
modules=(biosdisk part_msdos ext2 search_label normal configfile linux echo serial terminal)

say() { printf 'disk: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
grub=/usr/lib/grub/i386-pc
command -v sfdisk >/dev/null || die "needs sfdisk: tests/setup/debian.sh images installs it"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
tar -C "$work/tree" --numeric-owner --xattrs -xf "$tar"
if [[ -d $work/tree/boot/efi/EFI ]]; then
    esp=32
    command -v mformat mcopy >/dev/null || die "needs mtools for the UEFI partition: tests/setup/debian.sh images arm64 installs it"
else
    [[ -s $grub/boot.img ]] || die "needs GRUB for a PC, from an amd64 Debian: tests/setup/debian.sh images installs it"
fi
rm -f "$out"
truncate -s ${size}M "$out"
printf '%d,%d,L,*\n' $((start * 2048)) $(((size - start - esp) * 2048)) >"$work/table"
((esp == 0)) || printf ',,ef\n' >>"$work/table"
sfdisk --quiet "$out" <"$work/table"
# GRUB 2.06 cannot read a file system whose checksums have a seed.
mke2fs -q -F -t ext4 -L crosswan -m 1 -O ^metadata_csum_seed -J size=16 -N 65536 \
    -E offset=$((start << 20)),root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0 -d "$work/tree" "$out" $((size - start - esp))M

if ((esp)); then
    truncate -s ${esp}M "$work/esp"
    mformat -i "$work/esp" -v EFI ::
    mcopy -i "$work/esp" -s "$work/tree/boot/efi/EFI" ::
    dd if="$work/esp" of="$out" bs=1M seek=$((size - esp)) conv=notrunc status=none
    exit
fi

# Into the gap before the partition, as grub-install does: the first sector's code up to the partition table, and the rest of GRUB after it.
# shellcheck disable=SC2016
printf 'serial\nterminal_output serial\nsearch.fs_label crosswan root\nset prefix=($root)/boot/grub\n' >"$work/early.cfg"
grub-mkimage -O i386-pc -d $grub -p /boot/grub -c "$work/early.cfg" -o "$work/core.img" "${modules[@]}"
dd if=$grub/boot.img of="$out" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$out" bs=512 seek=1 conv=notrunc status=none
