#!/usr/bin/env bash
# Builds a Debian package into target/package and prints where it is: build.sh PACKAGE [ARCH [PROFILE]].
# PACKAGE is crosswan or cloudcaster: the folder of that name has its control file, scripts and list of files. ARCH is amd64 or arm64,
# by default this machine's; the other one is built in the tree of images/builder.sh. PROFILE is a Cargo profile, by default release.
# With another profile the version is VERSION~PROFILE: such a package builds sooner and is for tests only.
# dpkg-deb alone is enough for a few files and three short scripts, and no packager has to be built first.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:$HOME/.cargo/bin

say() { printf 'deb: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
command -v dpkg-deb dpkg-shlibdeps >/dev/null || die "needs dpkg-dev: apt-get install dpkg-dev (make deb does it)"

package=${1-} native=$(dpkg --print-architecture) profile=${3:-release} features=()
arch=${2:-$native}
[[ -s images/deb/$package/control ]] || die "PACKAGE is one of: $(cd images/deb && printf "%s " */ | tr -d /)"
case $arch in
amd64) triplet=x86_64-linux-gnu ;;
arm64) triplet=aarch64-linux-gnu ;;
*) die "ARCH is amd64 or arm64; found '$arch'" ;;
esac
target=${CARGO_TARGET_DIR:-target}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
[[ $profile == release ]] || version+="~$profile"
deb=$target/package/${package}_${version}_$arch.deb
# With the commit's time the same commit gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

# cloudcaster is built with the features that the agent's dependencies have, so that the two share every build that takes long.
[[ $package == crosswan ]] || features=(--package crosswan)
built=$target cargo=(cargo build --locked --profile "$profile" "${features[@]}" --package "$package" --bin "$package")
if [[ $arch != "$native" && -z ${CROSSWAN_BUILDER-} ]]; then
    # The tree runs this script again.
    images/builder.sh images/deb/build.sh "$package" "$arch" "$profile" >/dev/null
    printf '%s\n' "$deb"
    exit
elif [[ -n ${CROSSWAN_BUILDER-} ]]; then
    cargo+=(--target "${triplet/-linux/-unknown-linux}")
    built=$target/${triplet/-linux/-unknown-linux}
fi
binary=$built/${profile/#dev/debug}/$package

[[ -e $binary ]] || say "building $package for $arch, profile $profile: a release takes ten to twenty minutes on two cores the first time, most of them for the EC2 SDK"
start=$SECONDS
messages=$(mktemp) root=$(mktemp -d)
trap 'rm -rf "$messages" "$root"' EXIT
chmod 755 "$root"
"${cargo[@]}" --message-format=json-render-diagnostics >"$messages"
# The build script's man pages and completions: cargo says where they are, and there may be folders of earlier builds.
share=$(sed -n '/"reason":"build-script-executed"/s/.*"out_dir":"\([^"]*\)".*/\1/p' "$messages" | grep "/$package-[0-9a-f]*/out\$" | tail -n1)/share
[[ -s $share/man/$package.1 ]] || die "cargo did not say where the man pages are; looked for $share/man/$package.1"

put() { install -D -m "$1" "$2" "$root/$3"; } # MODE FILE WHERE

put 755 "$binary" "usr/bin/$package"
# A release is stripped already; the debug information of other profiles is of no use in a package.
"$triplet-strip" "$root/usr/bin/$package"
# shellcheck source=/dev/null
. "images/deb/$package/contents"
for page in "$share"/man/*.1; do put 644 "$page" "usr/share/man/man1/${page##*/}"; done
put 644 "$share/completions/$package.bash" "usr/share/bash-completion/completions/$package"
put 644 "$share/completions/_$package" "usr/share/zsh/vendor-completions/_$package"
put 644 "$share/completions/$package.fish" "usr/share/fish/vendor_completions.d/$package.fish"
put 644 images/deb/copyright "usr/share/doc/$package/copyright"
# Debian's tools expect a changelog in a form that CHANGELOG.md does not have.
printf '%s (%s) unstable; urgency=medium\n\n  * CHANGELOG.md.gz says what changed.\n\n -- %s  %s\n' "$package" "$version" \
    "$(sed -n 's/^Maintainer: //p' "images/deb/$package/control")" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" |
    put 644 /dev/stdin "usr/share/doc/$package/changelog"
put 644 CHANGELOG.md "usr/share/doc/$package/CHANGELOG.md"
gzip -9n "$root"/usr/share/man/man1/*.1 "$root/usr/share/doc/$package"/{changelog,CHANGELOG.md}

install -d -m 755 "$root/DEBIAN"
for script in postinst prerm postrm; do
    [[ ! -e images/deb/$package/$script ]] || install -m 755 "images/deb/$package/$script" "$root/DEBIAN"
done
[[ ! -d $root/etc ]] || (cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
# dpkg-shlibdeps expects a source package; this empty file is all that it reads of one.
mkdir "$root/debian" && touch "$root/debian/control"
libraries=$(cd "$root" && DEB_HOST_ARCH=$arch dpkg-shlibdeps -O "usr/bin/$package" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
rm -r "$root/debian"
[[ -n $libraries ]] || die "dpkg-shlibdeps does not know the binary's libraries: dpkg-shlibdeps -O $binary says why"
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@LIBRARIES@/$libraries/" \
    -e "s/@SIZE@/$(du -sk --apparent-size "$root" | cut -f1)/" "images/deb/$package/control" >"$root/DEBIAN/control"

mkdir -p "$target/package"
find "$root" -print0 | xargs -0 touch -h -d "@$SOURCE_DATE_EPOCH"
dpkg-deb --root-owner-group -Zxz --build "$root" "$deb.new" >/dev/null
# An equal package keeps its file time, so that the images made from it are not made again.
if cmp -s "$deb.new" "$deb"; then rm "$deb.new"; else mv "$deb.new" "$deb"; fi
say "$deb: $(($(stat -c %s "$deb") / 1024)) kB, binary $(($(stat -c %s "$root/usr/bin/$package") / 1024)) kB, in $((SECONDS - start)) s"
printf '%s\n' "$deb"
