//! What other programs and people change between two passes is put right at the next one, and told.

use anyhow::{Result, ensure};
use crosswan_lab::Gateway;

use super::look::{Snapshot, stream, unharmed};
use crate::region::{Region, lines, refresh};

/// What other programs and people do between two passes, and the words in which the next one says so.
const TAMPERING: [(&str, &str); 14] = [
    ("iptables -t nat -F", "nat CROSSWAN-NAT"),
    ("iptables -t nat -D POSTROUTING -j CROSSWAN-NAT", "nat POSTROUTING: hook"),
    ("iptables -A FORWARD -j CROSSWAN-GUARD", "filter FORWARD: hook"),
    ("iptables -I CROSSWAN-GUARD -j ACCEPT", "filter CROSSWAN-GUARD"),
    (
        "iptables -t mangle -F FORWARD; iptables -t mangle -F CROSSWAN-MSS; iptables -t mangle -X CROSSWAN-MSS",
        "was absent",
    ),
    ("iptables -N CROSSWAN-OLD", "CROSSWAN-OLD removed"),
    ("nft flush ruleset", "was absent"),
    ("sed -i s/dpd_delay.*/dpd_delay=99s/ /etc/swanctl/conf.d/crosswan.conf", "write crosswan.conf (changed)"),
    ("echo '}' >>/etc/swanctl/conf.d/crosswan.conf", "not known to be as on disk"),
    ("sed -i /secret/d /etc/swanctl/conf.d/crosswan-secrets.conf", "write crosswan-secrets.conf (changed)"),
    ("chmod 644 /etc/swanctl/conf.d/crosswan-secrets.conf", "write crosswan-secrets.conf (permissions were wrong)"),
    ("rm /var/lib/crosswan/iptables.rules", "write iptables.rules (new)"),
    (
        "mv /etc/swanctl/conf.d /tmp-conf; mkdir /etc/swanctl/conf.d; swanctl --load-all -n; rm -r /etc/swanctl/conf.d; mv /tmp-conf /etc/swanctl/conf.d",
        "load connection",
    ),
    ("echo hello >/var/lib/crosswan/state.json", ""),
];

#[test]
fn what_others_changed_between_two_passes_is_put_right_and_told() -> Result<()> {
    let region = Region::standard()?;
    let spoke = region.gateway("a/nat-vpn")?;
    let packets = stream(&region, "a/host", "hub/host")?;
    let before = Snapshot::of(&spoke)?;
    for (tamper, said) in TAMPERING {
        spoke.sh(tamper)?.ok()?;
        let report = refresh(&spoke)?;
        let told = [lines(&report, "steps"), lines(&report, "notes")].concat().join("\n");
        ensure!(!told.is_empty() && told.contains(said), "{tamper}: {told}");
        Snapshot::of(&spoke)?.must_be(&before, tamper)?;
        nothing_left(&spoke)?;
    }
    unharmed(packets, "a tunnel that nobody wanted to change")?;
    let host = region.lab.host("a/host")?;
    ensure!(Some(host.whoami_tcp(region.lab.internet().address)?) == spoke.public());
    Ok(())
}

fn nothing_left(gateway: &Gateway) -> Result<()> {
    let report = refresh(gateway)?;
    ensure!(report["outcome"] == "unchanged", "{report:#}");
    Ok(())
}
