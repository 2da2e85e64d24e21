//! One pass through the stages. Each takes the value of the one before and returns its own; only this module knows their order.
//!
//! ```text
//! observe  ->  decide  ->  plan  ->  transact  ->  report
//! Observed     Decided     Planned   Outcome       Report
//! ```

use std::time::Duration;

use tracing::{debug, warn};

use crate::{
    files::{self, Hold},
    host,
    observe::observe,
    paths::Paths,
    settings::PreSharedKeys,
    transact::transact,
};
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

/// Makes one pass, or two where the first takes an address, and returns the report, which also tells of steps that failed.
///
/// # Errors
/// The pass did not come as far as its plan: another refresh holds the lock ([`Kind::Busy`](crosswan_core::error::Kind::Busy)), or
/// what every decision needs is unknown or contradictory.
pub async fn refresh(settings: &Settings, keys: &PreSharedKeys, paths: &Paths, request: &Request) -> Result<Report> {
    let _lock = files::lock(&paths.lock, Hold::Alone, PATIENCE, "another refresh")?;
    let (mut report, took_address) = pass(settings, keys, paths, request).await?;
    if took_address {
        // Peers know a gateway by its address: only now tunnels and routes can be decided on.
        report = pass(settings, keys, paths, request).await?.0.after(report);
    }
    if !request.dry_run {
        // The report is published whatever failed. If publishing fails, the caller still prints it.
        if let Err(e) = publish(&report, paths) {
            warn!(problem = %e.chain(), "the report could not be published");
            report.problems.push(e.chain());
        }
        debug!(stage = "report", "done");
    }
    Ok(report)
}

/// One pass. Also returns whether it has taken an address.
async fn pass(settings: &Settings, keys: &PreSharedKeys, paths: &Paths, request: &Request) -> Result<(Report, bool)> {
    let (observed, handles) = observe(settings, keys, paths, request).await?;
    debug!(stage = "observe", "done");
    let decided = decide(settings, &observed, request)?;
    debug!(stage = "decide", "done");
    let planned = Planned::of(settings, &observed, &decided)?;
    debug!(stage = "plan", "done");
    if request.dry_run {
        return Ok((Report::of(settings, &observed, &decided, Outcome::planned(&planned)), false));
    }
    let outcome = transact(&planned, &decided, &observed.system, paths, handles).await;
    let took_address = outcome.took_address();
    Ok((Report::of(settings, &observed, &decided, outcome), took_address))
}

/// The files that a pass would write, and its report, for `crosswan render`. Changes nothing.
///
/// # Errors
/// As [`refresh`].
pub async fn files(settings: &Settings, keys: &PreSharedKeys, paths: &Paths) -> Result<(Files, Report)> {
    let request = Request { dry_run: true, ..Request::default() };
    let (observed, _) = observe(settings, keys, paths, &request).await?;
    let decided = decide(settings, &observed, &request)?;
    let planned = Planned::of(settings, &observed, &decided)?;
    let report = Report::of(settings, &observed, &decided, Outcome::planned(&planned));
    Ok((planned.target.into_owned().files, report))
}

/// Writes the report to the file that `crosswan status` and monitoring read.
fn publish(report: &Report, paths: &Paths) -> Result<()> {
    files::write_json(&paths.status, report, 0o644)?;
    for (waits, marker) in
        [(report.waits_for_tunnels(), &paths.route_waits), (report.waits_for_address(), &paths.address_waits)]
    {
        if waits { files::touch(marker) } else { files::remove(marker) }?;
    }
    if report.is_in_force() {
        files::touch(&paths.success)?;
    }
    files::remove(&paths.failure)
}

/// Records for `status` that a pass ended without a report: the last report alone would look as if all were well.
pub fn record_failure(error: &Error, paths: &Paths) {
    let failure = FailedPass { at: host::now(), exit_code: error.kind().exit_code(), error: error.chain() };
    if let Err(e) = files::write_json(&paths.failure, &failure, 0o644) {
        warn!(reason = %e.chain(), "the failure could not be recorded");
    }
}
