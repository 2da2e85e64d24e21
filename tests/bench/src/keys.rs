//! What raw keys cost charon, beside a pre-shared key: loading them by difference and by `swanctl --load-all`, and what
//! each leaves in its memory. 5.9.8 keeps every key it was ever given (`docs/facts.md`, "Scale").

use std::fmt;

use anyhow::{Context, Result, ensure};
use crosswan_lab::Auth;

use crate::hub::{Hub, Pass, REGIONS};
use crate::measure::Run;
use crate::peers::waited;
use crate::plot::{Scale, Series, lines};
use crate::results::{Budget, Section, megabytes, millis, seconds, table};
use crate::{Setup, say};

/// What charon may have allocated more after all passes, MB. malloc's count takes what each of 16 threads sets aside for its
/// next request (tcache, at most 0.2 MB) for allocated; a changed peer leaves 2 kB, its keys.
const FLAT: f64 = 2.0;

/// One hub.
struct Case {
    peers: usize,
    auth: Auth,
    /// Passes with nothing to change, and as many with one changed peer each.
    passes: usize,
    /// One after the other, into a charon that was empty.
    load_alls: usize,
}

/// charon's, MB.
#[derive(Clone, Copy)]
struct Memory {
    /// What it has allocated and not freed.
    allocated: f64,
    /// With the allocator's own, which each of its threads gets and keeps.
    resident: f64,
}

/// What it came to.
struct Row {
    case: Case,
    first: Pass,
    unchanged: Pass,
    changed: Pass,
    load_alls: Vec<Option<Run>>,
    /// After the first pass, and after those of each kind.
    by_difference: [Memory; 3],
    after_load_alls: Vec<Memory>,
}

impl Case {
    fn name(&self) -> String {
        let auth = if self.auth == Auth::Key { "raw keys" } else { "pre-shared key" };
        format!("{} peers, {auth}", self.peers)
    }
}

impl Memory {
    fn of_charon(hub: &Hub) -> Result<Memory> {
        Ok(Memory { allocated: hub.charon_allocated()?, resident: hub.charon_memory()? })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} of {:.1} MB", self.allocated, self.resident)
    }
}

/// Loads the hubs both ways.
pub fn bench(setup: &Setup) -> Result<Section> {
    let case = |peers, auth, passes, load_alls| match setup.quick {
        true => Case { peers: peers / 500, auth, passes: 2, load_alls: 2 },
        false => Case { peers, auth, passes, load_alls },
    };
    // The third of 5,000 raw keys takes minutes on 5.9.8, and says no more than those of 1,000.
    let cases = [case(1000, Auth::Key, 20, 5), case(5000, Auth::Key, 10, 2), case(5000, Auth::Psk, 10, 3)];
    let hub = setup.hub()?;
    let rows = cases.into_iter().map(|case| row(hub, case)).collect::<Result<Vec<_>>>()?;
    let largest = rows.iter().rfind(|row| row.case.auth == Auth::Key).context("no raw keys")?;
    Ok(Section {
        name: "keys",
        title: "What raw keys cost charon",
        budgets: vec![flat(largest)],
        text: text(&rows),
        plots: vec![("keys.svg", plot(&rows))],
    })
}

