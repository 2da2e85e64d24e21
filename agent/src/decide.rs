//! decide: settings and what was seen -> the tunnels and NAT that should exist, and a reason for everything left out.
//!
//! Pure: no IO, no clock. The safety rules live here, one function each.

mod auth;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    claims::Claims,
    error::{Error, Result},
    model::{
        Answers, ConnName, Gateway, Identity, IkeId, Interface, Mode, Nat, PublicKey, Refusal, Secret, Selectors,
        Timestamp, Tunnel, TunnelMatch, VpcId, child_name,
    },
    roster::{Kept, Roster, roster},
    settings::Settings,
    state::{Peer, State},
    trust::{OwnKeys, Showing},
};

/// Everything `decide` may know. References only: nothing is consumed, nothing is fetched.
pub struct Seen<'a> {
    pub me: &'a Identity,
    /// What each listed region answered. Empty where the mode asks nothing.
    pub answers: &'a Answers,
    /// What the last good pass left behind.
    pub state: &'a State,
    pub now: Timestamp,
    /// The default route's interface.
    pub uplink: &'a Interface,
    /// Pre-shared keys.
    pub keys: &'a dyn Fn(&VpcId) -> KeyAnswer,
    /// This gateway's own keys; `None` if it has or may have none.
    pub own: Option<OwnKeys>,
    /// The hub that a spoke's charon has a connection to: for a state that does not know it.
    pub hub_in_use: Option<Ipv4Addr>,
    /// The keys of peers by which connections were last loaded: for a state that does not know them.
    pub pinned: &'a BTreeMap<ConnName, Vec<PublicKey>>,
    /// Peers whose new key the operator has found right.
    pub accept: &'a BTreeSet<VpcId>,
}

/// The pre-shared key for one peer, and what is wrong with its source.
#[derive(Debug, Clone, Default)]
pub struct KeyAnswer {
    pub key: Option<Secret>,
    /// Set when the configured key cannot be used; `key` is then the one in use so far, if there is one.
    pub problem: Option<String>,
}

/// What should exist after this pass.
#[derive(Debug, Clone)]
pub struct Decision {
    pub tunnels: BTreeMap<ConnName, Tunnel>,
    /// The own VPC's CIDRs that must bypass the tunnel; empty where there is no wider remote selector.
    pub bypass: BTreeSet<Ipv4Net>,
    pub nat: Nat,
    pub refused: BTreeSet<Refusal>,
    pub kept: Vec<Kept>,
    /// Peers that leave with this pass.
    pub removed: BTreeSet<VpcId>,
    pub held: Option<Held>,
    /// Gateways so young that their key is only a matter of moments: the pass should be made again soon.
    pub awaited: Vec<String>,
    /// How this gateway shows itself, if it has a key.
    pub showing: Option<Showing>,
    /// What to remember once the pass is verified.
    pub state: State,
}

/// A pass that would have removed too much and so removes nothing (safety rule 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub would_remove: usize,
    pub of: usize,
    pub hold_above: u8,
}

/// Decides one pass. `force` lets more peers go than `removal.hold_above`.
///
/// Fails only if this gateway itself cannot take part: a hub without a public address, a spoke without a key.
pub fn decide(settings: &Settings, seen: &Seen, force: bool) -> Result<Decision> {
    let mut decision = Decision {
        tunnels: BTreeMap::new(),
        bypass: BTreeSet::new(),
        nat: nat(settings, seen),
        refused: BTreeSet::new(),
        kept: Vec::new(),
        removed: BTreeSet::new(),
        held: None,
        awaited: Vec::new(),
        showing: None,
        state: State { identity: Some(seen.me.clone()), ..State::default() },
    };
    match settings.mode {
        Mode::NatHub => {}
        Mode::VpnHub => hub(settings, seen, force, &mut decision)?,
        Mode::NatVpn => spoke(settings, seen, force, &mut decision)?,
    }
    Ok(decision)
}

