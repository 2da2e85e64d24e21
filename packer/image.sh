#!/usr/bin/env bash
# Builds one gateway's disk with the qemu source: image.sh MODE OUT.raw [VARIABLES.pkrvars.hcl], with its kernel as OUT.vmlinuz and
# OUT.initrd. What `make image MODE=vpn-hub` does. Packer is the one in tests/packer/tools, the package the one `make deb` made.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."

say() { printf 'image: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
mode=${1-} out=$(realpath -m "${2-}") site=${3-}
[[ $mode =~ ^(vpn-hub|nat-hub|nat-vpn)$ && $out == *.raw ]] || die "usage: image.sh vpn-hub|nat-hub|nat-vpn OUT.raw [VARIABLES.pkrvars.hcl]"
command -v qemu-system-x86_64 ssh-keygen >/dev/null || die "needs QEMU and ssh-keygen: tests/setup/debian.sh packer brings them"
limit=450
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
arch=$(dpkg --print-architecture)
deb=${CROSSWAN_DEB:-${CARGO_TARGET_DIR:-target}/package/crosswan_${version}_$arch.deb}
[[ -s $deb ]] || die "no package at $deb: make deb builds it"

start=$SECONDS
tools=$(tests/packer/tools.sh)
mkdir -p "$(dirname "$out")"
work=$(mktemp -d -p "$(dirname "$out")")
trap 'rm -rf "$work"' EXIT
images/base.sh "$work/base.raw"
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
say "provisioning $mode in QEMU: one to four minutes"
export CHECKPOINT_DISABLE=1 PACKER_PLUGIN_PATH=$tools/plugins PACKER_CONFIG_DIR=$work PACKER_NO_COLOR=1
"$tools/packer" build -only="qemu.$mode" ${site:+-var-file="$site"} -var deb="$deb" -var arch="$arch" -var base="$work/base" \
    -var ssh_key="$work/key" -var output="$work" packer >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; die "packer failed: its words are above"; }
mv "$work/$mode/$mode.raw" "$out"
fallocate --dig-holes "$out"
for boot in vmlinuz initrd; do mv "$work/base.$boot" "${out%.raw}.$boot"; done
used=$(dumpe2fs -h "$out" 2>/dev/null | awk '/^Block count/{c=$3} /^Free blocks/{f=$3} /^Block size/{s=$3} END{print int((c-f)*s/1048576)}')
((used <= limit)) || die "$out uses $used MB; at most $limit are allowed"
say "$mode: $out, $used MB used, $((SECONDS - start)) s"
