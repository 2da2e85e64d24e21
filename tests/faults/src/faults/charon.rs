//! charon is killed, hangs, or is restarted during a pass: on the victim, which nobody else may notice, and on the hub.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use crosswan_lab::Gateway;
use nix::libc::{SIGCONT, SIGKILL, SIGSTOP};

use super::Healed;
use crate::{
    look::{CONNECTIONS, Snapshot, gap},
    region::{UP, lines, refresh_with},
    stage::Stage,
    strace::{Strike, record, strike},
};

fn target(stage: &Stage, hub: bool) -> (Arc<Gateway>, Snapshot) {
    if hub { (stage.hub.clone(), stage.idle.clone()) } else { (stage.peer.first.clone(), stage.victim.clone()) }
}

/// No refresh is needed: Debian's unit loads every file, and `keep` initiates.
pub fn killed(stage: &mut Stage, hub: bool) -> Result<Healed> {
    let (gateway, as_it_was) = target(stage, hub);
    let packets = stage.own_stream()?;
    gateway.kill_charon(SIGKILL)?;
    gateway.start_charon()?;
    let outage = gap(packets)?;
    Snapshot::of(&gateway)?.must_be(&as_it_was, "charon was killed and started")?;
    Healed::by("keep: outage", outage)
}

/// The pass says that charon does not answer, and changes nothing but what needs no charon.
pub fn hung(stage: &mut Stage, hub: bool) -> Result<Healed> {
    let (gateway, as_it_was) = target(stage, hub);
    let packets = stage.own_stream()?;
    gateway.signal_charon(SIGSTOP)?;
    let report = refresh_with(&gateway, &[], 3);
    thread::sleep(Duration::from_secs(if stage.quick { 0 } else { 5 }));
    gateway.signal_charon(SIGCONT)?;
    let report = report?;
    ensure!(lines(&report, "unasked").concat().contains("no answer"), "{report:#}");
    let began = Instant::now();
    gap(packets)?;
    let took = began.elapsed();
    Snapshot::of(&gateway)?.must_be(&as_it_was, "charon hung")?;
    Healed::by("itself and keep, after SIGCONT", took)
}

/// strace holds the agent just before it loads a connection; when it goes on, charon is another.
pub fn restarted(stage: &mut Stage, hub: bool) -> Result<Healed> {
    let (gateway, as_it_was) = target(stage, hub);
    let forget = format!("rm {CONNECTIONS}; iptables -t nat -F CROSSWAN-NAT");
    gateway.sh(&forget)?.ok()?;
    let points = record(&gateway)?;
    Snapshot::of(&gateway)?.must_be(&as_it_was, "the recorded pass")?;
    let point = points.iter().find(|point| point.line.contains("load-conn")).context("no load-conn in the pass")?;
    gateway.sh(&forget)?.ok()?;
    let packets = stage.own_stream()?;
    let (output, there) = thread::scope(|scope| {
        let pass = scope.spawn(|| strike(&gateway, point, 0, Strike::Wait(6)));
        // The agent is ready for it after a second or two; a restart before that is a restart in mid-pass all the same.
        thread::sleep(Duration::from_secs(3));
        gateway.kill_charon(SIGKILL)?;
        gateway.start_charon()?;
        pass.join().map_err(|_| anyhow!("the pass panicked"))?
    })?;
    // Either it reached the new charon, or it reports that it did not: it never reports a false success.
    ensure!(there, "the agent was not held at load-conn");
    if output.code == 0 {
        Snapshot::of(&gateway)?.must_be(&as_it_was, "a pass that said it was done")?;
    }
    let pass = stage.heal(&gateway, &as_it_was, "charon was restarted in the middle of a pass")?;
    let outage = gap(packets)?;
    ensure!(outage < UP, "outage {outage:?}");
    let how = format!("the pass ended with {}; the next took {:.1} s; outage", output.code, pass.as_secs_f64());
    Healed::by(how, outage)
}
