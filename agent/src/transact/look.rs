//! What is in force at this moment, and how it differs from what should be.

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

/// How often the system is read back before a difference counts: SAs take a moment to go.
const LOOKS: u32 = 8;
/// Between two looks. charon leaves out of its list an SA that it is working on at that moment, so an SA is gone only
/// if two looks this far apart do not show it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// So many requests may stay without an answer before it is charon that has failed, and not the peers they were for:
/// each costs 10 s and more, in which `keep` stands back.
const UNANSWERED: u32 = 3;

/// Why charon's part of a transaction cannot go on.
#[derive(Debug)]
pub enum Stop {
    /// Something shared has failed.
    Shared(Error),
    /// charon answers nothing any more.
    Charon(Error),
}

impl Stop {
    pub fn into_error(self) -> Error {
        match self {
            Stop::Shared(e) | Stop::Charon(e) => e,
        }
    }
}

/// The line to charon, made anew after a request that was not answered.
pub struct Line<'v> {
    pub vici: &'v mut Vici,
    unanswered: u32,
}

impl<'v> Line<'v> {
    pub fn new(vici: &'v mut Vici) -> Line<'v> {
        Line { vici, unanswered: 0 }
    }

    /// After `e`: whether charon still answers, so that the failure was only that one request's.
    pub async fn lives(&mut self, e: &Error) -> bool {
        if self.vici.is_open() {
            return true;
        }
        self.unanswered += 1;
        warn!(reason = %e.chain(), "charon gave no answer, asking it anew");
        // A charon that is started anew takes a moment to open its socket.
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

/// Disk, charon and iptables as they are now; the latter as far as `rules` that are to be there could be read before.
pub async fn look(rules: &Rules, paths: &Paths, charon: Option<&mut Vici>) -> Result<System> {
    let mut current = disk::system(paths)?;
    if let Some(vici) = charon {
        current.charon = Some(live::charon(vici).await?);
    }
    current.rules = rules.again(live::rules().await)?;
    Ok(current)
}

/// Reads rules and charon back: planning towards the same target must find nothing left to do, twice where SAs were
/// ended. The last look, and what was left to do but for the files.
pub async fn read_back(
    goal: &Configuration,
    paths: &Paths,
    mut charon: Option<&mut Line<'_>>,
    twice: bool,
) -> std::result::Result<(System, Vec<Step>), Stop> {
    let mut believed = goal.clone();
    let mut clean = 0;
    for n in 1.. {
        let looked = look(&goal.rules, paths, charon.as_mut().map(|line| &mut *line.vici)).await;
        let mut current = match (looked, &mut charon) {
            (Ok(current), _) => current,
            (Err(e), Some(line)) if !line.vici.is_open() => match line.lives(&e).await {
                true => continue,
                false => return Err(Stop::Charon(e)),
            },
            (Err(e), _) => return Err(Stop::Shared(e)),
        };
        // Just loaded, by ourselves. The marker is ours, and the files may be yet to write.
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

/// An error that names what is left to do; `None` if that is nothing.
pub fn still_to_do(left: &[Step]) -> Option<Error> {
    let left: BTreeSet<String> = left.iter().map(Step::to_string).collect();
    let names = left.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
    (!left.is_empty()).then(|| Error::apply(format!("read back: still to do after {LOOKS} looks: {names}")))
}
