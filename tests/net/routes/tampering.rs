//! Another program takes interfaces, rules and routes away: `crosswan watch` puts them back, and so does a pass. What is foreign
//! stays.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_faults::look::{CONNECTIONS, Snapshot, all_well, routing, stream, unharmed};
use crosswan_lab::Gateway;

use super::carrier;
use crate::region::{Region, UP, eventually, lines, refresh, refresh_with, show, status};

/// What is done, and how a pass says that it undoes it.
const DAMAGE: [(&str, &str); 8] = [
    ("ip link del cw1", "make interface cw1"),
    ("ip link set cw1 down", "make interface cw1"),
    ("ip link del cw1; ip link del cw2", "make interface cw2"),
    ("ip route flush table 7105 proto 205", "make 10.0.0.0/8 unreachable where no tunnel leads to it"),
    ("ip route del 10.0.0.0/8 dev cw1 table 7105", "route 10.0.0.0/8 dev cw1 src"),
    ("ip rule del pref 7104", "add rule pref 7104 to 10.1.0.0/16 lookup main"),
    ("ip rule flush protocol 205", "add rule pref 7105 from 10.0.0.0/8 lookup 7105"),
    ("ip route del unreachable 10.0.0.0/8 metric 9999 table 7105", "make 10.0.0.0/8 unreachable"),
];
/// What others have on the same host, which may look like crosswan's.
const FOREIGN: &str = "ip link add c1 type dummy; ip link add wg0 type dummy; ip link set wg0 up; ip rule add pref 6000 to 192.0.2.99 lookup main
    ip rule add pref 7106 from 192.168.7.0/24 lookup 300; ip route add 192.168.9.0/24 dev wg0 table 7105; ip route add 192.168.9.0/24 dev wg0 table 300";

fn foreign(gateway: &Gateway) -> Result<String> {
    let all = "ip -br link show c1; ip -br link show wg0; ip rule | grep -v 7104 | grep -v 7105; ip route show table 7105 | grep wg0; ip route show table 300";
    Ok(gateway.sh(all)?.ok()?.stdout)
}

#[test]
fn what_another_program_takes_away_is_put_back_within_moments_and_a_pass_says_so() -> Result<()> {
    let region = Region::standard()?;
    let spoke = region.gateway("a/nat-vpn")?;
    spoke.sh(FOREIGN)?.ok()?;
    let (theirs, before) = (foreign(&spoke)?, routing(&spoke)?);
    let others = stream(&region, "b/host", "hub/host")?;
    let host = region.lab.host("a/host")?;

    let watch = spoke.spawn_agent(&["watch"])?;
    watch.wait_for_log("watching rules, interfaces and routes", UP)?;
    for (damage, _) in DAMAGE {
        spoke.sh(damage)?.ok()?;
        let begun = Instant::now();
        let mut now = Vec::new();
        eventually(UP, damage, || {
            now = routing(&spoke)?;
            Ok(now == before)
        })
        .with_context(|| format!("{now:#?} instead of {before:#?}\n{}", watch.log()))?;
        let seen = begun.elapsed();
        let took = host.wait_for(region.address("hub/host")?, UP)?;
        eprintln!("{damage}: seen to be back after {seen:?}, packets after {took:?}");
        ensure!(seen < Duration::from_secs(5) && took < Duration::from_secs(5), "{damage}: {seen:?}, {took:?}");
        ensure!(foreign(&spoke)? == theirs, "{damage}: {}", foreign(&spoke)?);
        // The pause after something was put back.
        std::thread::sleep(Duration::from_secs(1));
    }
    ensure!(status(&spoke)?["put_back"]["what"].to_string().contains("10.0.0.0/8"), "{:#}", status(&spoke)?);
    ensure!(watch.stop()? == Some(0));

    for (damage, said) in DAMAGE {
        spoke.sh(damage)?.ok()?;
        let report = refresh(&spoke)?;
        ensure!(lines(&report, "steps").iter().any(|step| step.contains(said)), "{damage}: {report:#}");
        ensure!(routing(&spoke)? == before && foreign(&spoke)? == theirs, "{damage}: {:#?}", routing(&spoke)?);
        host.wait_for(region.address("hub/host")?, UP)?;
        ensure!(refresh(&spoke)?["outcome"] == "unchanged", "{damage}");
    }
    // It is said what of others comes before crosswan's own.
    let notes = lines(&refresh(&spoke)?, "notes").join("\n");
    ensure!(notes.contains("192.168.9.0/24 dev wg0") && notes.contains("pref 6000"), "{notes}");
    unharmed(others, "another spoke's tunnel")?;
    all_well(&region, UP)
}

