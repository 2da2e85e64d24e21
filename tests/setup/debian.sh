#!/usr/bin/env bash
# Prepares a fresh Debian 12 or 13 for `make demo`; as `debian.sh fuzz` also for `make test` and `make fuzz`, as `debian.sh bench` for `make bench`, as
# `debian.sh lint` for `make lint`, as `debian.sh images` for `make deb`, `make image`, `make vm-test` and `make packer-test`, as
# `debian.sh images arm64` (or amd64) also to make or boot disks of that architecture, as `debian.sh dist` for `make dist`.
# It installs what is missing and says so; when nothing is missing it is silent and quick. It starts and enables no service.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/setup/lib.sh
export PATH=$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin

packages=(
    gcc libc6-dev make ca-certificates              # to build: ring, the cryptography of rustls, needs a C compiler
    charon-systemd strongswan-swanctl               # the gateways of the lab
    libstrongswan-standard-plugins                  #   AES-GCM; only recommended, so apt alone leaves it out
    iptables nftables iproute2 iputils-ping         # the gateways' rules, the lab's routers, and to look around
    python3 python3-venv                            # moto, the lab's EC2
    systemd                                         # systemd-analyze, to check the units
    tcpdump                                         # what is on the wire, in a test
    strace                                          # kills the agent at every step of an apply, in a test
)
if [[ ${1-} == images ]]; then
    packages+=(
        dpkg-dev                                    # the package
        mmdebstrap debian-archive-keyring           # the base disk, and the tree that builds for the other architecture
        e2fsprogs fdisk
        qemu-utils openssh-client                   # the machines, and Packer's way into them
        openssl                                     # Packer's TLS to EC2, in its test
    )
    native=$(dpkg --print-architecture)
    for arch in "$native" "${2:-$native}"; do
        case $arch in
        amd64) packages+=(qemu-system-x86 grub-pc-bin) ;;
        arm64) packages+=(qemu-system-arm qemu-efi-aarch64 mtools) ;;
        *) die "the architecture is amd64 or arm64; found '$arch'" ;;
        esac
        [[ $arch == "$native" ]] || packages+=(qemu-user-static arch-test) # to run its programs while its disk is made
    done
    command -v go >/dev/null || packages+=(golang-go) # to build Packer; any version fetches the one that go.mod names
fi
[[ ${1-} == fuzz ]] && packages+=(
    libclang-rt-dev                                 # libFuzzer
    prometheus prometheus-node-exporter             # what scrapes gateways in a test
    chromium-headless-shell fonts-dejavu-core       # what a map is looked at in
)
[[ ${1-} =~ ^(fuzz|bench)$ ]] && packages+=(wireguard-tools) # what a benchmark compares tunnels with
[[ ${1-} == lint ]] && packages+=(shellcheck git)   # git fetches cargo-deny's advisories

command -v apt-get dpkg-query >/dev/null || die "needs Debian 12 or 13; this system has no apt. A container or virtual machine of debian:13 will do"

# Whether the lab will need a user-mode kernel that is not built yet; by the tests of tests/lab/src/kernel/choice.rs.
kernel_is_needed() {
    [[ ${CROSSWAN_KERNEL-} != host && -z ${CROSSWAN_KERNEL_LINUX-} && $(uname -m) == x86_64 ]] || return
    ! tests/kernel/build.sh cached >/dev/null 2>&1 || return
    [[ ${CROSSWAN_KERNEL-} == uml || $EUID != 0 ]] && return
    # Without iproute2, which is installed then, nothing is known yet: the lab itself will tell.
    command -v ip unshare >/dev/null || return 0
    ! unshare --net sh -c 'ip link add cw1 type xfrm if_id 1 && ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 1 \
        mode tunnel aead "rfc4106(gcm(aes))" 0x000102030405060708090a0b0c0d0e0f10111213 128' >/dev/null 2>&1
}

# --- Packages

missing=()
for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done

# Where the lab cannot run on this machine's kernel it builds one of its own.
if [[ -z ${1-} || $1 == fuzz ]] && kernel_is_needed; then
    readarray -t -O "${#missing[@]}" missing < <(tests/kernel/build.sh needs | grep -vxF -f <(printf '%s\n' "${missing[@]}" .))
fi

if ((${#missing[@]})); then
    [[ $EUID == 0 ]] || die "only root can install what is missing: apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    say "fetching the package lists"
    apt-get -qq update || die "apt-get update failed: is the network there?"
    say "installing ${missing[*]}: a minute or two"
    install "${missing[@]}" || die "apt-get could not install ${missing[*]}: its output is above"
    # charon should not start at this machine's next boot either; `systemctl enable strongswan` if you want it to.
    [[ " ${missing[*]} " != *" charon-systemd "* ]] || systemctl --quiet disable strongswan.service 2>/dev/null || true
    [[ " ${missing[*]} " != *" prometheus "* ]] || systemctl --quiet disable prometheus.service 2>/dev/null || true
    [[ " ${missing[*]} " != *" prometheus-node-exporter "* ]] || systemctl --quiet disable prometheus-node-exporter.service 2>/dev/null || true
fi

# --- Rust

# For `lint` with rustfmt and clippy.
tests/setup/rust.sh "${1-}"

# --- Programs from crates.io, in cargo's own folder, where they survive `make clean`

tool() { # NAME VERSION HOW LONG
    ! command -v "$1" >/dev/null || return 0
    say "building $1: $3, once"
    env -u CARGO_TARGET_DIR cargo install --quiet --locked "$1@$2"
}

case ${1-} in
lint) tool cargo-deny '~0.20' "three to five minutes" ;;
dist) tool cargo-cyclonedx '=0.5.9' "one to two minutes" ;;
esac
