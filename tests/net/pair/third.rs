//! A third gateway beside a pair: it takes nothing, waits, and is one of the pair once another one is gone or has made way for it.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_faults::{
    attended::Attended,
    look::sas,
    pair::{CLIENT, CUT, REPLACES, SOON, Two, are_well, believes, forget_moves, leads_to},
};
use crosswan_lab::{AgentProcess, Gateway, Role};
use serde_json::Value;

use super::handover::{hand_over, loses_nothing};
use crate::region::{UP, eventually, lines};

/// A gateway that came third, with what runs on it.
struct Third {
    gateway: Arc<Gateway>,
    watch: AgentProcess,
    _keep: AgentProcess,
}

/// Launches a third gateway, which waits, and lets it boot.
fn launch(pair: &Two) -> Result<Third> {
    launch_that(pair, false)
}

/// The same of one that takes the older member's place by itself, or does not.
fn launch_that(pair: &Two, replaces: bool) -> Result<Third> {
    let gateway = pair.region.lab.add_gateway("a", Role::NatVpn)?;
    gateway.set_env(REPLACES, if replaces { "true" } else { "false" });
    gateway.start_charon()?;
    let _ = pass(&gateway)?;
    let keep = gateway.spawn_agent(&["keep"])?;
    let watch = gateway.spawn_agent(&["pair"])?;
    Ok(Third { gateway, watch, _keep: keep })
}

fn pass(gateway: &Gateway) -> Result<Value> {
    Ok(serde_json::from_str(&gateway.agent(&["refresh", "--json"])?.stdout)?)
}

fn notes(gateway: &Gateway) -> Result<String> {
    Ok(lines(&pass(gateway)?, "notes").join("\n"))
}

/// Whether the hub has a tunnel to this gateway that carries packets.
fn has_tunnel(pair: &Two, gateway: &Gateway) -> Result<bool> {
    let connection = pair.region.lab.connection_to(gateway)?;
    let hub = pair.region.gateway("hub/vpn-hub")?;
    let sas = sas(&hub)?;
    Ok(sas.iter().any(|sa| sa.conn == connection && sa.children.iter().any(|child| child.is_up())))
}

#[test]
fn a_third_gateway_waits_and_is_a_member_when_one_was_handed_over_and_ended() -> Result<()> {
    let (pair, hears) = super::handover::ready()?;
    let Two { one, two, .. } = &pair;
    let hub = pair.region.gateway("hub/vpn-hub")?;
    let moves = pair.moves();
    let mut third = None;
    let report = pair.pings(|| {
        loses_nothing(&pair, "a third one comes", || {
            let new = third.insert(launch(&pair)?);
            for _ in 0..3 {
                for gateway in [&hub, one, two, &new.gateway] {
                    pass(gateway)?;
                }
            }
            let connection = pair.region.lab.connection_to(&new.gateway)?;
            let authenticated = || {
                let sas = sas(&hub)?;
                Ok(sas.iter().any(|sa| sa.conn == connection && sa.is_established()))
            };
            eventually(UP, "the third one authenticates to the hub", authenticated)?;
            // What it has shown changes nothing while both of the others are there.
            for gateway in [&hub, &new.gateway, one, two] {
                pass(gateway)?;
            }
            ensure!(has_tunnel(&pair, one)? && has_tunnel(&pair, two)? && !has_tunnel(&pair, &new.gateway)?);
            Ok(())
        })
    })?;
    let third = third.expect("it was launched");
    ensure!(report.lost == 0 && pair.moves() == moves && pair.leads_to(one)?, "{report:?}");
    let said = notes(&third.gateway)?;
    let waits = format!("{} and {} are the pair, and this gateway waits beside them", one.instance, two.instance);
    ensure!(said.contains(&waits), "{said}");
    for (member, other) in [(one, two), (two, one)] {
        let said = notes(member)?;
        let waits = format!("{} waits beside the pair of this gateway and {}", third.gateway.instance, other.instance);
        ensure!(said.contains(&waits), "{said}");
        believes(member, "alive")?;
    }

    // An operator hands over and ends that one.
    loses_nothing(&pair, "the first one is handed over", || {
        let (code, said) = hand_over(one, &[])?;
        ensure!(code == 0 || said["outcome"] == "still-forwards", "{code}: {said:#}");
        ensure!(pair.leads_to(two)?, "{said:#}");
        Ok(())
    })?;
    let report = pair.pings(|| {
        loses_nothing(&pair, "the first one is ended, and the third one is a member", || {
            pair.region.lab.terminate(one)?;
            pair.watch_two
                .wait_for_log("is dead, and EC2 may show another gateway instead: asked for a refresh", SOON)?;
            let said = notes(two)?;
            ensure!(!said.contains("waits beside"), "{said}");
            third
                .watch
                .wait_for_log("sends beats, and is not known as a member of a pair: asked for a refresh", SOON)?;
            pass(&third.gateway)?;
            eventually(SOON, "the hub gives it the free place", || {
                pass(&hub)?;
                has_tunnel(&pair, &third.gateway)
            })?;
            believes(two, "alive")?;
            believes(&third.gateway, "alive")?;
            eventually(SOON, "both are well, and know who has the routes", || are_well([two, &third.gateway]))
        })
    })?;
    ensure!(report.lost == 0 && pair.leads_to(two)?, "{report:?}");

    // It does what a member does.
    let report = pair.pings(|| {
        two.ns()?.nft(CUT)?;
        eventually(SOON, "the routes have moved", || pair.leads_to(&third.gateway))?;
        pair.host.wait_for(pair.internet, SOON).map(drop)
    })?;
    println!("pair: the third one took over: nothing reached the internet for {:?}", report.longest_gap);
    ensure!(report.lost > 0 && pair.seen_as()? == third.gateway.public(), "{report:?}");
    drop(hears);
    Ok(())
}

