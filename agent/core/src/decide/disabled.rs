//! Regions that this account has not enabled: an error at first, a note once that is certain. Pure.
//!
//! EC2 answers AuthFailure there, as it also does to wrong credentials and, for a while, after a role was attached
//! (`docs/facts.md`, "EC2"). While other regions accept the same credentials, the region is the reason. A pass that failed for ever
//! because of it would be repeated twelve times an hour, and would hide the next failure.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    model::{Answers, NOT_ENABLED, RegionAnswer, Scope, Timestamp},
    state::{Refused, State},
};

/// The number of polls, `removal.spacing` apart, after which it is certain.
const POLLS: u32 = 3;

/// The result of [`sort_out`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SortedOut {
    /// The refusals, for the next state.
    pub refused: BTreeMap<Scope, Refused>,
    /// The regions that do not count.
    pub not_enabled: Vec<NotEnabled>,
}

/// A region that is certainly not enabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEnabled {
    /// Its code, as settings list it, and the account if it is another one.
    pub region: Scope,
    /// The number of polls that it has refused while other regions answered.
    pub polls: u32,
}

/// Finds the regions that are certainly not enabled. One that has ever answered is not among them: it was enabled, and may have
/// tunnels.
pub(super) fn sort_out(answers: &Answers, state: &State, spacing: Duration, now: Timestamp) -> SortedOut {
    let mut out = SortedOut::default();
    for (region, answer) in answers {
        // Another account has other credentials.
        let same = |(other, answer): (&Scope, &RegionAnswer)| other.account == region.account && answer.is_ok();
        let others_answer = answers.iter().any(same);
        let Err(why) = answer else { continue };
        if !why.may_mean_not_enabled() || state.regions.contains_key(region) {
            continue;
        }
        let known = state.disabled.get(region);
        let soon = known.is_some_and(|known| known.at.0.abs_diff(now.0) < spacing.as_secs());
        let refused = match known {
            Some(known) if soon || !others_answer => *known,
            None if !others_answer => continue,
            _ => Refused { polls: known.map_or(0, |known| known.polls).saturating_add(1), at: now },
        };
        out.refused.insert(region.clone(), refused);
        if refused.polls >= POLLS {
            out.not_enabled.push(NotEnabled { region: region.clone(), polls: refused.polls });
        }
    }
    out
}

impl fmt::Display for NotEnabled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotEnabled { region, polls } = self;
        write!(
            f,
            "region {region} {NOT_ENABLED}: it has refused {polls} polls while other regions answered; enable it, or take it \
             out of regions"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{AskError, RegionView},
        state::LastGood,
    };

    const SPACING: Duration = Duration::from_secs(600);

    fn region(name: &str) -> Scope {
        name.parse().unwrap()
    }

    fn refuses() -> RegionAnswer {
        Err(AskError::NotAccepted { region: region("ap-east-1").region, code: "AuthFailure".into() })
    }

    /// One poll after the other, `minutes` apart: how many regions are left of two, and the notes.
    fn polls(state: &mut State, minutes: i64, answers: &[(&str, RegionAnswer)]) -> Vec<(usize, usize)> {
        let mut now = 0;
        (0..5)
            .map(|_| {
                now += minutes * 60;
                let answers: Answers = answers.iter().map(|(name, answer)| (region(name), answer.clone())).collect();
                let found = sort_out(&answers, state, SPACING, Timestamp(now));
                state.disabled = found.refused;
                (answers.len() - found.not_enabled.len(), found.not_enabled.len())
            })
            .collect()
    }

    #[test]
    fn a_region_that_refuses_three_polls_in_which_others_answer_becomes_a_note() {
        let two = [("ap-east-1", refuses()), ("us-west-2", Ok(RegionView::default()))];
        assert_eq!(polls(&mut State::default(), 10, &two), [(2, 0), (2, 0), (1, 1), (1, 1), (1, 1)]);
        // Retries within seconds count once.
        assert_eq!(polls(&mut State::default(), 0, &two), [(2, 0); 5]);
        // It answers: all is forgotten.
        let mut state = State::default();
        polls(&mut state, 10, &two);
        polls(&mut state, 10, &[("ap-east-1", Ok(RegionView::default())), two[1].clone()]);
        assert!(state.disabled.is_empty());
    }

    #[test]
    fn what_may_be_the_credentials_or_a_region_in_use_stays_an_error() {
        let dead = Err(AskError::TimedOut { after: Duration::from_secs(60) });
        for answers in [
            // Nobody answers: the credentials, the clock, or the network.
            [("ap-east-1", refuses()), ("us-west-2", dead.clone())],
            [("ap-east-1", refuses()), ("us-west-2", refuses())],
            // Another account answers, with other credentials.
            [("ap-east-1", refuses()), ("111122223333/us-west-2", Ok(RegionView::default()))],
            // Another failure says nothing of the account.
            [("ap-east-1", dead), ("us-west-2", Ok(RegionView::default()))],
        ] {
            assert_eq!(polls(&mut State::default(), 60, &answers), [(2, 0); 5]);
        }
        let last = LastGood { at: Timestamp(0), view: RegionView::default() };
        let mut used = State { regions: [(region("ap-east-1"), last)].into(), ..State::default() };
        let two = [("ap-east-1", refuses()), ("us-west-2", Ok(RegionView::default()))];
        assert_eq!(polls(&mut used, 60, &two), [(2, 0); 5]);
    }
}
