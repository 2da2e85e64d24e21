//! The last actions of a pass fail, when the system has already been changed: the report says so, and the changes stay.

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Auth, Gateway};
use serde_json::Value;

use super::look::{Snapshot, all_well, stream, unharmed};
use crate::{
    keys::{ring, rotation::proved},
    region::{Region, UP, lines, refresh, refresh_with},
};

const STATE: &str = "/var/lib/crosswan/state.json";
const KEY: &str = "/etc/swanctl/private/crosswan.pem";

/// The report where `crosswan status` finds it.
fn published(gateway: &Gateway) -> Result<Value> {
    ensure!(gateway.sh("test ! -e /run/crosswan/failure.json")?.code == 0, "a pass without a report");
    Ok(serde_json::from_str(&gateway.read_file("/run/crosswan/status.json")?)?)
}

#[test]
fn a_state_that_cannot_be_written_loses_no_report() -> Result<()> {
    let region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    let before = Snapshot::of(&hub)?;
    // Nothing can be renamed to a folder.
    hub.sh(&format!("mv {STATE} {STATE}.good && mkdir {STATE} && iptables -t nat -F CROSSWAN-NAT"))?.ok()?;
    for outcome in ["changed", "unchanged"] {
        let report = refresh_with(&hub, &[], 4)?;
        ensure!(
            report["outcome"] == outcome && lines(&report, "problems").concat().contains("state.json"),
            "{report:#}"
        );
        ensure!(published(&hub)? == report, "the report on disk is another");
        Snapshot::of(&hub)?.must_be(&before, "the state cannot be written")?;
    }
    hub.sh(&format!("rmdir {STATE} && mv {STATE}.good {STATE}"))?.ok()?;
    refresh(&hub).map(drop)
}

#[test]
fn a_key_that_cannot_take_over_loses_no_report_and_no_packet() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let packets = stream(&region, "a/host", "hub/host")?;
    spoke.agent(&["rotate-key"])?.ok()?;
    refresh(&hub)?;
    proved(&spoke)?;
    let announced = region.lab.tag_of(&spoke, "crosswan-key")?;
    let keys = ring(&spoke)?;
    // Nothing can be renamed to a mount point.
    spoke.sh(&format!("mount --bind {KEY} {KEY}"))?.ok()?;
    let report = refresh_with(&spoke, &[], 4)?;
    ensure!(
        report["outcome"] == "changed" && lines(&report, "problems").concat().contains("crosswan.pem"),
        "{report:#}"
    );
    ensure!(published(&spoke)? == report, "the report on disk is another");
    ensure!(report["key"]["fingerprint"] == keys.current.public.fingerprint(), "{report:#}");
    ensure!(report["key"]["next"] == keys.next.context("no next key")?.public.fingerprint(), "{report:#}");
    ensure!(region.lab.tag_of(&spoke, "crosswan-key")? == announced, "what was not taken over is not announced");
    spoke.sh(&format!("umount {KEY}"))?.ok()?;
    refresh(&spoke)?;
    ensure!(region.lab.tag_of(&spoke, "crosswan-key")? != announced);
    refresh(&hub)?;
    all_well(&region, UP)?;
    unharmed(packets, "a rotation that was held up").map(drop)
}
