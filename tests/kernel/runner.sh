#!/usr/bin/env bash
# cargo starts every program with this (.cargo/config.toml): tests that make networks run where the lab runs, which may be inside a
# user-mode kernel; all others run as they are.
set -euo pipefail

name=$(basename "$1")
case ${name%-*} in
cast | charon | cloud | fabric | follow | iptables | lifetime | net | netlink | quick | strict | tunnels | unprivileged) ;;
*) exec "$@" ;;
esac
# Beside the program or, of a test, above it. Cargo has let its locks go by now.
built=$(dirname "$1")
[[ $(basename "$built") != deps ]] || built=$(dirname "$built")
[[ -x $built/crosswan-lab ]] || cargo build --quiet --locked --package crosswan-lab --bin crosswan-lab
export CROSSWAN_KERNEL_LIMIT=${CROSSWAN_KERNEL_LIMIT:-3600}
exec "$built/crosswan-lab" tests "$@"
