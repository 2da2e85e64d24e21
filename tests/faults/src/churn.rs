//! Churn: refresh after refresh while peers come, go, change address and segment, gain and lose CIDRs, and an account fails.
//!
//! Eight peers on paper and one real VPC, whose tunnel is established whenever it is there; two more VPCs and the hub's
//! own do not change, and packets flow between them all the while, also while second gateways that never work come and go
//! in them. After each refresh the report must name exactly the
//! tunnels EC2 knows; after the last everybody has left, and the hub must hold what it held at the start.

mod knocks;
mod left;
mod world;

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use crosswan_lab::{Gateway, PingReport};
use serde_json::Value;

use crate::{
    look::stream,
    memory::{Fit, Series, status_kb},
    region::UP,
};
use knocks::Knocks;
use left::Inventory;
use world::World;

/// A pass is bounded; this is for one that hangs.
const PASS: Duration = Duration::from_secs(120);
/// With fewer refreshes charon is still warming up when they end.
const WARM: u32 = 500;
/// Whose memory is looked at, which figure of it, and the part of its mean by which the line through it may rise. charon's levels off
/// long after a run: the allocator's arenas of its threads fill slowly, and each tunnel leaves 1 kB for hours (docs/facts.md, "VICI").
const MEMORY: [(&str, &str, f64); 3] =
    [("charon", "RssAnon", 0.08), ("crosswan keep", "RssAnon", 0.05), ("crosswan refresh", "VmHWM", 0.05)];
/// As systemd has it.
const TRIES: u32 = 8;
/// Between two looks at a pass's peak memory.
const LOOK: Duration = Duration::from_millis(5);

/// What came of a run.
#[derive(Debug)]
pub struct Churned {
    pub refreshes: u32,
    /// Changes of each kind.
    pub changes: BTreeMap<&'static str, u32>,
    /// Refreshes that changed something.
    pub changing: u32,
    /// Refreshes that could not ask everything (exit code 3) and were made again.
    pub again: u32,
    /// Tunnels established with the real peer.
    pub established: u32,
    /// Streams between hosts whose peers did not change.
    pub streams: Vec<(String, PingReport)>,
    /// The course of each of [`MEMORY`].
    pub memory: Vec<Fit>,
    /// What the hub holds at the end and did not at the start, and the other way round.
    pub left: Vec<String>,
    pub slowest: Duration,
    pub took: Duration,
    /// Knocks from addresses that the hub does not know, in all the time.
    pub knocks: u64,
}

