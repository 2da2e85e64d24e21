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

# The package of version 0.1.0, built from its last commit once. Prints where it is.
old() {
    local deb=${CROSSWAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/crosswan}/crosswan_0.1.0_$native.deb source
    if [[ ! -s $deb ]]; then
        source=$(mktemp -d)
        # shellcheck disable=SC2064 # now
        trap "rm -rf '$source'" EXIT
        git archive c89f7db | tar -x -m -C "$source" ||
            { echo 'vm: needs the history of this repository, for the commit c89f7db of version 0.1.0: git fetch --unshallow' >&2; exit 1; }
        mkdir -p "${deb%/*}"
        cp "$(CARGO_TARGET_DIR=$(realpath "$target") "$source/images/deb/build.sh" crosswan "$native" "$profile")" "$deb.new"
        mv "$deb.new" "$deb"
    fi
    printf '%s\n' "$deb"
}

# What a machine finds on its second disk: packages TAR NEW [OLD].
packages() {
    local folder
    folder=$(mktemp -d)
    cp "$2" "$folder/new.deb"
    [[ -z ${3-} ]] || cp "$3" "$folder/old.deb"
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
    arm64_deb=$(images/deb/build.sh crosswan arm64)
    fresh arm64 "$images/arm64" "$arm64_deb" nat-vpn
    packages "$images/arm64/packages.tar" "$arm64_deb"
    arm64=(--arm64 "$images/arm64/nat-vpn.raw" "$images/arm64/packages.tar")
fi
fresh "$native" "$images" "$deb" "${modes[@]}"
old=$(old)
packages "$images/packages.tar" "$deb" "$old"
cargo build --quiet --locked -p crosswan-vm
CROSSWAN_BIN=$target/${profile/#dev/debug}/crosswan "$target/debug/crosswan-vm" --images "$images" --packages "$images/packages.tar" "${arm64[@]}" "$@"
