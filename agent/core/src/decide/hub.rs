//! The hub: one tunnel per client VPC, with one child per accepted CIDR.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::{
    across,
    claims::Claims,
    facts::{Facts, Tunnels},
    findings::{Findings, refusal},
    gateways::{Chosen, End, next_key_proofs, signed_with},
};
use crate::{
    error::{Error, Result},
    model::{AccountName, ConnName, Gateway, IkeId, Place, Refusal, Selectors, Tunnel, VpcId, child_name},
    pair::Members,
    state::{Peer, State},
};

/// Decides the hub's tunnels; `pair` is this hub and the other one of its VPC.
///
/// # Errors
/// The hub has no public address.
pub(super) fn hub(facts: &Facts, pair: Option<&Members>, findings: &mut Findings) -> Result<Tunnels> {
    let public = facts.me.public.ok_or_else(|| {
        let error = Error::observe(
            "this hub has no public address on its first network interface: associate an Elastic IP with that \
             interface, as clients name the hub by it",
        );
        match &facts.observed.elsewhere {
            Some(elsewhere) => error.because(elsewhere.clone()),
            None => error,
        }
    })?;
    let end = End {
        facts,
        connection: &|gateway| ConnName::to_gateway(&gateway.vpc, &gateway.instance),
        eligible: &|_| Ok(()),
        spoke: &|gateway| gateway.vpc.clone(),
        local_id: IkeId::Hub(public),
        settles: 0,
    };
    let (mut chosen, roster) = end.choose(findings);
    let accepted = claims(facts, &chosen, findings);
    chosen.retain(|vpc, _| accepted.contains_key(vpc));
    let presence = end.present(chosen.values().map(|chosen| &chosen.peer), None);
    let mut out = Tunnels { removed: roster.removed, held: roster.held, ..Tunnels::default() };
    let mut state = State { regions: roster.regions, ..State::default() };
    let across = across::tunnel(facts, pair, presence.as_ref());
    for (vpc, chosen) in chosen {
        let gateway = &chosen.peer.gateway;
        let (Some(cidrs), Some(remote_addr)) = (accepted.get(&vpc), gateway.public) else { continue };
        let credential = end.credential(gateway, &chosen.peer.keys);
        let Some(auth) = findings.of_credential(credential, gateway.scope(), &vpc) else { continue };
        let child = |cidr: &Ipv4Net| {
            let local = facts.settings.private_net.clone();
            (child_name(cidr), Selectors { local, remote: [*cidr].into() })
        };
        let tunnel = Tunnel {
            vpc: Some(vpc.clone()),
            local_addr: facts.me.private,
            remote_addr,
            local_id: end.local_id.clone(),
            remote_id: remote_id(gateway),
            place: facts.places.for_use(&(end.connection)(gateway)),
            children: cidrs.iter().map(child).collect(),
            auth: signed_with(auth, presence.as_ref()),
        };
        let name = (end.connection)(gateway);
        out.tunnels.extend(next_key_proofs(&name, &tunnel, presence.as_ref()));
        out.tunnels.extend(end.stand_by(&chosen, &tunnel, remote_id, presence.as_ref(), findings));
        let by_other = across::leads(facts, &chosen, across.as_ref().map(|(name, _)| name));
        let place = if by_other { Place::Across } else { tunnel.place };
        out.routes.extend(cidrs.iter().map(|cidr| (*cidr, place)));
        out.tunnels.insert(name, tunnel);
        let gateway = Gateway { cidrs: cidrs.clone(), ..gateway.clone() };
        state.peers.insert(vpc, Peer { gateway, ..chosen.peer });
    }
    out.tunnels.extend(across);
    Ok(Tunnels { presence, state, ..out })
}

fn remote_id(gateway: &Gateway) -> IkeId {
    IkeId::Spoke(gateway.vpc.clone(), gateway.instance.clone())
}

/// The account of this gateway, if settings do not allow its VPCs this CIDR. An account that is no longer listed brings nothing new, and
/// what it has leaves as its gateways do.
fn not_allowed<'a>(facts: &'a Facts, gateway: &Gateway, cidr: &Ipv4Net) -> Option<&'a AccountName> {
    let account = facts.settings.accounts.get(gateway.account.as_ref()?)?;
    (!account.allow.iter().any(|net| net.contains(cidr))).then_some(&account.name)
}

/// The CIDRs that each VPC gets (safety rule 3). Those that already have a tunnel come first, then those of the VPC whose
/// gateway was launched first. A CIDR that overlaps an accepted one is refused alone, so that refusing one never harms
/// another.
fn claims(
    facts: &Facts,
    chosen: &BTreeMap<VpcId, Chosen>,
    findings: &mut Findings,
) -> BTreeMap<VpcId, BTreeSet<Ipv4Net>> {
    let holds =
        |vpc: &VpcId, cidr: &Ipv4Net| facts.state.peers.get(vpc).is_some_and(|p| p.gateway.cidrs.contains(cidr));
    let gateways = chosen.iter().map(|(vpc, chosen)| (vpc, &chosen.peer.gateway));
    let mut queue: Vec<_> = gateways.flat_map(|(vpc, g)| g.cidrs.iter().map(move |c| (vpc, c, g))).collect();
    queue.sort_by_key(|(vpc, cidr, g)| (!holds(vpc, cidr), g.launched, *vpc, **cidr));

    let mut accepted: BTreeMap<VpcId, BTreeSet<Ipv4Net>> = BTreeMap::new();
    let mut taken = Claims::new(&facts.me.vpc, &facts.me.cidrs);
    for (vpc, cidr, gateway) in queue {
        let reason = if !facts.settings.private_net.iter().any(|p| p.contains(cidr)) {
            Some("outside the private network".to_owned())
        } else if let Some(account) = not_allowed(facts, gateway, cidr) {
            Some(format!("not in allow of account {account}, so a VPC of that account may not bring it"))
        } else {
            match taken.claim(cidr, vpc) {
                Ok(()) => None,
                Err((with, holder)) if holder == facts.me.vpc => Some(format!("overlaps {with} of the hub's own VPC")),
                Err((with, holder)) => Some(format!("overlaps {with} of {holder}, which already holds it")),
            }
        };
        match reason {
            None => {
                accepted.entry(vpc.clone()).or_default().insert(*cidr);
            }
            Some(reason) => {
                findings.refused.insert(Refusal { cidr: Some(*cidr), ..refusal(gateway, Some(vpc), reason) });
            }
        }
    }
    accepted
}
