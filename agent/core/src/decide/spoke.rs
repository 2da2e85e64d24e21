//! The spoke: one tunnel to the hub, with one child per own CIDR inside the private network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{
    credential::Link,
    facts::{Facts, Tunnels},
    findings::Findings,
    gateways::{Chosen, End, next_key_proofs, signed_with},
    roster::Eligible,
};
use crate::{
    model::{ConnName, Gateway, IkeId, PublicKey, Refusal, Selectors, Tunnel, VpcId, child_name},
    settings::Settings,
    state::State,
};

/// How long, in seconds, after a hub's launch all spokes have a tunnel to it: they refresh every hour, each at its own minute.
const HUB_SETTLES: i64 = 75 * 60;

/// Decides the spoke's tunnels. Without a hub there is none, and the private network is unreachable.
pub(super) fn spoke(facts: &Facts, findings: &mut Findings) -> Tunnels {
    let Facts { settings, me, .. } = facts;
    let children = children(facts, findings);
    let end = End {
        facts,
        connection: &|hub| connection(facts, hub.public.unwrap_or(Ipv4Addr::UNSPECIFIED), Some(hub)),
        eligible: &|hub| eligible(settings, hub),
        spoke: &|_| me.vpc.clone(),
        local_id: IkeId::Spoke(me.vpc.clone(), me.instance.clone()),
        settles: HUB_SETTLES,
    };
    let mut out = Tunnels::default();
    let asked = settings.hub.is_none() || settings.asks();
    let mut chosen = None;
    if asked {
        let (hubs, roster) = end.choose(findings);
        (out.removed, out.held, out.state.regions) = (roster.removed, roster.held, roster.regions);
        chosen = one_hub(facts, hubs, findings);
    }
    let found = chosen.as_ref().map(|chosen| &chosen.peer.gateway);
    // While a region does not answer, the hub that this spoke is connected to counts as found.
    let silent = facts.answers.values().any(|answer| answer.is_err());
    let remembered = || facts.loaded.iter().find_map(ConnName::hub).map(|(address, _)| address).filter(|_| silent);
    let Some(remote_addr) = settings.hub.or(found.and_then(|hub| hub.public)).or_else(remembered) else { return out };
    let name = connection(facts, remote_addr, found);
    let keys = match &chosen {
        Some(chosen) => chosen.peer.keys.clone(),
        None => unseen_hub_keys(facts, &name),
    };
    let unknown = (chosen.is_none() && !keys.is_empty()).then(|| {
        let next = facts.own.next_key();
        let accepts = next.is_some_and(|next| facts.contacts.has_accepted(&name.own_next(), &end.local_id.next(next)));
        (format!("the hub at {remote_addr}"), accepts)
    });
    out.presence = end.present(chosen.iter().map(|chosen| &chosen.peer), unknown);
    let credential = match found {
        Some(hub) => end.credential(hub, &keys),
        None => Link { spoke: &me.vpc, peer: None, keys: &keys, known: true }.credential(facts),
    };
    let peers = chosen.iter().map(|chosen| (chosen.peer.gateway.vpc.clone(), chosen.peer.clone()));
    out.state = State { peers: peers.collect(), ..out.state };
    let Some(auth) = findings.of_credential(credential, me.region.clone().into(), &me.vpc) else { return out };
    if children.is_empty() {
        return out;
    }
    let tunnel = Tunnel {
        vpc: found.map(|hub| hub.vpc.clone()),
        local_addr: me.private,
        remote_addr,
        local_id: end.local_id.clone(),
        remote_id: IkeId::Hub(remote_addr),
        place: facts.places.for_use(&name),
        children,
        auth: signed_with(auth, out.presence.as_ref()),
    };
    out.tunnels.extend(next_key_proofs(&name, &tunnel, out.presence.as_ref()));
    if let Some(chosen) = &chosen {
        let remote_id = |hub: &Gateway| IkeId::Hub(hub.public.unwrap_or(remote_addr));
        out.tunnels.extend(end.stand_by(chosen, &tunnel, remote_id, out.presence.as_ref(), findings));
    }
    out.routes = settings.private_net.iter().map(|net| (*net, tunnel.place)).collect();
    out.tunnels.insert(name, tunnel);
    out
}

/// The own CIDRs that the tunnel carries; the others are refused.
fn children(facts: &Facts, findings: &mut Findings) -> BTreeMap<String, Selectors> {
    let Facts { settings, me, .. } = facts;
    let (inside, outside): (BTreeSet<Ipv4Net>, BTreeSet<Ipv4Net>) =
        me.cidrs.iter().copied().partition(|cidr| settings.private_net.iter().any(|p| p.contains(cidr)));
    findings.refused.extend(outside.into_iter().map(|cidr| Refusal {
        region: me.region.clone().into(),
        vpc: Some(me.vpc.clone()),
        instance: None,
        cidr: Some(cidr),
        reason: "this VPC's own CIDR is outside the private network: not tunnelled".into(),
    }));
    let child =
        |cidr: Ipv4Net| (child_name(&cidr), Selectors { local: [cidr].into(), remote: settings.private_net.clone() });
    inside.into_iter().map(child).collect()
}

/// The name of the connection to the hub at this address: the one that is loaded, otherwise one with the hub's instance if that
/// is known.
fn connection(facts: &Facts, address: Ipv4Addr, hub: Option<&Gateway>) -> ConnName {
    let nameless = ConnName::to_hub(address, None);
    if facts.loaded.contains(&nameless) {
        return nameless;
    }
    match hub {
        Some(hub) => ConnName::to_hub(address, Some(&hub.instance)),
        None => {
            let loaded = facts.loaded.iter().find(|name| name.hub().is_some_and(|(loaded, _)| loaded == address));
            loaded.cloned().unwrap_or(nameless)
        }
    }
}

/// A hub must have the address that settings name, if they name one. One inside the private network cannot be reached: this
/// gateway's own guard would stop IKE.
fn eligible(settings: &Settings, hub: &Gateway) -> Eligible {
    match hub.public {
        Some(address) if settings.hub.is_some_and(|named| named != address) => Err(None),
        Some(address) if settings.private_net.iter().any(|net| net.contains(&address)) => Err(Some(format!(
            "its public address {address} lies inside private_net, which is reached through the tunnel only: associate an \
             Elastic IP, or take that network out of private_net"
        ))),
        _ => Ok(()),
    }
}

/// Only one VPC's hub is used: two networks with the same addresses may not mix. The one in use stays as long as it is there; otherwise the one that was launched first is used.
fn one_hub(facts: &Facts, mut hubs: BTreeMap<VpcId, Chosen>, findings: &mut Findings) -> Option<Chosen> {
    let in_use = |vpc: &VpcId| facts.state.peers.contains_key(vpc);
    let first = hubs.iter().min_by_key(|(vpc, c)| (!in_use(vpc), c.peer.gateway.launched, (*vpc).clone()));
    let first = first.map(|(vpc, _)| vpc.clone())?;
    let chosen = hubs.remove(&first);
    for (vpc, other) in hubs {
        let reason = format!("the hub in {first} already carries the private network");
        findings.refuse(&other.peer.gateway, Some(&vpc), reason);
    }
    chosen
}

/// The keys of a hub that EC2 does not show or was not asked about: those of settings, otherwise those loaded last.
fn unseen_hub_keys(facts: &Facts, name: &ConnName) -> Vec<PublicKey> {
    match &facts.settings.auth.hub_key[..] {
        _ if facts.own.keys().is_none() => Vec::new(),
        [] => facts.pinned(name).cloned().unwrap_or_default(),
        keys => keys.to_vec(),
    }
}
