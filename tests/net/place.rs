//! A gateway takes its place in the VPC: the routes of the tagged tables lead to it once it works, and to no gateway that does not.

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Auth, Gateway};
use serde_json::Value;

use crate::region::{Region, UP, eventually, lines, refresh, refresh_with};

const PRIVATE: &str = "10.0.0.0/8";
const DEFAULT: &str = "0.0.0.0/0";

/// Whether a call that changes EC2 succeeds there; it never goes through the proxy.
fn ec2(region: &Region, vpc: &str, action: &str, parameters: &[(&str, &str)]) -> Result<String> {
    Ok(region.lab.ec2().call(&region.lab.region(vpc)?, action, parameters)?.0)
}

/// Tags both tables of a VPC, and takes all routes away but those of the VPC itself and of its internet gateway.
fn bare(region: &Region, vpc: &str) -> Result<()> {
    let [public, private] = region.lab.route_tables(vpc)?;
    for table in [&public, &private] {
        let tag = [("ResourceId.1", table.as_str()), ("Tag.1.Key", "crosswan-routes"), ("Tag.1.Value", "managed")];
        ec2(region, vpc, "CreateTags", &tag)?;
        remove(region, vpc, table, PRIVATE)?;
    }
    remove(region, vpc, &private, DEFAULT)
}

fn remove(region: &Region, vpc: &str, table: &str, to: &str) -> Result<()> {
    ec2(region, vpc, "DeleteRoute", &[("RouteTableId", table), ("DestinationCidrBlock", to)])?;
    region.lab.sync(vpc)
}

/// The instance or interface to which EC2 says that a route leads; "none" without it.
fn leads_to(region: &Region, vpc: &str, table: &str, to: &str) -> Result<String> {
    let answer = ec2(region, vpc, "DescribeRouteTables", &[("RouteTableId.1", table)])?;
    let route = answer.split("<item>").find(|item| item.contains(&format!("<destinationCidrBlock>{to}<")));
    let element = |name: &str| {
        let text = route?.split_once(&format!("<{name}>"))?.1;
        Some(text.split_once('<')?.0.to_owned()).filter(|text| !text.is_empty())
    };
    let ids = ["instanceId", "networkInterfaceId", "gatewayId"].iter();
    Ok(ids.filter_map(|name| element(name)).next().unwrap_or_else(|| "none".into()))
}

/// The own interface of a gateway, as EC2 says it.
fn interface(region: &Region, gateway: &Gateway) -> Result<String> {
    Ok(region.lab.ec2().instance(&gateway.region, &gateway.instance)?.interface)
}

/// How the report says that a route is.
fn is<'r>(report: &'r Value, table: &str, to: &str) -> Result<&'r Value> {
    let routes = report["routes"].as_array().with_context(|| format!("{report:#}"))?;
    let found = routes.iter().find(|route| route["table"] == table && route["to"] == to);
    Ok(&found.with_context(|| format!("{report:#}"))?["is"])
}

#[test]
fn bare_tables_are_filled_by_the_gateways_and_each_step_is_told() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let (hub, nat, spoke) =
        (region.gateway("hub/vpn-hub")?, region.gateway("hub/nat-hub")?, region.gateway("a/nat-vpn")?);
    let [public, private] = region.lab.route_tables("a")?;
    let [hub_public, hub_private] = region.lab.route_tables("hub")?;
    let host = region.lab.host("a/host")?;
    for vpc in ["a", "hub"] {
        bare(&region, vpc)?;
    }
    let far = region.address("hub/host")?;
    ensure!(!host.reaches(far)? && leads_to(&region, "a", &private, DEFAULT)? == "none");
    let planned = refresh_with(&spoke, &["--dry-run"], 0)?;
    let steps = lines(&planned, "steps").join("\n");
    for (table, to) in [(&public, PRIVATE), (&private, PRIVATE), (&private, DEFAULT)] {
        ensure!(steps.contains(&format!("lead {to} of {table} to this gateway: there was none")), "{planned:#}");
    }
    ensure!(leads_to(&region, "a", &private, DEFAULT)? == "none", "a dry run changes nothing");
    for gateway in [&hub, &nat, &spoke] {
        let report = refresh(gateway)?;
        ensure!(report["outcome"] == "changed", "{report:#}");
        let again = refresh(gateway)?;
        ensure!(again["outcome"] == "unchanged" && lines(&again, "steps").is_empty(), "{again:#}");
    }
    for (vpc, table, to, gateway) in [
        ("a", &public, PRIVATE, &spoke),
        ("a", &private, PRIVATE, &spoke),
        ("a", &private, DEFAULT, &spoke),
        ("hub", &hub_public, PRIVATE, &hub),
        ("hub", &hub_private, PRIVATE, &hub),
        ("hub", &hub_private, DEFAULT, &nat),
    ] {
        let found = leads_to(&region, vpc, table, to)?;
        ensure!([gateway.instance.clone(), interface(&region, gateway)?].contains(&found), "{table} {to}: {found}");
        ensure!(is(&refresh(gateway)?, table, to)? == "here");
    }
    ensure!(leads_to(&region, "a", &public, DEFAULT)?.starts_with("igw-"), "the public subnet keeps its gateway");
    for vpc in ["a", "hub"] {
        region.lab.sync(vpc)?;
    }
    eventually(UP, "packets go by the new routes", || host.reaches(far))?;
    eventually(UP, "the internet is reached", || host.reaches(region.lab.internet().address))?;
    Ok(())
}
