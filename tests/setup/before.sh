#!/bin/bash
# Builds the agent of before interfaces (tag before-11), for the tests in which gateways of both versions meet. It is built once,
# into `before-11` of Cargo's target folder, where the crates that have not changed since are built already.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(realpath "$target")
[ -x "$target/before-11/crosswan" ] && exit 0
git rev-parse -q --verify 'before-11^{commit}' >/dev/null || {
    echo "there is no tag before-11 here: git fetch --tags" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
git archive before-11 | tar -x -C "$work/source"
# Linked, not copied: crates of the registry are found as built, and this folder's own programs are not replaced.
for folder in "$target"/debug; do
    [ ! -d "$folder" ] || cp -al "$folder" "$work/"
done
cargo build --quiet --locked --manifest-path "$work/source/Cargo.toml" --target-dir "$work" --bin crosswan
install -D "$work/debug/crosswan" "$target/before-11/crosswan"
