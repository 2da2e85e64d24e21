//! What other programs and people do between two passes: the next pass repairs it and reports it.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use crosswan_lab::Gateway;

use super::Healed;
use crate::{
    look::Snapshot,
    region::{lines, refresh},
    stage::Stage,
};

/// A shell line, and the words in which the next pass says so.
pub type Tampering = (&'static str, &'static str);

/// Rules, connections and files that are changed, on any gateway with tunnels.
pub const EDITED: [Tampering; 20] = [
    ("iptables -t nat -F", "nat CROSSWAN-NAT"),
    ("iptables -t nat -D POSTROUTING -j CROSSWAN-NAT", "nat POSTROUTING: hook"),
    ("iptables -A FORWARD -j CROSSWAN-GUARD", "filter FORWARD: hook"),
    ("iptables -I CROSSWAN-GUARD -j ACCEPT", "filter CROSSWAN-GUARD"),
    ("iptables -F CROSSWAN-GUARD; iptables -F CROSSWAN-MSS; iptables -X CROSSWAN-MSS", "was absent"),
    ("iptables -N CROSSWAN-OLD", "CROSSWAN-OLD removed"),
    ("nft flush ruleset", "was absent"),
    ("sed -i s/dpd_delay.*/dpd_delay=99s/ /etc/swanctl/conf.d/crosswan.conf", "write crosswan.conf (changed)"),
    ("echo '}' >>/etc/swanctl/conf.d/crosswan.conf", "not known to be as on disk"),
    ("truncate -s 300 /etc/swanctl/conf.d/crosswan.conf", "not known to be as on disk"),
    (": >/etc/swanctl/conf.d/crosswan.conf", "write crosswan.conf (changed)"),
    ("head -c 4096 /dev/urandom >/etc/swanctl/conf.d/crosswan.conf", "not known to be as on disk"),
    ("rm /etc/swanctl/conf.d/crosswan.conf", "write crosswan.conf (new)"),
    ("sed -i /secret/d /etc/swanctl/conf.d/crosswan-secrets.conf", "write crosswan-secrets.conf (changed)"),
    ("truncate -s 100 /etc/swanctl/conf.d/crosswan-secrets.conf", "write crosswan-secrets.conf (changed)"),
    ("rm /etc/swanctl/conf.d/crosswan-secrets.conf", "write crosswan-secrets.conf (new)"),
    ("rm /var/lib/crosswan/iptables.rules", "write iptables.rules (new)"),
    ("echo garbage >/var/lib/crosswan/iptables.rules", "write iptables.rules (changed)"),
    ("echo left by a kill >/etc/swanctl/conf.d/.crosswan.conf.new; iptables -t nat -F", "nat CROSSWAN-NAT"),
    (
        "mv /etc/swanctl/conf.d /etc/swanctl/away; mkdir /etc/swanctl/conf.d; swanctl --load-all -n; rm -r /etc/swanctl/conf.d; mv /etc/swanctl/away /etc/swanctl/conf.d",
        "load connection",
    ),
];

/// Owners and modes: the keys' file is root's alone.
pub const OWNERS: [Tampering; 6] = [
    ("chmod 644 /etc/swanctl/conf.d/crosswan-secrets.conf", "write crosswan-secrets.conf (permissions were wrong)"),
    ("chmod 0 /etc/swanctl/conf.d/crosswan-secrets.conf", "write crosswan-secrets.conf (permissions were wrong)"),
    ("chown 65534 /etc/swanctl/conf.d/crosswan-secrets.conf", "write crosswan-secrets.conf (permissions were wrong)"),
    ("chmod 666 /etc/swanctl/conf.d/crosswan.conf", "write crosswan.conf (permissions were wrong)"),
    ("chown 65534:65534 /etc/swanctl/conf.d/crosswan.conf", "write crosswan.conf (permissions were wrong)"),
    ("chown 65534 /var/lib/crosswan/iptables.rules", "write iptables.rules (permissions were wrong)"),
];

/// The state only adds knowledge: without it a pass starts from nothing.
pub const STATE: [Tampering; 5] = [
    ("truncate -s 200 /var/lib/crosswan/state.json", "state.json cannot be used"),
    (": >/var/lib/crosswan/state.json", "state.json cannot be used"),
    ("head -c 4096 /dev/urandom >/var/lib/crosswan/state.json", "state.json cannot be used"),
    ("echo '{\"regions\": []}' >/var/lib/crosswan/state.json", "state.json cannot be used"),
    ("rm /var/lib/crosswan/state.json", ""),
];

/// Each in turn: the next pass must report and repair it, and the one after it must find nothing to do. Returns the slowest pass.
pub fn put_right(gateway: &Gateway, all: &[Tampering]) -> Result<Duration> {
    let before = Snapshot::of(gateway)?;
    let mut slowest = Duration::ZERO;
    for (tamper, said) in all {
        gateway.sh(tamper)?.ok()?;
        let began = std::time::Instant::now();
        let report = refresh(gateway)?;
        slowest = slowest.max(began.elapsed());
        let told = [lines(&report, "steps"), lines(&report, "notes")].concat().join("\n");
        ensure!(told.contains(said), "{tamper}: {told}");
        Snapshot::of(gateway)?.must_be(&before, tamper)?;
        let report = refresh(gateway)?;
        ensure!(report["outcome"] == "unchanged", "{tamper}: {report:#}");
    }
    Ok(slowest)
}

fn on_both(stage: &Stage, all: &[Tampering]) -> Result<Healed> {
    let gateways: [&Arc<Gateway>; 2] = [&stage.hub, &stage.peer.first];
    let slowest = gateways
        .into_iter()
        .try_fold(Duration::ZERO, |slowest, g| Ok::<_, anyhow::Error>(slowest.max(put_right(g, all)?)))?;
    Healed::by(format!("{} on hub and victim, each by the next pass", all.len()), slowest)
}

pub fn owners(stage: &mut Stage) -> Result<Healed> {
    on_both(stage, &OWNERS)
}

pub fn edited(stage: &mut Stage) -> Result<Healed> {
    on_both(stage, &EDITED)
}

pub fn state(stage: &mut Stage) -> Result<Healed> {
    on_both(stage, &STATE)
}
