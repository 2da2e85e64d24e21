//! Gateways of which the new one comes before the old one goes: no packet is lost.

use anyhow::{Context, Result, ensure};
use crosswan_faults::clock::Clock;
use crosswan_faults::look::{all_well, sas, untidy};
use crosswan_lab::{Auth, Gateway, Role};

use super::{CIDR_A, carrier, delay, is_up, pass, second_gateway, watch};
use crate::region::{Region, UP, eventually, lines, refresh};

/// Written by `keep` when it wants a pass.
const WANTED: &str = "/run/crosswan/refresh-wanted";

#[test]
fn a_client_gateway_that_is_replaced_while_both_live_costs_no_packet() -> Result<()> {
    let mut region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    let mut old = region.gateway("a/nat-vpn")?;
    for (milliseconds, by_keep, place) in [(0, true, "cw2"), (20, false, "cw1")] {
        delay(&region, milliseconds)?;
        let _ = std::fs::remove_file(hub.path(WANTED));
        if !by_keep {
            region.keepers.remove(&hub.name);
        }
        let watched = watch(&region)?;
        let new = second_gateway(&mut region, "a")?;
        if by_keep {
            eventually(UP, "the hub's keep asks for a pass", || Ok(hub.path(WANTED).exists()))?;
        }
        ensure!(carrier(&hub, CIDR_A)? != place, "a route moves by a pass only");
        let report = refresh(&hub)?;
        let steps = lines(&report, "steps").join("\n");
        ensure!(steps.contains(&format!("route {CIDR_A} dev {place} src {}", hub.address)), "{report:#}");
        ensure!(carrier(&hub, CIDR_A)? == place);
        region.lab.route_through(&new)?;
        std::thread::sleep(std::time::Duration::from_secs(2));
        watched.undisturbed(&format!("a client gateway was replaced, {milliseconds} ms, by keep: {by_keep}"))?;

        let watched = watch(&region)?;
        region.keepers.remove(&old.name);
        region.lab.terminate(&old)?;
        let report = refresh(&hub)?;
        ensure!(carrier(&hub, CIDR_A)? == place && report["outcome"] == "changed", "{report:#}");
        ensure!(refresh(&hub)?["outcome"] == "unchanged");
        watched.undisturbed("the old one was terminated")?;
        old = new;
    }
    Ok(())
}

#[test]
fn a_hub_that_is_replaced_while_both_live_costs_no_packet() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let spokes = [region.gateway("a/nat-vpn")?, region.gateway("b/nat-vpn")?];
    let mut old = region.gateway("hub/vpn-hub")?;
    let clock = Clock::new(region.lab.dir())?;
    spokes.iter().for_each(|spoke| clock.give(spoke));
    for (milliseconds, place) in [(0, "cw2"), (20, "cw1")] {
        delay(&region, milliseconds)?;
        let watched = watch(&region)?;
        let new = region.lab.add_gateway("hub", Role::VpnHub)?;
        crosswan_faults::pair::alone(&new)?;
        region.boot(&new)?;
        spokes.iter().try_for_each(|spoke| pass(spoke).map(drop))?;
        pass(&new)?;
        for spoke in &spokes {
            let beside = || Ok(untidy(spoke)?.is_empty() && untidy(&new)?.is_empty() && sas(spoke)?.len() == 2);
            eventually(UP, "both tunnels are up, with every child", beside)?;
        }
        if place == "cw2" {
            for spoke in &spokes {
                let report = pass(spoke)?;
                let why = report["replacing"][0]["why"].as_str().unwrap_or_default();
                ensure!(carrier(spoke, "10.0.0.0/8")? == "cw1", "another spoke may not know the new hub: {report:#}");
                ensure!(why.contains("it takes over 75 minutes after its launch"), "{report:#}");
            }
            clock.set(75 * 60)?;
        }
        for spoke in &spokes {
            let report = pass(spoke)?;
            ensure!(carrier(spoke, "10.0.0.0/8")? == place, "{report:#}");
            eprintln!("{}: {:?}", spoke.name, lines(&report, "steps"));
        }
        region.lab.route_through(&new)?;
        std::thread::sleep(std::time::Duration::from_secs(2));
        watched.undisturbed(&format!("a hub was replaced, {milliseconds} ms"))?;

        let watched = watch(&region)?;
        region.keepers.remove(&old.name);
        region.lab.terminate(&old)?;
        spokes.iter().try_for_each(|spoke| pass(spoke).map(drop))?;
        watched.undisturbed("the old hub was terminated")?;
        for spoke in &spokes {
            ensure!(carrier(spoke, "10.0.0.0/8")? == place && pass(spoke)?["outcome"] == "unchanged");
        }
        old = new;
    }
    all_well(&region, UP)
}

