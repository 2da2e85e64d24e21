//! What hub and spoke decide by, and what each of them gives.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{contacts::Contacts, rotation::Presence};
use crate::{
    model::{Answers, ConnName, Identity, OwnKeys, PublicKey, Tunnel, VpcId},
    observed::Observed,
    settings::{AuthMethod, Settings},
    state::State,
};

/// What the operator asked of this pass.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Stop after the plan.
    pub dry_run: bool,
    /// Let more peers go than `removal.hold_above`.
    pub force: bool,
    /// Make the next key now, whatever the age of the current one.
    pub rotate: bool,
    /// The fingerprints of keys that are right though their VPCs' gateways are not known by them.
    pub accept: BTreeMap<VpcId, String>,
}

/// What hub and spoke decide by.
pub(super) struct Facts<'a> {
    pub settings: &'a Settings,
    pub request: &'a Request,
    pub observed: &'a Observed,
    pub me: &'a Identity,
    /// Of the regions that count.
    pub answers: &'a Answers,
    /// What was known of peers.
    pub state: &'a State,
    /// The connections that charon has: for a state that does not know them.
    pub loaded: BTreeSet<ConnName>,
    pub contacts: Contacts,
    pub own: OwnAuth<'a>,
}

/// What hub and spoke decide.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    pub tunnels: BTreeMap<ConnName, Tunnel>,
    pub bypass: BTreeSet<Ipv4Net>,
    pub removed: BTreeSet<VpcId>,
    pub held: Option<Held>,
    pub presence: Option<Presence>,
    pub state: State,
}

/// A pass that would have removed too much and so removes nothing (safety rule 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub would_remove: usize,
    pub of: usize,
    pub hold_above: u8,
}

/// How this gateway proves who it is. Made once in a pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum OwnAuth<'a> {
    /// With pre-shared keys only.
    Psk,
    /// With its key; a peer that announces none may be taken with a pre-shared key.
    Key(&'a OwnKeys),
    /// It should have a key, and has none: no refresh has made one yet, or its disk is full.
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
    /// The keys of a peer by which its connection was last loaded.
    pub(super) fn pinned(&self, name: &ConnName) -> Option<&Vec<PublicKey>> {
        self.observed.system.peer_keys.get(name)
    }
}
