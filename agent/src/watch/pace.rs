//! How long to rest after rules were put back. Pure.

use std::time::Duration;

/// So many times in a row rules are put back without a rest: a service's restart flushes once when it stops and once when it starts.
const AT_ONCE: u32 = 5;
/// The rest after that, which still puts rules back within 5 s of a change.
const REST: Duration = Duration::from_secs(2);
/// A row ends when nothing had to be put back for this long.
const ROW: Duration = Duration::from_secs(10);

/// Keeps a quarrel with another program over the same rules from becoming a race.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Duration>,
    row: u32,
}

impl Pace {
    /// Notes that rules were put back at `now`, on any clock that only goes forward. Returns how long to rest before the next look.
    pub(super) fn put_back(&mut self, now: Duration) -> Duration {
        let in_a_row = self.last.is_some_and(|last| now < last + ROW);
        self.row = if in_a_row { self.row + 1 } else { 1 };
        self.last = Some(now);
        if self.row > AT_ONCE { REST } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_flushes_are_mended_at_once_and_a_quarrel_at_intervals() {
        let mut pace = Pace::default();
        let at = |ms: u64| Duration::from_millis(ms);
        let rests: Vec<Duration> = (0..8).map(|n| pace.put_back(at(100 * n))).collect();
        assert_eq!(rests[..5], [Duration::ZERO; 5]);
        assert_eq!(rests[5..], [REST; 3]);
        assert_eq!(pace.put_back(at(20_000)), Duration::ZERO, "a row ends");
    }
}
