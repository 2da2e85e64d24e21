#!/usr/bin/env bash
# Builds the lab's kernel, user-mode Linux with the `config` beside this file, and prints where it is. It is built once, from Debian's
# own source: about six minutes on two cores. Nothing of this machine's packages or sources of packages is used or changed.
# `build.sh cached` builds nothing, and fails when it is not there yet. `build.sh needs` names the packages that are missing to build it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

# The series that docs/facts.md, "The lab's kernel", was measured with. The newest version of it is taken: apt's signature is the trust.
series=7.2
suite=trixie-backports
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=${CROSSWAN_MIRROR:-http://deb.debian.org/debian}
# MiB, in the cache: the package, what is unpacked of it, and what is compiled.
space=1500

say() { printf 'kernel: %(%H:%M:%S)T %s\n' -1 "$*" >&2; }
die() { printf 'kernel: %s\n' "$*" >&2; exit 1; }

cache=${XDG_CACHE_HOME:-${HOME:-/var/cache}/.cache}/crosswan
name=kernel-$(cat config build.sh | sha256sum | cut -c1-16)
built=$cache/$name

if [[ -x $built/linux ]]; then
    printf 'kernel: %s, from the cache\n' "$(cat "$built/version")" >&2
    printf '%s\n' "$built/linux"
    exit
fi
[[ ${1-} != cached ]] || exit 1

# --- What it needs

[[ $(uname -m) == x86_64 ]] || die "user-mode Linux runs on amd64 only, and this is $(uname -m): the lab needs a kernel of this machine with ESP and XFRM interfaces"
declare -A needs=([gcc]=gcc [make]=make [flex]=flex [bison]=bison [bc]=bc [xz]=xz-utils [perl]=perl [apt-get]=apt [dpkg-deb]=dpkg [flock]=util-linux)
missing=()
for program in "${!needs[@]}"; do
    command -v "$program" >/dev/null || missing+=("${needs[$program]}")
done
[[ -e $keyring ]] || missing+=(debian-archive-keyring)
# gcc may be there without the C library's headers.
! command -v gcc >/dev/null || echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1 || missing+=(libc6-dev)
if [[ ${1-} == needs ]]; then
    ((!${#missing[@]})) || printf '%s\n' "${missing[@]}"
    exit
fi
((!${#missing[@]})) || die "cannot build the lab's kernel without ${missing[*]}. As root: apt-get install -y ${missing[*]}"

mkdir -p "$cache" || die "cannot make $cache: set XDG_CACHE_HOME to a folder that can be written"
exec 9>"$cache/kernel.lock"
if ! flock -n 9; then
    say "another one is being built; waiting for it"
    flock 9
    [[ ! -x $built/linux ]] || { printf '%s\n' "$built/linux"; exit; }
fi
free=$(($(df --output=avail -k "$cache" | tail -n1) / 1024))
((free >= space)) || die "needs $space MiB in $cache to build the lab's kernel, and $free are free: make room, or set XDG_CACHE_HOME to a folder with more"

# What an interrupted build left; the lock says that none is under way.
rm -rf "$cache"/kernel-*.partial
work=$built.partial
mkdir -p "$work"/{apt/lists/partial,apt/archives/partial,src}
trap 'rm -rf "$work"' EXIT
log=$work/log
# Shows the end of what the last step said.
failed() { tail -n 15 "$log" >&2 || true; die "$@"; }

# --- The source, with lists and sources of apt's own kind, but not this machine's

printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$work/apt/sources.list"
options=(
    -o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferences=- -o Dir::Etc::preferencesparts=-
    -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt" -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o Acquire::Retries=2 -o Acquire::http::Timeout=30
)
say "fetching the list of packages of $suite"
apt-get "${options[@]}" -o APT::Update::Error-Mode=any update >"$log" 2>&1 ||
    failed "cannot fetch the packages of $suite from $mirror, to build the lab's kernel: is the network there? Another mirror: CROSSWAN_MIRROR"
package=linux-source-$series
version() { apt-cache "${options[@]}" madison "$1" | awk 'NR == 1 { print $3 }'; }
if [[ -z $(version "$package") ]]; then
    package=$(apt-cache "${options[@]}" pkgnames linux-source- | grep -E '^linux-source-[0-9.]+$' | sort -V | tail -n1) || true
    [[ -n $package && -n $(version "$package") ]] ||
        die "$suite has no linux-source-* at $mirror, so the lab's kernel cannot be built: use a machine whose own kernel has ESP, with CROSSWAN_KERNEL=host"
    say "$suite has no linux-source-$series any more: taking $package, which was not tried"
fi
version=$(version "$package")
say "fetching $package $version, 160 MB"
(cd "$work" && apt-get "${options[@]}" download "$package") >"$log" 2>&1 ||
    failed "cannot fetch $package $version from $mirror: is the network there? Another mirror: CROSSWAN_MIRROR"

say "unpacking it"
# Kconfig and make read every folder's Kconfig and Makefile; most of the rest is for hardware and other processors.
unpack=(--strip-components=1 --wildcards)
for unused in 'arch/[!xu]*' 'arch/xtensa/*' Documentation 'drivers/gpu' 'drivers/media' 'drivers/net/ethernet' 'drivers/net/wireless' 'drivers/infiniband' \
    'drivers/scsi' 'drivers/staging' 'drivers/iio' 'drivers/usb' 'drivers/clk' 'drivers/pinctrl' 'drivers/accel' sound 'tools/testing' 'tools/perf' 'fs/xfs' 'fs/btrfs'; do
    unpack+=(--exclude="*/$unused/*.[chS]" --exclude="*/$unused/*.rst" --exclude="*/$unused/*.dts*" --exclude="*/$unused/*.yaml" --exclude="*/$unused/*.json")
done
dpkg-deb --fsys-tarfile "$work"/*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' | tar -xJ -C "$work/src" "${unpack[@]}" 2>"$log" ||
    failed "cannot unpack $package in $work"
rm -rf "$work"/*.deb "$work/apt"

# --- The kernel

say "configuring it"
make -C "$work/src" ARCH=um KCONFIG_ALLCONFIG="$PWD/config" allnoconfig >"$log" 2>&1 || failed "the configuration of $package $version failed"
while read -r line; do
    grep -qxF "$line" "$work/src/.config" || die "$package $version does not take $line of tests/kernel/config: its name or what it depends on has changed"
done < <(grep ^CONFIG_ config)
say "building it: about five minutes on two cores"
make -C "$work/src" ARCH=um -j"$(nproc)" KBUILD_BUILD_USER=crosswan KBUILD_BUILD_HOST=lab linux >"$log" 2>&1 ||
    failed "$package $version cannot be built: the end of what make said is above. Is there memory enough?"
strip "$work/src/linux"

mkdir "$work/done"
mv "$work/src/linux" "$work/done/linux"
printf '%s %s\n' "$package" "$version" >"$work/done/version"
rm -rf "$built"
mv "$work/done" "$built"
say "built $package $version: $(stat -c %s "$built/linux" | numfmt --to=iec) in $built"
printf '%s\n' "$built/linux"
