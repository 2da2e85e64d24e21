#!/usr/bin/env bash
# `make vm-test`: builds what is missing (packages, images and the test's program), then boots the images: run.sh [--arm64]
# [--keep] [--only WORD]. With --arm64 the client is an arm64 machine and the test is shorter: see `crosswan-vm --help`.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:$HOME/.cargo/bin

target=${CARGO_TARGET_DIR:-target}
native=$(dpkg --print-architecture)

# Makes an image again if anything is newer than it, or if it was made from another package: fresh ARCH FOLDER DEB MODE ...
fresh() {
    local arch=$1 folder=$2 deb=$3 stale=() mode
    for mode in "${@:4}"; do
        [[ -s $folder/$mode.raw && -z $(find images packer tests/vm/site.pkrvars.hcl "$deb" -newer "$folder/$mode.raw" -type f | head -n1) ]] ||
            stale+=("$mode")
    done
    ((${#stale[@]} == 0)) || DEB=$deb SITE=tests/vm/site.pkrvars.hcl packer/image.sh "$arch" "$folder" "${stale[@]}"
}

# What a machine finds on its second disk: packages TAR NEW [OLD].
packages() {
    local folder
    folder=$(mktemp -d)
    cp "$2" "$folder/new.deb"
    [[ -z ${3-} ]] || cp "$3" "$folder/old.deb" # where the history is there
    tar -C "$folder" -cf "$1" .
    rm -r "$folder"
}

images=$target/vm-images
profile=${PROFILE:-release}
deb=$(images/deb/build.sh crosswan "$native" "$profile")
modes=(vpn-hub nat-hub nat-vpn) arm64=()
if [[ ${1-} == --arm64 ]]; then
    shift
    modes=(vpn-hub nat-hub)
    arm64_deb=$(images/deb/build.sh crosswan arm64 "$profile")
    fresh arm64 "$images/arm64" "$arm64_deb" nat-vpn
    packages "$images/arm64/packages.tar" "$arm64_deb"
    arm64=(--arm64 "$images/arm64/nat-vpn.raw" "$images/arm64/packages.tar")
fi
fresh "$native" "$images" "$deb" "${modes[@]}"
old=$(tests/setup/before.sh package)
packages "$images/packages.tar" "$deb" "$old"
cargo build --quiet --locked -p crosswan-vm
CROSSWAN_BIN=$target/${profile/#dev/debug}/crosswan "$target/debug/crosswan-vm" --images "$images" --packages "$images/packages.tar" "${arm64[@]}" "$@"
