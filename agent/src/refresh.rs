//! One pass through the stages, each of which takes the last one's value and gives its own. The only module that knows their
//! order.
//!
//! ```text
//! observe  ->  decide  ->  plan  ->  transact  ->  report
//! Observed     Decided     Planned   Outcome       Report
//! ```

use std::time::Duration;

use tracing::{debug, warn};

use crate::{files, host, observe::observe, paths::Paths, settings::PreSharedKeys, transact::transact};
use crosswan_core::{
    decide::{Request, decide},
    error::{Error, Result},
    outcome::Outcome,
    plan::Planned,
    report::{FailedPass, Report},
    settings::Settings,
    system::Files,
};

/// How long a pass waits for another one to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs one pass. The report says what came of it, failed applies included; `Err` is for passes that could not decide.
pub async fn refresh(settings: &Settings, keys: &PreSharedKeys, paths: &Paths, request: &Request) -> Result<Report> {
    let _lock = files::lock(&paths.lock, PATIENCE)?;
    let (observed, reach) = observe(settings, keys, paths, request).await?;
    debug!(stage = "observe", "done");
    let decided = decide(settings, &observed, request)?;
    debug!(stage = "decide", "done");
    let planned = Planned::of(settings, &observed, &decided)?;
    debug!(stage = "plan", "done");
    if request.dry_run {
        return Ok(Report::of(settings, &observed, &decided, Outcome::planned(&planned)));
    }
    let outcome = transact(&planned, &observed.system, paths, reach).await;
    let mut report = Report::of(settings, &observed, &decided, outcome);
    // The report is published whatever failed; if that is what fails, whoever called has it on standard output.
    if let Err(e) = publish(&report, paths) {
        warn!(problem = %e.chain(), "the report was not published");
        report.problems.push(e.chain());
    }
    debug!(stage = "report", "done");
    Ok(report)
}

/// `crosswan render`: the files of a pass, without the pass. Changes nothing.
pub async fn files(settings: &Settings, keys: &PreSharedKeys, paths: &Paths) -> Result<(Files, Report)> {
    let request = Request { dry_run: true, ..Request::default() };
    let (observed, _) = observe(settings, keys, paths, &request).await?;
    let decided = decide(settings, &observed, &request)?;
    let planned = Planned::of(settings, &observed, &decided)?;
    let report = Report::of(settings, &observed, &decided, Outcome::planned(&planned));
    Ok((planned.target.files, report))
}

/// report: where `crosswan status` and monitoring find it.
fn publish(report: &Report, paths: &Paths) -> Result<()> {
    files::write_json(&paths.status, report, 0o644)?;
    files::remove(&paths.failure)
}

/// Leaves a pass that came to no report where `status` finds it: the last report alone would tell of better times.
pub fn record_failure(error: &Error, paths: &Paths) {
    let failure = FailedPass { at: host::now(), exit_code: error.kind().exit_code(), error: error.chain() };
    if let Err(e) = files::write_json(&paths.failure, &failure, 0o644) {
        warn!(reason = %e.chain(), "the failure could not be recorded");
    }
}
