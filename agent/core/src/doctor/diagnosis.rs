//! The whole diagnosis: every check in order, with one cause for what hangs on it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    checks::{CHECKS, Look, WORST_FIRST},
    examined::Examined,
    verdict::{Matter, Trouble, Verdict},
};
use crate::{
    error::{Kind, WAITING},
    model::{Mode, Timestamp, plain},
};

/// What came of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All is well.
    Ok,
    /// It works, but should be changed.
    Warning,
    /// It does not work, or could not be asked.
    Failure,
    /// It was not looked at: another check fails, or this gateway has no such thing.
    NotLookedAt,
}

/// One line of the result. Its texts are plain ASCII, whatever was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: String,
    /// What came of it.
    pub state: State,
    /// What was found, or why it was not looked at.
    pub found: String,
    /// What is wanted instead.
    pub wanted: Option<String>,
    /// What mends it: a command where there is one.
    pub remedy: Option<String>,
    /// The check that fails, because of which this one was not looked at.
    pub because: Option<String>,
    /// The exit code that it calls for.
    #[serde(skip)]
    pub(super) code: u8,
}

/// Everything that a look came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// When the look began.
    pub at: Timestamp,
    /// The version of this program.
    pub version: &'static str,
    /// This gateway's mode; `None` if neither settings nor a report say so.
    pub mode: Option<Mode>,
    /// The exit code.
    pub exit_code: u8,
    /// A line for each check.
    pub checks: Vec<Finding>,
}

/// Makes every check.
pub fn diagnose(x: &Examined) -> Diagnosis {
    let mut findings: Vec<Finding> = Vec::new();
    // By the id of a check that does not pass: the check that is the cause.
    let mut causes: BTreeMap<&'static str, &'static str> = BTreeMap::new();
    for check in CHECKS {
        let looked = match check.look {
            Look::One(look) => vec![(check.id.to_owned(), look(x))],
            Look::Each(look) => look(x),
        };
        let blocked = check.needs.iter().find_map(|needed| causes.get(needed).copied());
        for (id, verdict) in looked {
            let verdict = match (verdict, blocked) {
                (Err(absent @ Matter::Absent(_)), _) => Err(absent),
                (_, Some(cause)) => Err(Matter::Blocked(cause)),
                (Err(Matter::Blocked(by)), None) => Err(Matter::Blocked(causes.get(by).copied().unwrap_or(by))),
                (verdict, None) => verdict,
            };
            match &verdict {
                Err(Matter::Failure(_) | Matter::Unasked(_)) => drop(causes.insert(check.id, check.id)),
                Err(Matter::Blocked(cause)) => drop(causes.insert(check.id, cause)),
                _ => {}
            }
            findings.push(Finding::of(id, check.code, verdict));
        }
    }
    let worst = WORST_FIRST.into_iter().find(|code| findings.iter().any(|finding| finding.code == *code));
    Diagnosis {
        at: x.now,
        version: env!("CARGO_PKG_VERSION"),
        mode: x.mode(),
        exit_code: worst.unwrap_or(0),
        checks: findings,
    }
}

impl Finding {
    pub(super) fn of(id: String, code: u8, verdict: Verdict) -> Finding {
        let finding = |state, found: &str, code| Finding {
            id: plain(&id),
            state,
            found: plain(found),
            wanted: None,
            remedy: None,
            because: None,
            code,
        };
        let with = |trouble: &Trouble, state, code| Finding {
            wanted: Some(plain(&trouble.wanted)),
            remedy: Some(plain(&trouble.remedy)),
            ..finding(state, &trouble.found, code)
        };
        match verdict {
            Ok(found) => finding(State::Ok, &found, 0),
            Err(Matter::Warning(trouble)) => with(&trouble, State::Warning, WAITING),
            Err(Matter::Failure(trouble)) => with(&trouble, State::Failure, code),
            Err(Matter::Unasked(trouble)) => with(&trouble, State::Failure, Kind::Observe.exit_code()),
            Err(Matter::Absent(why)) => finding(State::NotLookedAt, &why, 0),
            Err(Matter::Blocked(id)) => {
                Finding { because: Some(id.to_owned()), ..finding(State::NotLookedAt, &format!("because of {id}"), 0) }
            }
        }
    }
}