fn row(hub: &Hub, case: Case) -> Result<Row> {
    let (name, passes) = (case.name(), case.passes);
    say(&format!("{name}: first pass, {passes} with nothing to change, {passes} with one changed peer"));
    hub.reset(REGIONS, case.peers, case.auth)?;
    let first = hub.refresh(&[])?;
    let after_first = Memory::of_charon(hub)?;
    let pass = |loads: usize| {
        let pass = hub.refresh(&[])?;
        let loaded = pass.steps("load connection");
        ensure!(loaded == loads && (loads > 0 || pass.steps("") == 0), "not {loads} loads: {}", pass.run.stdout);
        Ok(pass)
    };
    let unchanged = (0..passes).map(|_| pass(0)).collect::<Result<Vec<_>>>()?;
    let after_unchanged = Memory::of_charon(hub)?;
    let change = |n: usize| {
        hub.cloud.set(|shape| shape.moved.extend([n % shape.gateways]));
        pass(1)
    };
    let changed = (0..passes).map(change).collect::<Result<Vec<_>>>()?;
    let by_difference = [after_first, after_unchanged, Memory::of_charon(hub)?];

    say(&format!("{name}: swanctl --load-all, {} times", case.load_alls));
    hub.empty_charon()?;
    let (mut load_alls, mut after_load_alls) = (Vec::new(), Vec::new());
    for _ in 0..case.load_alls {
        load_alls.push(hub.load_all()?);
        after_load_alls.push(Memory::of_charon(hub)?);
    }
    let row = Row {
        case,
        first,
        unchanged: Pass::least(unchanged)?,
        changed: Pass::least(changed)?,
        load_alls,
        by_difference,
        after_load_alls,
    };
    say(&format!(
        "{name}: charon has {} by difference, {} by load-all",
        all(&row.by_difference),
        all(&row.after_load_alls)
    ));
    Ok(row)
}

fn flat(row: &Row) -> Budget {
    let [first, unchanged, changed] = row.by_difference.map(|memory| memory.allocated);
    let passes = row.case.passes;
    let by_load_all: Vec<String> = row.after_load_alls.iter().map(|memory| megabytes(memory.allocated)).collect();
    Budget {
        work: format!("charon's memory over 2 x {passes} refreshes, {}", row.case.name()),
        budget: format!("at most {FLAT} MB more allocated"),
        baseline: format!("after each load-all: {}", by_load_all.join(", ")),
        measured: format!(
            "{first:.1} MB; {:+.2} MB with nothing to change, {:+.2} MB with one change each",
            unchanged - first,
            changed - unchanged
        ),
        met: changed - first <= FLAT,
    }
}

fn all(memory: &[Memory]) -> String {
    memory.iter().map(Memory::to_string).collect::<Vec<_>>().join(", ")
}

fn text(rows: &[Row]) -> String {
    let loading = rows.iter().map(|row| {
        let again: Vec<String> = row.load_alls.iter().skip(1).map(waited).collect();
        vec![
            row.case.name(),
            seconds(row.first.run.wall),
            seconds(row.first.stage("apply")),
            seconds(row.unchanged.run.wall),
            seconds(row.changed.run.wall),
            millis(row.changed.stage("apply")),
            row.load_alls.first().map(waited).unwrap_or_default(),
            again.join(", "),
        ]
    });
    let memory = rows.iter().map(|row| {
        let [first, unchanged, changed] = row.by_difference.map(|memory| memory.to_string());
        vec![row.case.name(), row.case.passes.to_string(), first, unchanged, changed, all(&row.after_load_alls)]
    });
    format!(
        "The first pass fills an empty charon, and so does the first load-all; each load-all after it meets the same files, \
         and is what reloading everything costs.\n\n{}\n\
         charon's memory, what it has allocated (malloc's count) of what is resident (with what each of its threads keeps for \
         itself): after the first pass, after n with nothing to change, and after n with one changed peer each; and in a \
         new charon after each load-all.\n\n{}\n![keys](keys.svg)\n",
        table(
            "hub | first pass | of it apply | nothing to change | one changed | of it apply | first load-all | again",
            loading
        ),
        table("hub | n | first pass | n with nothing to change | n with one change | each load-all", memory),
    )
}

fn plot(rows: &[Row]) -> String {
    let mut series = Vec::new();
    for row in rows {
        let passes = row.case.passes as f64;
        let refreshes =
            row.by_difference.iter().zip(0..).map(|(memory, n)| (1.0 + f64::from(n) * passes, memory.allocated));
        let load_alls = row.after_load_alls.iter().zip(1..).map(|(memory, n)| (f64::from(n), memory.allocated));
        let name = row.case.name();
        series.push(Series::new(&format!("refresh: {name}"), refreshes.collect()));
        series.push(Series::new(&format!("load-all: {name}"), load_alls.collect()));
    }
    lines("What charon has allocated", "refreshes or load-alls", "MB", Scale::Log, &series)
}
