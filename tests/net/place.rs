//! A gateway takes its place in the VPC: the routes of the tagged tables lead to it once it works, and to no gateway that does not.

use anyhow::{Context, Result, ensure};
use crosswan_faults::look::{sas, untidy};
use crosswan_faults::pair::alone;
use crosswan_lab::{Auth, Fault, Gateway, Role, Side};
use serde_json::Value;

use crate::{
    cloud::watch::Watch,
    region::{Region, UP, eventually, exists, lines, refresh, refresh_with, show},
};

const PRIVATE: &str = "10.0.0.0/8";
const DEFAULT: &str = "0.0.0.0/0";

/// Whether a call that changes EC2 succeeds there; it never goes through the proxy.
fn ec2(region: &Region, vpc: &str, action: &str, parameters: &[(&str, &str)]) -> Result<String> {
    Ok(region.lab.ec2().call(&region.lab.region(vpc)?, action, parameters)?.0)
}

/// Tags both tables of a VPC, and takes all routes away but those of the VPC itself and of its internet gateway. Returns the public
/// and the private table.
fn bare(region: &Region, vpc: &str) -> Result<[String; 2]> {
    region.lab.delete_routes(vpc)?;
    region.lab.managed_tables(vpc)
}

fn remove(region: &Region, vpc: &str, table: &str, to: &str) -> Result<()> {
    ec2(region, vpc, "DeleteRoute", &[("RouteTableId", table), ("DestinationCidrBlock", to)])?;
    region.lab.sync(vpc)
}

/// The instance or interface to which EC2 says that a route leads; "none" without it.
pub fn leads_to(region: &Region, vpc: &str, table: &str, to: &str) -> Result<String> {
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
    let host = region.lab.host("a/host")?;
    let [public, private] = bare(&region, "a")?;
    let [hub_public, hub_private] = bare(&region, "hub")?;
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
    eventually(UP, "packets go by the new routes", || host.reaches(far))?;
    eventually(UP, "the internet is reached", || host.reaches(region.lab.internet().address))?;
    Ok(())
}

/// What systemd does at the boot of a gateway whose routes may have to wait; the report.
fn boot(region: &mut Region, gateway: &std::sync::Arc<Gateway>) -> Result<Value> {
    gateway.start_charon()?;
    let report = pass(gateway)?;
    region.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
    Ok(report)
}

/// A pass in which a route or an address may have to wait.
pub fn pass(gateway: &Gateway) -> Result<Value> {
    let output = gateway.agent(&["refresh", "--json"])?;
    ensure!(matches!(output.code, 0 | 6), "{}: exit {}\n{}", gateway.name, output.code, show(&output));
    serde_json::from_str(&output.stdout).with_context(|| show(&output))
}

#[test]
fn what_leads_elsewhere_is_left_and_what_led_here_is_put_back() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let spoke = region.gateway("a/nat-vpn")?;
    let [_, private] = bare(&region, "a")?;
    // Another's interface, which lives.
    let host = region.lab.host("a/host")?;
    let view = region.lab.ec2().vpc(&spoke.region, &region.lab.vpc_id("a")?)?;
    let other = view.instances.iter().find(|i| i.private == host.address).context("the host")?;
    let lead = |to: &str, action: &str| -> Result<()> {
        let parameters = [
            ("RouteTableId", private.as_str()),
            ("DestinationCidrBlock", to),
            ("NetworkInterfaceId", &other.interface),
        ];
        ec2(&region, "a", action, &parameters)?;
        region.lab.sync("a")
    };
    lead(PRIVATE, "CreateRoute")?;
    let report = refresh(&spoke)?;
    let left = is(&report, &private, PRIVATE)?["left"].as_str().unwrap_or_default();
    ensure!(left.contains(&other.id) && left.contains("not crosswan's"), "{report:#}");
    ensure!(is(&report, &private, DEFAULT)? == "here", "one that is left keeps no other waiting: {report:#}");
    ensure!(
        leads_to(&region, "a", &private, PRIVATE)? != "none"
            && spoke.agent(&["refresh"])?.stdout.contains("left as it is")
    );
    // A setting takes it.
    let toml = spoke.read_file("/etc/crosswan/crosswan.toml")?;
    spoke.write_file("/etc/crosswan/crosswan.toml", &format!("routes.overrule = true\n{toml}"), 0o644)?;
    let report = refresh(&spoke)?;
    ensure!(is(&report, &private, PRIVATE)? == "here", "{report:#}");
    spoke.write_file("/etc/crosswan/crosswan.toml", &toml, 0o644)?;
    refresh(&spoke)?;
    // Terraform takes it back, twice; then somebody deletes it.
    for (n, times) in [(1, "once"), (2, "2 times")] {
        lead(PRIVATE, "ReplaceRoute")?;
        let report = refresh(&spoke)?;
        let steps = lines(&report, "steps").join("\n");
        let told = format!("it leads to {}; it has been changed {times} since it led here", other.id);
        ensure!(steps.contains(&told), "{n}: {report:#}");
        ensure!(refresh(&spoke)?["outcome"] == "unchanged");
    }
    remove(&region, "a", &private, DEFAULT)?;
    let report = refresh(&spoke)?;
    ensure!(lines(&report, "steps").join("\n").contains("it is gone; it has been changed once"), "{report:#}");
    Ok(())
}

