#!/usr/bin/env bash
# Builds the agent's Debian package, crosswan_VERSION_ARCH.deb, into target/package, for the machine it runs on.
# dpkg-deb alone is enough for a few files and three short scripts, and no packager has to be built first.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:$HOME/.cargo/bin

say() { printf 'deb: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
command -v dpkg-deb dpkg-shlibdeps >/dev/null || die "needs dpkg-dev: apt-get install dpkg-dev (make deb does it)"

target=${CARGO_TARGET_DIR:-target}
out=$target/package
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
arch=$(dpkg --print-architecture)
deb=$out/crosswan_${version}_$arch.deb

[[ -e $target/release/crosswan ]] || say "building the release: ten to twenty minutes on two cores the first time, most of them for the EC2 SDK"
messages=$(mktemp) root=$(mktemp -d)
trap 'rm -rf "$messages" "$root"' EXIT
chmod 755 "$root"
cargo build --release --locked --bin crosswan --message-format=json-render-diagnostics >"$messages"
# The build script's man pages and completions: cargo says where they are, and there may be folders of earlier builds.
share=$(sed -n '/"reason":"build-script-executed"/{/\/crosswan#\|crosswan@\|#crosswan@/s/.*"out_dir":"\([^"]*\)".*/\1/p}' "$messages" | grep '/crosswan-[0-9a-f]*/out$' | tail -n1)/share
[[ -s $share/man/crosswan.1 ]] || die "cargo did not say where the man pages are; looked for $share/man/crosswan.1"

put() { install -D -m "$1" "$2" "$root/$3"; } # MODE FILE WHERE
put 755 "$target/release/crosswan" usr/bin/crosswan
put 755 images/guard/guard usr/lib/crosswan/guard
put 755 images/guard/forwarding usr/lib/crosswan/forwarding
put 644 images/guard/closed.rules usr/lib/crosswan/closed.rules
for unit in systemd/*; do put 644 "$unit" "usr/lib/systemd/system/${unit#*/}"; done
put 644 images/strongswan.service.d/10-crosswan.conf usr/lib/systemd/system/strongswan.service.d/10-crosswan.conf
# Not into a sysctl.d folder: only a mode that is set up switches forwarding on.
put 644 images/sysctl.d/60-crosswan.conf usr/lib/crosswan/60-crosswan.conf
put 644 images/modules-load.d/crosswan.conf etc/modules-load.d/crosswan.conf
put 644 images/charon.d/crosswan.conf etc/strongswan.d/crosswan.conf
install -d -m 755 "$root/etc/crosswan/conf.d"
for page in "$share"/man/*.1; do put 644 "$page" "usr/share/man/man1/${page##*/}"; done
put 644 "$share/completions/crosswan.bash" usr/share/bash-completion/completions/crosswan
put 644 "$share/completions/_crosswan" usr/share/zsh/vendor-completions/_crosswan
put 644 "$share/completions/crosswan.fish" usr/share/fish/vendor_completions.d/crosswan.fish
for example in images/examples/*.toml; do put 644 "$example" "usr/share/doc/crosswan/examples/${example##*/}"; done
for file in docs/iam/*; do put 644 "$file" "usr/share/doc/crosswan/iam/${file##*/}"; done
put 644 images/deb/copyright usr/share/doc/crosswan/copyright
put 644 CHANGELOG.md usr/share/doc/crosswan/changelog
gzip -9n "$root"/usr/share/man/man1/*.1 "$root/usr/share/doc/crosswan/changelog"

install -d -m 755 "$root/DEBIAN"
install -m 755 images/deb/{postinst,prerm,postrm} "$root/DEBIAN"
(cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
# dpkg-shlibdeps expects a source package; this empty file is all that it reads of one.
mkdir "$root/debian" && touch "$root/debian/control"
libraries=$(cd "$root" && dpkg-shlibdeps -O usr/bin/crosswan 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
rm -r "$root/debian"
[[ -n $libraries ]] || die "dpkg-shlibdeps does not know the binary's libraries: dpkg-shlibdeps -O $target/release/crosswan says why"
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@LIBRARIES@/$libraries/" \
    -e "s/@SIZE@/$(du -sk --apparent-size "$root" | cut -f1)/" images/deb/control >"$root/DEBIAN/control"

mkdir -p "$out"
# With the commit's time the same commit gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
find "$root" -print0 | xargs -0 touch -h -d "@$SOURCE_DATE_EPOCH"
dpkg-deb --root-owner-group -Zxz --build "$root" "$deb.new" >/dev/null
# An equal package keeps its file time, so that the images made from it are not made again.
if cmp -s "$deb.new" "$deb"; then rm "$deb.new"; else mv "$deb.new" "$deb"; fi
say "$deb: $(($(stat -c %s "$deb") / 1024)) kB, binary $(($(stat -c %s "$target/release/crosswan") / 1024)) kB"
printf '%s\n' "$deb"
