//! The way across: the tunnel between two hubs of a pair, and the networks that a hub reaches by it, as none of its own tunnels carries them.
//!
//! A hub cannot know what the other one reaches. It need not: what came across never goes back across, so packets that neither hub can
//! deliver are refused by the second one.

use std::collections::BTreeMap;

use super::{election::is_down, facts::Facts, gateways::Chosen, rotation::Presence};
use crate::{
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

/// Whether the networks of a VPC are reached by the other hub: every pass has found the VPC's own tunnel down for a while, because some come
/// up late after a boot, and the tunnel across carries packets.
pub(super) fn leads(facts: &Facts, chosen: &Chosen, across: Option<&ConnName>) -> bool {
    is_down(chosen.peer.down_since, facts.observed.now) && across.is_some_and(|across| facts.contacts.carries(across))
}