#[test]
fn what_ec2_refuses_is_named_and_the_next_pass_heals() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let spoke = region.gateway("a/nat-vpn")?;
    let [public, private] = bare(&region, "a")?;
    region.lab.ec2_fault("*", "CreateRoute", Fault::Unauthorized);
    let report = refresh_with(&spoke, &[], 3)?;
    let unasked = lines(&report, "unasked").join("\n");
    ensure!(unasked.contains(&format!("lead {DEFAULT} of {private} here: ")), "{report:#}");
    ensure!(unasked.contains("ec2:CreateRoute on the route tables that have the tag of routes.tag"), "{report:#}");
    region.lab.ec2_heal();
    // Whoever may not look at route tables has them as before.
    region.lab.ec2_fault("*", "DescribeRouteTables", Fault::Unauthorized);
    let report = refresh(&spoke)?;
    ensure!(lines(&report, "notes").concat().contains("needs ec2:DescribeRouteTables"), "{report:#}");
    ensure!(report["outcome"] == "unchanged" && leads_to(&region, "a", &private, DEFAULT)? == "none");
    region.lab.ec2_heal();
    region.lab.ec2_fault("*", "DescribeRouteTables", Fault::ServerError);
    let report = refresh_with(&spoke, &[], 3)?;
    ensure!(lines(&report, "unasked").concat().contains("look up the VPC's route tables"), "{report:#}");
    region.lab.ec2_heal();
    // A table without the tag is nobody's business.
    let tag = [("ResourceId.1", public.as_str()), ("Tag.1.Key", "crosswan-routes")];
    ec2(&region, "a", "DeleteTags", &tag)?;
    let report = refresh(&spoke)?;
    ensure!(lines(&report, "steps").len() == 2 && leads_to(&region, "a", &public, PRIVATE)? == "none", "{report:#}");
    ensure!(refresh(&spoke)?["outcome"] == "unchanged");
    Ok(())
}

#[test]
fn a_client_gateway_that_is_replaced_takes_the_routes_once_it_works_and_no_packet_is_lost() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let (hub, old) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let [_, private] = bare(&region, "a")?;
    refresh(&old)?;
    let all = [("a/host", "hub/host"), ("hub/host", "a/host"), ("b/host", "a/host")];
    eventually(UP, "packets go by the new routes", || region.lab.host("a/host")?.reaches(region.address("hub/host")?))?;
    let watched = Watch::over(&region, &all)?;
    let new = region.lab.add_gateway("a", Role::NatVpn)?;
    [&old, &new].into_iter().try_for_each(|gateway| alone(gateway))?;
    // Dead so far: the hub has not looked, so its tunnel is not up.
    let report = boot(&mut region, &new)?;
    for to in [PRIVATE, DEFAULT] {
        let waits = is(&report, &private, to)?["waits"].as_str().unwrap_or_default();
        ensure!(waits.contains("no tunnel is up"), "{report:#}");
        ensure!(leads_to(&region, "a", &private, to)? != interface(&region, &new)?);
    }
    let words = new.agent(&["refresh"])?;
    ensure!(words.code == 6 && words.stdout.contains("WAITING   0.0.0.0/0 of"), "{}", show(&words));
    ensure!(exists(&new, "/run/crosswan/route-waits") && !exists(&new, "/run/crosswan/refresh-wanted"));
    refresh_with(&hub, &[], 6).or_else(|_| refresh(&hub))?;
    eventually(UP, "keep asks for a pass, because a route waits", || Ok(exists(&new, "/run/crosswan/refresh-wanted")))?;
    let report = pass(&new)?;
    for to in [PRIVATE, DEFAULT] {
        ensure!(is(&report, &private, to)? == "here", "{report:#}");
        let found = leads_to(&region, "a", &private, to)?;
        ensure!([new.instance.clone(), interface(&region, &new)?].contains(&found), "{found}");
    }
    ensure!(lines(&report, "steps").concat().contains(&format!("it led to {}, which is older", old.instance)));
    // The older one leaves it there, however often it looks.
    let report = refresh(&old)?;
    ensure!(lines(&report, "steps").is_empty(), "{report:#}");
    ensure!(is(&report, &private, PRIVATE)?["left"].to_string().contains("a newer gateway of this mode"), "{report:#}");
    refresh(&hub)?;
    watched.undisturbed("routes moved to the new gateway while both live")?;
    let watched = Watch::over(&region, &all)?;
    region.keepers.remove(&old.name);
    region.lab.terminate(&old)?;
    refresh(&hub)?;
    watched.undisturbed("the old one was terminated")?;
    Ok(())
}

