//! The spoke: a tunnel to each of at most two hubs, with one child per own CIDR inside the private network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{
    facts::{Facts, Tunnels},
    findings::Findings,
    gateways::{Chosen, End, next_key_proofs, signed_with},
    hubs::{Hub, Leaving, connection, hubs, in_use, leaving},
    roster::Eligible,
};
use crate::{
    model::{Gateway, IkeId, Refusal, Selectors, Tunnel, VpcId, child_name},
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
    let asked = settings.hub.is_empty() || settings.asks();
    let mut chosen = None;
    if asked {
        let (hubs, roster) = end.choose(findings);
        (out.removed, out.held, out.state.regions) = (roster.removed, roster.held, roster.regions);
        chosen = one_hub(facts, hubs, findings);
    }
    let mut hubs = hubs(facts, chosen.as_ref());
    if hubs.is_empty() {
        return out;
    }
    out.presence =
        end.present(chosen.iter().map(|chosen| &chosen.peer), hubs.iter().filter_map(|hub| unknown(&end, hub)));
    if let [only] = settings.hub[..] {
        findings
            .notes
            .push(format!("settings name one hub, at {only}: while it is away, nothing carries the private network"));
    }
    let leaving = leaving(facts, &hubs);
    if let Some(leaving) = &leaving {
        hubs = leaving.beside(facts, hubs, findings);
    }
    let drained = leaving.as_ref().and_then(Leaving::drained);
    out.state.drained = drained.map(|hub| hub.address);
    let mut auths = BTreeMap::new();
    hubs.retain(|hub| {
        let auth = findings.of_credential(hub.credential(&end), me.region.clone().into(), &me.vpc);
        auth.map(|auth| auths.insert(hub.name.clone(), signed_with(auth, out.presence.as_ref()))).is_some()
    });
    let in_use = in_use(facts, &hubs, drained.map(|hub| &hub.name));
    let peers = chosen.iter().map(|chosen| (chosen.peer.gateway.vpc.clone(), chosen.peer.clone()));
    out.state = State { peers: peers.collect(), ..out.state };
    let Some(in_use) = in_use.filter(|_| !children.is_empty()) else { return out };
    let place = facts.places.for_use(&in_use.name);
    for hub in &hubs {
        let tunnel = Tunnel {
            vpc: hub.gateway.map(|hub| hub.vpc.clone()),
            local_addr: me.private,
            remote_addr: hub.address,
            local_id: end.local_id.clone(),
            remote_id: IkeId::Hub(hub.address),
            place: if hub.name == in_use.name { place } else { place.other() },
            children: children.clone(),
            auth: auths[&hub.name].clone(),
        };
        out.tunnels.extend(next_key_proofs(&hub.name, &tunnel, out.presence.as_ref()));
        if let Some(chosen) = chosen.as_ref().filter(|_| hub.gateway.is_some() && leaving.is_none()) {
            let remote_id = |other: &Gateway| IkeId::Hub(other.public.unwrap_or(hub.address));
            out.tunnels.extend(end.stand_by(chosen, &tunnel, remote_id, out.presence.as_ref(), findings));
        }
        out.tunnels.insert(hub.name.clone(), tunnel);
    }
    out.routes = settings.private_net.iter().map(|net| (*net, place)).collect();
    out
}

/// A hub that EC2 does not show and that is known by a key: what to call it, and whether it has accepted the next key.
fn unknown(end: &End, hub: &Hub) -> Option<(String, bool)> {
    let next = end.facts.own.next_key();
    let accepts =
        next.is_some_and(|next| end.facts.contacts.has_accepted(&hub.name.own_next(), &end.local_id.next(next)));
    (hub.gateway.is_none() && !hub.keys.is_empty()).then(|| (format!("the hub at {}", hub.address), accepts))
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

/// A hub must have an address that settings name, if they name any. One inside the private network cannot be reached: this
/// gateway's own guard would stop IKE.
fn eligible(settings: &Settings, hub: &Gateway) -> Eligible {
    match hub.public {
        Some(address) if !settings.hub.is_empty() && !settings.hub.contains(&address) => Err(None),
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
