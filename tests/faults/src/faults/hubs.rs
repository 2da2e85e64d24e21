//! What goes wrong with one of two hubs, and between them: clients and the hubs' VPC follow the one that takes over, and what must not move
//! stays.
//!
//! The older hub, `one`, is used at first.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use crosswan_lab::{AgentProcess, Fault};
use nix::libc::{SIGCONT, SIGKILL, SIGSTOP};

use super::{
    Healed,
    pair::{AGENT_DEAD, CLOCKS, DEAD, HOLD_DOWN, UNCUT, flap, lasts},
};
use crate::{
    pair::{
        CUT, SOON, believes, cut_from,
        hub_stage::{HubStage, Seen},
    },
    region::eventually,
};

/// What was lost until `two` was used, and that the return of `one` has lost and moved nothing.
fn succeeded(stage: &mut HubStage, seen: &Seen, back: impl FnOnce(&mut HubStage) -> Result<()>) -> Result<Healed> {
    ensure!(seen.took[0] == 0 && (1..=3).contains(&seen.took[1]), "took over {:?} times", seen.took);
    seen.lost_something()?;
    let returned = stage.during(|stage| {
        back(stage)?;
        stage.both_live()
    })?;
    returned.unmoved()?;
    let two = stage.hubs.two.clone();
    stage.heals_by(&two)?;
    Healed::by(format!("the other one, {}; its return lost nothing; from client to client", seen.lost()), seen.gap())
}

/// All of it is gone: its processes, its kernel and its network.
pub fn killed(stage: &mut HubStage) -> Result<Healed> {
    let (one, two) = (stage.hubs.one.clone(), stage.hubs.two.clone());
    let seen = stage.during(|stage| {
        stage.kill(&one)?;
        stage.heals_by(&two)
    })?;
    succeeded(stage, &seen, |stage| stage.boot(&one))
}

/// A process of the hub is stopped, or all are: packets go on in its kernel.
pub fn hung(stage: &mut HubStage, pair: bool, charon: bool) -> Result<Healed> {
    let (one, two) = (stage.hubs.one.clone(), stage.hubs.two.clone());
    let keep = stage.hubs.region.keepers.get(&one.name).map(AgentProcess::pid).filter(|_| pair && charon);
    let beats = pair.then(|| stage.pair(&one).map(AgentProcess::pid)).transpose()?;
    let all = |signal| {
        if charon {
            one.signal_charon(signal)?;
        }
        keep.into_iter().chain(beats).try_for_each(|pid| one.sh(&format!("kill -{signal} {pid}"))?.ok().map(drop))
    };
    let seen = stage.during(|stage| {
        all(SIGSTOP)?;
        let believed = if pair { AGENT_DEAD } else { "alive" };
        believes(&two, believed)?;
        lasts(stage.quick);
        believes(&two, believed)?;
        all(SIGCONT)?;
        stage.both_live()
    })?;
    seen.unmoved()?;
    Healed::by(format!("itself, after SIGCONT; {}", seen.lost()), Duration::ZERO)
}

/// What its tunnels carry is lost until it is back, a second later.
pub fn charon_killed(stage: &mut HubStage) -> Result<Healed> {
    let (one, two) = (stage.hubs.one.clone(), stage.hubs.two.clone());
    let seen = stage.during(|stage| {
        one.kill_charon(SIGKILL)?;
        believes(&two, "alive, and its charon is away")?;
        one.start_charon()?;
        stage.both_live()?;
        stage.passes()
    })?;
    ensure!(seen.took == [0, 0], "took over {:?} times", seen.took);
    Healed::by(format!("keep, {}; outage", seen.lost()), seen.gap())
}

/// Its network is dead in this direction.
pub fn half_dead(stage: &mut HubStage, half: &str) -> Result<Healed> {
    let (one, two) = (stage.hubs.one.clone(), stage.hubs.two.clone());
    let seen = stage.during(|stage| {
        one.ns()?.nft(half)?;
        stage.heals_by(&two)
    })?;
    succeeded(stage, &seen, |_| one.ns()?.nft(UNCUT))
}

