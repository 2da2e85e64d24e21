//! The other member of the pair, and all that is known of it.

use std::{collections::BTreeMap, time::Duration};

use ipnet::Ipv4Net;
use tokio::time::Instant;

use crosswan_core::{
    model::{PrivateKey, RouteTable, RouteTableId},
    pair::{Hearing, Members, Pair, Peer, Refused, Taken},
};

/// One that has not been heard for so long is looked for, where a third gateway waits.
const UNHEARD: Duration = Duration::from_mins(1);

/// The second member, and what is known of it.
pub(super) struct Watched {
    pub members: Members,
    /// Since when this process has watched it.
    pub since: Instant,
    pub key: PrivateKey,
    pub hearing: Hearing,
    pub pair: Pair,
    /// The moves that are in the file.
    pub moves: Vec<u64>,
    pub sequence: u64,
    /// When a beat counted last, and how many datagrams were refused, by the reason.
    pub heard: Option<Instant>,
    pub refused: BTreeMap<Refused, u64>,
    /// Since when nothing counted and signatures were wrong: the other one may have a key that the last pass did not see.
    pub forged_since: Option<Instant>,
    pub tables: BTreeMap<RouteTableId, RouteTable>,
    /// The routes of these that lead nowhere, and since when that is known.
    pub nowhere: BTreeMap<(RouteTableId, Ipv4Net), Instant>,
    /// When a move was decided last, and when a beat had counted last by then.
    pub decided: Option<(Instant, Option<Instant>)>,
    /// The routes that it was to move, until all of them read back.
    pub ordered: Vec<(RouteTableId, Ipv4Net)>,
    pub taken: Option<Taken>,
}

impl Watched {
    /// Why a pass should look who the other member is; `None` while it is heard. It may be gone from EC2, and a third gateway wait for
    /// that, which nobody would find for up to an hour; it may have made way. One that was never heard may not watch at all, as long as
    /// nobody else could.
    pub(super) fn wants_a_pass(&self) -> Option<String> {
        let instance = &self.members.other.instance;
        match (self.pair.judgement().peer, self.members.waiting.first()) {
            (Peer::Dead, _) => Some(format!("{instance} is dead, and EC2 may show another gateway instead")),
            (Peer::Unheard, Some(waiting)) if self.since.elapsed() > UNHEARD => {
                Some(format!("{instance} is not heard, and {waiting} waits"))
            }
            (Peer::AgentDead, Some(waiting)) => {
                Some(format!("{instance} is silent, and {waiting} may be a member in its place"))
            }
            _ => None,
        }
    }

    /// Takes note of the routes that lead nowhere by the tables that EC2 has just shown. Returns one that did not before.
    pub(super) fn note_nowhere(&mut self) -> Option<(RouteTableId, Ipv4Net)> {
        let (before, now) = (std::mem::take(&mut self.nowhere), Instant::now());
        let all = self.members.nowhere(&self.tables);
        let new = all.iter().find(|route| !before.contains_key(*route)).cloned();
        let since = |route: (RouteTableId, Ipv4Net)| (before.get(&route).copied().unwrap_or(now), route);
        self.nowhere = all.into_iter().map(since).map(|(since, route)| (route, since)).collect();
        new
    }
}
