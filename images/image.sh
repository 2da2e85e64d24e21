#!/usr/bin/env bash
# Builds one gateway image without Packer, by provisioning a tree in a chroot: image.sh MODE DEB OUT.raw [SETTINGS.toml].
# The same base.sh and provision.sh as Packer's qemu source, in a third of the time: what `make vm-test` boots where Packer is missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

say() { printf 'image: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
(($# >= 3)) || die "usage: image.sh MODE DEB OUT.raw [SETTINGS.toml]"
mode=$1 deb=$(realpath "$2") out=$(realpath -m "$3") settings=$(realpath "${4:-$here/examples/$mode.toml}")
limit=450

# The mounts of the chroot live in a mount namespace of their own: they end with this script, however it ends.
if [[ ${CROSSWAN_IMAGE_UNSHARED-} != 1 ]]; then
    [[ $EUID == 0 ]] || die "needs root, for a chroot"
    CROSSWAN_IMAGE_UNSHARED=1 exec unshare --mount --propagation private -- "$0" "$mode" "$deb" "$out" "$settings"
fi

start=$SECONDS
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/tree
mkdir -p "$root" "$(dirname "$out")"
"$here/base.sh" --tree "$work/base.tar"
tar -C "$root" --numeric-owner --xattrs -xf "$work/base.tar"

mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
# /etc/resolv.conf of the tree leads to resolved's in /run.
mkdir -p "$root/run/systemd/resolve" "$root/tmp/crosswan"
cp /etc/resolv.conf "$root/run/systemd/resolve/stub-resolv.conf"
cp "$deb" "$root/tmp/crosswan/crosswan.deb"
cp "$settings" "$root/tmp/crosswan/crosswan.toml"
cp -r "$here" "$root/tmp/crosswan/images"
log=$work/log
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    chroot "$root" /tmp/crosswan/images/provision.sh "$mode" >"$log" 2>&1 || { cat "$log" >&2; die "provisioning failed: its words are above"; }
grep '^provision:' "$log" >&2
umount "$root"/{dev,proc,sys,tmp,run}

"$here/disk.sh" "$root" "$out"
used=$(dumpe2fs -h "$out" 2>/dev/null | awk '/^Block count/{c=$3} /^Free blocks/{f=$3} /^Block size/{s=$3} END{print int((c-f)*s/1048576)}')
((used <= limit)) || die "$out uses $used MB; at most $limit are allowed"
say "$mode: $out, $used MB used, $((SECONDS - start)) s"
