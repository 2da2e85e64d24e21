//! The hub: one tunnel per client VPC, one child per accepted CIDR.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::{
    Decision, Seen,
    claims::Claims,
    gateways::{Chosen, End, signed_with},
    refusal,
};
use crate::{
    error::{Error, Result},
    model::{ConnName, Gateway, IkeId, Refusal, Selectors, Tunnel, VpcId, child_name},
    settings::Settings,
    state::Peer,
};

pub(super) fn hub(settings: &Settings, seen: &Seen, force: bool, out: &mut Decision) -> Result<()> {
    let me = seen.me.public.ok_or_else(|| {
        Error::observe(
            "this hub has no public address on its first network interface: associate an Elastic IP with that one, the \
             clients name the hub by it",
        )
    })?;
    let end = End {
        settings,
        seen,
        connection: &|gateway| ConnName::to_gateway(&gateway.vpc, &gateway.instance),
        eligible: &|_| Ok(()),
        spoke: &|gateway| gateway.vpc.clone(),
        local_id: IkeId::Hub(me),
    };
    let mut chosen = end.choose(force, out);
    let accepted = claims(settings, seen, &chosen, &mut out.refused);
    chosen.retain(|vpc, _| accepted.contains_key(vpc));
    end.present(chosen.values().map(|chosen| &chosen.peer), None, out);
    let own_next = out.presence.as_ref().and_then(|presence| presence.next);
    for (vpc, chosen) in chosen {
        let gateway = &chosen.peer.gateway;
        let (Some(cidrs), Some(remote_addr)) = (accepted.get(&vpc), gateway.public) else { continue };
        let credential = end.credential(gateway, &chosen.peer.keys);
        let Some(auth) = out.credential(credential, &gateway.region, &vpc) else { continue };
        let child = |cidr: &Ipv4Net| {
            (child_name(cidr), Selectors { local: settings.private_net.clone(), remote: [*cidr].into() })
        };
        let tunnel = Tunnel {
            vpc: Some(vpc.clone()),
            local_addr: seen.me.private,
            remote_addr,
            local_id: end.local_id.clone(),
            remote_id: remote_id(gateway),
            children: cidrs.iter().map(child).collect(),
            auth: signed_with(auth, out),
        };
        let name = (end.connection)(gateway);
        out.prove_next_keys(&name, &tunnel, own_next);
        end.stand_by(&chosen, &tunnel, remote_id, out);
        out.tunnels.insert(name, tunnel);
        let gateway = Gateway { cidrs: cidrs.clone(), ..gateway.clone() };
        out.state.peers.insert(vpc, Peer { gateway, ..chosen.peer });
    }
    Ok(())
}

fn remote_id(gateway: &Gateway) -> IkeId {
    IkeId::Spoke(gateway.vpc.clone(), gateway.instance.clone())
}

/// Safety rule 3. Claims held by a tunnel come first, then the VPC whose gateway was launched first; a claim that
/// overlaps an accepted one is refused alone, so that refusing one never harms another.
fn claims(
    settings: &Settings,
    seen: &Seen,
    chosen: &BTreeMap<VpcId, Chosen>,
    refused: &mut BTreeSet<Refusal>,
) -> BTreeMap<VpcId, BTreeSet<Ipv4Net>> {
    let holds = |vpc: &VpcId, cidr: &Ipv4Net| seen.state.peers.get(vpc).is_some_and(|p| p.gateway.cidrs.contains(cidr));
    let gateways = chosen.iter().map(|(vpc, chosen)| (vpc, &chosen.peer.gateway));
    let mut queue: Vec<_> = gateways.flat_map(|(vpc, g)| g.cidrs.iter().map(move |c| (vpc, c, g))).collect();
    queue.sort_by_key(|(vpc, cidr, g)| (!holds(vpc, cidr), g.launched, *vpc, **cidr));

    let mut accepted: BTreeMap<VpcId, BTreeSet<Ipv4Net>> = BTreeMap::new();
    let mut taken = Claims::new(&seen.me.vpc, &seen.me.cidrs);
    for (vpc, cidr, gateway) in queue {
        let reason = if !settings.private_net.iter().any(|p| p.contains(cidr)) {
            Some("outside the private network".to_owned())
        } else {
            match taken.claim(cidr, vpc) {
                Ok(()) => None,
                Err((with, holder)) if holder == seen.me.vpc => Some(format!("overlaps {with} of the hub's own VPC")),
                Err((with, holder)) => Some(format!("overlaps {with} of {holder}, which has it")),
            }
        };
        match reason {
            None => {
                accepted.entry(vpc.clone()).or_default().insert(*cidr);
            }
            Some(reason) => {
                refused.insert(Refusal { cidr: Some(*cidr), ..refusal(gateway, Some(vpc), reason) });
            }
        }
    }
    accepted
}
