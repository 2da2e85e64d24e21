#!/usr/bin/env bash
# `make vm-test`: builds what is missing (package, images and the test's program), then boots the images. Arguments are passed to
# the program.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:$HOME/.cargo/bin

target=${CARGO_TARGET_DIR:-target}
images=$target/vm-images
deb=$(images/deb/build.sh)
stale=()
for mode in vpn-hub nat-hub nat-vpn; do
    # An image is made again if anything is newer than it, or if it was made from another package.
    [[ -s $images/$mode.raw && -z $(find images packer tests/vm/site.pkrvars.hcl "$deb" -newer "$images/$mode.raw" -type f | head -n1) ]] ||
        stale+=("$mode")
done
((${#stale[@]} == 0)) || SITE=tests/vm/site.pkrvars.hcl packer/image.sh "$images" "${stale[@]}"
cargo build --quiet --locked -p crosswan-vm
CROSSWAN_BIN=$target/release/crosswan "$target/debug/crosswan-vm" --images "$images" --deb "$deb" "$@"
