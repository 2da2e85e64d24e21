//! Plays faults one after the other and judges each: what others lost, how soon it was healed, and whether one further
//! undisturbed pass leaves exactly what it left before.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    faults::{ALL, Fault, Others},
    stage::Stage,
};

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
    let (mut rows, mut stage) = (Vec::new(), None);
    for fault in ALL.iter().filter(|fault| pick(fault)) {
        if stage.is_none() {
            stage = Some(Stage::new(quick, say)?);
        }
        let Some(ready) = stage.as_mut() else { continue };
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
            stage = None;
        }
        rows.push(row);
        note(&rows)?;
    }
    Ok(rows)
}

fn play(fault: &'static Fault, stage: &mut Stage) -> Row {
    let began = Instant::now();
    let healed = (fault.play)(stage).and_then(|healed| {
        stage.undisturbed()?;
        Ok(healed)
    });
    let packets = stage.next_streams();
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
