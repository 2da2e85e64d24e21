//! What EC2 tells an instance of its end, by IMDS, as reasons to hand over. It is foreign text.

use std::collections::BTreeSet;

use serde::{Deserialize, de::DeserializeOwned};

use crate::model::{Timestamp, printable};

/// Maintenance is told up to two weeks ahead. The routes leave so many seconds before it begins.
const AHEAD: i64 = 900;

/// The texts at IMDS's paths below `meta-data/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notices(
    /// By the index of the path in [`Notices::PATHS`]; `None` where there is nothing (404).
    pub [Option<String>; Notices::PATHS.len()],
);

#[derive(Deserialize)]
struct Spot {
    action: String,
    time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rebalance {
    notice_time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Maintenance {
    code: String,
    #[serde(default)]
    state: Option<String>,
    not_before: String,
}

impl Notices {
    /// Where EC2 tells of an interruption of a spot instance, of the danger of one, of maintenance, and what its Auto Scaling group wants.
    pub const PATHS: [&str; 4] = [
        "spot/instance-action",
        "events/recommendations/rebalance",
        "events/maintenance/scheduled",
        "autoscaling/target-lifecycle-state",
    ];

    /// The reasons to hand over at `now`. What cannot be understood is none.
    pub fn reasons(&self, now: Timestamp) -> BTreeSet<String> {
        let [spot, rebalance, maintenance, lifecycle] = self.0.each_ref().map(Option::as_deref);
        let spot = json::<Spot>(spot).map(|Spot { action, time }| {
            format!("EC2 interrupts this spot instance: {} at {}", printable(&action), printable(&time))
        });
        let rebalance = json::<Rebalance>(rebalance).map(|Rebalance { notice_time }| {
            format!("EC2 recommends since {} to replace this spot instance", printable(&notice_time))
        });
        let lifecycle = lifecycle.map(str::trim).filter(|state| *state == "Terminated");
        let lifecycle = lifecycle.map(|_| "its Auto Scaling group terminates this instance".to_owned());
        let maintenance = json::<Vec<Maintenance>>(maintenance).into_iter().flatten().filter(|event| {
            let active = event.state.as_deref().is_none_or(|state| state == "active");
            active && time(&event.not_before).is_none_or(|at| at.0 <= now.0.saturating_add(AHEAD))
        });
        let maintenance = maintenance.map(|Maintenance { code, not_before, .. }| {
            format!("EC2's maintenance of this instance: {} from {}", printable(&code), printable(&not_before))
        });
        spot.into_iter().chain(rebalance).chain(lifecycle).chain(maintenance).collect()
    }
}

fn json<T: DeserializeOwned>(text: Option<&str>) -> Option<T> {
    serde_json::from_str(text?).ok()
}

/// A time as IMDS writes those of maintenance: `21 Jan 2019 09:00:43 GMT`.
fn time(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let [day, month, year, clock, "GMT"] = text.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let time = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day:0>2}T{clock}Z")).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok().map(Timestamp)
}
