//! Reads back what is in force at this moment, and compares it with what should be.

#![allow(clippy::disallowed_methods, reason = "edge: bounds its wait for charon")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{
    observe::{disk, live},
    paths::Paths,
};
use crosswan_core::{
    error::{Error, Kind, Result},
    iptables::Rules,
    plan::{Step, plan},
    system::{Configuration, System},
};
use crosswan_vici::Vici;

/// How often the system is read back before a difference counts: SAs take a moment to end.
const LOOKS: u32 = 8;
/// The time between two looks. charon leaves an SA out of its list while it works on it, so an SA is gone only
/// if two looks this far apart do not show it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// After more unanswered requests than this, charon has failed, and not the peers that the requests were for. Each of them takes
/// 10 s or more, in which `keep` may not act.
const UNANSWERED: u32 = 3;

/// Why charon's part of a transaction cannot go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something shared has failed.
    Shared(Error),
    /// charon no longer answers.
    Charon(Error),
}

impl Stop {
    pub(super) fn into_error(self) -> Error {
        match self {
            Stop::Shared(e) | Stop::Charon(e) => e,
        }
    }
}

/// The connection to charon, which is reopened after a request without an answer.
pub(super) struct CharonLink<'v> {
    pub(super) vici: &'v mut Vici,
    unanswered: u32,
}

impl<'v> CharonLink<'v> {
    pub(super) fn new(vici: &'v mut Vici) -> CharonLink<'v> {
        CharonLink { vici, unanswered: 0 }
    }

    /// After the failure `e`: whether charon still answers, so that only that one request has failed. Reopens the connection.
    pub(super) async fn still_answers(&mut self, e: &Error) -> bool {
        if self.vici.is_open() {
            return true;
        }
        self.unanswered += 1;
        warn!(reason = %e.chain(), "charon gave no answer; connecting anew");
        // A charon that was restarted needs a moment to open its socket.
        let until = Instant::now() + live::PATIENCE;
        while self.unanswered <= UNANSWERED {
            match self.vici.reopen().await {
                Ok(()) => return self.vici.version().await.is_ok(),
                Err(_) if Instant::now() >= until => return false,
                Err(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
            }
        }
        false
    }
}

/// The disk, charon and the rules as they are now. Tables that could not be read for `rules` are left out again.
///
/// # Errors
/// One of them cannot be read.
pub(super) async fn look(rules: &Rules, paths: &Paths, charon: Option<&mut Vici>) -> Result<System> {
    let mut current = disk::system(paths)?;
    if let Some(vici) = charon {
        current.charon = Some(live::charon(vici).await?);
    }
    current.rules = rules.again(live::rules().await)?;
    current.routing = live::routing().await?.routing;
    Ok(current)
}

/// Reads rules and charon back: planning towards the same target must find nothing left to do, in two looks (`twice`) if SAs were
/// ended. Returns the last look, and the steps that are left to do, without those for files.
///
/// # Errors
/// A look has failed.
pub(super) async fn read_back(
    goal: &Configuration,
    paths: &Paths,
    mut charon: Option<&mut CharonLink<'_>>,
    twice: bool,
) -> std::result::Result<(System, Vec<Step>), Stop> {
    let mut believed = goal.clone();
    let mut clean = 0;
    for n in 1.. {
        let looked = look(&goal.rules, paths, charon.as_mut().map(|link| &mut *link.vici)).await;
        let mut current = match (looked, &mut charon) {
            (Ok(current), _) => current,
            (Err(e), Some(link)) if !link.vici.is_open() => match link.still_answers(&e).await {
                true => continue,
                false => return Err(Stop::Charon(e)),
            },
            (Err(e), _) => return Err(Stop::Shared(e)),
        };
        // This pass has just loaded it. The marker is this pass's own, and the files may still have to be written.
        current.believed = believed;
        (current.doubt, current.peer_keys) = (None, Default::default());
        let left: Vec<Step> = plan(goal, &current).into_iter().filter(|step| !step.is_file()).collect();
        clean = if left.is_empty() { clean + 1 } else { 0 };
        if clean > u32::from(twice) || n >= LOOKS {
            return Ok((current, left));
        }
        believed = current.believed;
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Err(Stop::Shared(Error::new(Kind::Other, "read back")))
}

/// An error that names what is left to do; `None` if nothing is.
pub(super) fn still_to_do(left: &[Step]) -> Option<Error> {
    let left: BTreeSet<String> = left.iter().map(Step::to_string).collect();
    let names = left.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
    (!left.is_empty()).then(|| Error::apply(format!("read back: still to do after {LOOKS} looks: {names}")))
}
