//! What charon still knows when the state is lost: its tunnels count as peers, and leave as peers do.
//!
//! Without this, a hub whose state is gone (a broken disk, a format of another version) would revoke at once what one
//! answer happens not to show, and take a silent region for an empty one. Pure.

use std::{collections::BTreeSet, net::Ipv4Addr};

use crate::{
    model::{Answers, ConnName, Gateway, Identity, KeyTag, Region, Timestamp, VpcId},
    plan::Charon,
    state::{Peer, State},
    swanctl::Summary,
};

/// Launch time of a peer that only charon knew. No instance is that old.
const RECOVERED: Timestamp = Timestamp(0);

/// Adds to `state` the hub's peers that charon has loaded and neither state nor answers know. Where they are is a
/// guess: in a region that could not be asked, if there is one, so that they stand until it answers.
pub fn recover(mut state: State, answers: &Answers, me: &Identity, charon: &Charon) -> State {
    let silent = answers.iter().find(|(_, answer)| answer.is_err()).map(|(region, _)| region);
    let Some(region) = silent.or(answers.keys().next()) else { return state };
    let shown: BTreeSet<&VpcId> = answers.values().flatten().flat_map(|view| &view.gateways).map(|g| &g.vpc).collect();
    // The guess of an earlier pass follows the silence: that region may have answered meanwhile.
    let guessed = |p: &&mut Peer| p.gateway.launched == RECOVERED && !shown.contains(&p.gateway.vpc);
    for peer in state.peers.values_mut().filter(guessed) {
        peer.gateway.region = silent.unwrap_or(&peer.gateway.region).clone();
    }
    for (name, loaded) in &charon.connections {
        let Some(gateway) = gateway(name, loaded, region, me).filter(|g| !shown.contains(&g.vpc)) else { continue };
        state.peers.entry(gateway.vpc.clone()).or_insert(Peer::new(gateway));
    }
    state
}

/// The peer of a loaded connection, if it is one of this hub's: those that came with an image name another hub.
fn gateway(name: &str, loaded: &Summary, region: &Region, me: &Identity) -> Option<Gateway> {
    let vpc: VpcId = loaded.remote_id.as_ref()?.parse().ok()?;
    let own = loaded.local_id.as_ref()?.parse() == Ok(me.public?);
    if !own || *name != *ConnName::to_vpc(&vpc).to_string() {
        return None;
    }
    let remote = loaded.children.values().flat_map(|child| &child.remote_ts);
    Some(Gateway {
        instance: "i-00000000".parse().ok()?,
        region: region.clone(),
        private: Ipv4Addr::UNSPECIFIED,
        public: Some(loaded.remote_addrs.first()?.parse().ok()?),
        launched: RECOVERED,
        cidrs: remote.map(|cidr| cidr.parse().ok()).collect::<Option<_>>()?,
        key: KeyTag::Absent,
        vpc,
    })
}

#[cfg(test)]
mod tests;
