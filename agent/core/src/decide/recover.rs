//! What charon still knows when the state is lost: its tunnels count as peers, and leave as peers do.
//!
//! Without this, a gateway whose state is gone (a broken disk, a format of another version) would at once revoke every tunnel
//! that one answer happens not to show, treat a silent region as an empty one, and use any newcomer as the gateway in use. Pure.

use std::collections::BTreeSet;

use crate::{
    model::{Answers, ConnName, Gateway, Identity, KeyTags, Scope, Timestamp, VpcId},
    observed::Observed,
    state::{Peer, State},
    swanctl::Summary,
};

/// The launch time of a peer that only charon knew. No instance is that old.
const RECOVERED: Timestamp = Timestamp(0);

/// What is known about peers: the state, and the peers that only charon has a tunnel to, with the keys that their connections
/// were loaded with. The region of a gateway that no answer shows is a guess: one that could not be asked, if there is one, so
/// that the tunnel stands until that region answers.
pub(super) fn recover(observed: &Observed, answers: &Answers) -> State {
    let (mut state, me, pinned) = (observed.state.clone(), &observed.me, &observed.system.peer_keys);
    let Some(charon) = &observed.system.charon else { return state };
    let silent = answers.iter().find(|(_, answer)| answer.is_err()).map(|(region, _)| region);
    let Some(scope) = silent.or(answers.keys().next()) else { return state };
    let shown: Vec<&Gateway> = answers.values().flatten().flat_map(|view| &view.gateways).collect();
    // A guess of an earlier pass moves to a region that is silent now: the guessed one may have answered since.
    let vpcs: BTreeSet<&VpcId> = shown.iter().map(|gateway| &gateway.vpc).collect();
    let guessed = |p: &&mut Peer| p.gateway.launched == RECOVERED && !vpcs.contains(&p.gateway.vpc);
    for peer in state.peers.values_mut().filter(guessed) {
        if let Some(Scope { account, region }) = silent.cloned() {
            (peer.gateway.account, peer.gateway.region) = (account, region);
        }
    }
    // A connection without a child only waits beside the gateway in use.
    for (name, loaded) in charon.connections.iter().filter(|(_, loaded)| !loaded.children.is_empty()) {
        let Ok(name) = name.parse::<ConnName>() else { continue };
        if name.gateway().is_some_and(|(vpc, _)| state.peers.contains_key(&vpc)) {
            continue;
        }
        if let Some(gateway) = of_vpc(&name, loaded, scope, me, &shown).or_else(|| hub(&name, &shown)) {
            let keys = pinned.get(&name).cloned().unwrap_or_default();
            state.peers.entry(gateway.vpc.clone()).or_insert_with(|| Peer { keys, ..Peer::new(gateway) });
        }
    }
    state
}

/// The hub that a spoke's connection leads to, if an answer shows it: its VPC is not known otherwise.
fn hub(name: &ConnName, shown: &[&Gateway]) -> Option<Gateway> {
    let (_, instance) = name.hub()?;
    shown.iter().find(|gateway| Some(&gateway.instance) == instance.as_ref()).map(|gateway| (*gateway).clone())
}

/// The gateway that a hub's connection leads to, if the connection is this hub's: one that came with an image names another
/// hub.
fn of_vpc(name: &ConnName, loaded: &Summary, scope: &Scope, me: &Identity, shown: &[&Gateway]) -> Option<Gateway> {
    let (vpc, instance) = name.gateway()?;
    if loaded.local_id.as_ref()?.parse() != Ok(me.public?) {
        return None;
    }
    let remote = loaded.children.values().flat_map(|child| &child.remote_ts);
    let cidrs: BTreeSet<_> = remote.map(|cidr| cidr.parse().ok()).collect::<Option<_>>()?;
    if let Some(known) = shown.iter().find(|gateway| gateway.instance == instance) {
        return Some(Gateway { cidrs, ..(*known).clone() });
    }
    let sibling = shown.iter().find(|gateway| gateway.vpc == vpc);
    let Scope { account, region } = sibling.map_or(scope.clone(), |gateway| gateway.scope());
    Some(Gateway {
        instance,
        region,
        account,
        public: Some(loaded.remote_addrs.first()?.parse().ok()?),
        address: None,
        launched: RECOVERED,
        cidrs,
        segment: sibling.and_then(|gateway| gateway.segment.clone()),
        tags: KeyTags::default(),
        vpc,
    })
}

#[cfg(test)]
mod tests;
