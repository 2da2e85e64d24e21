//! Whether a member hands over, and why: somebody orders it on this gateway, or EC2 has told that it ends soon.
//!
//! An order counts as long as it stands. EC2's word counts once: a recommendation can stand for days, in which the routes may come back.

use std::{collections::BTreeSet, time::Duration};

/// A member hands over for no longer than this: what it does not get rid of until then it should keep, and be asked for again.
pub const LONGEST: u64 = 600_000;

/// How long an operator waits for a handover, such as `60s`; `None` if it is no duration, or less than a second or more than [`LONGEST`].
pub fn handover_patience(text: &str) -> Option<Duration> {
    let all = Duration::from_secs(1)..=Duration::from_millis(LONGEST);
    humantime::parse_duration(text).ok().filter(|patience| all.contains(patience))
}

/// Why a member hands over, and since when.
#[derive(Debug, Default)]
pub struct Leaving {
    order: Option<(u64, String)>,
    told: Option<(u64, String)>,
    /// What EC2 has told and what was done about it.
    heeded: BTreeSet<String>,
}

impl Leaving {
    /// Takes note, at `now`, of the order that stands, by its reason.
    pub fn ordered(&mut self, now: u64, order: Option<&str>) {
        self.order = order.map(|why| self.order.take().unwrap_or_else(|| (now, why.to_owned())));
    }

    /// Takes note, at `now`, of all the reasons that EC2 tells.
    pub fn told(&mut self, now: u64, told: BTreeSet<String>) {
        self.told = self.told.take().filter(|(_, why)| told.contains(why));
        if let Some(why) = told.difference(&self.heeded).next() {
            self.told = Some((now, why.clone()));
        }
        self.heeded = told;
    }

    /// What EC2 has told so far is done with.
    pub fn stay(&mut self) {
        self.told = None;
    }

    /// Whether EC2 has told of this instance's end, and this member hands over for that.
    pub fn ends(&self, now: u64) -> bool {
        self.told.as_ref().is_some_and(|(since, _)| now - since < LONGEST)
    }

    /// Since when it hands over at `now`, and why.
    pub fn why(&self, now: u64) -> Option<(u64, &str)> {
        let all = [&self.order, &self.told].into_iter().flatten();
        all.map(|(since, why)| (*since, why.as_str())).find(|(since, _)| now - since < LONGEST)
    }
}
