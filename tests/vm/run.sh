#!/usr/bin/env bash
# `make vm-test`: builds what is not there yet, package, images and the test's program, then boots the images. Arguments go on to
# the program. CROSSWAN_IMAGES names a folder with images built elsewhere, as by Packer: MODE.raw, MODE.vmlinuz, MODE.initrd.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:$HOME/.cargo/bin

target=${CARGO_TARGET_DIR:-target}
images=${CROSSWAN_IMAGES:-$target/images}
deb=$(images/deb/build.sh)
if [[ -z ${CROSSWAN_IMAGES-} ]]; then
    for mode in vpn-hub nat-hub nat-vpn; do
        # Anything newer than the image, or made from another package: it is made again.
        if [[ ! -s $images/$mode.raw || -n $(find images "$deb" -newer "$images/$mode.raw" -type f | head -n1) ]]; then
            images/image.sh $mode "$deb" "$images/$mode.raw"
        fi
    done
fi
cargo build --quiet --locked -p crosswan-vm
CROSSWAN_BIN=$target/release/crosswan "$target/debug/crosswan-vm" --images "$images" --deb "$deb" "$@"
