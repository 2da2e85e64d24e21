//! The fourth stage's value: what came of the steps, as it was read back.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    decide::{AddressIs, RouteIs},
    model::{ConnName, RouteTableId},
    plan::{Conclusion, Planned},
};

/// How a pass ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was as it should be, and nothing was done.
    Unchanged,
    /// Steps were taken and read back as planned.
    Changed,
    /// `--dry-run`: the steps were not taken.
    Planned,
    /// Some peers failed, or charon stopped answering: `failed` and `problems` say what is not as planned. Everything else
    /// was done and read back.
    Partly,
    /// Something shared failed, or did not read back as planned. The whole old state was restored.
    RolledBack,
    /// As `RolledBack`, but restoring failed too: `problems` says what.
    RollBackFailed,
}

/// A peer whose part of a pass failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFailure {
    /// What failed, with its causes, on one line.
    pub why: String,
    /// Whether it was read back that the peer has what it had before the pass.
    pub restored: bool,
}

/// What came of the steps.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The pass in a word.
    pub verdict: Verdict,
    /// The peers that failed, by their connections.
    pub failed: BTreeMap<ConnName, PeerFailure>,
    /// What else went wrong, in order.
    pub problems: Vec<String>,
    /// What could not be written to EC2, a line each.
    pub unasked: Vec<String>,
    /// The steps that were taken and stand; after a roll-back those that were tried, of a dry run those that would be taken.
    pub steps: Vec<String>,
    /// Whether charon has the whole target but for the parts of failed peers, this gateway's keys included: then a rotation or
    /// an announcement, which depend on that, may go on. Where there is nothing for charon, they depend on nobody.
    pub keys_in_use: bool,
    /// Whether the next key has taken the place of the current one.
    pub promoted: bool,
    /// Whether tags of the own instance were written and read back.
    pub announced: bool,
    /// Why a gateway that can do without did not announce its key.
    pub unannounced: Option<String>,
    /// Whether EC2's source/destination check was turned off and read back, or why not; `None` if nothing was to be done.
    pub check_stopped: Option<Result<(), String>>,
    /// How the Elastic IP is that this gateway was to take; `None` if it was to take none.
    pub address: Option<AddressIs>,
    /// How the routes are that this gateway was to take, by their tables and destinations.
    pub routes: BTreeMap<(RouteTableId, Ipv4Net), RouteIs>,
}

impl Outcome {
    /// The outcome of a dry run: nothing was done.
    pub fn planned(planned: &Planned<'_>) -> Outcome {
        Outcome {
            steps: planned.changes(),
            promoted: planned.conclusions.iter().any(|c| matches!(c, Conclusion::PromoteKey { .. })),
            ..Outcome::new(Verdict::Planned)
        }
    }

    /// An outcome with a verdict and nothing else.
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
            unannounced: None,
            check_stopped: None,
            address: None,
            routes: BTreeMap::new(),
        }
    }

    /// Whether this gateway has taken an address. Another pass then has to follow at once.
    pub fn took_address(&self) -> bool {
        matches!(self.address, Some(AddressIs::Here(_)))
    }

    /// Whether what was decided is in force, except for what `failed` and `problems` name.
    pub fn is_in_force(&self) -> bool {
        matches!(self.verdict, Verdict::Unchanged | Verdict::Changed | Verdict::Partly)
    }
}
