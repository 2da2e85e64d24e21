//! What goes wrong with the members of a pair, and between them: what must move does so once, and what must not stays.
//!
//! The older member, `one`, has the routes at first.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use crosswan_lab::{Fault, Gateway};
use nix::libc::{SIGCONT, SIGKILL, SIGSTOP};

use super::Healed;
use crate::{
    pair::{
        CUT, DEAF, MUTE, SOON, believes, cut_from,
        stage::{PairStage, Seen},
    },
    region::{eventually, status},
};

pub(super) const DEAD: &str = "dead: neither its crosswan pair nor its kernel answers";
pub(super) const AGENT_DEAD: &str = "its crosswan pair is silent and its kernel answers";
const STANDS_BY: &str = "this gateway stands by";
pub(super) const UNCUT: &str = "delete table ip cut";
const DAY: i64 = 86_400;
/// By how much the two clocks are off, one after the other.
pub(super) const CLOCKS: [[i64; 2]; 4] = [[DAY, 0], [DAY, -DAY], [0, DAY], [-DAY, DAY]];
/// Nothing moves for a minute after a move.
pub(super) const HOLD_DOWN: Duration = Duration::from_secs(70);

/// Nothing moved and nothing was lost.
fn unmoved(stage: &PairStage, seen: &Seen) -> Result<()> {
    seen.moved_nothing()?;
    seen.lost_nothing()?;
    ensure!(stage.pair.leads_to(&stage.pair.one)?, "the routes have moved");
    Ok(())
}

/// For so long as a fault lasts that must move nothing.
pub(super) fn lasts(quick: bool) {
    thread::sleep(Duration::from_secs(if quick { 2 } else { 5 }));
}

/// The link of a gateway is away for 0.7 s and there for 0.7 s, again and again; returns how often.
pub(super) fn flap(gateway: &Gateway, quick: bool) -> Result<u32> {
    let flaps = if quick { 10 } else { 40 };
    for _ in 0..flaps {
        gateway.ns()?.nft(CUT)?;
        thread::sleep(Duration::from_millis(700));
        gateway.ns()?.nft(UNCUT)?;
        thread::sleep(Duration::from_millis(700));
    }
    Ok(flaps)
}

/// All of it is gone: its processes, its kernel and its network.
pub fn killed(stage: &mut PairStage) -> Result<Healed> {
    let one = stage.pair.one.clone();
    let seen = stage.during(|stage| {
        stage.kill(&one)?;
        stage.heals_by_two()
    })?;
    stage.two_took_all(&seen)?;
    ensure!(seen.internet.lost > 0, "nobody noticed: {}", seen.lost());
    // It boots, disturbs nobody, and takes nothing back.
    let back = stage.during(|stage| {
        stage.boot(&one)?;
        stage.both_live()?;
        eventually(SOON, "it has a tunnel and stands by", || {
            let pair = &status(&one)?["pair"];
            Ok(pair["role"] == "standby" && pair["own_health"] == "well")
        })
    })?;
    back.moved_nothing()?;
    back.lost_nothing()?;
    let how = format!("the other one, {}; its return lost 0 of {}; longest gap", seen.lost(), back.internet.sent);
    Healed::by(how, seen.internet.longest_gap.max(seen.out.longest_gap))
}

/// A process of the active member is stopped, or all are: packets go on in its kernel.
pub fn hung(stage: &mut PairStage, pair: bool, charon: bool) -> Result<Healed> {
    let (one, two) = (stage.pair.one.clone(), stage.pair.two.clone());
    let keep = stage.pair.region.keepers.get(&one.name).map(crosswan_lab::AgentProcess::pid);
    let all = move |stage: &PairStage, signal| {
        if charon {
            one.signal_charon(signal)?;
        }
        if let Some(keep) = keep.filter(|_| pair && charon) {
            one.sh(&format!("kill -{signal} {keep}"))?.ok()?;
        }
        if pair { stage.signal_pair(&one, signal) } else { Ok(()) }
    };
    let seen = stage.during(|stage| {
        all(stage, SIGSTOP)?;
        believes(&two, if pair { AGENT_DEAD } else { "alive" })?;
        lasts(stage.quick);
        believes(&two, if pair { AGENT_DEAD } else { "alive" })?;
        all(stage, SIGCONT)?;
        stage.both_live()
    })?;
    unmoved(stage, &seen)?;
    Healed::by(format!("itself, after SIGCONT; {}", seen.lost()), Duration::ZERO)
}

