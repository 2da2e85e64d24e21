//! A gateway takes its Elastic IP: once it works, before it has a tunnel or a route, and never from an instance that runs.

use std::{net::Ipv4Addr, sync::Arc, thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_faults::look::sas;
use crosswan_faults::pair::alone;
use crosswan_lab::{Auth, Builder, Fault, Gateway, Lab, Role, Side, VpcSpec};
use serde_json::Value;

use crate::{
    cloud::{iam::enforce, watch::Watch},
    place::pass,
    region::{Region, UP, agent, eventually, exists, lines, refresh, refresh_with, show, status},
};

/// The standard region, whose gateways have nothing yet but what EC2 gives them.
fn bare() -> Result<Lab> {
    of(Lab::standard_vpcs()?)
}

fn of(vpcs: impl IntoIterator<Item = VpcSpec>) -> Result<Lab> {
    let vpcs = vpcs.into_iter().map(VpcSpec::bare);
    vpcs.fold(Lab::builder(agent()?).auth(Auth::Key).pools(), Builder::vpc).build()
}

/// The public address of an instance, as EC2 says it.
fn public(region: &Region, gateway: &Gateway) -> Result<Ipv4Addr> {
    region.lab.ec2().instance(&gateway.region, &gateway.instance)?.public.context("no public address")
}

fn is_elastic(address: Ipv4Addr) -> bool {
    address.octets()[..3] == [198, 51, 100]
}

#[test]
fn gateways_take_their_addresses_before_tunnels_and_routes() -> Result<()> {
    // The policies of docs/iam allow these two regions.
    let [hub, a, _] = Lab::standard_vpcs()?;
    let lab = of([hub, a])?;
    let hub = lab.gateway("hub/nat-hub")?;
    let before = hub.public().context("no public address")?;
    ensure!(!is_elastic(before), "{before}");
    let planned = refresh_with(&hub, &["--dry-run"], 6)?;
    let steps = lines(&planned, "steps").join("\n");
    ensure!(steps.contains("take the Elastic IP 198.51.100.101 (eipalloc-"), "{planned:#}");
    ensure!(steps.contains(&format!(" instead of {before}")) && hub.public() == Some(before), "{planned:#}");
    enforce(&lab, None)?;
    let region = Region::booted(lab)?;
    for gateway in region.lab.gateways() {
        let report = refresh(&gateway)?;
        ensure!(report["outcome"] == "unchanged" && report["address"]["here"].is_string(), "{report:#}");
        ensure!(is_elastic(public(&region, &gateway)?), "{report:#}");
        ensure!(report["me"]["public"] == public(&region, &gateway)?.to_string(), "{report:#}");
        ensure!(status(&gateway)?["last_refresh"]["address"] == report["address"]);
    }
    region.settle()?;
    let (host, internet) = (region.lab.host("a/host")?, region.lab.internet());
    eventually(UP, "the internet is reached", || host.reaches(internet.address))?;
    Ok(())
}

/// One more gateway of the same kind, with its agent and `keep`; the report of its first refresh.
fn beside(region: &mut Region, old: &Gateway, role: Role) -> Result<(Arc<Gateway>, Value)> {
    let vpc = old.name.split('/').next().unwrap_or_default();
    let new = region.lab.add_gateway(vpc, role)?;
    // As an image of the same launch template has it.
    new.write_file("/etc/crosswan/conf.d/address.toml", &old.read_file("/etc/crosswan/conf.d/address.toml")?, 0o644)?;
    alone(&new)?;
    if role != Role::NatHub {
        new.start_charon()?;
    }
    let report = pass(&new)?;
    if role != Role::NatHub {
        region.keepers.insert(new.name.clone(), new.spawn_agent(&["keep"])?);
    }
    Ok((new, report))
}

fn waits(report: &Value) -> &str {
    report["address"]["waits"].as_str().unwrap_or_default()
}

/// With a pool of two, a replacement has an address of its own beside the old one's: nobody's packets are lost.
#[test]
fn a_gateway_is_replaced_without_a_lost_packet_where_the_pool_has_a_second_address() -> Result<()> {
    let mut region = Region::booted(bare()?)?;
    region.lab.ec2_effect_delay(Duration::from_secs(2));
    for (name, role) in [("a/nat-vpn", Role::NatVpn), ("hub/vpn-hub", Role::VpnHub)] {
        region.settle()?;
        let old = region.gateway(name)?;
        let (_, second) = region.lab.add_address(&old)?;
        let held = public(&region, &old)?;
        let watched = Watch::over(&region, &[("a/host", "hub/host"), ("hub/host", "a/host"), ("b/host", "a/host")])?;
        let (new, report) = beside(&mut region, &old, role)?;
        ensure!(public(&region, &new)? == second && report["address"]["here"].is_string(), "{report:#}");
        let peers = region.lab.gateways().into_iter().filter(|gateway| gateway.role != Role::NatHub);
        let peers: Vec<_> = peers.filter(|gateway| ![&old.name, &new.name].contains(&&gateway.name)).collect();
        let leads_here = |report: &Value| {
            let routes = report["routes"].as_array().into_iter().flatten();
            routes.filter(|route| route["to"] == "10.0.0.0/8").all(|route| route["is"] == "here")
        };
        eventually(UP, "the new one has the tunnels and the routes", || {
            for peer in &peers {
                pass(peer)?;
            }
            Ok(leads_here(&pass(&new)?))
        })?;
        for peer in &peers {
            pass(peer)?;
        }
        sleep(Duration::from_secs(3));
        ensure!(public(&region, &old)? == held, "nobody took its address");
        watched.undisturbed(&format!("{name} was replaced"))?;
        // Clients leave a hub that lives an hour later.
        if role == Role::NatVpn {
            let watched = Watch::over(&region, &[("a/host", "hub/host"), ("b/host", "a/host")])?;
            region.keepers.remove(&old.name);
            region.lab.terminate(&old)?;
            watched.undisturbed(&format!("the old {name} was terminated"))?;
        }
    }
    Ok(())
}

/// With one address, the replacement waits for it: what is out of service meanwhile is measured, not bounded.
#[test]
fn with_one_address_a_replacement_waits_until_the_old_one_is_gone() -> Result<()> {
    let mut region = Region::booted(bare()?)?;
    region.settle()?;
    let old = region.gateway("hub/vpn-hub")?;
    let held = public(&region, &old)?;
    let watched = Watch::over(&region, &[("a/host", "hub/host")])?;
    let (new, report) = beside(&mut region, &old, Role::VpnHub)?;
    ensure!(waits(&report).contains(&format!("is associated with {}, which runs", old.instance)), "{report:#}");
    ensure!(
        sas(&new)?.is_empty() && lines(&report, "routes").concat().contains("Elastic IP comes first"),
        "{report:#}"
    );
    let words = new.agent(&["refresh"])?;
    ensure!(words.code == 6 && words.stdout.contains("WAITING   this gateway has no address"), "{}", show(&words));
    ensure!(exists(&new, "/run/crosswan/address-waits"), "crosswan watch asks again");
    ensure!(report["key"]["announced"] == false, "peers would come to an address that it is about to lose: {report:#}");
    watched.undisturbed("a second hub waited for the address of the first")?;
    let watched = Watch::over(&region, &[("a/host", "hub/host"), ("b/host", "hub/host")])?;
    region.keepers.remove(&old.name);
    region.lab.stop_instance(&old)?;
    let report = pass(&new)?;
    ensure!(report["address"]["here"].is_string() && public(&region, &new)? == held, "{report:#}");
    ensure!(!exists(&new, "/run/crosswan/address-waits"));
    for spoke in ["a/nat-vpn", "b/nat-vpn"] {
        pass(&*region.gateway(spoke)?)?;
    }
    eventually(UP, "the tunnels are up", || Ok(sas(&new)?.len() == 2))?;
    pass(&new)?;
    region.settle()?;
    for (pair, gap, lost) in watched.gaps()? {
        eprintln!("{pair}: nothing arrived for {gap:?} while the hub's only address moved, {lost} packets lost");
    }
    Ok(())
}

/// Nothing is taken by a gateway that does not work, that may not, or that is in use; and what EC2 refuses is named.
#[test]
fn who_cannot_use_an_address_takes_none_and_says_why() -> Result<()> {
    let lab = bare()?;
    let (nat, hub) = (lab.gateway("hub/nat-hub")?, lab.gateway("hub/vpn-hub")?);
    let taken = |lab: &Lab| lab.faults().calls().keys().any(|(_, action)| action == "AssociateAddress");
    // Its charon is dead.
    let report = refresh_with(&hub, &[], 3)?;
    ensure!(waits(&report) == "charon has not been seen to work" && !taken(&lab), "{report:#}");
    // EC2 says no, is busy, or does not know the role yet.
    lab.ec2_fault("*", "AssociateAddress", Fault::Unauthorized);
    let report = refresh_with(&nat, &[], 3)?;
    let unasked = lines(&report, "unasked").concat();
    ensure!(unasked.contains("needs ec2:AssociateAddress on the Elastic IP and on its own instance"), "{report:#}");
    ensure!(waits(&report) == "it could not be taken" && lines(&report, "routes").concat().contains("comes first"));
    lab.ec2_heal();
    lab.ec2_fault("*", "DescribeAddresses", Fault::ServerError);
    let report = refresh_with(&nat, &[], 3)?;
    ensure!(waits(&report) == "EC2 did not say who has it", "{report:#}");
    lab.ec2_heal();
    // A wrong allocation id, and one that another has which runs.
    let settings = |text: &str| nat.write_file("/etc/crosswan/conf.d/address.toml", text, 0o644);
    let pool = nat.read_file("/etc/crosswan/conf.d/address.toml")?;
    settings("[address]\nallocation = \"eipalloc-0123456789abcdef0\"\n")?;
    let report = refresh_with(&nat, &[], 6)?;
    ensure!(waits(&report).contains("this account does not have the Elastic IP eipalloc-0123456789abcdef0"));
    let (allocation, _) = lab.add_address(&hub)?;
    let parameters = [("AllocationId", allocation.as_str()), ("InstanceId", &hub.instance)];
    lab.ec2().call(&hub.region, "AssociateAddress", &parameters)?;
    settings(&format!("[address]\nallocation = \"{allocation}\"\n"))?;
    let report = refresh_with(&nat, &[], 6)?;
    ensure!(waits(&report).contains(&format!("{}, which runs", hub.instance)), "{report:#}");
    ensure!(lab.ec2().addresses(&hub.region, &hub.instance)?.len() == 1, "it was not taken from the one that runs");
    // The role is young, EC2 is busy, then slow.
    settings(&pool)?;
    lab.faults().set("*", "AssociateAddress", Fault::Slow(Duration::from_secs(2)), Some(1));
    lab.faults().set("*", "AssociateAddress", Fault::Throttle, Some(2));
    lab.faults().set("*", "AssociateAddress", Fault::AuthFailure, Some(3));
    let report = refresh(&nat)?;
    ensure!(report["address"]["here"].is_string() && is_elastic(nat.public().context("none")?), "{report:#}");
    // In use: another setting does not cut off what works.
    let own = nat.public();
    settings(&format!("[address]\nallocation = \"{allocation}\"\n"))?;
    let report = refresh(&nat)?;
    let kept = report["address"]["kept"].as_str().unwrap_or_default();
    ensure!(kept.contains("is in use with 198.51.100.") && nat.public() == own, "{report:#}");
    Ok(())
}

/// Killed before and after every call that takes an address, the next pass finishes.
#[test]
fn killed_at_any_call_the_next_pass_has_one_address() -> Result<()> {
    let lab = bare()?;
    let nat = lab.gateway("hub/nat-hub")?;
    refresh(&nat)?;
    let stop = &lab.faults().stop;
    // The pool's only address is left with an instance that has stopped: first it is given up, then taken.
    for (calls, side) in [(0, Side::Before), (0, Side::After), (1, Side::Before), (1, Side::After)] {
        let old = lab.gateway(&nat.name)?;
        let new = lab.add_gateway("hub", Role::NatHub)?;
        new.write_file(
            "/etc/crosswan/conf.d/address.toml",
            &nat.read_file("/etc/crosswan/conf.d/address.toml")?,
            0o644,
        )?;
        let holder = lab.gateways().into_iter().filter(|g| g.role == Role::NatHub && g.instance != new.instance);
        let holder = holder.filter(|g| g.public().is_some_and(is_elastic)).last().unwrap_or(old);
        // The check is off already, so that the first changing calls are those of the address.
        refresh_with(&new, &[], 6)?;
        lab.stop_instance(&holder)?;
        stop.at(calls, side);
        let agent = new.spawn_agent(&["refresh"])?;
        ensure!(stop.wait(UP), "{calls} {side:?}: no such call");
        agent.kill();
        stop.lift();
        let report = refresh(&new)?;
        ensure!(report["address"]["here"].is_string(), "{calls} {side:?}: {report:#}");
        ensure!(refresh(&new)?["outcome"] == "unchanged");
    }
    Ok(())
}
