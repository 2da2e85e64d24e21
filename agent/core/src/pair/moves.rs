//! The moves of the last minutes, for a `crosswan pair` that starts anew: without them it would begin to count from none, and a service
//! that ends after each move would move routes without a bound.

use serde::{Deserialize, Serialize};

use super::judge::{MOVES, WINDOW};
use crate::model::InstanceId;

/// The moves between this gateway and one other member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// The other member. With another one the count begins anew.
    pub member: InstanceId,
    /// When they were, in milliseconds since this host has booted.
    pub at: Vec<u64>,
}

impl Moves {
    /// Those of a file's text that count at `now`, in order: none with another member, from the future or older than the window, and no
    /// more than the latest that already stop everything. A text that is something else has none.
    pub fn read(text: &str, member: &InstanceId, now: u64) -> Vec<u64> {
        let mut at =
            Moves::counting(text, now).filter(|moves| moves.member == *member).map_or(Vec::new(), |moves| moves.at);
        at.sort_unstable();
        at.drain(..at.len().saturating_sub(MOVES));
        at
    }

    /// How many of a file's text count at `now`, whoever the other member is or was.
    pub fn recent(text: &str, now: u64) -> usize {
        Moves::counting(text, now).map_or(0, |moves| moves.at.len())
    }

    /// Those of the text that are in the window; `None` if it is something else.
    fn counting(text: &str, now: u64) -> Option<Moves> {
        let mut moves: Moves = serde_json::from_str(text).ok()?;
        moves.at.retain(|at| now.checked_sub(*at).is_some_and(|ago| ago < WINDOW));
        Some(moves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_moves_of_this_pair_within_the_window_are_remembered() {
        let (member, other): (InstanceId, InstanceId) = ("i-0000000a".parse().unwrap(), "i-0000000b".parse().unwrap());
        let now = 2_000_000;
        let text = |at: &[u64]| serde_json::to_string(&Moves { member: member.clone(), at: at.into() }).unwrap();
        let read = |text: &str| Moves::read(text, &member, now);
        assert_eq!(read(&text(&[now - 5, now - 60_000])), [now - 60_000, now - 5]);
        assert_eq!(read(&text(&[now - WINDOW, now + 1, u64::MAX, 0, now])), [now]);
        assert_eq!(read(&text(&[now - 4, now - 3, now - 2, now - 1])), [now - 3, now - 2, now - 1]);
        assert!(Moves::read(&text(&[now]), &other, now).is_empty());
        assert!(Moves::read(&text(&[900]), &member, 1000) == [900], "a host that has just booted");
        for broken in ["", "{}", "[]", "{\"member\":\"x\",\"at\":[1]}", "{\"member\":\"i-0000000a\",\"at\":[-1]}"] {
            assert!(read(broken).is_empty(), "{broken}");
        }
    }
}
