//! What is known of the other member, as the file that status reads has it.

use std::time::Duration;

use tokio::time::Instant;

use super::watched::Watched;
use crate::host;
use crosswan_core::pair::{HandsOver, Health, PairStatus, Taken, Word};

/// How this gateway (`health`) and the other one are now, what far ends are `told`, and whether this one hands over.
pub(super) fn shown(watched: &Watched, health: Health, told: Word, hands_over: Option<HandsOver>) -> PairStatus {
    let (ways, judgement) = (watched.pair.ways(), watched.pair.judgement());
    PairStatus {
        at: host::now(),
        member: watched.members.other.instance.clone(),
        address: watched.members.other.address,
        state: judgement.peer.into(),
        judgement: judgement.to_string(),
        heard_ms: watched.heard.map(|at| millis(at.elapsed())),
        its_health: watched.pair.says().map(|says| says.health.to_string()),
        own_health: Health { ec2: true, ..health }.to_string(),
        role: ways.into(),
        holds: told.holds,
        generation: watched.pair.generation(),
        routes_here: ways.map(|ways| ways.here),
        routes_there: ways.map(|ways| ways.there),
        nowhere_s: watched.nowhere.values().min().map(|since| since.elapsed().as_secs()),
        refused: watched.refused.iter().map(|(why, times)| (why.to_string(), *times)).collect(),
        taken: watched.taken.clone(),
        hands_over,
    }
}

/// The takeover of these routes, which have just read back.
pub(super) fn taken(routes: Vec<String>, watched: &Watched) -> Taken {
    let now = Instant::now();
    let (decided, heard) = watched.decided.unwrap_or((now, None));
    Taken {
        at: host::now(),
        from: watched.members.other.instance.clone(),
        routes,
        silent_ms: heard.map(|at| millis(decided - at)),
        handed_over: watched.pair.says().is_some_and(|says| says.leaving),
        calls_ms: millis(now - decided),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
