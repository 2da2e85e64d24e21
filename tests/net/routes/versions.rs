//! A gateway with interfaces beside one of the version before, which has policies; and one that gets the other version while its
//! tunnels are up.

use std::time::Duration;

use anyhow::{Result, ensure};
use crosswan_faults::look::all_well;
use crosswan_lab::{Auth, Gateway, Lab};

use super::{PAIRS, before, carrier, pass, watch};
use crate::region::{Region, UP, agent, lines, show};

/// At fifty packets a second, what each stream may lose when a gateway is upgraded or the reverse.
const BOUND: u32 = 50;

/// A region in which these gateways have the version before.
fn mixed(old: &[&str]) -> Result<Region> {
    let (before, lab) = (before()?, Lab::standard(agent()?, Auth::Psk)?);
    for name in old {
        let gateway = lab.gateway(name)?;
        gateway.install_agent(&before);
        // That version leaves this to its operator.
        lab.source_dest_check(&gateway, false)?;
    }
    let region = Region::booted(lab)?;
    region.settle()?;
    Ok(region)
}

#[test]
fn a_client_of_the_version_before_works_with_a_hub_with_interfaces_and_is_upgraded_and_put_back_on_live_tunnels()
-> Result<()> {
    works_and_changes("a/nat-vpn", "10.0.0.0/8")
}

#[test]
fn a_hub_of_the_version_before_works_with_clients_with_interfaces_and_is_upgraded_and_put_back_on_live_tunnels()
-> Result<()> {
    works_and_changes("hub/vpn-hub", "10.1.0.0/16")
}

/// The gateway has the version before, all others have this one. `network` is one that it reaches by a tunnel.
fn works_and_changes(name: &str, network: &str) -> Result<()> {
    let mut region = mixed(&[name])?;
    let capture = region.lab.capture_internet()?;
    let steady = watch(&region)?;
    std::thread::sleep(Duration::from_secs(1));
    steady.undisturbed(&format!("{name} has the version before"))?;
    let gateway = region.gateway(name)?;
    change(&mut region, &gateway, true)?;
    ensure!(carrier(&gateway, network)? == "cw1");
    change(&mut region, &gateway, false)?;
    let packets = capture.stop()?;
    ensure!(packets.clear_private().is_empty(), "{:?}", packets.clear_private());
    Ok(())
}

/// The package's upgrade, or downgrade: other programs, a pass, keep anew.
fn change(region: &mut Region, gateway: &std::sync::Arc<Gateway>, up: bool) -> Result<()> {
    let what = format!("{}: {}", gateway.name, if up { "upgrade" } else { "downgrade" });
    let watched = watch(region)?;
    region.keepers.remove(&gateway.name);
    gateway.install_agent(&if up { agent()? } else { before()? });
    let report = pass(gateway)?;
    eprintln!("{what}: {:#?}", lines(&report, "steps"));
    region.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
    all_well(region, UP)?;
    std::thread::sleep(Duration::from_secs(1));
    let output = gateway.agent(&["refresh", "--json"])?;
    ensure!(output.code == 0 && output.stdout.contains("\"unchanged\""), "{what}: {}", show(&output));
    for (pair, gap, lost) in watched.gaps()? {
        eprintln!("{what}: {pair}: {lost} lost, gap {gap:?}");
        ensure!(lost <= BOUND, "{what}: {pair}: {lost} of {} pairs", PAIRS.len());
    }
    Ok(())
}
