#!/usr/bin/env bash
# Turns a tree of files, a folder or a tar, into a disk: disk.sh TREE OUT.raw, with its kernel as OUT.vmlinuz and OUT.initrd.
# Needs no loop device and no mount.
set -euo pipefail

tree=$1 out=$2
size=2G
scratch=
trap '[[ -z $scratch ]] || rm -rf "$scratch"' EXIT
if [[ ! -d $tree ]]; then
    scratch=$(mktemp -d)
    tar -C "$scratch" --numeric-owner --xattrs -xf "$tree"
    tree=$scratch
fi
for boot in vmlinuz initrd; do
    files=("$tree/boot/$boot"*-cloud-*)
    cp "${files[-1]}" "${out%.raw}.$boot"
done
rm -f "$out"
mke2fs -q -F -t ext4 -L crosswan -m 1 -E root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0 -J size=16 -N 65536 -d "$tree" "$out" $size
used=$(dumpe2fs -h "$out" 2>/dev/null | awk '/^Block count/{c=$3} /^Free blocks/{f=$3} /^Block size/{s=$3} END{print int((c-f)*s/1048576)}')
printf 'disk: %s: %d MB used of %s\n' "$out" "$used" "$size" >&2
