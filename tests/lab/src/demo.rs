//! The demo: a region comes up, its gateways boot, and nine things are shown by real packets.

mod act;
pub(crate) mod boot;
mod change;
mod clear;
mod keep;
mod keys;
mod logs;
mod pair;
mod place;
pub(crate) mod reach;
pub(crate) mod screen;
pub(crate) mod signals;
mod steady;
mod vici;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use crosswan_lab::{AgentProcess, Capture, Lab};

use screen::{Screen, seconds};

/// Ended by Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Shows one point; returns what the table says about it, made of figures that were read back.
type Show = fn(&mut Demo) -> Result<String>;

const POINTS: [(&str, Show); 9] = [
    ("Private hosts reach each other through the hub, and see each other's own address", reach::private),
    ("Private hosts reach the internet, and are seen there with their gateway's Elastic IP", reach::internet),
    ("Nothing private ever leaves in the clear, also while a tunnel is down", clear::outage),
    ("A third client is launched: the hub's next refresh connects it, and nobody else notices", change::launch),
    ("Client B's VPC is deleted: its tunnel, key and security associations go", change::delete),
    ("A route of the hub VPC is deleted: the hub's next refresh puts it back", place::put_back),
    ("A refresh with nothing new changes nothing, and says so", steady::unchanged),
    ("crosswan status, on the hub", steady::status),
    ("A second hub makes a pair with the first; the active one is killed while two clients talk", pair::takeover),
];

/// What the points work with. Ends in the order of its fields: agents before the lab they run in.
pub struct Demo {
    keepers: Vec<AgentProcess>,
    capture: Option<Capture>,
    lab: Lab,
    screen: Screen,
    /// What went wrong in the point under way.
    failures: Vec<String>,
    table: Vec<Row>,
    /// Everything the agents said, for the logs of a failure.
    journal: String,
}

struct Row {
    number: String,
    shown: String,
    ok: bool,
    took: Duration,
}

/// Shows everything, and with `keep` waits for the end afterwards.
pub fn run(agent: &Path, keep: bool) -> Result<ExitCode> {
    signals::catch()?;
    let screen = Screen::new();
    screen.raw(boot::PICTURE);
    let mut demo = boot::lab(agent, screen)?;
    demo.point("", "Every gateway boots", boot::gateways);
    if demo.table.iter().all(|row| row.ok) {
        for (n, (title, show)) in POINTS.into_iter().enumerate() {
            demo.point(&(n + 1).to_string(), title, show);
        }
        demo.point("", "3, once more. The capture since then, to the end", clear::rest);
    }
    let code = demo.close()?;
    if keep && !signals::interrupted() {
        keep::look_around(&demo, agent)?;
    }
    let Demo { keepers, capture, lab, screen, .. } = demo;
    let dir = lab.dir().to_path_buf();
    drop((keepers, capture, lab));
    let removed = if dir.exists() { "kept, as CROSSWAN_LAB_KEEP_DIR asks" } else { "removed" };
    screen.raw(&format!("The region is gone, {} is {removed}.", dir.display()));
    if !keep && code == ExitCode::SUCCESS {
        screen.raw("To look around in it: make demo KEEP=1. Every test: make test.");
    }
    Ok(code)
}

impl Demo {
    /// Runs one point and notes its row. A point that fails does not keep the next ones from being shown.
    fn point(&mut self, number: &str, title: &str, show: Show) {
        if signals::interrupted() {
            return;
        }
        let before = if number.is_empty() { String::new() } else { format!("{number}. ") };
        self.screen.heading(&format!("{before}{title}"));
        let started = self.screen.elapsed();
        let shown = show(self).unwrap_or_else(|e| {
            if !signals::interrupted() {
                self.check(false, &format!("{e:#}"));
            }
            title.into()
        });
        let failures = std::mem::take(&mut self.failures);
        let ok = failures.is_empty();
        let shown = if ok { shown } else { format!("{title}: {}", failures.join("; ")) };
        self.table.push(Row { number: number.into(), shown, ok, took: self.screen.elapsed() - started });
    }

    /// The table, where to look if something failed, and the exit code.
    fn close(&self) -> Result<ExitCode> {
        let screen = &self.screen;
        if signals::interrupted() {
            screen.raw("\nInterrupted; taking the region down.");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        screen.raw("\n");
        screen.row("", "what was shown", None, "seconds");
        for row in &self.table {
            screen.row(&row.number, &row.shown, Some(row.ok), &format!("{:.1}", row.took.as_secs_f64()));
        }
        let failed = self.table.iter().filter(|row| !row.ok).count();
        let elapsed = seconds(screen.elapsed());
        if failed == 0 {
            screen.verdict(true, &format!("All {} points were seen, in {elapsed}.", POINTS.len()));
            return Ok(ExitCode::SUCCESS);
        }
        let logs = logs::save(self)?;
        screen.verdict(false, &format!("FAILED: {failed} of {} lines of the table, in {elapsed}.", self.table.len()));
        screen.raw(&format!("What charon, the agents and moto said is in {}", logs.display()));
        Ok(ExitCode::FAILURE)
    }
}