/// Its NAT goes on. What its tunnels carry is lost until it is back, which another member could not do better.
pub fn charon_killed(stage: &mut PairStage) -> Result<Healed> {
    let (one, two) = (stage.pair.one.clone(), stage.pair.two.clone());
    let seen = stage.during(|stage| {
        one.kill_charon(SIGKILL)?;
        believes(&two, "alive, and its charon is away")?;
        one.start_charon()?;
        stage.both_live()?;
        stage.passes()
    })?;
    seen.moved_nothing()?;
    ensure!(seen.internet.lost == 0 && seen.internet.sent > 0, "{}", seen.lost());
    Healed::by(format!("keep, {}; outage", seen.lost()), seen.out.longest_gap)
}

/// Nothing leaves the active member any more: it hears, and is not heard.
pub fn mute(stage: &mut PairStage) -> Result<Healed> {
    half_dead(stage, MUTE, |_| Ok(()))
}

/// Nothing reaches the active member any more: it is heard, and carries nothing. After a minute EC2 has not answered it, and its kernel is mute.
pub fn deaf(stage: &mut PairStage) -> Result<Healed> {
    half_dead(stage, DEAF, |stage| {
        believes(&stage.pair.one, DEAD)?;
        believes(&stage.pair.two, "alive, and nothing reaches it")
    })
}

/// The active member's network is dead one way, and what both think of it is seen: the other one takes the routes, and keeps them.
fn half_dead(stage: &mut PairStage, half: &str, seen_as: impl FnOnce(&PairStage) -> Result<()>) -> Result<Healed> {
    let one = stage.pair.one.clone();
    let seen = stage.during(|stage| {
        one.ns()?.nft(half)?;
        seen_as(stage)?;
        stage.heals_by_two()
    })?;
    stage.two_took_all(&seen)?;
    let back = stage.during(|stage| {
        one.ns()?.nft(UNCUT)?;
        stage.pair.watch_one.wait_for_log(STANDS_BY, SOON)?;
        stage.both_live()
    })?;
    back.moved_nothing()?;
    back.lost_nothing()?;
    let how = format!("the other one, {}; its return lost 0 of {}; longest gap", seen.lost(), back.internet.sent);
    Healed::by(how, seen.internet.longest_gap)
}

/// EC2 answers nothing from before the death: nothing can move, and moves once EC2 answers.
pub fn without_ec2(stage: &mut PairStage) -> Result<Healed> {
    let one = stage.pair.one.clone();
    let mut healed = Instant::now();
    let mut until = Duration::ZERO;
    let seen = stage.during(|stage| {
        stage.pair.region.lab.ec2_fault("*", "*", Fault::Silent);
        stage.kill(&one)?;
        stage.pair.watch_two.wait_for_log(DEAD, SOON)?;
        stage.pair.watch_two.wait_for_log("cannot ask EC2 for the routes", SOON)?;
        ensure!(stage.pair.leads_to(&one)?, "the routes moved while EC2 answered nothing");
        stage.pair.region.lab.ec2_heal();
        healed = Instant::now();
        stage.heals_by_two()?;
        until = healed.elapsed();
        Ok(())
    })?;
    stage.two_took_all(&seen)?;
    stage.boot(&one)?;
    stage.both_live()?;
    Healed::by(format!("the other one, {}; from EC2's first answer", seen.lost()), until)
}

