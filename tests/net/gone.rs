//! A gateway that is gone before there is another: what its successor asks for by itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_faults::look::sas;
use crosswan_lab::{Auth, Role};

use crate::region::{Region, eventually, refresh, show};

/// The bound on the longest of keep's pauses in the lab, with what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_route_that_waited_in_vain_for_its_tunnel_is_asked_for_as_soon_as_that_is_up() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let old = region.gateway("hub/vpn-hub")?;
    let spokes = [region.gateway("a/nat-vpn")?, region.gateway("b/nat-vpn")?];
    region.lab.managed_tables("hub")?;
    region.keepers.remove(&old.name);
    region.lab.terminate(&old)?;
    let new = region.lab.add_gateway("hub", Role::VpnHub)?;
    new.start_charon()?;
    let output = new.agent(&["refresh"])?;
    ensure!(output.code == 6 && output.stdout.contains("no tunnel is up"), "{}", show(&output));
    // No spoke knows it yet, so what keep asks for is in vain, as often as it may.
    let keep = new.spawn_agent(&["keep"])?;
    keep.wait_for_log("it has been missing for", PATIENCE)?;
    let output = new.agent(&["refresh"])?;
    ensure!(output.code == 6, "{}", show(&output));
    for spoke in &spokes {
        refresh(spoke)?;
    }
    eventually(PATIENCE, "the spokes are there", || Ok(sas(&new)?.len() == 2))?;
    keep.wait_for_log(
        "a route of the VPC waits for the tunnels, and more of them are up: asked for a refresh",
        PATIENCE,
    )
    .context("the route waits for the next hour's pass")?;
    refresh(&new)?;
    region.lab.host("a/host")?.wait_for(region.address("hub/host")?, PATIENCE)?;
    Ok(())
}
