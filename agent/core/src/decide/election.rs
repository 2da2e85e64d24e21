//! Which gateway of a VPC is used (safety rule 4): what works is replaced only by what has worked.
//!
//! The gateway in use stays until a newer one's tunnel is up beside it, or until it is gone. After a change the older one stands
//! by, and takes the VPC back only when the newer one no longer works.

use std::collections::BTreeMap;

use super::{contacts::Contacts, roster::Vpc};
use crate::model::{ConnName, Gateway, InstanceId, Timestamp};

/// How long, in seconds, a tunnel must have been down before a gateway that stands by takes over, or another one gets its place. A rekey,
/// a restart of charon and a look that was too early are over by then.
const DOWN: u64 = 60;
/// How many gateways of one VPC are remembered as having lost it.
const REMEMBERED: usize = 16;

/// How to find out about each gateway of a VPC.
pub(super) struct Election<'a> {
    pub contacts: &'a Contacts,
    pub now: Timestamp,
    /// The name of the connection to a gateway.
    pub connection: &'a dyn Fn(&Gateway) -> ConnName,
    /// Whether a connection to it could be loaded, because there is a key or a pre-shared key for it.
    pub usable: &'a dyn Fn(&Gateway) -> bool,
    /// Whether the routes lead to this connection already.
    pub routed: &'a dyn Fn(&ConnName) -> bool,
    /// Whether its pair has said that this connection is to be used, by a word that counts.
    pub followed: &'a dyn Fn(&ConnName) -> bool,
    /// How long, in seconds, after its launch a gateway takes over from one that works. For a hub that is the time in which every
    /// spoke has connected to it: one that moved earlier would not reach the others.
    pub settles: i64,
}

/// The outcome for one VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Elected {
    pub in_use: InstanceId,
    /// The gateways that lost the VPC; `in_use` is never one of them.
    pub lost: Vec<InstanceId>,
    /// Since when every pass has found the tunnel of `in_use` down.
    pub down_since: Option<Timestamp>,
    /// The other gateways.
    pub others: BTreeMap<InstanceId, Waiting>,
}

/// Why a gateway of a VPC is not the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// It is newer than the one in use, and has not worked yet.
    Newcomer,
    /// It is older than the one in use, or has lost the VPC to it, or its pair has said that the other one is to be used.
    Standby,
}

/// Whether a tunnel has been down for long enough, if every pass has found it so since then.
pub(super) fn is_down(since: Option<Timestamp>, now: Timestamp) -> bool {
    since.is_some_and(|since| now.0.abs_diff(since.0) >= DOWN)
}

impl Election<'_> {
    /// Elects among the gateways of a VPC; `None` if there is none.
    pub(super) fn elect(&self, vpc: &Vpc) -> Option<Elected> {
        let before = vpc.known.as_ref();
        let was = before.filter(|_| !vpc.gone).and_then(|known| vpc.gateways.get(&known.gateway.instance));
        // What the routes lead to and works counts more than what is remembered: settings alone may have made it the one in use, or the
        // word of its pair, which counts before the routes have followed it, and until its tunnel is down for as long as any other's.
        let said = |g: &&Gateway| (self.followed)(&(self.connection)(g)) && !self.is_gone(vpc, g);
        let was =
            vpc.gateways.values().find(said).or_else(|| vpc.gateways.values().find(|g| self.carries_routed(g))).or(was);
        let mut lost = before.map_or_else(Vec::new, |known| known.lost.clone());
        let replaced = before.filter(|known| was.is_some_and(|was| was.instance != known.gateway.instance));
        lost.extend(replaced.map(|known| known.gateway.instance.clone()));
        let (in_use, down_since) = match was {
            // No gateway works here yet, or any longer: one with a tunnel comes first, then one that has authenticated, then one
            // that could, then one that has settled, then the newest.
            None => (vpc.gateways.values().max_by_key(|g| (self.rank(g), self.has_settled(g), age(g)))?, None),
            Some(was) => {
                let down = self.contacts.is_dead(&(self.connection)(was));
                let known_down = before.filter(|_| replaced.is_none()).and_then(|known| known.down_since);
                let down_since = down.then(|| known_down.unwrap_or(self.now));
                match self.successor(vpc, was, &lost, down_since) {
                    Some(next) => {
                        lost.push(was.instance.clone());
                        (next, None)
                    }
                    None => (was, down_since),
                }
            }
        };
        lost.retain(|instance| *instance != in_use.instance);
        let excess = lost.len().saturating_sub(REMEMBERED);
        lost.drain(..excess);
        let is_said = |g: &Gateway| (self.followed)(&(self.connection)(g));
        let standing = |g: &Gateway| {
            let newcomer = age(g) > age(in_use) && !lost.contains(&g.instance) && !is_said(in_use);
            if newcomer { Waiting::Newcomer } else { Waiting::Standby }
        };
        let others = vpc.gateways.values().filter(|g| g.instance != in_use.instance);
        let others = others.map(|g| (g.instance.clone(), standing(g))).collect();
        Some(Elected { in_use: in_use.instance.clone(), lost, down_since, others })
    }

    /// The gateway that takes the VPC from one that EC2 still shows: the newest of those that work beside it, if it is newer,
    /// has settled and has not lost the VPC before, and no pair has spoken; or if the tunnel in use has been down for a while.
    fn successor<'v>(
        &self,
        vpc: &'v Vpc,
        was: &Gateway,
        lost: &[InstanceId],
        down_since: Option<Timestamp>,
    ) -> Option<&'v Gateway> {
        let is_down = is_down(down_since, self.now);
        // Of a pair none is preferred to the one that it has spoken for.
        let said = (self.followed)(&(self.connection)(was));
        let newer = |g: &Gateway| age(g) > age(was) && self.has_settled(g) && !lost.contains(&g.instance);
        let may = |g: &&Gateway| is_down || (!said && newer(g));
        let others = vpc.gateways.values().filter(|g| g.instance != was.instance && self.works_as(g, was));
        others.filter(may).max_by_key(|g| age(g))
    }

    /// Whether a gateway could be used, and its tunnel carries all that the tunnel of `was` carries.
    fn works_as(&self, gateway: &Gateway, was: &Gateway) -> bool {
        let connection = self.connection;
        (self.usable)(gateway) && self.contacts.carries_as(&connection(gateway), &connection(was))
    }

    fn carries_routed(&self, gateway: &Gateway) -> bool {
        let name = (self.connection)(gateway);
        (self.routed)(&name) && self.contacts.carries(&name)
    }

    /// Whether EC2 says of the gateway that was in use that it must no longer be.
    fn is_gone(&self, vpc: &Vpc, gateway: &Gateway) -> bool {
        vpc.gone && vpc.known.as_ref().is_some_and(|known| known.gateway.instance == gateway.instance)
    }

    fn has_settled(&self, gateway: &Gateway) -> bool {
        self.now.0.saturating_sub(gateway.launched.0) >= self.settles
    }

    /// How far a gateway has come: could it be used, has it authenticated, is its tunnel up?
    fn rank(&self, gateway: &Gateway) -> (bool, bool, bool) {
        let (usable, name) = ((self.usable)(gateway), (self.connection)(gateway));
        (usable && self.contacts.carries(&name), usable && self.contacts.has_authenticated(&name), usable)
    }
}

fn age(gateway: &Gateway) -> (Timestamp, &InstanceId) {
    (gateway.launched, &gateway.instance)
}
