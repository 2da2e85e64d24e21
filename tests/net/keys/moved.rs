//! A fleet with a pre-shared key moves to keys of its gateways' own, one gateway after the other, as README.md has it.

use anyhow::{Result, ensure};
use crosswan_faults::look::{all_well, ask, stream, unharmed};
use crosswan_lab::{Auth, Gateway, Role};
use serde_json::Value;

use super::{announced, reconnect};
use crate::region::{Region, UP, refresh};

const SECRETS: &str = "/etc/swanctl/conf.d/crosswan-secrets.conf";

/// Switches a gateway to keys, and refreshes it.
fn switch(region: &Region, gateway: &Gateway) -> Result<Value> {
    let regions = match gateway.role {
        Role::VpnHub => String::new(),
        _ => format!("regions = [\"{}\"]\n", region.lab.region("hub")?),
    };
    gateway.write_file("/etc/crosswan/conf.d/10-keys.toml", &format!("{regions}[auth]\nmethod = \"key\"\n"), 0o644)?;
    refresh(gateway)
}

/// How many keys the peer of each tunnel is known by: none where that is a pre-shared one.
fn by_key(report: &Value) -> Vec<usize> {
    let tunnels = report["tunnels"].as_object().into_iter().flatten();
    tunnels.map(|(_, tunnel)| tunnel["peer_keys"].as_array().map_or(0, Vec::len)).collect()
}

#[test]
fn a_fleet_moves_from_a_pre_shared_key_to_keys() -> Result<()> {
    let region = Region::with(Auth::Psk)?;
    let (hub, a, b) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?, region.gateway("b/nat-vpn")?);
    let packets = [("a/host", "hub/host"), ("hub/host", "b/host"), ("b/host-2", "a/host")];
    let packets = packets.map(|(from, to)| stream(&region, from, to));

    // The hub has a key now, and its clients none: their tunnels stay as they are.
    ensure!(by_key(&switch(&region, &hub)?) == [0, 0] && announced(&region.lab, &hub)?.keys.len() == 1);
    ensure!(by_key(&switch(&region, &a)?) == [1]);
    let mut report = by_key(&refresh(&hub)?);
    report.sort_unstable();
    ensure!(report == [0, 1], "a by its key, b by the pre-shared one: {report:?}");
    for stream in packets {
        unharmed(stream?, "the fleet moved to keys")?;
    }
    reconnect(&region, &a)?;
    reconnect(&region, &b)?;

    // One end has switched, the other has not looked yet: what breaks now waits for its next pass.
    let live = stream(&region, "b/host", "hub/host")?;
    ensure!(by_key(&switch(&region, &b)?) == [1]);
    unharmed(live, "one end has switched")?;
    let (host, to) = (region.lab.host("b/host")?, region.address("hub/host")?);
    for sa in ask(&b, async |vici| vici.sas().await)? {
        b.swanctl(&["--terminate", "--ike-id", &sa.id.to_string(), "--timeout", "5"])?;
    }
    ensure!(!host.reaches(to)? && !host.reaches(to)?, "the hub still expects the pre-shared key");
    ensure!(by_key(&refresh(&hub)?) == [1, 1]);
    all_well(&region, UP)?;

    for gateway in [&hub, &a, &b] {
        std::fs::remove_file(gateway.path("/etc/crosswan/psk"))?;
        refresh(gateway)?;
        ensure!(!gateway.read_file(SECRETS)?.contains("ike-"), "{}", gateway.name);
        reconnect(&region, gateway)?;
    }
    Ok(())
}