#[test]
fn a_hub_that_is_replaced_takes_the_route_once_it_has_every_tunnel_and_no_packet_is_lost() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let old = region.gateway("hub/vpn-hub")?;
    let spokes = [region.gateway("a/nat-vpn")?, region.gateway("b/nat-vpn")?];
    let [_, private] = bare(&region, "hub")?;
    refresh(&old)?;
    let nat = region.gateway("hub/nat-hub")?;
    refresh(&nat)?;
    let all = [("a/host", "hub/host"), ("hub/host", "b/host")];
    eventually(UP, "packets go by the new routes", || region.lab.host("a/host")?.reaches(region.address("hub/host")?))?;
    let watched = Watch::over(&region, &all)?;
    let new = region.lab.add_gateway("hub", Role::VpnHub)?;
    [&old, &new].into_iter().try_for_each(|gateway| alone(gateway))?;
    boot(&mut region, &new)?;
    // One of two clients knows it.
    pass(&spokes[0])?;
    let report = pass(&new)?;
    let waits = is(&report, &private, PRIVATE)?["waits"].as_str().unwrap_or_default();
    ensure!(waits.contains(&region.lab.vpc_id("b")?) && waits.contains("is not up"), "{report:#}");
    pass(&spokes[1])?;
    eventually(UP, "both tunnels stand beside the old ones", || Ok(untidy(&new)?.is_empty() && sas(&new)?.len() == 2))?;
    let report = pass(&new)?;
    ensure!(is(&report, &private, PRIVATE)? == "here", "{report:#}");
    let report = pass(&old)?;
    ensure!(is(&report, &private, PRIVATE)?["left"].to_string().contains(&new.instance), "{report:#}");
    watched.undisturbed("the private network's route moved to the new hub while both live")?;
    Ok(())
}

/// EC2 answers at once and moves packets later; and its answers may be older than what was written.
#[test]
fn routes_that_take_effect_late_cost_no_packet_and_answers_that_are_old_are_not_believed() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let (hub, old) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let [_, private] = bare(&region, "a")?;
    region.lab.ec2_stale("*", "DescribeRouteTables", 4);
    let report = refresh(&old)?;
    ensure!(is(&report, &private, PRIVATE)? == "here", "{report:#}");
    remove(&region, "a", &private, PRIVATE)?;
    region.lab.ec2_stale("*", "DescribeRouteTables", 0);
    let all = [("a/host", "hub/host"), ("hub/host", "a/host")];
    refresh(&old)?;
    eventually(UP, "packets go by the new routes", || region.lab.host("a/host")?.reaches(region.address("hub/host")?))?;

    region.lab.ec2_effect_delay(std::time::Duration::from_secs(2));
    let watched = Watch::over(&region, &all)?;
    let new = region.lab.add_gateway("a", Role::NatVpn)?;
    alone(&new)?;
    boot(&mut region, &new)?;
    pass(&hub)?;
    let beside = || Ok(sas(&new)?.iter().any(|sa| sa.children.iter().any(|child| child.is_up())));
    eventually(UP, "the new tunnel stands beside the old one", beside)?;
    let report = pass(&new)?;
    ensure!(is(&report, &private, PRIVATE)? == "here", "{report:#}");
    pass(&hub)?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    watched.undisturbed("routes moved to the new gateway two seconds after EC2 said so")
}

/// Killed before and after every call that changes something, the next pass finishes.
#[test]
fn killed_at_any_call_the_next_pass_takes_what_is_left() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let spoke = region.gateway("a/nat-vpn")?;
    let [public, private] = region.lab.route_tables("a")?;
    let stop = &region.lab.faults().stop;
    for (calls, side) in [(0, Side::Before), (0, Side::After), (1, Side::Before), (2, Side::After)] {
        bare(&region, "a")?;
        stop.at(calls, side);
        let agent = spoke.spawn_agent(&["refresh"])?;
        ensure!(stop.wait(UP), "{calls} {side:?}: no such call");
        agent.kill();
        stop.lift();
        let report = refresh(&spoke)?;
        for (table, to) in [(&public, PRIVATE), (&private, PRIVATE), (&private, DEFAULT)] {
            ensure!(is(&report, table, to)? == "here", "{calls} {side:?}: {report:#}");
        }
        ensure!(refresh(&spoke)?["outcome"] == "unchanged");
    }
    Ok(())
}
