//! Tunnels as routes: which of two live tunnels carries a network, what becomes of packets when routes, interfaces or charon are
//! away, and what puts them back.

mod charon;
mod clear;
mod doubles;
pub mod packets;
mod places;
mod tampering;
mod versions;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_core::system::TABLE;
use crosswan_faults::look::sas;
use crosswan_lab::{Gateway, Role};
use serde_json::Value;

use crate::{
    cloud::watch::Watch,
    region::{Region, UP, eventually, show},
};

/// Between spokes, and between a spoke and the hub's VPC, both ways.
const PAIRS: [(&str, &str); 5] = [
    ("a/host", "hub/host"),
    ("hub/host", "a/host"),
    ("a/host", "b/host"),
    ("b/host-2", "a/host"),
    ("hub/host", "b/host"),
];
const CIDR_A: &str = "10.1.0.0/16";

/// Fifty packets a second between all [`PAIRS`].
fn watch(region: &Region) -> Result<Watch> {
    Watch::every(Duration::from_millis(20), region, &PAIRS)
}

/// Delays every packet between two VPCs by this many milliseconds, each way.
fn delay(region: &Region, milliseconds: u32) -> Result<()> {
    let internet = region.lab.internet();
    let links = internet.exec("ip", &["-br", "link"])?.ok()?.stdout;
    for link in links.lines().filter_map(|line| line.split('@').next()).filter(|name| name.starts_with("vpc")) {
        let delay = format!("{milliseconds}ms");
        let words = ["qdisc", "replace", "dev", link, "root", "netem", "limit", "10000", "delay", &delay];
        internet.exec("tc", &words)?.ok()?;
    }
    Ok(())
}

/// A pass, whatever it has to say about replacements.
fn pass(gateway: &Gateway) -> Result<Value> {
    let mut output = gateway.agent(&["refresh", "--json"])?;
    // On a busy machine IMDS may be too slow for the SDK. systemd would try again, too.
    for _ in 0..6 {
        if output.code == 3 {
            output = gateway.agent(&["refresh", "--json"])?;
        }
    }
    ensure!(matches!(output.code, 0 | 6), "{}: exit {}\n{}", gateway.name, output.code, show(&output));
    serde_json::from_str(&output.stdout).with_context(|| show(&output))
}

/// The interface through which a gateway sends what goes to this network.
fn carrier(gateway: &Gateway, net: &str) -> Result<String> {
    let route = gateway.sh(&format!("ip route show table {TABLE} {net}"))?.ok()?.stdout;
    let carrier = route.lines().find_map(|line| line.split_once(" dev ")).map(|(_, rest)| rest);
    Ok(carrier.and_then(|rest| rest.split(' ').next()).unwrap_or("none").to_owned())
}

/// Whether the tunnel of a connection is up here.
fn is_up(gateway: &Gateway, connection: &str) -> Result<bool> {
    Ok(sas(gateway)?.iter().any(|sa| sa.conn == connection && sa.children.iter().any(|child| child.is_up())))
}

/// Launches and boots a second gateway in the client's VPC, and waits until its tunnel stands beside the one in use.
fn second_gateway(region: &mut Region, vpc: &str) -> Result<std::sync::Arc<Gateway>> {
    let hub = region.gateway("hub/vpn-hub")?;
    let new = region.lab.add_gateway(vpc, Role::NatVpn)?;
    region.boot(&new)?;
    pass(&hub)?;
    let connection = region.lab.connection_to(&new)?;
    eventually(UP, "the second tunnel is up", || is_up(&hub, &connection))?;
    Ok(new)
}

/// A ping in vain is told so by an ICMP "unreachable" of this gateway. Linux sends a host one of them a second.
fn told_at_once(region: &Region, from: &str, to: &str, gateway: &Gateway) -> Result<()> {
    std::thread::sleep(Duration::from_millis(1100));
    let report = region.lab.host(from)?.ping(region.address(to)?, 2)?;
    let told = report.errors.iter().any(|(who, kind, _)| *who == gateway.address && *kind == 3);
    ensure!(report.received == 0 && told, "{from} to {to}: {report:?}");
    Ok(())
}

/// The agent of the version before interfaces, which `tests/setup/before.sh` builds.
fn before() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let target = here.ancestors().nth(3).context("no target folder")?;
    let agent = target.join("before/crosswan");
    ensure!(agent.is_file(), "{} is missing: run tests/setup/before.sh", agent.display());
    Ok(agent)
}
