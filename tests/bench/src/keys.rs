//! What raw keys cost charon, beside a pre-shared key: loading them by difference and by `swanctl --load-all`, and what
//! each leaves in its memory. 5.9.8 keeps every key it was ever given (`docs/facts.md`, "Scale").

use anyhow::{Context, Result, ensure};
use crosswan_lab::Auth;

use crate::hub::{Hub, Pass};
use crate::measure::Run;
use crate::peers::waited;
use crate::plot::{Scale, Series, lines};
use crate::results::{Budget, Section, megabytes, millis, seconds, table};
use crate::{Setup, say};

const REGIONS: usize = 8;
/// What charon may grow over all passes of one kind, MB: it allocates per thread, and one peer's keys are a kilobyte.
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

/// What it came to.
struct Row {
    case: Case,
    first: Pass,
    unchanged: Pass,
    changed: Pass,
    load_alls: Vec<Option<Run>>,
    /// charon's memory after the first pass, after those with nothing to change, and after those with a change.
    by_difference: [f64; 3],
    /// And after each load-all.
    after_load_alls: Vec<f64>,
}

impl Case {
    fn name(&self) -> String {
        let auth = if self.auth == Auth::Key { "raw keys" } else { "pre-shared key" };
        format!("{} peers, {auth}", self.peers)
    }
}

impl Row {
    /// MB that charon gained over the passes of each kind.
    fn grown(&self) -> [f64; 2] {
        let [first, unchanged, changed] = self.by_difference;
        [unchanged - first, changed - unchanged]
    }
}

/// Loads the hubs both ways.
pub fn bench(setup: &Setup) -> Result<Section> {
    let case = |peers, auth, load_alls| match setup.quick {
        true => Case { peers: peers / 500, auth, passes: 2, load_alls: 2 },
        false => Case { peers, auth, passes: 20, load_alls },
    };
    // The third of 5,000 raw keys takes minutes on 5.9.8, and says no more than those of 1,000.
    let cases = [case(1000, Auth::Key, 5), case(5000, Auth::Key, 2), case(5000, Auth::Psk, 3)];
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
    let mut by_difference = [hub.charon_memory()?; 3];
    let pass = |loads: usize| {
        let pass = hub.refresh(&[])?;
        let loaded = pass.steps("load connection");
        ensure!(loaded == loads && (loads > 0 || pass.steps("") == 0), "not {loads} loads: {}", pass.run.stdout);
        Ok(pass)
    };
    let unchanged = (0..passes).map(|_| pass(0)).collect::<Result<Vec<_>>>()?;
    by_difference[1] = hub.charon_memory()?;
    let change = |n: usize| {
        hub.cloud.set(|shape| shape.moved.extend([n % shape.gateways]));
        pass(1)
    };
    let changed = (0..passes).map(change).collect::<Result<Vec<_>>>()?;
    by_difference[2] = hub.charon_memory()?;

    say(&format!("{name}: swanctl --load-all, {} times", case.load_alls));
    hub.empty_charon()?;
    let (mut load_alls, mut after_load_alls) = (Vec::new(), Vec::new());
    for _ in 0..case.load_alls {
        load_alls.push(hub.load_all()?);
        after_load_alls.push(hub.charon_memory()?);
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
        "{name}: charon {:.1?} MB by difference, {:.1?} MB by load-all",
        row.by_difference, row.after_load_alls
    ));
    Ok(row)
}

fn flat(row: &Row) -> Budget {
    let [unchanged, changed] = row.grown();
    let passes = row.case.passes;
    let by_load_all: Vec<String> = row.after_load_alls.iter().map(|mb| megabytes(*mb)).collect();
    Budget {
        work: format!("charon's memory over 2 x {passes} refreshes, {}", row.case.name()),
        budget: format!("by difference: at most {FLAT} MB more"),
        baseline: format!("after each load-all: {}", by_load_all.join(", ")),
        measured: format!("{unchanged:+.1} MB with nothing to change, {changed:+.1} MB with one change each"),
        met: unchanged + changed <= FLAT,
    }
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
        let [first, unchanged, changed] = row.by_difference.map(megabytes);
        let after: Vec<String> = row.after_load_alls.iter().map(|mb| megabytes(*mb)).collect();
        vec![row.case.name(), first, unchanged, changed, after.join(", ")]
    });
    let passes = rows.first().map(|row| row.case.passes).unwrap_or_default();
    format!(
        "The first pass fills an empty charon, and so does the first load-all; each load-all after it meets the same files, \
         and is what reloading everything costs.\n\n{}\n\
         charon's memory (RSS): after the first pass, then {passes} with nothing to change, then {passes} with one changed \
         peer each; and in a new charon after each load-all.\n\n{}\n![keys](keys.svg)\n",
        table(
            "hub | first pass | of it apply | nothing to change | one changed | of it apply | first load-all | again",
            loading
        ),
        table(
            &format!("hub | first pass | {passes} with nothing to change | {passes} with one change | each load-all"),
            memory
        ),
    )
}

fn plot(rows: &[Row]) -> String {
    let mut series = Vec::new();
    for row in rows {
        let passes = row.case.passes as f64;
        let by_difference = row.by_difference.iter().zip([1.0, 1.0 + passes, 1.0 + 2.0 * passes]);
        let name = row.case.name();
        series.push(Series::new(&format!("refresh: {name}"), by_difference.map(|(mb, n)| (n, *mb)).collect()));
        let load_alls = row.after_load_alls.iter().zip(1..);
        series.push(Series::new(&format!("load-all: {name}"), load_alls.map(|(mb, n)| (f64::from(n), *mb)).collect()));
    }
    lines("charon's memory", "refreshes or load-alls", "MB", Scale::Log, &series)
}
