#!/usr/bin/env bash
# Builds the agent of before interfaces, for the test in which gateways of both versions meet. It is built once, into `before` of
# Cargo's target folder, where the crates that have not changed since are built already. It prints the arguments that leave that test
# out where the commit cannot be had: in a copy without history.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
commit=c89f7db3d046f8b3676b7704a9dcc72e70739843
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(realpath "$target")
[[ ! -x $target/before/crosswan ]] || exit 0
if ! git cat-file -e "$commit^{commit}" 2>/dev/null && ! git fetch --quiet --depth=1 origin "$commit" 2>/dev/null; then
    say "NOT RUN: net routes::versions, because this copy of the source has no commit $commit: git fetch --unshallow"
    echo --skip routes::versions
    exit
fi
say "building the agent of the version before: one to three minutes, once"
work=$(mktemp -d "$target/before.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
git archive "$commit" | tar -x -m -C "$work/source"
# Linked, not copied: crates of the registry are found as built, and this folder's own programs are not replaced.
[[ ! -d $target/debug ]] || cp -al "$target/debug" "$work/"
cargo build --quiet --locked --manifest-path "$work/source/Cargo.toml" --target-dir "$work" --bin crosswan >&2
command install -D "$work/debug/crosswan" "$target/before/crosswan"
