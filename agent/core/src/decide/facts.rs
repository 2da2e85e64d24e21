//! What hub and spoke decide on, and the value that each of them gives.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{contacts::Contacts, places::Places, rotation::Presence};
use crate::{
    model::{Answers, ConnName, Identity, OwnKeys, Place, PublicKey, Tunnel, VpcId},
    observed::Observed,
    settings::{AuthMethod, Settings},
    state::State,
    system::Followee,
};

/// What the operator has asked of this pass.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The pass stops after the plan.
    pub dry_run: bool,
    /// More peers may leave than `removal.hold_above` allows.
    pub force: bool,
    /// The next key is made now, whatever the age of the current one.
    pub rotate: bool,
    /// By VPC, the fingerprint of a key that its gateway is not known by and that the operator accepts.
    pub accept: BTreeMap<VpcId, String>,
}

/// What hub and spoke decide on.
pub(super) struct Facts<'a> {
    pub settings: &'a Settings,
    pub request: &'a Request,
    pub observed: &'a Observed,
    pub me: &'a Identity,
    /// The answers of the regions that count.
    pub answers: &'a Answers,
    /// What was known about peers.
    pub state: &'a State,
    /// The connections that charon has, which the state may not know.
    pub loaded: BTreeSet<ConnName>,
    pub contacts: Contacts,
    pub places: Places,
    pub own: OwnAuth<'a>,
}

/// What hub and spoke decide.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    pub tunnels: BTreeMap<ConnName, Tunnel>,
    /// The networks at far ends, with the places that carry them.
    pub routes: BTreeMap<Ipv4Net, Place>,
    pub removed: BTreeSet<VpcId>,
    pub held: Option<Held>,
    pub presence: Option<Presence>,
    pub state: State,
}

/// Peers that stay because too many would have left at once (safety rule 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The peers that would have left.
    pub would_remove: usize,
    /// The peers that were known before the pass.
    pub of: usize,
    /// `removal.hold_above`, in percent.
    pub hold_above: u8,
}

/// How this gateway proves who it is. Made once in a pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum OwnAuth<'a> {
    /// With pre-shared keys only.
    Psk,
    /// With its key. A peer that announces none may get a pre-shared key.
    Key(&'a OwnKeys),
    /// It should have a key and has none: no refresh has made one yet, or its disk is full.
    KeyUnavailable,
}

impl<'a> OwnAuth<'a> {
    pub(super) fn of(settings: &Settings, keys: Option<&'a OwnKeys>) -> OwnAuth<'a> {
        match (settings.auth.method, keys) {
            (AuthMethod::Psk, _) => OwnAuth::Psk,
            (AuthMethod::Key, Some(keys)) => OwnAuth::Key(keys),
            (AuthMethod::Key, None) => OwnAuth::KeyUnavailable,
        }
    }

    pub(super) fn keys(&self) -> Option<&'a OwnKeys> {
        match self {
            OwnAuth::Key(keys) => Some(keys),
            OwnAuth::Psk | OwnAuth::KeyUnavailable => None,
        }
    }

    /// The key whose acceptance has to be proved.
    pub(super) fn next_key(&self) -> Option<PublicKey> {
        self.keys().and_then(OwnKeys::next_key)
    }
}

impl Facts<'_> {
    /// On a spoke the connection to a hub that the routes of the private network lead to.
    pub(super) fn routed_hub(&self) -> Option<&ConnName> {
        let routes = &self.observed.system.routing.routes;
        let via = self.settings.private_net.iter().find_map(|net| routes.get(&net.trunc()))?;
        let there = self.places.at(via.place).filter(|name| name.hub().is_some());
        there.max_by_key(|name| self.contacts.carries(name))
    }

    /// Whether the kernel leads the networks of this connection's party to its place.
    pub(super) fn is_routed(&self, name: &ConnName) -> bool {
        let Some((vpc, _)) = name.gateway() else { return self.routed_hub() == Some(name) };
        let Some(known) = self.state.peers.get(&vpc) else { return false };
        let routes = &self.observed.system.routing.routes;
        let via = known.gateway.cidrs.iter().find_map(|net| routes.get(&net.trunc()));
        via.is_some_and(|via| self.places.held(name) == Some(via.place))
    }

    /// The word by which this connection is followed, if that counts.
    pub(super) fn followed(&self, name: &ConnName) -> Option<&Followee> {
        self.observed.system.followed.counting(name.party()).filter(|followee| followee.connection == *name)
    }

    /// The peer's keys with which this connection was last loaded.
    pub(super) fn pinned(&self, name: &ConnName) -> Option<&Vec<PublicKey>> {
        self.observed.system.peer_keys.get(name)
    }
}
