//! Plays faults one after the other and judges each: what others lost, how soon it was healed, and whether one further
//! undisturbed pass leaves exactly what it left before.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    faults::{ALL, Fault, Healed, Others, Play},
    pair::{hub_stage::HubStage, stage::PairStage},
    stage::Stage,
};

/// Where faults are played: one region at a time.
enum Ground<'a> {
    Gateway(Stage<'a>),
    Pair(PairStage<'a>),
    Hubs(HubStage),
}

impl<'a> Ground<'a> {
    fn new(play: Play, quick: bool, say: &'a dyn Fn(&str)) -> Result<Ground<'a>> {
        Ok(match play {
            Play::Gateway(_) => Ground::Gateway(Stage::new(quick, say)?),
            Play::Pair(_) => Ground::Pair(PairStage::new(quick, say)?),
            Play::Hubs(_) => Ground::Hubs(HubStage::new(quick, say)?),
        })
    }

    fn is_for(&self, play: Play) -> bool {
        matches!(
            (self, play),
            (Ground::Gateway(_), Play::Gateway(_))
                | (Ground::Pair(_), Play::Pair(_))
                | (Ground::Hubs(_), Play::Hubs(_))
        )
    }

    /// Plays it, and returns to the initial state.
    fn play(&mut self, play: Play) -> Result<Healed> {
        let healed = match (&mut *self, play) {
            (Ground::Gateway(stage), Play::Gateway(play)) => play(stage)?,
            (Ground::Pair(stage), Play::Pair(play)) => play(stage)?,
            (Ground::Hubs(stage), Play::Hubs(play)) => play(stage)?,
            _ => bail!("a fault on the ground of another"),
        };
        match self {
            Ground::Gateway(stage) => stage.undisturbed()?,
            Ground::Pair(stage) => stage.undisturbed()?,
            Ground::Hubs(stage) => stage.undisturbed()?,
        }
        Ok(healed)
    }

    fn next_streams(&mut self) -> Result<(u32, u32, Duration)> {
        match self {
            Ground::Gateway(stage) => stage.next_streams(),
            Ground::Pair(stage) => stage.next_streams(),
            Ground::Hubs(stage) => stage.next_streams(),
        }
    }
}

/// What came of one fault.
pub struct Row {
    pub fault: &'static Fault,
    /// Packets of untouched peers.
    pub sent: u32,
    pub lost: u32,
    /// The slowest answer.
    pub slowest: Duration,
    pub how: String,
    pub after: Duration,
    /// Why it failed.
    pub error: Option<String>,
    pub took: Duration,
}

impl Row {
    pub fn is_good(&self) -> bool {
        self.error.is_none()
    }
}

/// Plays those that `pick` picks. A fault that fails costs its row and a new region, not the rest. `say` hears of the
/// progress, and `note` of all rows so far after each.
pub fn run(
    quick: bool,
    pick: impl Fn(&Fault) -> bool,
    say: &dyn Fn(&str),
    note: &dyn Fn(&[Row]) -> Result<()>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut ground: Option<Ground> = None;
    for fault in ALL.iter().filter(|fault| pick(fault)) {
        if !ground.as_ref().is_some_and(|ground| ground.is_for(fault.play)) {
            // The region of the ones before ends first.
            drop(ground.take());
            ground = Some(Ground::new(fault.play, quick, say)?);
        }
        let Some(ready) = ground.as_mut() else { continue };
        say(&format!("{}: {}", fault.name, fault.what));
        let row = play(fault, ready);
        let verdict = row.error.as_deref().unwrap_or("ok");
        say(&format!(
            "{}: {verdict} ({:.1} s, {} of {} packets lost)",
            fault.name,
            row.took.as_secs_f64(),
            row.lost,
            row.sent
        ));
        if !row.is_good() {
            ground = None;
        }
        rows.push(row);
        note(&rows)?;
    }
    Ok(rows)
}

fn play(fault: &'static Fault, ground: &mut Ground) -> Row {
    let began = Instant::now();
    let healed = ground.play(fault.play);
    let packets = ground.next_streams();
    let took = began.elapsed();
    let (sent, lost, slowest) = packets.as_ref().copied().unwrap_or_default();
    let mut row = Row { fault, sent, lost, slowest, how: String::new(), after: Duration::ZERO, error: None, took };
    match healed {
        Ok(healed) => (row.how, row.after) = (healed.how, healed.after),
        Err(e) => row.error = Some(format!("{e:#}")),
    }
    if let Err(e) = packets {
        row.error.get_or_insert(format!("{e:#}"));
    } else if fault.others == Others::Untouched && (lost > 0 || sent < 20) {
        row.error.get_or_insert(format!("{lost} of {sent} packets of untouched peers were lost"));
    }
    row
}

/// The table, as Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "| fault | what was done | untouched peers: packets lost of sent | healed by | within | further pass | |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for Row { fault, sent, lost, how, after, error, .. } in rows {
        let lost = match fault.others {
            Others::Untouched => format!("{lost} of {sent}"),
            Others::AllMeet => format!("({lost} of {sent}: all meet there)"),
        };
        let (same, verdict) = if error.is_none() { ("same state", "ok") } else { ("", "FAILED") };
        let how = error.as_deref().map_or(how.clone(), |e| e.lines().next().unwrap_or_default().replace('|', "/"));
        let within = format!("{:.1} s", after.as_secs_f64());
        let _ = writeln!(out, "| {} | {} | {lost} | {how} | {within} | {same} | {verdict} |", fault.name, fault.what);
    }
    out
}
