//! Whether the other member of the pair is one that watches this gateway, or only could be.
//!
//! Any gateway of the mode with a key could be a member, also one of an older version, one on which `crosswan pair` does not run or whose
//! settings want no pair, and one whose beats a security group drops. Nobody would take its routes when it is dead, and nobody but EC2
//! would say that it is. So until it has been heard, this gateway does as without a pair. Once it has been, it is a member for as long as
//! EC2 shows it: no process's death moves a route.

use crate::{model::Timestamp, observed::Observed, pair::Members, state::Met};

/// So many seconds after a pass first found it, the other one has not been heard because the two still boot, or because the other one's
/// pass still has to find this gateway.
const EXPECTED: i64 = 120;

/// What is to be remembered of the other member of this pair.
pub(super) fn met(observed: &Observed, pair: Option<&Members>) -> Option<Met> {
    let member = &pair?.other.instance;
    // A clock that was set back begins anew.
    let before = observed.state.met.as_ref().filter(|met| met.member == *member && met.since <= observed.now);
    let hears = observed.heard.as_ref().is_some_and(|heard| heard.member == *member && heard.heard_ms.is_some());
    Some(Met {
        member: member.clone(),
        since: before.map_or(observed.now, |met| met.since),
        heard: hears || before.is_some_and(|met| met.heard),
    })
}

impl Met {
    /// Whether it may be heard yet, at `now`.
    pub(super) fn is_expected(&self, now: Timestamp) -> bool {
        !self.heard && now.0 - self.since.0 < EXPECTED
    }

    /// Whether it counts as a member, at `now`.
    pub(super) fn counts(&self, now: Timestamp) -> bool {
        self.heard || self.is_expected(now)
    }
}
