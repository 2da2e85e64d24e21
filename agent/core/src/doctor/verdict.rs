//! What a check says of what was found.

use crate::forwarding::Problem;

/// What is well, or what is the matter.
pub type Verdict = Result<String, Matter>;

/// Why a check does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matter {
    /// It works, but should be changed.
    Warning(Trouble),
    /// It does not work.
    Failure(Trouble),
    /// It should have been asked, and gave no answer.
    Unasked(Trouble),
    /// It cannot be judged while the check with this id fails.
    Blocked(&'static str),
    /// This gateway has no such thing, and why.
    Absent(String),
}

/// What was found where something else is wanted, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What was found.
    pub found: String,
    /// What is wanted.
    pub wanted: String,
    /// What mends it: a command where there is one.
    pub remedy: String,
}

fn trouble(found: impl Into<String>, wanted: impl Into<String>, remedy: impl Into<String>) -> Trouble {
    Trouble { found: found.into(), wanted: wanted.into(), remedy: remedy.into() }
}

/// A [`Matter::Warning`].
pub(super) fn warning(found: impl Into<String>, wanted: impl Into<String>, remedy: impl Into<String>) -> Matter {
    Matter::Warning(trouble(found, wanted, remedy))
}

/// A [`Matter::Failure`].
pub(super) fn failure(found: impl Into<String>, wanted: impl Into<String>, remedy: impl Into<String>) -> Matter {
    Matter::Failure(trouble(found, wanted, remedy))
}

/// A [`Matter::Unasked`], with why there is no answer.
pub(super) fn unasked(why: impl Into<String>, wanted: impl Into<String>, remedy: impl Into<String>) -> Matter {
    Matter::Unasked(trouble(why, wanted, remedy))
}

/// A [`Matter::Failure`] out of a problem.
pub(super) fn of_problem(problem: &Problem, wanted: &str) -> Matter {
    failure(&problem.found, wanted, &problem.remedy)
}

/// The first of many things, and how many more there are: a hub may have thousands.
pub(super) fn few(all: &[impl ToString]) -> String {
    const SHOWN: usize = 3;
    let shown = all.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN { format!("{shown}, and {} more", all.len() - SHOWN) } else { shown }
}