fn nat(settings: &Settings, seen: &Seen) -> Nat {
    let tunnel = match (settings.mode.has_ipsec(), &settings.ipsec_interface) {
        (false, _) => TunnelMatch::None,
        (true, None) => TunnelMatch::Policy,
        (true, Some(interface)) => TunnelMatch::Interface(interface.clone()),
    };
    Nat {
        private_net: settings.private_net.clone(),
        own: seen.me.cidrs.clone(),
        masquerade: settings.masquerade.then(|| seen.uplink.clone()),
        sources: settings.nat_sources.clone(),
        exclude: settings.guard_exclude.clone(),
        input: settings.guard_input.clone(),
        tunnel,
    }
}

/// The hub: one tunnel per client VPC, one child per accepted CIDR.
fn hub(settings: &Settings, seen: &Seen, force: bool, out: &mut Decision) -> Result<()> {
    let me = seen.me.public.ok_or_else(|| {
        Error::observe(
            "this hub has no public address on its first network interface: associate an Elastic IP with that one, the \
             clients name the hub by it",
        )
    })?;
    let Roster { mut peers, .. } = take_roster(settings, seen, force, out);
    let accepted = claims(settings, seen, &peers, &mut out.refused);
    peers.retain(|vpc, _| accepted.contains_key(vpc));
    let silent = seen.answers.values().any(|answer| answer.is_err());
    let pins = auth::keys_of(settings, seen, &peers, ConnName::to_vpc, silent, out);
    for (vpc, peer) in peers {
        let Some(cidrs) = accepted.get(&vpc) else { continue };
        let pin = pins.get(&vpc);
        let Some(auth) = auth::auth(settings, seen, &vpc, pin, Some(&peer.gateway), out) else { continue };
        let Some(remote_addr) = peer.gateway.public else { continue };
        let children = cidrs
            .iter()
            .map(|cidr| {
                let selectors = Selectors { local: settings.private_net.clone(), remote: [*cidr].into() };
                (child_name(cidr), selectors)
            })
            .collect();
        let tunnel = Tunnel {
            vpc: Some(vpc.clone()),
            local_addr: seen.me.private,
            remote_addr,
            local_id: IkeId::Hub(me),
            remote_id: IkeId::Vpc(vpc.clone()),
            children,
            auth,
        };
        out.tunnels.insert(ConnName::to_vpc(&vpc), tunnel);
        let gateway = Gateway { cidrs: cidrs.clone(), ..peer.gateway.clone() };
        out.state.peers.insert(vpc, Peer { gateway, pin: pin.cloned(), ..peer });
    }
    Ok(())
}

/// The spoke: one tunnel to the hub, one child per own CIDR inside the private network.
fn spoke(settings: &Settings, seen: &Seen, force: bool, out: &mut Decision) -> Result<()> {
    let asked = settings.hub.is_none() || !settings.regions.is_empty();
    let found = if asked { the_hub(settings, seen, force, out) } else { None };
    // A region that is silent hides no hub from a spoke that is connected to it.
    let remembered = || seen.hub_in_use.filter(|_| seen.answers.values().any(|answer| answer.is_err()));
    let hub = settings.hub.or(found.as_ref().and_then(|peer| peer.gateway.public)).or_else(remembered);
    let mut children = BTreeMap::new();
    for cidr in &seen.me.cidrs {
        if settings.private_net.iter().any(|p| p.contains(cidr)) {
            let selectors = Selectors { local: [*cidr].into(), remote: settings.private_net.clone() };
            children.insert(child_name(cidr), selectors);
        } else {
            out.refused.insert(Refusal {
                region: seen.me.region.clone(),
                vpc: Some(seen.me.vpc.clone()),
                instance: None,
                cidr: Some(*cidr),
                reason: "this VPC's own CIDR is outside the private network: not tunnelled".into(),
            });
        }
    }
    // Without the bypass a wide remote selector would also catch traffic inside the own VPC.
    out.bypass = seen.me.cidrs.clone();
    let Some(remote_addr) = hub else { return Ok(()) };
    let pin = auth::hub_pin(settings, seen, found.as_ref(), remote_addr, out);
    let found = found.map(|peer| Peer { pin: pin.clone(), ..peer });
    let hub = found.as_ref().map(|peer| &peer.gateway);
    let (vpc, auth) =
        (hub.map(|hub| hub.vpc.clone()), auth::auth(settings, seen, &seen.me.vpc, pin.as_ref(), hub, out));
    out.state.peers.extend(found.map(|peer| (peer.gateway.vpc.clone(), peer)));
    let Some(auth) = auth else {
        return Ok(());
    };
    if children.is_empty() {
        return Ok(());
    }
    let tunnel = Tunnel {
        vpc,
        local_addr: seen.me.private,
        remote_addr,
        local_id: IkeId::Vpc(seen.me.vpc.clone()),
        remote_id: IkeId::Hub(remote_addr),
        children,
        auth,
    };
    out.tunnels.insert(ConnName::to_hub(remote_addr), tunnel);
    Ok(())
}

