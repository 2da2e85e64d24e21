//! A gateway that the others do not know yet: they hear it knock, and ask EC2 at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_faults::attended::Attended;
use crosswan_lab::{Builder, Lab, Role, VpcSpec};

use crate::region::agent;

/// The default.
const INTERVAL: Duration = Duration::from_secs(15);
/// Long on a busy machine, and far from an hour.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_hub_hears_a_new_gateway_knock_and_makes_its_tunnel() -> Result<()> {
    let vpcs = Lab::standard_vpcs()?.map(VpcSpec::bare).map(|vpc| match vpc.name.as_str() {
        "b" => VpcSpec { gateways: Vec::new(), ..vpc },
        _ => vpc,
    });
    let lab = vpcs.into_iter().fold(Lab::builder(agent()?), Builder::vpc).build()?;
    let attended =
        lab.gateways().into_iter().map(|gateway| Attended::boot(gateway, INTERVAL)).collect::<Result<Vec<_>>>()?;
    lab.host("a/host")?.wait_for(lab.host("hub/host")?.address, LIMIT)?;
    let hub = attended.iter().find(|one| one.gateway.role == Role::VpnHub).context("no hub")?;
    // What its own boot asked for has been done.
    std::thread::sleep(Duration::from_secs(2));
    let before = hub.passes().len();

    let new = Attended::boot(lab.add_gateway("b", Role::NatVpn)?, INTERVAL)?;
    let first = new.first_pass()?;
    lab.host("b/host")?.wait_for(lab.host("hub/host")?.address, LIMIT)?;
    println!("from the end of the newcomer's first pass to the first packet: {:?}", Instant::now() - first);
    let keep = hub.keep.as_ref().context("no keep")?;
    let address = new.gateway.public().context("no address")?;
    keep.wait_for_log(&format!("{address} wants a tunnel"), LIMIT)?;
    ensure!(hub.passes().len() == before + 1, "{} passes", hub.passes().len() - before);
    for keeper in [&new, hub] {
        println!("{}", keeper.keep.as_ref().context("no keep")?.log());
    }
    Ok(())
}
