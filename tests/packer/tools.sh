#!/usr/bin/env bash
# Builds the Packer and the plugins that tools/go.mod pins, once, and prints the folder that holds them: packer, and plugins/.
# They stay in the user's cache, $CROSSWAN_CACHE or ~/.cache/crosswan. Without one this only takes longer.
set -euo pipefail
cd "$(dirname "$0")/tools"

say() { printf 'packer: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
command -v go >/dev/null || die "needs Go, any since 1.19: tests/setup/debian.sh images brings Debian's"

version() { sed -n "s|^\tgithub.com/hashicorp/$1 v\([^ ]*\).*|\1|p" go.mod; }
wanted=$(sed -n 's/^go //p' go.mod)
cache=${CROSSWAN_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/crosswan}
out=$cache/packer-$(version packer)-$(cat go.mod go.sum ../tools.sh | sha256sum | cut -c1-12)

# An older Go brings the one that go.mod asks for, as newer ones do by themselves: a module like any other, its sum checked.
# Debian 12's does not know of that yet, so it is done by hand for all.
use_wanted_go() {
    local have
    have=$(cd / && go env GOVERSION)
    [[ $(printf '%s\n' "${have#go}" "$wanted" | sort -V | head -n1) != "$wanted" ]] || return 0
    say "found Go ${have#go}, fetching $wanted"
    local toolchain
    toolchain=$(cd / && go mod download -json "golang.org/toolchain@v0.0.1-go$wanted.linux-$(go env GOARCH)" |
        sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    [[ -d $toolchain ]] || die "could not fetch Go $wanted. Install that or a newer one yourself: https://go.dev/dl"
    # Modules hold no executables.
    chmod +x "$toolchain"/bin/* "$toolchain"/pkg/tool/*/*
    unset GOROOT
    export PATH=$toolchain/bin:$PATH
}

build() {
    local name
    new=$out.part.$$
    rm -rf "$out".part.* # of a build that was killed: no other runs, by the lock
    trap 'rm -rf "$new"' EXIT
    say "building Packer $(version packer) and its plugins: three to ten minutes on two cores, once"
    use_wanted_go
    export GOFLAGS=-mod=readonly GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0
    for name in packer packer-plugin-amazon packer-plugin-qemu; do
        go build -trimpath -ldflags '-s -w' -o "$new/$name" "github.com/hashicorp/$name"
    done
    export CHECKPOINT_DISABLE=1 PACKER_PLUGIN_PATH=$new/plugins PACKER_CONFIG_DIR=$new
    for name in amazon qemu; do
        "$new/packer" plugins install --path "$new/packer-plugin-$name" "github.com/hashicorp/$name" >&2
        rm "$new/packer-plugin-$name"
    done
    rm -rf "$out"
    mv "$new" "$out" 2>/dev/null || die "could not move what was built to $out"
}

mkdir -p "$cache"
exec 9>"$cache/packer.lock"
flock 9
[[ -x $out/packer ]] || build
printf '%s\n' "$out"
