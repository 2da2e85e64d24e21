//! A diagnosis as text for people: one line per check, and a summary.

use std::fmt;

use super::diagnosis::{Diagnosis, Finding, State};
use crate::text::plural;

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failure => "FAILED",
            State::NotLookedAt => "-",
        }
    }
}

impl Diagnosis {
    /// A line for each check.
    pub(super) fn lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|finding| finding.id.len()).max().unwrap_or(0);
        for Finding { id, state, found, wanted, remedy, .. } in &self.checks {
            write!(f, "{:<8}{id:<width$}  ", state.word())?;
            if *state == State::NotLookedAt {
                f.write_str("not looked at: ")?;
            }
            f.write_str(found)?;
            wanted.iter().try_for_each(|wanted| write!(f, "; wanted: {wanted}"))?;
            remedy.iter().try_for_each(|remedy| write!(f, "; do: {remedy}"))?;
            f.write_str("\n")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines(f)?;
        let count = |state| self.checks.iter().filter(|finding| finding.state == state).count();
        write!(
            f,
            "{}: {} ok, {}, {} failed, {} not looked at",
            plural(self.checks.len(), "check"),
            count(State::Ok),
            plural(count(State::Warning), "warning"),
            count(State::Failure),
            count(State::NotLookedAt)
        )
    }
}