/// Nothing is changed while an interface is there that the guard would mistake for crosswan's.
#[test]
fn a_foreign_interface_with_a_name_like_crosswans_is_refused_by_name() -> Result<()> {
    let region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    for (made, named) in
        [("type dummy", "cw9, a dummy interface"), ("type xfrm if_id 7", "cw9, an xfrm interface with if_id 7")]
    {
        hub.sh(&format!("ip link add cw9 {made}"))?.ok()?;
        let before = Snapshot::of(&hub)?;
        region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
        let output = hub.agent(&["refresh"])?;
        ensure!(output.code == 3 && output.stderr.contains(named), "{}", show(&output));
        ensure!(output.stderr.contains("ip link delete"), "{}", show(&output));
        Snapshot::of(&hub)?.must_be(&before, named)?;
        hub.sh("ip link del cw9")?.ok()?;
        refresh(&hub)?;
        ensure!(carrier(&hub, "10.3.0.0/16")? == "cw1");
        region.lab.delete_vpc("c")?;
        hub.set_env("CROSSWAN_AFTER_MISSES", "1");
        refresh(&hub)?;
    }
    Ok(())
}

/// A route of another program is where one of crosswan's should be: that peer fails, and all others go on.
#[test]
fn a_route_that_is_refused_costs_its_own_peer_alone() -> Result<()> {
    let mut region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    let others = [stream(&region, "a/host", "b/host")?, stream(&region, "b/host-2", "hub/host")?];
    let before = Snapshot::of(&hub)?;
    region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
    region.lab.add_client("d", "eu-west-1", &["10.4.0.0/16"])?;
    hub.sh("ip route add 10.3.0.0/16 dev ens5 table 7105")?.ok()?;
    let name = region.lab.connection_to(&*region.gateway("c/nat-vpn")?)?;
    let report = refresh_with(&hub, &[], 4)?;
    let why = report["failed"][&name]["why"].to_string();
    ensure!(
        report["outcome"] == "partly" && why.contains("10.3.0.0/16 dev ens5") && why.contains("delete it"),
        "{report:#}"
    );
    ensure!(report["failed"].as_object().is_some_and(|failed| failed.len() == 1), "{report:#}");
    let now = Snapshot::of(&hub)?;
    ensure!(!now.connections.contains_key(&name) && !hub.read_file(CONNECTIONS)?.contains(&name), "{now:#?}");
    ensure!(now.connections.len() == before.connections.len() + 1 && carrier(&hub, "10.4.0.0/16")? == "cw1");
    ensure!(carrier(&hub, "10.3.0.0/16")? == "ens5", "the foreign route is left alone");

    hub.sh("ip route del 10.3.0.0/16 dev ens5 table 7105")?.ok()?;
    let report = refresh(&hub)?;
    ensure!(report["outcome"] == "changed" && carrier(&hub, "10.3.0.0/16")? == "cw1", "{report:#}");
    region.boot(&region.gateway("c/nat-vpn")?)?;
    region.lab.host("c/host")?.wait_for(region.address("a/host")?, UP)?;
    others.into_iter().try_for_each(|other| unharmed(other, "another tunnel").map(drop))
}
