//! What charon still knows when the state is lost: the tunnels of a region that cannot be asked stand all the same.
//!
//! Without this, a hub whose state is gone (a broken disk, a format of another version) would take the silence of a
//! region for its absence and revoke every tunnel there. Pure.

use std::{collections::BTreeSet, net::Ipv4Addr};

use crate::{
    model::{Answers, ConnName, Gateway, Identity, Region, Timestamp, VpcId},
    plan::Charon,
    state::{Peer, State},
    swanctl::Summary,
};

/// Launch time of a peer that only charon knew. No instance is that old.
const RECOVERED: Timestamp = Timestamp(0);

/// Adds to `state` the hub's peers that charon has loaded and nobody else knows, if there is a region that cannot be
/// asked and of which no answer is remembered: they may be there, so they count as its own until it answers.
pub fn recover(mut state: State, answers: &Answers, me: &Identity, charon: &Charon) -> State {
    let silent = |(region, answer): &(&Region, &_)| Result::is_err(answer) && !state.regions.contains_key(*region);
    let Some((region, _)) = answers.iter().find(silent) else { return state };
    let region = region.clone();
    let shown: BTreeSet<&VpcId> = answers.values().flatten().flat_map(|view| &view.gateways).map(|g| &g.vpc).collect();
    // The region given to one in an earlier pass was a guess; it may have answered meanwhile.
    for peer in state.peers.values_mut().filter(|p| p.gateway.launched == RECOVERED && !shown.contains(&p.gateway.vpc))
    {
        peer.gateway.region = region.clone();
    }
    for (name, loaded) in &charon.connections {
        let Some(gateway) = gateway(name, loaded, &region, me).filter(|g| !shown.contains(&g.vpc)) else { continue };
        state.peers.entry(gateway.vpc.clone()).or_insert(Peer { gateway, misses: 0 });
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
        vpc,
    })
}

#[cfg(test)]
mod tests;
