#!/usr/bin/env bash
# Runs a command while the kernel starts programs of another architecture by QEMU: emulate.sh ARCH COMMAND [ARGUMENT ...].
# With Debian's package, systemd sets that up at boot. Where it has not, this script registers QEMU with the kernel; the
# registration ends with the command. (On kernels before 6.7 it lasts until the next boot.)
set -euo pipefail

say() { printf 'emulate: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

arch=$1
shift
case $arch in
amd64) cpu=x86_64 ;;
arm64) cpu=aarch64 ;;
*) die "the architecture is amd64 or arm64; found '$arch'" ;;
esac
if [[ $arch == "$(dpkg --print-architecture)" ]] || arch-test "$arch" >/dev/null 2>&1; then exec "$@"; fi

conf=/usr/lib/binfmt.d/qemu-$cpu.conf
[[ -s $conf && -n $(command -v arch-test) ]] ||
    die "programs for $arch need an emulator on this machine: apt-get install qemu-user-static arch-test (tests/setup/debian.sh images $arch does it)"
# A registration lasts as long as binfmt_misc is mounted somewhere.
# shellcheck disable=SC2016
exec unshare --mount --propagation private bash -euc '
    arch=$1 conf=$2
    shift 2
    if ! { mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && { arch-test "$arch" >/dev/null 2>&1 ||
        cat "$conf" >/proc/sys/fs/binfmt_misc/register; } && arch-test "$arch" >/dev/null; }; then
        echo "emulate: the kernel refused to register QEMU for $arch. In an unprivileged container, run this on the host instead" >&2
        exit 1
    fi
    exec "$@"' - "$arch" "$conf" "$@"
