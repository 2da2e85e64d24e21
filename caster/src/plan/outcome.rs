//! A plan as a value: its steps, and what is left alone.

use std::fmt;

use serde::Serialize;

use super::Step;
use crate::{desired::Fault, seen::Id, text, tree::KeyPath};

#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Routes and associations of others are replaced.
    pub take_routes: bool,
}

/// What to do, and what is not done and why.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// `ENV/CIDR in REGION`, for the heading.
    pub subject: String,
    /// The VPC's id, if it is there.
    pub vpc: Option<Id>,
    /// In the order of their levels.
    pub steps: Vec<Step>,
    /// Differences that are the operator's to judge.
    pub left: Vec<Note>,
    /// Somebody else's, in the way of the document.
    pub foreign: Vec<Note>,
    /// What the document asks for and cannot be: nothing may be tried.
    pub faults: Vec<Fault>,
    /// What the steps make of which the account may have only so many.
    pub needs: Vec<Need>,
}

/// How many of one kind the steps make.
#[derive(Debug, Clone)]
pub struct Need {
    /// The name of its quota.
    pub quota: &'static str,
    pub what: &'static str,
    pub new: usize,
    /// How many are there.
    pub used: usize,
    /// Where the document asks for them.
    pub path: KeyPath,
}

/// A resource and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    pub what: String,
    pub why: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = match (self.steps.len(), self.foreign.is_empty()) {
            (0, true) => "nothing to do".to_owned(),
            (0, false) => "no steps; something is in the way".to_owned(),
            (n, _) => text::count(n, "step"),
        };
        writeln!(f, "{}: {steps}", self.subject)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))?;
        for (heading, notes) in [("left alone", &self.left), ("in the way", &self.foreign)] {
            if !notes.is_empty() {
                writeln!(f, "{heading}:")?;
            }
            notes.iter().try_for_each(|n| writeln!(f, "  {}: {}", text::plain(&n.what), n.why))?;
        }
        Ok(())
    }
}
