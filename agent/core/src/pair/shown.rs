//! What `crosswan status`, the measurements and doctor show of the pair: a file that `crosswan pair` writes each second.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{Peer, Ways};
use crate::model::{InstanceId, Timestamp};

/// After so many seconds the file says nothing any more: whoever wrote it is dead or stopped.
const STALE: u64 = 5;

/// The other member as this one hears it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairStatus {
    /// When this was written.
    pub at: Timestamp,
    /// The other member.
    pub member: InstanceId,
    /// Its private address.
    pub address: Ipv4Addr,
    /// What this gateway thinks of it.
    pub state: PeerState,
    /// The same in words, and why its routes stay where it does not carry traffic.
    pub judgement: String,
    /// Milliseconds since its last beat that counted; `None` if there was none.
    pub heard_ms: Option<u64>,
    /// How it says that it is, in words; `None` if it was never heard.
    pub its_health: Option<String>,
    /// How this gateway is, in words. What it knows of EC2 is in `routes_here`.
    pub own_health: String,
    /// Which member has the routes.
    pub role: MemberRole,
    /// Whether far ends are told that this gateway is the one to be used.
    #[serde(default)]
    pub holds: bool,
    /// The number of the pair's last takeover that this gateway knows, which is the one that far ends follow; 0 if there was none. One that EC2
    /// shows later than far ends were told counts twice.
    #[serde(default)]
    pub generation: u32,
    /// How many routes of managed tables lead here, of those that a gateway takes; `None` if EC2 has not said.
    pub routes_here: Option<usize>,
    /// How many lead to the other member.
    pub routes_there: Option<usize>,
    /// For how many seconds EC2 has shown one that leads nowhere; `None` if there is none.
    #[serde(default)]
    pub nowhere_s: Option<u64>,
    /// The datagrams from its address that did not count, by the reason.
    pub refused: BTreeMap<String, u64>,
    /// What this gateway took over from that member last, since boot.
    pub taken: Option<Taken>,
    /// Since when this gateway hands over, and why; `None` if it does not.
    #[serde(default)]
    pub hands_over: Option<HandsOver>,
}

/// A handover that is under way on this gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandsOver {
    /// The seconds that it has lasted.
    pub seconds: u64,
    /// Who wants it, in words.
    pub why: String,
}

impl PairStatus {
    /// Whether it was written a moment before `now`.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.0.abs_diff(self.at.0) <= STALE
    }

    /// Who has the routes, whether far ends are told to use this gateway, and the last takeover.
    pub fn standing(&self) -> String {
        let told = if self.holds { "; far ends are told to use this gateway" } else { "" };
        let last = match self.generation {
            0 => String::new(),
            number => format!("; the pair's last takeover is number {number}"),
        };
        format!("{}{told}{last}", self.role)
    }
}

/// The kinds of [`Peer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerState {
    /// [`Peer::Unheard`]
    Unheard,
    /// [`Peer::Alive`]
    Alive,
    /// [`Peer::NoCharon`]
    NoCharon,
    /// [`Peer::Unfit`]
    Unfit,
    /// [`Peer::Deaf`]
    Deaf,
    /// [`Peer::Leaving`]
    Leaving,
    /// [`Peer::AgentDead`]
    AgentDead,
    /// [`Peer::Dead`]
    Dead,
}

impl From<Peer> for PeerState {
    fn from(peer: Peer) -> PeerState {
        match peer {
            Peer::Unheard => PeerState::Unheard,
            Peer::Alive => PeerState::Alive,
            Peer::NoCharon => PeerState::NoCharon,
            Peer::Unfit(_) => PeerState::Unfit,
            Peer::Deaf => PeerState::Deaf,
            Peer::Leaving => PeerState::Leaving,
            Peer::AgentDead => PeerState::AgentDead,
            Peer::Dead => PeerState::Dead,
        }
    }
}

/// A takeover with its phases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// When each route had read back.
    pub at: Timestamp,
    /// The member that had the routes.
    pub from: InstanceId,
    /// The routes, as `0.0.0.0/0 of rtb-…`.
    pub routes: Vec<String>,
    /// Milliseconds from the last beat that counted to the decision; `None` if there was none.
    pub silent_ms: Option<u64>,
    /// Whether that member handed them over.
    #[serde(default)]
    pub handed_over: bool,
    /// Milliseconds from the decision until EC2 had accepted the moves and shown them.
    pub calls_ms: u64,
}

/// Which member the routes of the managed tables lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberRole {
    /// All to this gateway.
    Active,
    /// All to the other one.
    Standby,
    /// Some to each.
    Shared,
    /// None to either, or EC2 has not said.
    Unknown,
}

impl From<Option<Ways>> for MemberRole {
    fn from(ways: Option<Ways>) -> MemberRole {
        match ways.unwrap_or_default() {
            Ways { here: 0, there: 0, .. } => MemberRole::Unknown,
            Ways { there: 0, .. } => MemberRole::Active,
            Ways { here: 0, .. } => MemberRole::Standby,
            Ways { .. } => MemberRole::Shared,
        }
    }
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MemberRole::Active => "this gateway has the routes",
            MemberRole::Standby => "this gateway stands by",
            MemberRole::Shared => "each has some of the routes",
            MemberRole::Unknown => "no route is known to lead to either",
        })
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.routes.join(", "), self.from)?;
        if self.handed_over {
            f.write_str(", which handed over")?;
        } else if let Some(ms) = self.silent_ms {
            write!(f, ", {ms} ms after its last beat")?;
        }
        write!(f, ", in {} ms", self.calls_ms)
    }
}

impl fmt::Display for PairStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PairStatus { member, address, judgement, .. } = self;
        write!(f, "member    {member} ({address}): {judgement}")?;
        match (self.heard_ms, &self.its_health) {
            (Some(ms), Some(health)) => write!(f, ", heard {:.1}s ago: {health}", ms as f64 / 1000.0)?,
            _ => f.write_str("; do security groups let UDP and TCP of pair.port pass between the two?")?,
        }
        write!(f, "; {}", self.standing())?;
        if let Some(HandsOver { seconds, why }) = &self.hands_over {
            write!(f, "; it hands over since {seconds}s, because {why}")?;
        }
        let refused: Vec<_> = self.refused.iter().map(|(why, times)| format!("{times} {why}")).collect();
        if refused.is_empty() { Ok(()) } else { write!(f, "; refused: {}", refused.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_shows_who_is_used_since_which_takeover_and_reads_what_one_of_before_has_written() {
        let before = serde_json::json!({
            "at": 1000, "member": "i-00000009", "address": "10.0.0.9", "state": "alive", "judgement": "alive", "heard_ms": 90,
            "its_health": "well", "own_health": "well", "role": "active", "refused": {},
        });
        let mut status: PairStatus = serde_json::from_value(before).unwrap();
        let shown = "member    i-00000009 (10.0.0.9): alive, heard 0.1s ago: well; this gateway has the routes";
        assert_eq!(status.to_string(), shown);
        (status.holds, status.generation) = (true, 3);
        let last = "; far ends are told to use this gateway; the pair's last takeover is number 3";
        assert_eq!(status.to_string(), format!("{shown}{last}"));
    }
}
