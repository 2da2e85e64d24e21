//! The way across: the tunnel between two hubs of a pair, and the networks that a hub reaches by it, as none of its own tunnels carries them.
//!
//! A hub cannot know what the other one reaches. It need not: what came across never goes back across, so packets for whom neither
//! reaches are refused by the second hub.

use std::collections::BTreeMap;

use super::{facts::Facts, gateways::Chosen, rotation::Presence};
use crate::{
    decide::election::DOWN,
    model::{Auth, ConnName, IkeId, InstanceId, Place, Selectors, Tunnel},
    pair::Members,
};

/// The tunnel to the other hub; `None` without a pair or without a key.
pub(super) fn tunnel(facts: &Facts, pair: Option<&Members>, presence: Option<&Presence>) -> Option<(ConnName, Tunnel)> {
    let (Members { other, .. }, presence) = (pair?, presence?);
    let id = |instance: &InstanceId| IkeId::Member(facts.me.vpc.clone(), instance.clone());
    let private = &facts.settings.private_net;
    let all = Selectors { local: private.clone(), remote: private.clone() };
    let tunnel = Tunnel {
        vpc: None,
        local_addr: facts.me.private,
        remote_addr: other.address,
        local_id: id(&facts.me.instance),
        remote_id: id(&other.instance),
        place: Place::Across,
        children: BTreeMap::from([("across".to_owned(), all)]),
        auth: Auth::Key { own: presence.sign, peer: other.keys.clone() },
    };
    Some((ConnName::across(&other.instance), tunnel))
}

/// Whether the networks of a VPC are reached by the other hub: every pass has found its tunnel here down for a while, as after a boot some
/// come up late, and the one across carries packets.
pub(super) fn leads(facts: &Facts, chosen: &Chosen, across: Option<&ConnName>) -> bool {
    let down = chosen.peer.down_since.is_some_and(|since| facts.observed.now.0.abs_diff(since.0) >= DOWN);
    down && across.is_some_and(|across| facts.contacts.carries(across))
}
