//! A VPC that was deleted, whose gateway does not know: its SA is alive and its keep goes on trying.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crosswan_faults::look::{ask, sas};
use crosswan_lab::Auth;
use serde_json::Value;

use super::{Claim, Evil, UNKNOWN, accepted, bystanders, undisturbed};
use crate::region::{Region, lines, refresh};

#[test]
fn a_deleted_vpc_is_out_although_its_sa_is_alive_and_its_key_is_good() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let (hub, b, vpc) = (region.gateway("hub/vpn-hub")?, region.gateway("b/nat-vpn")?, region.lab.vpc_id("b")?);
    let (host, far) = (region.lab.host("b/host")?, region.address("hub/host")?);
    let others = bystanders(&region, &[("a/host", "hub/host"), ("hub/host", "a/host")])?;
    let conn = region.lab.connection_to(&b)?;
    let its = || Ok::<_, anyhow::Error>(sas(&hub)?.into_iter().filter(|sa| sa.conn == conn).count());
    let pinned = || -> Result<bool> {
        let state: Value = serde_json::from_str(&hub.read_file("/var/lib/crosswan/state.json")?)?;
        Ok(state["peers"][&vpc]["keys"].is_array())
    };
    region.lab.delete_vpc_on_paper("b")?;
    ensure!(host.reaches(far)? && its()? == 1 && pinned()?, "there is nothing to end");

    let report = refresh(&hub)?;
    ensure!(report["kept"].to_string().contains("poll 1 of 2") && its()? == 1, "{report:#}");
    let report = refresh(&hub)?;
    ensure!(lines(&report, "steps").concat().contains(&format!("end every IKE_SA of {conn}")), "{report:#}");
    ensure!(its()? == 0 && accepted(&hub, &vpc)?.is_none() && !pinned()?, "{report:#}");
    for file in ["/etc/swanctl/conf.d/crosswan.conf", "/var/lib/crosswan/state.json"] {
        ensure!(!hub.read_file(file)?.contains(&vpc), "{file}");
    }
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        let known = |sa: &crosswan_core::system::Sa| sa.is_established() && sa.remote_id.starts_with(&vpc);
        ensure!(!ask(&hub, async |vici| vici.sas().await)?.iter().any(known), "it is back");
        ensure!(!host.reaches(far)?, "its packets still pass");
    }
    let tried = b.charon_log().matches("received NO_PROPOSAL_CHOSEN").count();
    ensure!(tried > 0, "its keep has not tried");
    let evil = Evil::takes_over(&mut region, "b")?;
    let claim = Claim { name: "by-hand", id: &evil.id, key: evil.own_key()?, ts: "10.2.0.0/16" };
    evil.is_refused(&claim, UNKNOWN)?;
    ensure!(lines(&refresh(&hub)?, "steps").is_empty());
    undisturbed(others, "a VPC was deleted")
}
