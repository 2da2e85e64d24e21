//! What is left to show of takeovers when the other member is gone, or `crosswan pair` has started anew.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Moves, Taken};
use crate::text::plural;

/// The last takeover of this gateway, and how often routes have moved lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeovers {
    /// What this gateway took over last since boot; `None` if nothing.
    pub last: Option<Taken>,
    /// The moves of the last ten minutes between this gateway and the other member, whoever made them. After three nothing moves.
    pub recent: usize,
}

impl Takeovers {
    /// What is known from the file of the last takeover, and from the text of the file of moves ([`Moves`]); `now` is in milliseconds since
    /// this host has booted.
    pub fn of(last: Option<Taken>, moves: &str, now: u64) -> Takeovers {
        Takeovers { last, recent: Moves::recent(moves, now) }
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        *self == Takeovers::default()
    }
}

impl fmt::Display for Takeovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.last {
            Some(taken) => write!(f, "this gateway took {taken}")?,
            None => f.write_str("this gateway has taken nothing over since boot")?,
        }
        match self.recent {
            0 => Ok(()),
            recent => write!(f, "; {} in the last ten minutes", plural(recent, "move")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn the_last_takeover_is_told_with_its_phases_and_moves_of_long_ago_are_not_counted() {
        let taken = Taken {
            at: Timestamp(1),
            from: "i-0000000a".parse().unwrap(),
            routes: vec!["0.0.0.0/0 of rtb-0000000a".into()],
            silent_ms: Some(410),
            handed_over: false,
            calls_ms: 90,
        };
        let moves = "{\"member\": \"i-0000000a\", \"at\": [1000, 700000, 800000]}";
        let shown = |last: Option<Taken>, moves: &str| Takeovers::of(last, moves, 800_000).to_string();
        let told = "this gateway took 0.0.0.0/0 of rtb-0000000a from i-0000000a, 410 ms after its last beat, in 90 ms";
        assert_eq!(shown(Some(taken.clone()), moves), format!("{told}; 2 moves in the last ten minutes"));
        assert_eq!(shown(Some(taken), ""), told);
        let given = "{\"member\": \"i-0000000a\", \"at\": [800000]}";
        assert_eq!(
            shown(None, given),
            "this gateway has taken nothing over since boot; 1 move in the last ten minutes"
        );
        assert!(Takeovers::of(None, "rubbish", 5).is_empty() && !Takeovers::of(None, given, 800_000).is_empty());
    }
}
