//! Which VPC may have which CIDR: overlaps, CIDRs outside the private network, secondary CIDRs that come and go.

use anyhow::{Context, Result, ensure};
use crosswan_lab::Lab;
use serde_json::Value;

use super::{
    ELSEWHERE, ensure_no_steps, has_tunnel, ids, misses,
    paper::{NAT, Paper, Spec},
    standard, tunnel,
    watch::Watch,
};
use crate::region::{Region, UP, refresh};

#[test]
fn who_has_a_cidr_keeps_it() -> Result<()> {
    let mut region = standard()?;
    a_secondary_cidr_comes_and_goes_without_a_packet_lost_on_the_first(&region)?;
    a_newcomer_that_overlaps_is_refused_and_the_holder_never_notices(&mut region)
}

fn a_newcomer_that_overlaps_is_refused_and_the_holder_never_notices(region: &mut Region) -> Result<()> {
    let hub = region.gateway("hub/vpn-hub")?;
    let [a, own] = ids(&region.lab, ["a", "hub"])?;
    let pairs = [("a/host", "b/host"), ("b/host", "a/host"), ("hub/host", "a/host")];
    let watch = Watch::over(region, &pairs)?;
    let launch =
        |cidrs: &[&str], n| Paper::new(&region.lab, Spec { region: ELSEWHERE, cidrs, address: Some(n), tags: NAT });

    // Inside a's, a's exactly; inside the hub's own; outside the private network.
    let outside = "outside the private network".to_string();
    let held = format!("overlaps 10.1.0.0/16 of {a}, which already holds it");
    let refused = [
        (launch(&["10.1.128.0/17"], 200)?, "10.1.128.0/17", held.clone()),
        (launch(&["10.1.0.0/16"], 201)?, "10.1.0.0/16", held.clone()),
        (launch(&["10.0.64.0/18"], 202)?, "10.0.64.0/18", "overlaps 10.0.0.0/16 of the hub's own VPC".into()),
        (launch(&["192.168.0.0/16"], 203)?, "192.168.0.0/16", outside.clone()),
    ];
    let report = refresh(&hub)?;
    ensure_no_steps(&report)?;
    for (paper, cidr, reason) in &refused {
        ensure!(why_not(&report, &paper.vpc, cidr).as_deref() == Some(reason), "{cidr}: {report:#}");
    }
    // Refused by CIDR, not by VPC: what is free in a VPC of several is tunnelled.
    let part = launch(&["10.60.0.0/16", "10.1.4.0/22", "100.64.0.0/16"], 204)?;
    let report = refresh(&hub)?;
    ensure!(remote_cidrs(&report, &part.vpc) == ["10.60.0.0/16"], "{report:#}");
    ensure!(why_not(&report, &part.vpc, "10.1.4.0/22") == Some(held), "{report:#}");
    ensure!(why_not(&report, &part.vpc, "100.64.0.0/16") == Some(outside), "{report:#}");
    // A gateway in the hub's own VPC is not a peer, whatever its tags (nat-hub has them), and is not reported.
    ensure!(!has_tunnel(&report, &own) && !report["refused"].to_string().contains(&own), "{report:#}");
    watch.undisturbed("newcomers overlapped")?;

    // The holder's gateway is replaced: now the newcomers' were launched earlier, and the holder still holds.
    let old = region.gateway("a/nat-vpn")?;
    region.keepers.remove(&old.name);
    let watch = Watch::over(region, &[("hub/host", "b/host")])?;
    let new = region.lab.replace_gateway(&old)?;
    region.boot(&new)?;
    let report = refresh(&hub)?;
    ensure!(remote_cidrs(&report, &a) == ["10.1.0.0/16"], "{report:#}");
    region.lab.host("a/host")?.wait_for(region.address("b/host")?, UP)?;

    // Only when the holder is gone for good does the oldest newcomer get the CIDR.
    region.keepers.remove(&new.name);
    region.lab.terminate(&new)?;
    let report = refresh(&hub)?;
    ensure!(has_tunnel(&report, &a) && misses(&hub, &a)? == Some(1), "{report:#}");
    let report = refresh(&hub)?;
    let heirs = refused[..2].iter().filter(|(paper, ..)| has_tunnel(&report, &paper.vpc)).count();
    ensure!(!has_tunnel(&report, &a) && heirs == 1, "{report:#}");
    watch.undisturbed("a CIDR changed hands")
}

