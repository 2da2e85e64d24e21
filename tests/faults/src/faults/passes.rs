//! Competitors of a pass: locks, other programs, other passes, and the clock.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use crosswan_lab::Fault;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use super::Healed;
use crate::{
    look::{Snapshot, ask, gap, rules, sas},
    region::{UP, eventually, lines, refresh, refresh_with},
    stage::Stage,
};

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Rules of the other backend.
const CLEAR_LEGACY: &str = "for t in filter mangle nat; do iptables-legacy -t $t -F; iptables-legacy -t $t -X; done";

/// The nft backend takes no lock: the victim changes to legacy for this.
pub fn xtables_lock(stage: &mut Stage) -> Result<Healed> {
    let (victim, held_for) = (&stage.peer.first, Duration::from_secs(if stage.quick { 8 } else { 60 }));
    fs::create_dir_all(victim.path("/etc/legacy"))?;
    for name in ["iptables", "iptables-save", "iptables-restore"] {
        symlink("/usr/sbin/xtables-legacy-multi", victim.path("/etc/legacy").join(name))?;
    }
    victim.sh("nft flush ruleset")?.ok()?;
    victim.set_env("PATH", &format!("/etc/legacy:{PATH}"));
    refresh(victim)?;
    let legacy = Snapshot::of(victim)?;
    victim.sh("iptables -w -t nat -F CROSSWAN-NAT")?.ok()?;
    // The marker stays: the next pass finishes a roll-back that failed.
    let broken = Snapshot { unfinished: true, ..Snapshot::of(victim)? };
    let file = File::options().write(true).create(true).truncate(false).open(victim.path("/run/xtables.lock"))?;
    let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).context("xtables.lock")?;
    let (began, mut passes) = (Instant::now(), 0);
    while began.elapsed() < held_for {
        let report = refresh_with(victim, &[], 4)?;
        // Rolling back needs the lock, too.
        ensure!(report["outcome"] == "roll-back-failed", "{report:#}");
        ensure!(lines(&report, "problems").iter().all(|problem| problem.contains("xtables lock")), "{report:#}");
        Snapshot::of(victim)?.must_be(&broken, "the lock is held")?;
        passes += 1;
        (stage.say)(&format!("{passes} passes could not have the lock"));
    }
    drop(held);
    let took = stage.heal(victim, &legacy, "the lock is free")?;
    victim.set_env("PATH", PATH);
    victim.sh(CLEAR_LEGACY)?.ok()?;
    stage.heal(victim, &stage.victim, "nft again")?;
    Healed::by(format!("{passes} passes gave up and said so; the next pass"), took)
}

