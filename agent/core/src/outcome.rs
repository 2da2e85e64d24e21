//! Stage 4's value: what came of the steps, as it was read back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    model::ConnName,
    plan::{Conclusion, Planned},
};

/// What a pass came to, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was as it should be; nothing was done.
    Unchanged,
    /// Steps were taken and read back as planned.
    Changed,
    /// `--dry-run`: the steps were not taken.
    Planned,
    /// Some peers failed, or charon stopped answering: `failed` and `problems` say what is not as planned. All the rest
    /// was done and read back.
    Partly,
    /// Something shared failed, or did not read back as planned; the whole old state was restored.
    RolledBack,
    /// As `RolledBack`, and restoring failed too: look at the problems.
    RollBackFailed,
}

/// A peer whose part of a pass failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFailure {
    pub why: String,
    /// It was read back that the peer has what it had before the pass.
    pub restored: bool,
}

/// What came of the steps.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub verdict: Verdict,
    /// The peers that failed, by their connections.
    pub failed: BTreeMap<ConnName, PeerFailure>,
    /// What else went wrong, in order.
    pub problems: Vec<String>,
    /// What EC2 could not be told.
    pub unasked: Vec<String>,
    /// The steps that were taken and stand; after a roll-back those that were tried, of a dry run those that would be taken.
    pub steps: Vec<String>,
    /// charon has everything of the target that no failed peer is the reason for, this gateway's keys included: what
    /// depends on that (a rotation, an announcement) may go on.
    pub keys_in_use: bool,
    /// The next key has taken the place of the current one.
    pub promoted: bool,
    /// The own instance's tags say what they should.
    pub announced: bool,
}

impl Outcome {
    /// Nothing was done: the outcome of a dry run.
    pub fn planned(planned: &Planned) -> Outcome {
        let has = |what: fn(&Conclusion) -> bool| planned.conclusions.iter().any(what);
        Outcome {
            steps: planned.changes(),
            promoted: has(|c| matches!(c, Conclusion::PromoteKey { .. })),
            announced: !has(|c| matches!(c, Conclusion::AnnounceKey { .. })),
            ..Outcome::new(Verdict::Planned)
        }
    }

    /// An outcome of which nothing is known but the verdict.
    pub fn new(verdict: Verdict) -> Outcome {
        Outcome {
            verdict,
            failed: BTreeMap::new(),
            problems: Vec::new(),
            unasked: Vec::new(),
            steps: Vec::new(),
            keys_in_use: false,
            promoted: false,
            announced: false,
        }
    }

    /// What was decided is in force, but for what `failed` and `problems` name.
    pub fn is_in_force(&self) -> bool {
        matches!(self.verdict, Verdict::Unchanged | Verdict::Changed | Verdict::Partly)
    }
}
