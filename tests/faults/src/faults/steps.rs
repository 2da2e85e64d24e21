//! The agent dies in a pass.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::libc::SIGTERM;

use super::Healed;
use crate::{
    kills::{PASSES, at_every_step},
    look::{Snapshot, all_well},
    region::{UP, refresh},
    stage::Stage,
};

pub fn add(stage: &mut Stage) -> Result<Healed> {
    kills(stage, 0)
}

pub fn moved(stage: &mut Stage) -> Result<Healed> {
    kills(stage, 1)
}

pub fn remove(stage: &mut Stage) -> Result<Healed> {
    kills(stage, 2)
}

fn kills(stage: &mut Stage, pass: usize) -> Result<Healed> {
    let (hub, first) = (stage.hub.clone(), stage.peer.first.clone());
    stage.keep(&hub, false)?;
    stage.keep(&first, false)?;
    let say = stage.say;
    let kills = at_every_step(&stage.region, &hub, &stage.peer, PASSES[pass], 1, &mut |text| say(text))?;
    stage.keep(&hub, true)?;
    stage.keep(&first, true)?;
    let began = Instant::now();
    refresh(&hub)?;
    Healed::by(format!("{kills} kills, each by the next pass"), began.elapsed())
}

/// SIGTERM ends a pass as any signal would: it has no handler, as every moment is as good as any other.
pub fn sigterm(stage: &mut Stage) -> Result<Healed> {
    let times = if stage.quick { 8 } else { 60 };
    stage.work(true)?;
    let whole = stage.heal_hub("a pass to be measured")?;
    stage.work(false)?;
    stage.pass(0, &stage.idle, "back")?;
    let (mut slowest, mut cut) = (Duration::ZERO, 0);
    for n in 0..times {
        (stage.say)(&format!("SIGTERM {} of {times}", n + 1));
        stage.work(true)?;
        let agent = stage.hub.spawn_agent(&["refresh"])?;
        thread::sleep(whole * n / times);
        cut += i32::from(agent.stop()? != Some(0));
        let when = format!("SIGTERM after {:?}", whole * n / times);
        for (path, file) in Snapshot::of(&stage.hub)?.files {
            let known = file == stage.idle.files[path] || file == stage.busy.files[path];
            anyhow::ensure!(known, "{when}: {path} is half written");
        }
        slowest = slowest.max(stage.heal_hub(&when)?);
        stage.work(false)?;
        stage.pass(0, &stage.idle, &when)?;
    }
    anyhow::ensure!(cut > times as i32 / 3, "signal {SIGTERM} came too late {} of {times} times", times as i32 - cut);
    all_well(&stage.region, UP)?;
    Healed::by(format!("{cut} of {times} passes cut off, each by the next pass"), slowest)
}