/// The two are well and the pair, the other one waits, and it alone has no tunnel to the hub.
fn settles(pair: &Two, [active, standby]: [&Gateway; 2], beside: &Gateway) -> Result<()> {
    eventually(SOON, "the two are the pair", || {
        let tunnels = has_tunnel(pair, active)? && has_tunnel(pair, standby)? && !has_tunnel(pair, beside)?;
        Ok(tunnels && are_well([active, standby])?)
    })
    .with_context(|| format!("{:?}", [active, standby, beside].map(|gateway| said(gateway).unwrap_or_default())))?;
    believes(active, "alive")?;
    believes(standby, "alive")
}

/// The notes of its last pass.
fn said(gateway: &Gateway) -> Result<String> {
    let report: Value = serde_json::from_str(&gateway.read_file("/run/crosswan/status.json")?)?;
    Ok(lines(&report, "notes").join("\n"))
}

#[test]
fn a_member_makes_way_for_the_third_one_and_is_back_when_that_one_is_gone() -> Result<()> {
    let (pair, _hears) = super::handover::ready()?;
    let Two { one, two, .. } = &pair;
    // From now on a pass is made whenever somebody asks for one, and no sooner.
    let _attended = Attended::refreshed(one.clone());
    let make_way = ["handover", "--make-way"];
    let (code, why) = super::handover::refused(one, &make_way)?;
    ensure!(code == 3 && why.contains("a refresh has found no gateway that waits"), "{code}: {why}");
    let third = launch(&pair)?;
    let heir = &third.gateway;
    let hub = pair.region.gateway("hub/vpn-hub")?;
    let attended = [&hub, two, heir].map(|gateway| Attended::refreshed(gateway.clone()));
    for gateway in &attended {
        gateway.first_pass()?;
    }
    settles(&pair, [one, two], heir)?;

    loses_nothing(&pair, "the first one makes way", || {
        let (code, done) = hand_over(one, &make_way[1..])?;
        ensure!(code == 0 && done["made_way_for"] == *heir.instance, "{code}: {done:#}");
        ensure!(pair.leads_to(two)?, "{done:#}");
        settles(&pair, [two, heir], one)
    })?;
    let moves = pair.moves();
    ensure!(said(one)?.contains(&format!("this gateway has made way for {}", heir.instance)), "{}", said(one)?);
    ensure!(said(two)?.contains(&format!("{} has made way for {}", one.instance, heir.instance)), "{}", said(two)?);
    let (code, why) = super::handover::refused(one, &["handover"])?;
    ensure!(code == 3 && why.contains("has nothing to hand over"), "{code}: {why}");

    // An heir that fails before the old one is ended has cost nothing.
    loses_nothing(&pair, "its heir is ended", || {
        pair.region.lab.terminate(heir)?;
        settle_the_hub(&pair, one)?;
        settles(&pair, [two, one], heir)
    })?;
    ensure!(pair.moves() == moves && pair.leads_to(two)?);
    Ok(())
}

