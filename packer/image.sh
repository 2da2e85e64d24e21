#!/usr/bin/env bash
# Builds gateways' disks with the qemu source, several at the same time: image.sh ARCH FOLDER MODE [MODE ...] makes
# FOLDER/MODE.raw. $SITE names a file of variables, and $DEB a package other than that of `make deb`. It uses the Packer of
# tests/packer/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'image: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
(($# >= 3)) || die "which MODE? vpn-hub, nat-hub or nat-vpn: make image MODE=vpn-hub [ARCH=arm64]"
arch=$1 modes=("${@:3}")
case $arch in
amd64) emulator=qemu-system-x86_64 package=qemu-system-x86 ;;
arm64) emulator=qemu-system-aarch64 package="qemu-system-arm qemu-efi-aarch64" ;;
*) die "ARCH is amd64 or arm64; found '$arch'" ;;
esac
mkdir -p "$2"
out=$(realpath "$2")
for mode in "${modes[@]}"; do
    [[ $mode =~ ^(vpn-hub|nat-hub|nat-vpn)$ ]] || die "MODE is vpn-hub, nat-hub or nat-vpn; found '$mode'"
done
[[ -z ${SITE-} || -s $SITE ]] || die "SITE must be a file of Packer variables, as packer/example.pkrvars.hcl; found '$SITE'"
command -v "$emulator" >/dev/null || die "needs $emulator to provision a disk for $arch: apt-get install $package (make image does it)"
limit=450 # MB used

start=$SECONDS
deb=${DEB:-$(images/deb/build.sh crosswan "$arch")}
tools=$(tests/packer/tools.sh)
work=$(mktemp -d -p "$out")
trap 'rm -rf "$work"' EXIT
images/base.sh "$work/base.raw" "$arch"
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
say "provisioning ${modes[*]} for $arch in QEMU: one to five minutes"
export CHECKPOINT_DISABLE=1 PACKER_PLUGIN_PATH=$tools/plugins PACKER_CONFIG_DIR=$work PACKER_NO_COLOR=1
only=$(printf ',qemu.%s' "${modes[@]}")
"$tools/packer" build -only="${only#,}" -var arch="$arch" ${SITE:+-var-file="$SITE"} -var deb="$(realpath "$deb")" -var base="$work/base.raw" \
    -var ssh_key="$work/key" -var output="$work" packer >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; die "packer failed: its output is above"; }
for mode in "${modes[@]}"; do
    disk=$work/$mode/$mode.raw
    fallocate --dig-holes "$disk"
    used=$(dumpe2fs -h "$disk?offset=$((1 << 20))" 2>/dev/null |
        awk '/^Block count/{c=$3} /^Free blocks/{f=$3} /^Block size/{s=$3} END{print int((c-f)*s/1048576)}')
    ((used > 0 && used <= limit)) || die "$mode uses $used MB; at most $limit are allowed"
    mv "$disk" "$out/$mode.raw"
    say "$out/$mode.raw: $used MB used"
done
say "${modes[*]} in $((SECONDS - start)) s"
