#!/usr/bin/env bash
# Turns a plain Debian 13 into a gateway image: provision.sh vpn-hub|nat-hub|nat-vpn, as root, in the instance or a chroot of the disk.
# It takes everything from the folder /tmp/crosswan (see README.md beside this file) and leaves nothing of it behind.
set -euo pipefail

from=/tmp/crosswan
settings=/etc/crosswan/crosswan.toml

say() { printf 'provision: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

check() {
    [[ $mode =~ ^(vpn-hub|nat-hub|nat-vpn)$ ]] || die "usage: provision.sh vpn-hub|nat-hub|nat-vpn; found '$mode'"
    [[ $EUID == 0 ]] || die "needs root: run it with sudo"
    local file
    for file in crosswan.deb crosswan.toml images/files/all "images/files/$mode"; do
        [[ -e $from/$file ]] || die "needs $from/$file; images/README.md says what belongs in $from"
    done
    # shellcheck source=/dev/null
    . /etc/os-release
    [[ ${ID-} == debian && ${VERSION_ID-0} -ge 13 ]] || die "needs Debian 13; this is ${PRETTY_NAME-unknown}"
    local here its
    here=$(dpkg --print-architecture) its=$(dpkg-deb -f $from/crosswan.deb Architecture)
    [[ $its == "$here" ]] || die "crosswan.deb is a package for $its, and this image is for $here: make deb ARCH=$here builds the right one"
    grep -Eq "^mode *= *\"$mode\"" "$from/crosswan.toml" || die "crosswan.toml must say: mode = \"$mode\""
}

# Nothing starts while the image is made, because this machine is not the gateway yet.
install_packages() {
    local policy=/usr/sbin/policy-rc.d
    [[ ! -e $policy ]] || die "$policy exists, so this is not a plain Debian: remove it, or start from a plain one"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    export DEBIAN_FRONTEND=noninteractive
    # Without translations of descriptions, whose lists would only be removed again.
    local apt=(apt-get -q -o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any -o Acquire::Languages=none)
    say "fetching the package lists"
    "${apt[@]}" update >/dev/null
    say "installing the agent, strongSwan and unattended-upgrades"
    "${apt[@]}" install -y --no-install-recommends "$from/crosswan.deb" unattended-upgrades
    "${apt[@]}" clean
    rm -f $policy
}

install_files() {
    local tree
    for tree in all "$mode"; do
        cp -r --no-preserve=all "$from/images/files/$tree/." /
    done
    install -D -m 644 "$from/crosswan.toml" $settings
    # Only the units that the presets name.
    local units
    mapfile -t units < <(sed -n 's/^\(enable\|disable\) //p' /etc/systemd/system-preset/1[01]-crosswan*.preset)
    systemctl --quiet preset "${units[@]}"
}

# Removes what the machine is or was as a gateway: an image has no key, no name and no peer of it. Hidden files are those that a killed
# pass leaves. The settings are checked afterwards, so that no key of this machine has a say in that.
forget() {
    rm -rf /etc/crosswan/psk* /etc/credstore/crosswan.psk /var/lib/crosswan
    rm -f /etc/swanctl/{conf.d,private}/{,.}crosswan*
}

# Regions, a hub or a pre-shared key that are missing are right for an image, user data will bring them; anything else that the agent
# does not understand is a mistake, and better found here. Exit code 2 is a setting, wrong or missing; if it is gone once there are
# stand-ins for what user data may bring, nothing was wrong. A missing pre-shared key is code 2, too, and keeps no file from being rendered.
check_settings() {
    local said again stand_ins=(CROSSWAN_REGIONS=us-east-1)
    said=$(understood) && return
    grep -Eq '^private_net *=' $settings || stand_ins+=(CROSSWAN_PRIVATE_NET=10.0.0.0/8)
    again=$(export "${stand_ins[@]}" && understood) || die "$again"
    say "user data must bring more: $said"
}

# Whether the agent understands its settings, and else what it says. render stops at the first thing it cannot ask, after the settings.
understood() {
    local out code=0
    out=$(mktemp -d)
    (cd / && timeout 30 /usr/bin/crosswan render --out "$out" 3>&1 >/dev/null 2>&3) || code=$?
    [[ $code != 2 || -n $(ls -A "$out") ]]
}

# Removes everything that belongs to the machine that made the image, or that would be the same in all instances.
clean() {
    # From now on a running system keeps its journal and random seed in memory, or its shutdown would write them again.
    if [[ -d /run/systemd/system ]]; then
        journalctl --relinquish-var
        systemctl --quiet mask --runtime --now systemd-random-seed
    fi
    rm -f /etc/ssh/ssh_host_* ~root/.ssh/authorized_keys /home/*/.ssh/authorized_keys
    rm -f ~root/.*_history /home/*/.*_history ~root/.wget-hsts /var/lib/systemd/{random-seed,credential.secret}
    rm -rf /var/lib/cloud/* /var/lib/dhcp/* /var/lib/dhcpcd/* /var/lib/systemd/network/*
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/cache/man/*
    # Empty, not missing: then systemd makes one at boot and does not treat that boot as the machine's first.
    : >/etc/machine-id
    [[ ! -e /var/lib/dbus/machine-id || -L /var/lib/dbus/machine-id ]] || rm -f /var/lib/dbus/machine-id
    rm -rf /var/log/journal/*
    mkdir -p /var/log/journal
    find /var/log -type f -delete
    find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -path $from -exec rm -rf {} +
    rm -rf $from
    sync
}

main() {
    mode=${1-}
    check
    install_packages
    install_files
    forget
    check_settings
    clean
    say "$mode is ready"
}

# The shell reads the whole script before it runs any of it, because the script removes itself.
main "$@"; exit