/// Every SA of both tunnels, by every end that has it.
#[test]
fn rekeys_of_both_tunnels_by_any_end_cost_no_packet_and_move_nothing() -> Result<()> {
    let mut region = Region::standard()?;
    let (hub, first) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let second = second_gateway(&mut region, "a")?;
    refresh(&hub)?;
    region.lab.route_through(&second)?;
    let (standby, in_use) = (region.lab.connection_to(&first)?, region.lab.connection_to(&second)?);
    ensure!(is_up(&hub, &standby)? && is_up(&hub, &in_use)? && carrier(&hub, CIDR_A)? == "cw2");
    let watched = watch(&region)?;
    let mut rekeys = 0;
    for end in [&hub, &first, &second] {
        for what in ["child-id", "ike-id"] {
            for connection in
                connections(end)?.iter().filter(|conn| !conn.contains(&region.lab.vpc_id("b").unwrap_or_default()))
            {
                rekey(end, connection, what)?;
                rekeys += 1;
            }
        }
    }
    ensure!(rekeys == 8, "{rekeys} rekeys");
    std::thread::sleep(std::time::Duration::from_secs(1));
    watched.undisturbed(&format!("{rekeys} times an SA was rekeyed"))?;
    ensure!(carrier(&hub, CIDR_A)? == "cw2" && refresh(&hub)?["outcome"] == "unchanged");
    all_well(&region, UP)
}

fn connections(gateway: &Gateway) -> Result<Vec<String>> {
    let mut all: Vec<String> = sas(gateway)?.into_iter().map(|sa| sa.conn).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

/// Rekeys the IKE_SA of a connection, or its CHILD_SA, and waits until that is done.
fn rekey(end: &Gateway, connection: &str, what: &str) -> Result<()> {
    let id = || {
        let all = sas(end)?;
        let mut own = all.iter().filter(|sa| sa.conn == connection && sa.is_established());
        let sa = own.next_back().with_context(|| format!("{connection}: {all:?}"))?;
        let child = sa.children.iter().filter(|child| child.is_up()).map(|child| child.id).max();
        Ok::<_, anyhow::Error>(if what == "ike-id" { Some(sa.id) } else { child })
    };
    let before = id()?.context("no SA to rekey")?;
    end.swanctl(&["--rekey", &format!("--{what}"), &before.to_string()])?;
    eventually(UP, "it is rekeyed", || Ok(id().is_ok_and(|now| now.is_some_and(|now| now > before))))
}

/// The dead newcomer takes no place and no route; one that works gets the place of the first that is gone.
#[test]
fn of_three_gateways_the_third_waits_without_a_tunnel_until_one_of_the_others_is_gone() -> Result<()> {
    let mut region = Region::standard()?;
    let (hub, first) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let second = second_gateway(&mut region, "a")?;
    refresh(&hub)?;
    region.lab.route_through(&second)?;
    let watched = watch(&region)?;
    let third = region.lab.add_gateway("a", Role::NatVpn)?;
    let why = || {
        let report = pass(&hub)?;
        Ok::<_, anyhow::Error>(report["replacing"].to_string())
    };
    for _ in 0..2 {
        let why = why()?;
        ensure!(why.contains("it is loaded without a tunnel, and has not authenticated yet"), "{why}");
    }
    let connection = |gateway: &Gateway| region.lab.connection_to(gateway);
    let [of_first, of_second, of_third] = [&first, &second, &third].map(|gateway| connection(gateway));
    let (of_first, of_second, of_third) = (of_first?, of_second?, of_third?);
    let as_before = || {
        Ok::<_, anyhow::Error>(is_up(&hub, &of_first)? && is_up(&hub, &of_second)? && carrier(&hub, CIDR_A)? == "cw2")
    };
    ensure!(as_before()?);

    region.boot(&third)?;
    let authenticated = || Ok(sas(&hub)?.iter().any(|sa| sa.conn == of_third && sa.is_established()));
    eventually(UP, "it authenticates", authenticated)?;
    for _ in 0..2 {
        let why = why()?;
        ensure!(
            why.contains("it has authenticated, and gets a tunnel when one of the two that have theirs is gone"),
            "{why}"
        );
        ensure!(!is_up(&hub, &of_third)? && as_before()?, "two that have a tunnel keep it");
    }
    region.keepers.remove(&first.name);
    region.lab.terminate(&first)?;
    let report = pass(&hub)?;
    eventually(UP, "it gets the free place", || is_up(&hub, &of_third)).with_context(|| format!("{report:#}"))?;
    ensure!(carrier(&hub, CIDR_A)? == "cw2", "the one in use stays until then");
    let report = refresh(&hub)?;
    ensure!(carrier(&hub, CIDR_A)? == "cw1", "{report:#}");
    region.lab.route_through(&third)?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    watched.undisturbed("a third gateway came, waited and took over")?;

    // The one in use is gone: what stands by has its tunnel up, so only the route moves.
    region.keepers.remove(&third.name);
    region.lab.route_through(&second)?;
    region.lab.terminate(&third)?;
    let report = refresh(&hub)?;
    ensure!(carrier(&hub, CIDR_A)? == "cw2" && is_up(&hub, &of_second)?, "{report:#}");
    let took = region.lab.host("a/host")?.wait_for(region.address("b/host")?, UP)?;
    ensure!(took < std::time::Duration::from_secs(1), "it took {took:?}");
    Ok(())
}