/// Nobody is left who could take anything. Both boot again, in whatever order their routes find them.
pub fn both(stage: &mut PairStage) -> Result<Healed> {
    let (one, two) = (stage.pair.one.clone(), stage.pair.two.clone());
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

/// A day apart, forth and back: nothing is judged by it. And one that dies meanwhile is succeeded all the same.
pub fn clocks(stage: &mut PairStage) -> Result<Healed> {
    let (one, two) = (stage.pair.one.clone(), stage.pair.two.clone());
    let seen = stage.during(|stage| {
        for steps in CLOCKS {
            for (clock, step) in stage.clocks.iter().zip(steps) {
                clock.set(step)?;
            }
            for member in [&one, &two] {
                member.agent(&["refresh"])?;
            }
            stage.both_live()?;
        }
        Ok(())
    })?;
    unmoved(stage, &seen)?;
    let dies = stage.during(|stage| {
        one.ns()?.nft(CUT)?;
        stage.heals_by_two()?;
        one.ns()?.nft(UNCUT)?;
        stage.pair.watch_one.wait_for_log(STANDS_BY, SOON)
    })?;
    stage.two_took_all(&dies)?;
    let how = format!("never broken, {}; one cut off meanwhile: the other one; gap", seen.lost());
    Healed::by(how, dies.internet.longest_gap)
}

/// Neither hears the other, and both carry everything: at most one of them takes what the other one has, once.
pub fn split(stage: &mut PairStage) -> Result<Healed> {
    let (one, two) = (stage.pair.one.clone(), stage.pair.two.clone());
    let seen = stage.during(|stage| {
        one.ns()?.nft(&cut_from(two.address))?;
        stage.heals_by_two()?;
        stage.pair.watch_one.wait_for_log(STANDS_BY, SOON)?;
        thread::sleep(if stage.quick { Duration::ZERO } else { HOLD_DOWN });
        one.ns()?.nft(UNCUT)?;
        stage.both_live()
    })?;
    stage.two_took_all(&seen)?;
    seen.lost_nothing()?;
    Healed::by(format!("the routes moved once, {}", seen.lost()), Duration::ZERO)
}

/// Its link comes and goes.
pub fn flapping(stage: &mut PairStage) -> Result<Healed> {
    let one = stage.pair.one.clone();
    let mut flaps = 0;
    let seen = stage.during(|stage| {
        flaps = flap(&one, stage.quick)?;
        stage.both_live()?;
        stage.passes()
    })?;
    ensure!(seen.took[0] == 0 && seen.took[1] <= 3, "took over {:?} times", seen.took);
    let moved = if seen.took[1] > 0 { "the other one, once" } else { "nothing moved" };
    Healed::by(format!("{moved}, in {flaps} flaps; {}; longest gap", seen.lost()), seen.internet.longest_gap)
}

/// Nothing leads to it: that is said, and nothing moves.
pub fn standby_killed(stage: &mut PairStage) -> Result<Healed> {
    let two = stage.pair.two.clone();
    let mut said = Duration::ZERO;
    let seen = stage.during(|stage| {
        let began = Instant::now();
        stage.kill(&two)?;
        stage.pair.watch_one.wait_for_log(&format!("{DEAD}; no route leads to it"), SOON)?;
        said = began.elapsed();
        // A hub that sends to it does so until it has asked EC2.
        stage.pair.region.gateway("hub/vpn-hub")?.agent(&["refresh"])?;
        stage.passes()
    })?;
    seen.moved_nothing()?;
    ensure!(seen.internet.lost == 0 && seen.internet.sent > 0, "{}", seen.lost());
    let back = stage.during(|stage| {
        stage.boot(&two)?;
        stage.both_live()
    })?;
    back.moved_nothing()?;
    back.lost_nothing()?;
    let how = format!("never broken, {}; its return lost 0 of {}; said after", seen.lost(), back.internet.sent);
    Healed::by(how, said)
}