impl Churned {
    /// Whose memory and which figure of it, how much it may rise, and its course.
    fn memory(&self) -> impl Iterator<Item = ([&'static str; 2], f64, &Fit)> {
        MEMORY.iter().zip(&self.memory).map(|((who, figure, most), fit)| ([*who, *figure], *most, fit))
    }

    /// Whether somebody's memory grows; a short run cannot tell.
    fn grows(&self) -> bool {
        self.refreshes >= WARM && self.memory().any(|(_, most, fit)| !fit.is_flat(most))
    }

    /// Whether nothing was lost, grew or was left.
    pub fn is_good(&self) -> bool {
        let lost = self.streams.iter().any(|(_, report)| report.lost > 0 || report.sent == 0);
        !lost && self.left.is_empty() && !self.grows()
    }
}

/// Runs it. `say` hears of the progress; the same `seed` makes the same changes. With `knocking`, a flood of knocks comes all the while.
pub fn run(refreshes: u32, seed: u64, knocking: bool, say: &mut dyn FnMut(&str)) -> Result<Churned> {
    say("a region with a hub, two clients and a third, eight more on paper");
    let mut world = World::new(seed)?;
    let hub = world.hub.clone();
    pass(&hub, 0)?;
    let before = Inventory::of(&hub)?;
    let pairs = [("a/host", "b/host"), ("b/host-2", "hub/host"), ("hub/host", "a/host")];
    let start = |(from, to): (&str, &str)| Ok((format!("{from} to {to}"), stream(&world.region, from, to)?));
    let streams = pairs.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    let knocks = knocking.then(|| Knocks::at(&world.region, &hub)).transpose()?;
    let charon = hub.charon_pid().context("charon does not run")?;
    let keep = world.region.keepers.get(&hub.name).context("keep does not run")?.pid();
    let mut series: [Series; 3] = Default::default();
    let (began, mut changing, mut again, mut slowest) = (Instant::now(), 0, 0, Duration::ZERO);
    for n in 1..=refreshes {
        if n == refreshes {
            world.everybody_leaves()?;
        } else {
            world.change().with_context(|| format!("refresh {n}, seed {seed}"))?;
        }
        let begun = Instant::now();
        let (report, peak, tried) = pass(&hub, world.code()).with_context(|| format!("refresh {n}, seed {seed}"))?;
        slowest = slowest.max(begun.elapsed());
        again += tried;
        world.must_be(&report).with_context(|| format!("refresh {n}, seed {seed}"))?;
        changing += u32::from(report["outcome"] == "changed");
        world.connect().with_context(|| format!("refresh {n}, seed {seed}"))?;
        let figures = [status_kb(charon, "RssAnon"), status_kb(keep, "RssAnon"), Some(peak)];
        for (series, figure) in series.iter_mut().zip(figures) {
            series.push(n, figure.context("charon or keep has died")?);
        }
        if n % 10 == 0 {
            say(&format!("refresh {n} of {refreshes}: {} peers, charon {} kB", world.here(), figures[0].unwrap_or(0)));
        }
    }
    let knocks = knocks.map_or(Ok(0), Knocks::end)?;
    // keep may have one more SA of somebody who has left to see off.
    let left = before.compare(&hub, UP)?;
    let stopped = streams.into_iter().map(|(pair, stream)| Ok((pair, stream.stop()?)));
    Ok(Churned {
        refreshes,
        changing,
        again,
        established: world.established,
        streams: stopped.collect::<Result<_>>()?,
        memory: series.iter().map(Series::fit).collect::<Option<_>>().context("too few refreshes for a line")?,
        left,
        slowest,
        took: began.elapsed(),
        knocks,
        changes: world.changes,
    })
}

/// One refresh that must end so: its report, its peak memory (kB), and how many before it could not ask (exit code 3).
/// On a machine that is busy with other things IMDS may be too slow for the SDK; systemd would try again, too.
fn pass(hub: &Gateway, expected: i32) -> Result<(Value, u64, u32)> {
    for tried in 0..TRIES {
        let agent = hub.spawn_agent(&["refresh"])?;
        let (mut peak, until) = (0, Instant::now() + PASS);
        while agent.running() && Instant::now() < until {
            peak = peak.max(status_kb(agent.pid(), "VmHWM").unwrap_or(0));
            thread::sleep(LOOK);
        }
        let log = agent.log();
        match agent.stop()? {
            Some(code) if code == expected => {
                let report: Value = serde_json::from_str(&hub.read_file("/run/crosswan/status.json")?)?;
                // With more than the account that fails, the machine was too busy for something.
                if code != 3 || report["unasked"].as_array().is_some_and(|unasked| unasked.len() == 1) {
                    return Ok((report, peak, tried));
                }
            }
            Some(3) => {}
            code => bail!("refresh ended with {code:?}:\n{}", &log[log.len().saturating_sub(4000)..]),
        }
    }
    bail!("{TRIES} refreshes could not ask")
}

impl Churned {
    /// What to show of it.
    pub fn to_markdown(&self, seed: u64) -> String {
        let Churned { refreshes, changing, again, established, slowest, took, .. } = self;
        let mut text = format!(
            "# Churn\n\n`make churn N={refreshes} SEED={seed}{}`: {refreshes} refreshes of a hub in {:.0} minutes, {changing} of \
             them with something to change, the slowest {:.1} s{}. The real peer's tunnel was established {established} times. \
             {}{}\n\n| change | times |\n|---|---|\n",
            if self.knocks > 0 { " KNOCKS=1" } else { "" },
            took.as_secs_f64() / 60.0,
            slowest.as_secs_f64(),
            match again {
                0 => String::new(),
                _ => format!(
                    "; {again} more could not ask, on a machine too busy for the SDK's time-outs, and were made again"
                ),
            },
            match self.knocks {
                0 => String::new(),
                n => format!(
                    "{:.0} knocks a second came from addresses that the hub does not know. ",
                    n as f64 / took.as_secs_f64()
                ),
            },
            if self.is_good() { "Nothing lost, nothing grew, nothing left behind." } else { "FAILED." },
        );
        self.changes.iter().for_each(|(what, times)| text += &format!("| {what} | {times} |\n"));
        text += "\n| packets between peers that did not change | sent | lost | slowest answer |\n|---|---|---|---|\n";
        for (pair, report) in &self.streams {
            text +=
                &format!("| {pair} | {} | {} | {:.2} s |\n", report.sent, report.lost, report.slowest.as_secs_f64());
        }
        text += "\n| memory | figure | first | last | mean | rise of the line through the second half | |\n|---|---|---|---|---|---|---|\n";
        for ([who, figure], most, fit) in self.memory() {
            let Fit { first, last, mean, rise } = fit;
            let flat = match fit.is_flat(most) {
                _ if self.refreshes < WARM => "too short to tell",
                true => "flat",
                false => "GROWS",
            };
            text += &format!(
                "| {who} | {figure} | {first:.0} kB | {last:.0} kB | {mean:.0} kB | {rise:+.0} kB ({:+.1} %) | {flat} |\n",
                rise / mean * 100.0
            );
        }
        text += "\nLeft behind on the hub when all had gone (SAs, policies, secrets, connections, routes, rules, addresses, files and \
                 what they say, peers remembered): ";
        text += &if self.left.is_empty() {
            "nothing.\n".into()
        } else {
            format!("\n\n```\n{}\n```\n", self.left.join("\n"))
        };
        text
    }
}
