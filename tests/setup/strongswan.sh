#!/usr/bin/env bash
# Unpacks another strongSwan than the machine's, for tests/net/strongswans.rs, and prints where: `strongswan.sh trixie`, 6.0.1 of Debian 13,
# or `strongswan.sh testing`, the newest that can be installed anywhere in Debian. The tree has the libraries that its programs need,
# and files to start them with in `bin`. It is fetched once, 12 MB and as many of lists, and stays in the cache. Any user may run this:
# nothing of this machine's packages or sources of packages is used or changed. `strongswan.sh SUITE cached` fetches nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/setup/lib.sh
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

suite=${1-}
[[ $suite =~ ^[a-z]+$ ]] || die "which strongSwan? tests/setup/strongswan.sh trixie, or testing"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=${CROSSWAN_MIRROR:-http://deb.debian.org/debian}
again="tests/setup/strongswan.sh $suite"

cache=${XDG_CACHE_HOME:-${HOME:-/var/cache}/.cache}/crosswan
tree=$cache/strongswan-$suite-$(sha256sum <tests/setup/strongswan.sh | cut -c1-16)
if [[ -d $tree ]]; then
    printf '%s\n' "$tree"
    exit
fi
[[ ${2-} != cached ]] || die "the strongSwan of Debian $suite is not in $cache. Where the network is there, run: $again"
for program in apt-get apt-cache dpkg dpkg-deb flock; do
    command -v "$program" >/dev/null || die "needs $program, of Debian 12 or 13, to unpack another strongSwan"
done
[[ -e $keyring ]] || die "needs Debian's keys in $keyring. As root: apt-get install -y debian-archive-keyring"

mkdir -p "$cache" || die "cannot make $cache: set XDG_CACHE_HOME to a folder that can be written"
exec 9>"$cache/strongswan.lock"
flock 9
[[ ! -d $tree ]] || { printf '%s\n' "$tree"; exit; }

# What an interrupted run left; the lock says that none is under way.
rm -rf "$cache"/strongswan-*.partial
work=$tree.partial
mkdir -p "$work"/{tree,debs,apt/lists/partial,apt/archives/partial}
trap 'rm -rf "$work"' EXIT

# apt's idea of a machine that has nothing but what charon can do without: systemd and its users, and what only plugins use that the lab
# does not load. Everything else comes from the suite, libc included.
for package in systemd debconf libcurl4t64 libldap2 libtss2-sys1t64 libtss2-mu-4.0.1-0t64; do
    printf 'Package: %s\nStatus: install ok installed\nArchitecture: %s\nMulti-Arch: same\nVersion: 9999\nMaintainer: nobody\nDescription: -\n\n' \
        "$package" "$(dpkg --print-architecture)"
done >"$work/status"
printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$work/sources.list"
options=(
    -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o "Dir::State::lists=$work/apt/lists" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/apt" -o "APT::Sandbox::User=$(id -un)"
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Retries=2 -o Acquire::http::Timeout=30
)
log=$work/log
failed() { tail -n 15 "$log" >&2; die "$1: is the network there? Another mirror: CROSSWAN_MIRROR. Then: $again"; }

say "fetching the strongSwan of Debian $suite, for a test of gateways with different versions"
apt-get "${options[@]}" -o APT::Update::Error-Mode=any update >"$log" 2>&1 || failed "cannot fetch the packages of $suite from $mirror"
wanted=(charon-systemd strongswan-swanctl libstrongswan-standard-plugins libstrongswan-extra-plugins)
# "Inst NAME (VERSION …)": what would be installed, in a simulation that needs no lock and no root.
apt-get "${options[@]}" -qq --simulate --no-install-recommends install "${wanted[@]}" >"$work/plan" 2>"$log" ||
    failed "Debian $suite cannot install ${wanted[*]} now"
mapfile -t packages < <(sed -n 's/^Inst \([^ ]*\) .*/\1/p' "$work/plan")
(cd "$work/debs" && apt-get "${options[@]}" download "${packages[@]}") >"$log" 2>&1 || failed "cannot fetch ${packages[*]} from $mirror"
for deb in "$work"/debs/*.deb; do
    dpkg-deb -x "$deb" "$work/tree" >"$log" 2>&1 || failed "cannot unpack $deb"
done
rm -rf "$work/tree/usr/share" "$work/tree/var"

# Its programs need its own libc, so its own loader starts them.
loader=$(cd "$work/tree" && find usr/lib -type f -name 'ld-linux*.so.*' | head -n1)
[[ -n $loader && -x $work/tree/usr/sbin/charon-systemd ]] || die "the packages of $suite are not as expected: ${packages[*]}"
mkdir "$work/tree/bin"
for program in charon-systemd swanctl; do
    printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' "$tree/$loader" "$tree/${loader%/*}:$tree/usr/lib/ipsec" "$tree/usr/sbin/$program" >"$work/tree/bin/$program"
    chmod 755 "$work/tree/bin/$program"
done
mv "$work/tree" "$tree"
printf '%s\n' "$tree"
