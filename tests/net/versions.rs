//! A gateway whose tunnels are routes, and one of the version before, which has policies: together, and one after the other in place.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Auth, Gateway, Lab, Role};

use crate::cloud::watch::Watch;
use crate::region::{Region, agent, refresh, show};

/// The agent of the last version without interfaces.
fn before() -> Result<PathBuf> {
    std::env::var_os("CROSSWAN_BEFORE").map(PathBuf::from).context("CROSSWAN_BEFORE names no agent of the version before")
}

/// A refresh by the version before.
fn old_refresh(gateway: &Gateway) -> Result<()> {
    let output = gateway.output(&before()?, &["refresh"], "", Duration::from_secs(60))?;
    ensure!(output.code == 0, "{}: exit {}\n{}", gateway.name, output.code, show(&output));
    Ok(())
}

/// A region that the version before has made, up and running. `keep` is today's: it only initiates.
fn region() -> Result<Region> {
    let mut region = Region::from(Lab::standard(agent()?, Auth::Psk)?);
    for gateway in region.lab.gateways() {
        if gateway.role != Role::NatHub {
            gateway.start_charon()?;
        }
        old_refresh(&gateway)?;
        if gateway.role != Role::NatHub {
            region.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
        }
    }
    region.settle()?;
    Ok(region)
}

const PAIRS: [(&str, &str); 6] = [
    ("a/host", "hub/host"),
    ("hub/host", "a/host"),
    ("b/host", "hub/host"),
    ("hub/host", "b/host-2"),
    ("a/host", "b/host"),
    ("b/host-2", "a/host"),
];

/// What is lost while `gateway` is upgraded in place, at 20 packets a second.
fn upgrade(region: &Region, gateway: &Arc<Gateway>) -> Result<()> {
    let watch = Watch::over(region, &PAIRS)?;
    let report = refresh(gateway)?;
    for step in report["steps"].as_array().into_iter().flatten() {
        eprintln!("  {step}");
    }
    std::thread::sleep(Duration::from_secs(3));
    for (pair, gap, lost) in watch.gaps()? {
        eprintln!("{} upgraded: {pair}: {lost} lost, longest gap {gap:?}", gateway.name);
    }
    region.settle()
}

#[test]
fn an_upgrade_in_place() -> Result<()> {
    let region = region()?;
    for name in ["hub/vpn-hub", "a/nat-vpn", "b/nat-vpn"] {
        upgrade(&region, &region.gateway(name)?)?;
    }
    Ok(())
}

#[test]
fn an_upgrade_in_place_of_the_clients_first() -> Result<()> {
    let region = region()?;
    for name in ["a/nat-vpn", "b/nat-vpn", "hub/vpn-hub"] {
        upgrade(&region, &region.gateway(name)?)?;
    }
    Ok(())
}