#[test]
fn a_newcomer_takes_the_older_ones_place_once_it_works_and_gets_none_when_it_is_dead_by_then() -> Result<()> {
    let (mut pair, _hears) = super::handover::ready()?;
    let (one, two) = (pair.one.clone(), pair.two.clone());
    let _attended = Attended::refreshed(one.clone());
    let third = launch_that(&pair, true)?;
    let heir = &third.gateway;
    heir.sh("sysctl -qw net.ipv4.ip_forward=0")?.ok()?;
    let hub = pair.region.gateway("hub/vpn-hub")?;
    let attended = [&hub, &two, heir].map(|gateway| Attended::refreshed(gateway.clone()));
    for gateway in &attended {
        gateway.first_pass()?;
    }
    settles(&pair, [&one, &two], heir)?;
    ensure!(said(heir)?.contains(&format!("it asks {}, the older one in its zone", one.instance)), "{}", said(heir)?);

    // It would ask after 30 s, and it does not forward.
    thread::sleep(Duration::from_secs(40));
    ensure!(!third.watch.log().contains("asks"), "{}", third.watch.log());
    heir.sh("sysctl -qw net.ipv4.ip_forward=1")?.ok()?;
    third.watch.wait_for_log(&format!("this gateway works, and asks {} for its place", one.instance), SOON)?;
    third.watch.wait_for_log("EC2 shows that this gateway asks for a member's place: asked for a refresh", SOON)?;
    eventually(SOON, "it says so", || {
        Ok(said(heir)?.contains(&format!("it has asked {} for its place", one.instance)))
    })?;

    // Between its word and the member's next pass, which comes each hour, it has died.
    heir.ns()?.nft(CUT)?;
    let moves = pair.moves();
    loses_nothing(&pair, "a newcomer asks that is dead by then", || {
        pass(&one)?;
        pair.watch_one
            .wait_for_log(&format!("this member makes way, as {} asks for its place", heir.instance), SOON)?;
        pair.watch_one.wait_for_log("its kernel does not answer", SOON)
    })?;
    ensure!(pair.leads_to(&one)? && pair.moves() == moves);
    believes(&two, "alive")?;

    heir.ns()?.nft("delete table ip cut")?;
    forget_moves(&one, &mut pair.watch_one)?;
    loses_nothing(&pair, "the older one makes way by itself", || settles(&pair, [&two, heir], &one))?;
    ensure!(
        pair.leads_to(&two)? && said(&one)?.contains(&format!("has made way for {}", heir.instance)),
        "{}",
        said(&one)?
    );
    Ok(())
}

/// Waits until the hub's tunnel to this one is up. Its passes come each hour, or when somebody who is new knocks.
fn settle_the_hub(pair: &Two, gateway: &Gateway) -> Result<()> {
    let hub = pair.region.gateway("hub/vpn-hub")?;
    eventually(UP, "the hub has a tunnel to it", || {
        pass(&hub)?;
        has_tunnel(pair, gateway)
    })
}

#[test]
fn a_third_gateway_moves_nothing_while_a_member_is_dead_and_ec2_shows_it() -> Result<()> {
    let pair = Two::up()?;
    let Two { one, two, .. } = &pair;
    let third = launch(&pair)?;
    pair.dies("the first one is cut off, beside a third one", two, || one.ns()?.nft(CUT))?;
    let moves = pair.moves();
    // EC2 shows the dead one as running: the pair is the same, and its routes are the survivor's.
    for gateway in [two, &third.gateway, two, &third.gateway] {
        let said = notes(gateway)?;
        ensure!(said.contains("waits beside"), "{said}");
    }
    ensure!(pair.leads_to(two)? && pair.moves() == moves);
    let [_, private] = pair.region.lab.route_tables("a")?;
    ensure!(!leads_to(&pair.region.lab, CLIENT, &third.gateway, &private, "0.0.0.0/0")?);
    one.ns()?.nft("delete table ip cut")?;
    believes(one, "alive")?;
    believes(two, "alive")?;
    ensure!(pair.leads_to(two)? && pair.moves() == moves);
    Ok(())
}

#[test]
fn a_third_gateway_takes_the_routes_when_both_members_are_ended() -> Result<()> {
    let pair = Two::up()?;
    let third = launch(&pair)?;
    let said = notes(&third.gateway)?;
    ensure!(said.contains("this gateway waits beside them"), "{said}");
    let (code, said) = super::handover::refused(&third.gateway, &["handover"])?;
    ensure!(code != 0 && said.contains("this gateway waits beside the pair of"), "{code}: {said}");
    let began = std::time::Instant::now();
    for member in [&pair.one, &pair.two] {
        pair.region.lab.terminate(member)?;
    }
    third.watch.wait_for_log("leads nowhere, and the pair may be gone: asked for a refresh", SOON)?;
    eventually(SOON, "a pass takes what leads nowhere", || {
        pass(&third.gateway)?;
        Ok(pair.seen_as().is_ok_and(|address| address == third.gateway.public()))
    })?;
    println!("pair: both members were ended, and the third one has their default route {:.0?} later", began.elapsed());
    // The hub frees a place for it, and then the private network is there, too.
    let (hub, far) = (pair.region.gateway("hub/vpn-hub")?, pair.region.address("hub/host")?);
    eventually(SOON, "private packets pass", || {
        pass(&hub)?;
        pass(&third.gateway)?;
        pair.host.reaches(far)
    })
}
