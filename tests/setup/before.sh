#!/usr/bin/env bash
# Builds the agent of before interfaces, for the test in which gateways of both versions meet, or as `before.sh package` its package in
# the dev profile, for the downgrade of a machine. Each is built once, into `before` of Cargo's target folder, where the crates that have
# not changed since are built already. Where the commit cannot be had, in a copy without history, it says what is not run: the former
# prints the arguments that leave its test out, the latter nothing in place of the package's path.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
commit=c89f7db3d046f8b3676b7704a9dcc72e70739843
what=crosswan omitted='net routes::versions' skip='--skip routes::versions'
[[ ${1-} != package ]] || what=crosswan.deb omitted='the downgrade to version 0.1' skip=
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(realpath "$target")
built=$target/before/$what
if [[ ! -e $built ]] && ! git cat-file -e "$commit^{commit}" 2>/dev/null && ! git fetch --quiet --depth=1 origin "$commit" 2>/dev/null; then
    say "NOT RUN: $omitted, because this copy of the source has no commit $commit: git fetch --unshallow"
    echo "$skip"
    exit
elif [[ ! -e $built ]]; then
    say "building the version before: one to three minutes, once"
    work=$(mktemp -d "$target/before.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/source"
    git archive "$commit" | tar -x -m -C "$work/source"
    # Linked, not copied: crates of the registry are found as built, and this folder's own programs are not replaced.
    [[ ! -d $target/debug ]] || cp -al "$target/debug" "$work/"
    if [[ $what == *.deb ]]; then
        deb=$(CARGO_TARGET_DIR=$work "$work/source/images/deb/build.sh" crosswan "$(dpkg --print-architecture)" dev)
    else
        cargo build --quiet --locked --manifest-path "$work/source/Cargo.toml" --target-dir "$work" --bin crosswan >&2
        deb=$work/debug/crosswan
    fi
    command install -D "$deb" "$built"
fi
[[ $what == crosswan ]] || echo "$built"