/// The hub found by tag. Two hubs would share one kernel policy, and the newest would win (`docs/facts.md`, "Loading
/// connections"), so only one is used: the one that settings name by its address, else the one in use as long as it is
/// there, else the one launched first.
fn the_hub(settings: &Settings, seen: &Seen, force: bool, out: &mut Decision) -> Option<Peer> {
    let Roster { mut peers, .. } = take_roster(settings, seen, force, out);
    if let Some(named) = settings.hub {
        peers.retain(|_, peer| peer.gateway.public == Some(named));
    }
    let in_use = |vpc: &VpcId| seen.state.peers.contains_key(vpc);
    let (chosen, peer) = peers.iter().min_by_key(|(vpc, p)| (!in_use(vpc), p.gateway.launched, (*vpc).clone()))?;
    for (vpc, other) in peers.iter().filter(|(vpc, _)| *vpc != chosen) {
        let reason = format!("the hub in {chosen} already carries the private network");
        out.refused.insert(refusal(&other.gateway, Some(vpc), reason));
    }
    Some(peer.clone())
}

/// Runs the roster and moves its findings into the decision; what remains are the peers that stand.
fn take_roster(settings: &Settings, seen: &Seen, force: bool, out: &mut Decision) -> Roster {
    let mut r = roster(&settings.removal, seen, force);
    out.refused.append(&mut r.refused);
    out.kept.append(&mut r.kept);
    out.removed.append(&mut r.removed);
    out.held = r.held.take();
    out.state.regions = std::mem::take(&mut r.regions);
    r
}

/// Safety rule 3. Claims held by a tunnel come first, then the VPC whose gateway was launched first; a claim that
/// overlaps an accepted one is refused alone, so that refusing one never harms another.
fn claims(
    settings: &Settings,
    seen: &Seen,
    peers: &BTreeMap<VpcId, Peer>,
    refused: &mut BTreeSet<Refusal>,
) -> BTreeMap<VpcId, BTreeSet<Ipv4Net>> {
    let holds = |vpc: &VpcId, cidr: &Ipv4Net| seen.state.peers.get(vpc).is_some_and(|p| p.gateway.cidrs.contains(cidr));
    let mut queue: Vec<_> =
        peers.iter().flat_map(|(vpc, p)| p.gateway.cidrs.iter().map(move |c| (vpc, c, &p.gateway))).collect();
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

/// A refusal of this gateway for `reason`.
pub(crate) fn refusal(gateway: &Gateway, vpc: Option<&VpcId>, reason: String) -> Refusal {
    Refusal {
        region: gateway.region.clone(),
        vpc: vpc.cloned(),
        instance: Some(gateway.instance.clone()),
        cidr: None,
        reason,
    }
}

#[cfg(test)]
mod tests;
