#!/usr/bin/env bash
# Makes the files of a release from the commit that is checked out: dist.sh OUT [PROFILE [ARCH ...]]. OUT gets the packages, by
# default for amd64 and arm64, their manual pages, a bill of materials for each, and SHA256SUMS. PROFILE is a Cargo profile, by default
# release. $PACKAGES names the packages, by default all.
# Everything is made from the commit alone, in the tree of images/builder.sh, so the same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:$HOME/.cargo/bin

say() { printf 'dist: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
umask 022
out=${1-} profile=${2:-release} arches=("${@:3}")
[[ -n $out ]] || die "usage: dist.sh OUT [PROFILE [ARCH ...]]"
((${#arches[@]})) || arches=(amd64 arm64)
command -v cargo-cyclonedx >/dev/null || die "needs cargo-cyclonedx: tests/setup/debian.sh dist installs it"
commit=$(git rev-parse --short=12 HEAD) || die "needs a git checkout, because a release is made from a commit"
[[ -z $(git status --porcelain --untracked-files=no) ]] || say "uncommitted changes are not part of the release"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{source,out}
# With the present time: Cargo compares times, and it may have built another commit since this one was made.
git archive HEAD | tar -C "$work/source" -xm
export CROSSWAN_SOURCE=$work/source CROSSWAN_PACKAGES=$work/out

read -ra packages <<<"${PACKAGES:-crosswan cloudcaster}"
for package in "${packages[@]}"; do
    for arch in "${arches[@]}"; do
        say "building $package for $arch from commit $commit"
        images/builder.sh images/deb/build.sh "$package" "$arch" "$profile" >/dev/null
    done
    # The manual is the same for both architectures.
    deb=("$work/out/$package"_*.deb)
    name=$(basename "${deb[0]%_*}")
    mkdir "$work/$package"
    dpkg-deb -x "${deb[0]}" "$work/$package"
    tar -C "$work/$package/usr/share/man" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -c man1 |
        gzip -9n >"$work/out/${name}_man.tar.gz"
    # The tool writes its file beside Cargo.toml, so it works on a copy. The copy's path is in the file and must not vary.
    install -D "$(command -v cargo-cyclonedx)" "$work/source/.tools/cargo-cyclonedx"
    # shellcheck disable=SC2016
    images/builder.sh bash -euc '
        cp -r /dist /tmp/dist
        cd /tmp/dist
        PATH=$PATH:/tmp/dist/.tools cargo cyclonedx --quiet --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu
        cp "$(find . -name "$1.cdx.json" | head -n1)" "/target/package/$2.cdx.json"' - "$package" "$name"
done
(cd "$work/out" && sha256sum -- * >"$work/SHA256SUMS")
mv "$work/SHA256SUMS" "$work/out"
rm -rf "$out"
mkdir -p "$(dirname "$out")"
cp -r "$work/out" "$out"
say "release ${name#*_} of commit $commit, in $out:"
(cd "$out" && du -b --apparent-size -- * | awk '{ printf "  %9d  %s\n", $1, $2 }')
