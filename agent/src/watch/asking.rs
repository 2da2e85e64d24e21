//! When to ask for a refresh, while this gateway waits for its Elastic IP.

use std::time::Duration;

use tokio::time::Instant;

/// `crosswan-refresh.service` may be started twelve times in twenty minutes.
const SPACING: Duration = Duration::from_secs(3 * 60);

/// When it was last asked for, or when the wait began.
pub(super) struct Asking(pub(super) Instant);

impl Asking {
    /// Whether to ask `now`, given whether this gateway waits.
    pub(super) fn is_due(&mut self, now: Instant, waits: bool) -> bool {
        let due = waits && now >= self.0 + SPACING;
        if due || !waits {
            self.0 = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_every_three_minutes_of_a_wait_and_at_no_other_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut asking = Asking(start);
        let due: Vec<bool> = [(1000, false), (1003, true), (1179, true), (1180, true), (1183, true), (1360, true)]
            .map(|(seconds, waits)| asking.is_due(at(seconds), waits))
            .into();
        assert_eq!(due, [false, false, false, true, false, true]);
    }
}
