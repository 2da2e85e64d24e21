//! The package on a machine that runs: what an upgrade disturbs, what a purge leaves, and what an installation starts.

use anyhow::Result;
use crosswan_lab::Vm;

use crate::region::{CLIENT, HUB, Region};
use crate::report::losses;

/// Everything of the agent's that may be on a machine.
const TRACES: &str = "\
    ls -d /etc/crosswan /var/lib/crosswan /run/crosswan /etc/swanctl/{conf.d,private}/{,.}crosswan* /run/sysctl.d/60-crosswan.conf 2>/dev/null
    systemctl list-unit-files --no-legend 'crosswan*'
    swanctl --list-conns 2>/dev/null | grep ^crosswan
    swanctl --list-sas 2>/dev/null | grep ^crosswan
    iptables-save | grep CROSSWAN
    ip -o link | grep -o ': cw[0-9]'
    ip rule | grep -E '^710[45]:'
    ip route show table 7105 2>/dev/null | grep -v ^blackhole
    true";

/// The same program under a newer version, on both ends of a tunnel in use.
pub fn upgrade(region: &mut Region) -> Result<()> {
    let (a, hub) = (region.lab.host("a/host")?, region.lab.host("hub/host")?);
    let streams = [a.ping_stream(hub.address)?, hub.ping_stream(a.address)?];
    let seen = &*region;
    for (ok, text) in seen.on_each([HUB, CLIENT], |name| newer(seen, name))? {
        region.check(ok, &text);
    }
    for stream in streams {
        let report = stream.stop()?;
        region.check(report.lost == 0 && report.sent > 20, &format!("meanwhile {}", losses(&report)));
    }
    Ok(())
}

fn newer(region: &Region, name: &str) -> Result<(bool, String)> {
    let pids = "systemctl show -P MainPID strongswan.service crosswan-keep.service | grep .";
    let vm = region.vm(name)?;
    let before = vm.ok(pids)?;
    make_newer(vm)?;
    vm.ok(INSTALL_NEWER)?;
    let version = version(vm)?;
    let after = vm.ok(pids)?;
    let [charon, keep] = [0, 1].map(|line| before.lines().nth(line) == after.lines().nth(line));
    let idle = region.refresh(name)?["outcome"] == "unchanged";
    let text = format!(
        "{name}: upgraded to {version}; charon went on: {charon}, keep is the new one: {}, the next refresh had nothing to do: {idle}",
        !keep
    );
    Ok((version.ends_with("+newer") && charon && !keep && idle, text))
}

/// Makes a package of a newer version, with the same program, out of the one that is on the second disk: `/tmp/packages/newer.deb`.
pub fn make_newer(vm: &Vm) -> Result<()> {
    vm.ok(&format!(
        "{UNPACK} && cd $(mktemp -d) && dpkg-deb -R /tmp/packages/new.deb new && sed -i 's/^Version: .*/&+newer/' new/DEBIAN/control \
         && dpkg-deb -Znone -b new /tmp/packages/newer.deb"
    ))
    .map(drop)
}

/// Installs what [`make_newer`] has made, as apt-get does where a repository has it.
pub const INSTALL_NEWER: &str = "DEBIAN_FRONTEND=noninteractive dpkg -i /tmp/packages/newer.deb";

/// The version of the agent's package.
pub fn version(vm: &Vm) -> Result<String> {
    vm.ok("dpkg-query -W -f '${Version}' crosswan")
}

/// The packages that a machine finds on its second disk, into `/tmp/packages`: `new.deb`, and `old.deb`, which is 0.1.0.
pub const UNPACK: &str = "mkdir -p /tmp/packages && tar -C /tmp/packages -xf /dev/vdb";

pub fn package(region: &mut Region) -> Result<()> {
    let vm = region.vm(CLIENT)?;
    vm.ok("iptables -A FORWARD -s 192.0.2.99 -j ACCEPT; printf 'connections { foreign { remote_addrs = 192.0.2.1\\n } }\\n' >/etc/swanctl/conf.d/foreign.conf; swanctl --load-all --noprompt
        ip rule add pref 100 to 192.0.2.0/24 lookup main; ip route add blackhole 192.0.2.0/24 table 7105")?;
    let before = vm.ok(TRACES)?.lines().count();
    vm.ok("dpkg --purge crosswan")?;
    let after = vm.ok(TRACES)?;
    let foreign = vm.ok("iptables-save | grep -c 192.0.2.99; swanctl --list-conns 2>/dev/null | grep -c ^foreign
        ip rule | grep -c ^100:; ip route show table 7105 | grep -c ^blackhole")?;
    let failed = vm.ok("systemctl --failed --plain --no-legend")?;
    region.check(
        before > 10 && after.trim().is_empty(),
        &format!("traces of the agent: {before} before the purge, after it {:?}", after.trim()),
    );
    region.check(foreign.trim() == "1\n1\n1\n1", "a foreign rule, connection, policy rule and route are still there");
    region.check(failed.trim().is_empty(), &format!("failed units after the purge: {:?}", failed.trim()));
    let vm = region.vm(CLIENT)?;
    vm.ok(&format!("{UNPACK} && dpkg -i /tmp/packages/new.deb"))?;
    let units = vm.ok("systemctl list-units --all --plain --no-legend 'crosswan*' | awk '{print $1, $3}'")?;
    let failed = vm.ok("systemctl --failed --plain --no-legend")?;
    let version = vm.ok("crosswan --version; man -w crosswan >/dev/null 2>&1; ls /usr/share/man/man1/crosswan.1.gz")?;
    let text = format!(
        "{} installed: failed units {:?}, started {:?}",
        version.lines().next().unwrap_or_default(),
        failed.trim(),
        units.trim()
    );
    region.check(failed.trim().is_empty() && !units.contains(" active"), &text);
    Ok(())
}
