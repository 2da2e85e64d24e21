//! What the cloud does to a region: answers that fail, gateways that come, change and go. Nothing that works is lost.

mod accounts;
mod boot;
mod cidrs;
mod gateways;
mod hostile;
mod hub;
pub mod iam;
mod imds;
mod regions;
mod removal;
pub mod watch;

use anyhow::{Result, ensure};
use crosswan_faults::paper;
use crosswan_lab::{Gateway, Lab};
use serde_json::Value;

use crate::region::{Region, lines};

/// A region in which nothing is meant for packets: only papers are launched there.
const ELSEWHERE: &str = "sa-east-1";
/// Where the lab's clients are.
const REGION_A: &str = "eu-west-1";
const REGION_B: &str = "ap-southeast-2";

/// Makes the hub look in these regions, each at most six seconds: enough for eight attempts on a busy machine.
fn look_in(hub: &Gateway, regions: &[&str]) -> Result<()> {
    let regions = regions.iter().map(|r| format!("\"{r}\"")).collect::<Vec<_>>().join(", ");
    hub.write_file(
        "/etc/crosswan/conf.d/50-test.toml",
        &format!("regions = [{regions}]\n[ec2]\ntimeout = \"6s\"\n"),
        0o644,
    )
}

/// The standard region, whose hub also looks [`ELSEWHERE`].
fn standard() -> Result<Region> {
    let region = Region::standard()?;
    look_in(&*region.gateway("hub/vpn-hub")?, &["us-west-2", REGION_A, REGION_B, ELSEWHERE])?;
    Ok(region)
}

/// Whether the report has a tunnel to this VPC.
fn has_tunnel(report: &Value, vpc: &str) -> bool {
    tunnel(report, vpc).is_some()
}

/// The report's tunnel to this VPC.
fn tunnel<'r>(report: &'r Value, vpc: &str) -> Option<&'r Value> {
    report["tunnels"].as_object()?.values().find(|tunnel| tunnel["vpc"] == vpc && tunnel["stands_by"] != true)
}

/// Why a peer was kept, or refused.
fn why(report: &Value, list: &str, vpc: &str) -> Option<String> {
    let of_vpc = |entry: &&Value| entry["vpc"] == vpc;
    let found = report[list].as_array()?.iter().find(of_vpc)?;
    Some(found[if list == "kept" { "why" } else { "reason" }].as_str()?.to_owned())
}

/// Fails unless this pass left everything as it was.
fn ensure_no_steps(report: &Value) -> Result<()> {
    ensure!(lines(report, "steps").is_empty() && report["outcome"] == "unchanged", "steps were taken: {report:#}");
    Ok(())
}

/// Polls that missed a peer, as the hub remembers.
fn misses(hub: &Gateway, vpc: &str) -> Result<Option<u64>> {
    let state: Value = serde_json::from_str(&hub.read_file("/var/lib/crosswan/state.json")?)?;
    Ok(state["peers"][vpc]["misses"].as_u64())
}

/// Fails unless nothing on the hub is left of a VPC: no file, no secret, no connection, no SA.
fn ensure_revoked(hub: &Gateway, vpc: &str) -> Result<()> {
    for file in ["/etc/swanctl/conf.d/crosswan.conf", "/etc/swanctl/conf.d/crosswan-secrets.conf"] {
        ensure!(!hub.read_file(file)?.contains(vpc), "{file} still holds {vpc}");
    }
    for list in ["--list-conns", "--list-sas"] {
        ensure!(!hub.swanctl(&[list])?.contains(vpc), "charon's {list} still has {vpc}");
    }
    Ok(())
}

/// VPC ids by the lab's names.
fn ids<const N: usize>(lab: &Lab, names: [&str; N]) -> Result<[String; N]> {
    let ids = names.map(|name| lab.vpc_id(name));
    let mut out = [const { String::new() }; N];
    for (slot, id) in out.iter_mut().zip(ids) {
        *slot = id?;
    }
    Ok(out)
}