/// A pass either gets its rules read back or says that it did not.
pub fn nat_flushed(stage: &mut Stage) -> Result<Healed> {
    let times = if stage.quick { 4 } else { 12 };
    let (done, hub) = (AtomicBool::new(false), &stage.hub);
    let codes = thread::scope(|scope| {
        let other = scope.spawn(|| -> Result<u32> {
            let mut flushes = 0;
            while !done.load(Ordering::Relaxed) {
                hub.run("iptables", &["-t", "nat", "-F"], "")?;
                flushes += 1;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(flushes)
        });
        let passes = (0..times).map(|_| Ok(hub.agent(&["refresh"])?.code)).collect::<Result<Vec<i32>>>();
        done.store(true, Ordering::Relaxed);
        let flushes = other.join().map_err(|_| anyhow!("the other program panicked"))??;
        ensure!(flushes > times, "only {flushes} flushes");
        passes
    })?;
    ensure!(codes.iter().all(|code| matches!(code, 0 | 4)), "{codes:?}");
    let beaten = codes.iter().filter(|code| **code == 4).count();
    hub.run("iptables", &["-t", "nat", "-F"], "")?.ok()?;
    let took = stage.heal(hub, &stage.idle, "nobody flushes any more")?;
    Healed::by(format!("{beaten} of {times} passes said that they were beaten; the next pass"), took)
}

/// As Debian's nftables.service does when it starts and reloads: no refresh is needed.
pub fn flushed(stage: &mut Stage) -> Result<Healed> {
    let (times, mut slowest) = (if stage.quick { 2 } else { 10 }, Duration::ZERO);
    for (gateway, as_before) in [(&stage.hub, &stage.idle), (&stage.peer.first, &stage.victim)] {
        let watch = gateway.spawn_agent(&["watch"])?;
        watch.wait_for_log("watching rules, interfaces and routes", UP)?;
        for _ in 0..times {
            gateway.sh("nft flush ruleset")?.ok()?;
            let began = Instant::now();
            eventually(Duration::from_secs(5), "the rules are back", || {
                Ok(rules(gateway, |line| line.contains("CROSSWAN-"))? == as_before.rules)
            })?;
            slowest = slowest.max(began.elapsed());
        }
        Snapshot::of(gateway)?.must_be(as_before, "watch has put the rules back")?;
        ensure!(watch.stop()? == Some(0), "watch did not end well");
    }
    Healed::by("watch, without a pass", slowest)
}

/// Two passes beside a `keep`: one does the work, the other finds it done.
pub fn at_once(stage: &mut Stage) -> Result<Healed> {
    let (times, mut slowest) = (if stage.quick { 2 } else { 10 }, Duration::ZERO);
    for round in 0..times {
        for (on, then) in [(true, &stage.busy), (false, &stage.idle)] {
            stage.work(on)?;
            let began = Instant::now();
            let reports = thread::scope(|scope| {
                let both = [(); 2].map(|()| scope.spawn(|| refresh(&stage.hub)));
                both.map(|pass| pass.join().map_err(|_| anyhow!("a pass panicked"))?)
                    .into_iter()
                    .collect::<Result<Vec<_>>>()
            })?;
            slowest = slowest.max(began.elapsed());
            let steps = reports.iter().filter(|report| !lines(report, "steps").is_empty()).count();
            ensure!(steps == 1, "round {round}: {steps} of two passes took steps: {reports:#?}");
            Snapshot::of(&stage.hub)?.must_be(then, &format!("round {round}"))?;
        }
    }
    ensure!(stage.region.keepers[&stage.hub.name].running(), "keep has ended");
    Healed::by("never broken: one did it, the other found it done", slowest)
}

/// The clock of charon, `keep` and every pass jumps, there and back.
pub fn clock(stage: &mut Stage, step: i64) -> Result<Healed> {
    let victim = &stage.peer.first;
    let at = |report: &Value| report["at"].as_i64().context("a report without its time");
    let before = at(&refresh(&stage.hub)?)?;
    stage.clock.set(step)?;
    stage.work(true)?;
    let now = at(&stage.pass(0, &stage.busy, "the clock was stepped")?)?;
    ensure!((now - before - step).abs() < 600, "the agent did not notice: {before}, then {now}");
    stage.heal(victim, &stage.victim, "the clock was stepped")?;
    // EC2 refuses a signature of another day.
    stage.region.lab.ec2_fault("*", "*", Fault::AuthFailure);
    stage.pass(3, &stage.busy, "EC2 refuses the signature")?;
    stage.region.lab.ec2_heal();
    // `keep` and charon go on: a tunnel that ends is made anew.
    let packets = stage.own_stream()?;
    for sa in sas(victim)? {
        ask(victim, async |vici| {
            vici.terminate(crosswan_vici::Sas::Ike(sa.id), true, Some(Duration::from_secs(2))).await
        })?;
    }
    let outage = gap(packets)?;
    stage.clock.set(0)?;
    stage.heal_hub("the clock is right again")?;
    stage.heal(victim, &stage.victim, "the clock is right again")?;
    Healed::by("never broken; a tunnel ended meanwhile, keep: outage", outage)
}
