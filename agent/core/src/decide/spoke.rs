//! The spoke: one tunnel to the hub, one child per own CIDR inside the private network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{
    Decision, Seen,
    credential::Link,
    gateways::{Chosen, End, signed_with},
    refusal,
    roster::Eligible,
};
use crate::{
    model::{ConnName, Gateway, IkeId, PublicKey, Refusal, Selectors, Tunnel, VpcId, child_name},
    settings::{AuthMethod, Settings},
};

pub(super) fn spoke(settings: &Settings, seen: &Seen, force: bool, out: &mut Decision) {
    let children = children(settings, seen, out);
    // Without the bypass a wide remote selector would also catch traffic inside the own VPC.
    out.bypass = seen.me.cidrs.clone();
    let end = End {
        settings,
        seen,
        connection: &|hub| hub.public.map_or_else(ConnName::own, |address| connection(seen, address, Some(hub))),
        eligible: &|hub| eligible(settings, hub),
        spoke: &|_| seen.me.vpc.clone(),
        local_id: IkeId::Spoke(seen.me.vpc.clone(), seen.me.instance.clone()),
    };
    let asked = settings.hub.is_none() || !settings.regions.is_empty();
    let chosen = if asked { one_hub(seen, end.choose(force, out), &mut out.refused) } else { None };
    let found = chosen.as_ref().map(|chosen| &chosen.peer.gateway);
    // A region that is silent hides no hub from a spoke that is connected to it.
    let silent = seen.answers.values().any(|answer| answer.is_err());
    let remembered = || seen.loaded.iter().find_map(ConnName::hub).map(|(address, _)| address).filter(|_| silent);
    let Some(remote_addr) = settings.hub.or(found.and_then(|hub| hub.public)).or_else(remembered) else { return };
    let name = connection(seen, remote_addr, found);
    let keys = match &chosen {
        Some(chosen) => chosen.peer.keys.clone(),
        None => unseen_hub_keys(settings, seen, &name),
    };
    let unknown = (chosen.is_none() && !keys.is_empty()).then(|| {
        let next = seen.own.and_then(|own| own.next_key());
        let accepts = next.is_some_and(|next| seen.contacts.has_accepted(&name.own_next(), &end.local_id.next(next)));
        (format!("the hub at {remote_addr}"), accepts)
    });
    end.present(chosen.iter().map(|chosen| &chosen.peer), unknown, out);
    let sign = out.presence.as_ref().map(|presence| presence.sign);
    let credential = match found {
        Some(hub) => end.credential(hub, &keys),
        None => Link { spoke: &seen.me.vpc, peer: None, keys: &keys, sign, known: true }.credential(settings, seen),
    };
    out.state.peers.extend(chosen.iter().map(|chosen| (chosen.peer.gateway.vpc.clone(), chosen.peer.clone())));
    let Some(auth) = out.credential(credential, &seen.me.region, &seen.me.vpc) else { return };
    if children.is_empty() {
        return;
    }
    let tunnel = Tunnel {
        vpc: found.map(|hub| hub.vpc.clone()),
        local_addr: seen.me.private,
        remote_addr,
        local_id: end.local_id.clone(),
        remote_id: IkeId::Hub(remote_addr),
        children,
        auth: signed_with(auth, out),
    };
    let own_next = out.presence.as_ref().and_then(|presence| presence.next);
    out.prove_next_keys(&name, &tunnel, own_next);
    if let Some(chosen) = &chosen {
        let remote_id = |hub: &Gateway| IkeId::Hub(hub.public.unwrap_or(remote_addr));
        end.stand_by(chosen, &tunnel, remote_id, out);
    }
    out.tunnels.insert(name, tunnel);
}

/// The own CIDRs that the tunnel carries; the others are refused.
fn children(settings: &Settings, seen: &Seen, out: &mut Decision) -> BTreeMap<String, Selectors> {
    let (inside, outside): (BTreeSet<Ipv4Net>, BTreeSet<Ipv4Net>) =
        seen.me.cidrs.iter().copied().partition(|cidr| settings.private_net.iter().any(|p| p.contains(cidr)));
    out.refused.extend(outside.into_iter().map(|cidr| Refusal {
        region: seen.me.region.clone(),
        vpc: Some(seen.me.vpc.clone()),
        instance: None,
        cidr: Some(cidr),
        reason: "this VPC's own CIDR is outside the private network: not tunnelled".into(),
    }));
    let child =
        |cidr: Ipv4Net| (child_name(&cidr), Selectors { local: [cidr].into(), remote: settings.private_net.clone() });
    inside.into_iter().map(child).collect()
}

/// The connection to the hub at this address: the one that is loaded, or named by the hub's instance where that is known.
fn connection(seen: &Seen, address: Ipv4Addr, hub: Option<&Gateway>) -> ConnName {
    let nameless = ConnName::to_hub(address, None);
    if seen.loaded.contains(&nameless) {
        return nameless;
    }
    match hub {
        Some(hub) => ConnName::to_hub(address, Some(&hub.instance)),
        None => {
            let loaded = seen.loaded.iter().find(|name| name.hub().is_some_and(|(loaded, _)| loaded == address));
            loaded.cloned().unwrap_or(nameless)
        }
    }
}

/// Settings may name the hub by its address; and this gateway's own guard would stop IKE to one inside the private network.
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

/// Only one VPC's hub is used: two would share one kernel policy, and the newest would win (`docs/facts.md`, "Loading
/// connections"). The one in use as long as it is there, else the one launched first.
fn one_hub(seen: &Seen, mut hubs: BTreeMap<VpcId, Chosen>, refused: &mut BTreeSet<Refusal>) -> Option<Chosen> {
    let in_use = |vpc: &VpcId| seen.state.peers.contains_key(vpc);
    let first = hubs.iter().min_by_key(|(vpc, c)| (!in_use(vpc), c.peer.gateway.launched, (*vpc).clone()));
    let first = first.map(|(vpc, _)| vpc.clone())?;
    let chosen = hubs.remove(&first);
    for (vpc, other) in hubs {
        let reason = format!("the hub in {first} already carries the private network");
        refused.insert(refusal(&other.peer.gateway, Some(&vpc), reason));
    }
    chosen
}

/// The keys of a hub that EC2 does not show, or was not asked about: named by settings, else as loaded last.
fn unseen_hub_keys(settings: &Settings, seen: &Seen, name: &ConnName) -> Vec<PublicKey> {
    match &settings.auth.hub_key[..] {
        _ if settings.auth.method != AuthMethod::Key || seen.own.is_none() => Vec::new(),
        [] => seen.pinned.get(name).cloned().unwrap_or_default(),
        keys => keys.to_vec(),
    }
}
