//! Which gateway of a VPC is used (safety rule 4): what works is replaced only by what has worked.
//!
//! The gateway in use stays until a younger one has authenticated beside it, or until it is gone. After a change the
//! older one stands by: it takes the VPC back only when the younger one does not work any more.

use std::collections::BTreeMap;

use super::{contacts::Contacts, roster::Vpc};
use crate::model::{ConnName, Gateway, InstanceId, Timestamp};

/// How long, in seconds, a tunnel must have been down for a gateway that stands by to take over. A rekey, a restart of
/// charon and one look that was too early are over by then.
const DOWN: u64 = 60;
/// Gateways of one VPC that are remembered as having lost it.
const REMEMBERED: usize = 16;

/// What is asked about each gateway of a VPC.
pub struct Election<'a> {
    pub contacts: &'a Contacts,
    pub now: Timestamp,
    /// The name of the connection to a gateway.
    pub connection: &'a dyn Fn(&Gateway) -> ConnName,
    /// There is a key, or a pre-shared one, that a connection to it could be loaded with.
    pub usable: &'a dyn Fn(&Gateway) -> bool,
}

/// The outcome for one VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    pub in_use: InstanceId,
    /// The gateways that lost the VPC, `in_use` never among them.
    pub lost: Vec<InstanceId>,
    /// Since when every pass has found the tunnel of `in_use` down.
    pub down_since: Option<Timestamp>,
    /// The others.
    pub others: BTreeMap<InstanceId, Waiting>,
}

/// Why a gateway of a VPC is not the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It is younger than the one in use, and has not worked yet.
    Newcomer,
    /// It is older than the one in use, or has lost the VPC to it.
    Standby,
}

impl Election<'_> {
    /// Elects among the gateways of a VPC; `None` if there is none.
    pub fn elect(&self, vpc: &Vpc) -> Option<Elected> {
        let before = vpc.known.as_ref();
        let was = before.filter(|_| !vpc.gone).and_then(|known| vpc.gateways.get(&known.gateway.instance));
        let mut lost = before.map_or_else(Vec::new, |known| known.lost.clone());
        let (in_use, down_since) = match was {
            // Nobody works here yet, or any more: whoever has authenticated, else could, else the youngest.
            None => (vpc.gateways.values().max_by_key(|g| (self.works(g), (self.usable)(g), age(g)))?, None),
            Some(was) => {
                let down = self.contacts.is_dead(&(self.connection)(was));
                let known_down = before.and_then(|known| known.down_since);
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
        let standing = |g: &Gateway| {
            let newcomer = age(g) > age(in_use) && !lost.contains(&g.instance);
            if newcomer { Waiting::Newcomer } else { Waiting::Standby }
        };
        let others = vpc.gateways.values().filter(|g| g.instance != in_use.instance);
        let others = others.map(|g| (g.instance.clone(), standing(g))).collect();
        Some(Elected { in_use: in_use.instance.clone(), lost, down_since, others })
    }

    /// Who takes the VPC from a gateway that EC2 still shows: the youngest of those that work beside it, if it is younger
    /// and has not lost the VPC before, or if the tunnel in use has been down for a while.
    fn successor<'v>(
        &self,
        vpc: &'v Vpc,
        was: &Gateway,
        lost: &[InstanceId],
        down_since: Option<Timestamp>,
    ) -> Option<&'v Gateway> {
        let is_down = down_since.is_some_and(|since| self.now.0.abs_diff(since.0) >= DOWN);
        let may = |g: &&Gateway| is_down || (age(g) > age(was) && !lost.contains(&g.instance));
        let others = vpc.gateways.values().filter(|g| g.instance != was.instance && self.works(g));
        others.filter(may).max_by_key(|g| age(g))
    }

    /// It could be used, and has authenticated.
    fn works(&self, gateway: &Gateway) -> bool {
        (self.usable)(gateway) && self.contacts.has_authenticated(&(self.connection)(gateway))
    }
}

fn age(gateway: &Gateway) -> (Timestamp, &InstanceId) {
    (gateway.launched, &gateway.instance)
}