fn a_secondary_cidr_comes_and_goes_without_a_packet_lost_on_the_first(region: &Region) -> Result<()> {
    let (lab, hub) = (&region.lab, region.gateway("hub/vpn-hub")?);
    let [a] = ids(lab, ["a"])?;
    let gateway = region.gateway("a/nat-vpn")?;
    let pairs = [("a/host", "b/host"), ("b/host", "a/host"), ("hub/host", "a/host"), ("hub/host", "b/host-2")];

    // The hub first, then the spoke, as it may happen; and one outside the private network with it.
    let watch = Watch::over(region, &pairs)?;
    let host = lab.add_cidr("a", "10.101.0.0/16")?;
    let report = refresh(&hub)?;
    ensure!(remote_cidrs(&report, &a) == ["10.1.0.0/16", "10.101.0.0/16"], "{report:#}");
    refresh(&gateway)?;
    for to in ["b/host", "hub/host"] {
        let took = host.wait_for(region.address(to)?, UP)?;
        eprintln!("the new CIDR reaches {to} after {took:?}");
    }
    lab.host("b/host-2")?.wait_for(host.address, UP)?;
    watch.undisturbed("a secondary CIDR was added")?;

    let watch = Watch::over(region, &pairs)?;
    lab.add_cidr("a", "100.64.0.0/16")?;
    let report = refresh(&hub)?;
    ensure_no_steps(&report)?;
    ensure!(why_not(&report, &a, "100.64.0.0/16").is_some(), "{report:#}");
    let report = refresh(&gateway)?;
    ensure!(report["refused"].to_string().contains("outside the private network: not tunnelled"), "{report:#}");

    // Gone from EC2, it is gone from both ends: here the spoke comes first.
    disassociate(lab, "a", "10.101.0.0/16")?;
    refresh(&gateway)?;
    let report = refresh(&hub)?;
    ensure!(remote_cidrs(&report, &a) == ["10.1.0.0/16"], "{report:#}");
    for end in [&gateway, &hub] {
        let sas = end.swanctl(&["--list-sas"])?;
        ensure!(!sas.contains("10.101.0.0/16"), "{}: {sas}", end.name);
        ensure_no_steps(&refresh(end)?)?;
    }
    ensure!(!lab.host("b/host")?.reaches(host.address)?, "the CIDR that is gone is still reached");
    watch.undisturbed("a secondary CIDR was removed")
}

/// Removes a secondary CIDR from a VPC.
fn disassociate(lab: &Lab, vpc: &str, cidr: &str) -> Result<()> {
    let (region, id) = (lab.region(vpc)?, lab.vpc_id(vpc)?);
    let answer = lab.ec2().call(&region, "DescribeVpcs", &[("VpcId.1", &id)])?.0;
    let (before, _) =
        answer.split_once(&format!("<cidrBlock>{cidr}</cidrBlock><")).or(answer.split_once(cidr)).context("CIDR")?;
    let item = before.rsplit_once("<item>").context("item")?.1.to_owned() + &answer[before.len()..];
    let association = item.split_once("<associationId>").and_then(|(_, rest)| rest.split_once('<')).context("id")?.0;
    lab.ec2().call(&region, "DisassociateVpcCidrBlock", &[("AssociationId", association)])?;
    lab.sync(vpc)
}

/// Why this CIDR of a VPC was refused.
fn why_not(report: &Value, vpc: &str, cidr: &str) -> Option<String> {
    let refused = report["refused"].as_array()?;
    Some(refused.iter().find(|r| r["vpc"] == vpc && r["cidr"] == cidr)?["reason"].as_str()?.to_owned())
}

/// The CIDRs tunnelled to a VPC.
fn remote_cidrs(report: &Value, vpc: &str) -> Vec<String> {
    let cidrs = tunnel(report, vpc).and_then(|t| t["remote_cidrs"].as_array()).into_iter().flatten();
    cidrs.filter_map(|cidr| Some(cidr.as_str()?.to_owned())).collect()
}