/// EC2 answers nothing from before the death: clients follow all the same, as long as the heir hears one of them, and the VPC's routes once
/// EC2 answers.
pub fn without_ec2(stage: &mut HubStage) -> Result<Healed> {
    let (one, two) = (stage.hubs.one.clone(), stage.hubs.two.clone());
    let mut followed = Duration::ZERO;
    let seen = stage.during(|stage| {
        stage.hubs.region.lab.ec2_fault("*", "*", Fault::Silent);
        let began = Instant::now();
        one.ns()?.nft(CUT)?;
        eventually(SOON, "clients follow", || stage.hubs.clients_lead_to(&two))?;
        followed = began.elapsed();
        ensure!(stage.hubs.vpc_leads_to(&one)?, "the routes moved while EC2 answered nothing");
        stage.hubs.region.lab.ec2_heal();
        stage.heals_by(&two)
    })?;
    let healed = succeeded(stage, &seen, |_| one.ns()?.nft(UNCUT))?;
    Healed::by(format!("{}; clients followed without EC2 after {followed:.1?}; gap", healed.how), seen.gap())
}

/// Nobody is left who could take anything. Both boot again.
pub fn both(stage: &mut HubStage) -> Result<Healed> {
    let (one, two) = (stage.hubs.one.clone(), stage.hubs.two.clone());
    let mut until = Duration::ZERO;
    let seen = stage.during(|stage| {
        stage.kill(&one)?;
        stage.kill(&two)?;
        lasts(stage.quick);
        let began = Instant::now();
        stage.boot(&one)?;
        stage.boot(&two)?;
        stage.passes()?;
        until = began.elapsed();
        stage.both_live()
    })?;
    ensure!(seen.took == [0, 0], "who boots takes nothing over: {:?}", seen.took);
    Healed::by(format!("their boot, {}; from there", seen.lost()), until)
}

/// A day apart, forth and back: nothing is judged by it.
pub fn clocks(stage: &mut HubStage) -> Result<Healed> {
    let hubs = [stage.hubs.one.clone(), stage.hubs.two.clone()];
    let seen = stage.during(|stage| {
        for steps in CLOCKS {
            stage.clocks.iter().zip(steps).try_for_each(|(clock, step)| clock.set(step))?;
            for hub in &hubs {
                hub.agent(&["refresh"])?;
            }
            stage.both_live()?;
        }
        Ok(())
    })?;
    seen.unmoved()?;
    Healed::by(format!("never broken, {}", seen.lost()), Duration::ZERO)
}

/// Neither hears the other, and both carry everything: one of them takes the VPC's routes from the other, once. Clients follow whoever spoke
/// first.
pub fn split(stage: &mut HubStage) -> Result<Healed> {
    let (one, two) = (stage.hubs.one.clone(), stage.hubs.two.clone());
    let seen = stage.during(|stage| {
        one.ns()?.nft(&cut_from(two.address))?;
        eventually(SOON, "the VPC's routes have moved", || stage.hubs.vpc_leads_to(&two))?;
        thread::sleep(if stage.quick { Duration::ZERO } else { HOLD_DOWN });
        stage.passes()?;
        ensure!(stage.hubs.vpc_leads_to(&two)?, "they have moved again");
        one.ns()?.nft(UNCUT)?;
        stage.both_live()
    })?;
    ensure!(seen.took[0] == 0 && (1..=3).contains(&seen.took[1]), "took over {:?} times", seen.took);
    seen.lost_nothing()?;
    Healed::by(format!("the routes moved once, {}", seen.lost()), Duration::ZERO)
}

/// Its link comes and goes.
pub fn flapping(stage: &mut HubStage) -> Result<Healed> {
    let one = stage.hubs.one.clone();
    let mut flaps = 0;
    let seen = stage.during(|stage| {
        flaps = flap(&one, stage.quick)?;
        stage.both_live()?;
        stage.passes()
    })?;
    ensure!(seen.took[0] == 0 && seen.took[1] <= 3, "took over {:?} times", seen.took);
    Healed::by(format!("{} takeovers in {flaps} flaps; {}; longest gap", seen.took[1], seen.lost()), seen.gap())
}

/// Nobody uses it: that is said, and nothing moves.
pub fn standby_killed(stage: &mut HubStage) -> Result<Healed> {
    let (one, two) = (stage.hubs.one.clone(), stage.hubs.two.clone());
    let mut said = Duration::ZERO;
    let seen = stage.during(|stage| {
        let began = Instant::now();
        stage.kill(&two)?;
        stage.pair(&one)?.wait_for_log(&format!("{DEAD}; no route leads to it"), SOON)?;
        said = began.elapsed();
        stage.passes()
    })?;
    seen.unmoved()?;
    let back = stage.during(|stage| {
        stage.boot(&two)?;
        stage.both_live()
    })?;
    back.unmoved()?;
    Healed::by("never broken, nothing lost, nor by its return; said after", said)
}
