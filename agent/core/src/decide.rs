//! decide: settings and what was seen -> the tunnels and NAT that should exist, and a reason for everything left out.
//!
//! Pure: no IO, no clock. The safety rules live in the modules below: who is there ([`roster`]), which keys count
//! ([`trust`]), which gateway of a VPC is used ([`election`]), who holds which CIDR ([`claims`]), and how each tunnel is
//! authenticated ([`credential`]).

mod claims;
mod contacts;
mod credential;
pub mod disabled;
mod election;
mod gateways;
mod hub;
mod recover;
mod roster;
pub mod rotation;
mod spoke;
pub mod trust;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use self::{contacts::Contacts, recover::recover, roster::Kept};
use self::{
    credential::{Credential, NoAuth},
    roster::Roster,
    rotation::{OwnKeys, Presence},
};
use crate::{
    error::Result,
    model::{
        Answers, Auth, ConnName, Gateway, Identity, InstanceId, Interface, Mode, Nat, PublicKey, Refusal, Region,
        Secret, Timestamp, Tunnel, TunnelMatch, VpcId,
    },
    settings::Settings,
    state::State,
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
    /// The IKE_SAs of this moment.
    pub contacts: &'a Contacts,
    /// The connections that charon has: for a state that does not know them.
    pub loaded: &'a BTreeSet<ConnName>,
    /// The keys of peers by which connections were last loaded: for a state that does not know them.
    pub pinned: &'a BTreeMap<ConnName, Vec<PublicKey>>,
    /// The fingerprints of the keys that the operator has found right.
    pub accept: &'a BTreeMap<VpcId, String>,
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
    /// Tunnels, and connections without a child by which a gateway or a key proves that it works.
    pub tunnels: BTreeMap<ConnName, Tunnel>,
    /// The own VPC's CIDRs that must bypass the tunnel; empty where there is no wider remote selector.
    pub bypass: BTreeSet<Ipv4Net>,
    pub nat: Nat,
    pub refused: BTreeSet<Refusal>,
    pub kept: Vec<Kept>,
    /// Gateways that will be used once they have worked.
    pub replacing: Vec<Replacing>,
    /// Peers that leave with this pass.
    pub removed: BTreeSet<VpcId>,
    pub held: Option<Held>,
    /// Gateways so young that their key is only a matter of moments: the pass should be made again soon.
    pub awaited: Vec<String>,
    /// How this gateway presents itself, if it has a key.
    pub presence: Option<Presence>,
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

/// A gateway that waits beside the one in use, and for what (safety rule 4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Replacing {
    pub vpc: VpcId,
    pub region: Region,
    /// The gateway in use.
    pub old: InstanceId,
    pub new: InstanceId,
    pub why: String,
}

/// Decides one pass. `force` lets more peers go than `removal.hold_above`.
///
/// Fails only if this gateway itself cannot take part: a hub without a public address.
pub fn decide(settings: &Settings, seen: &Seen, force: bool) -> Result<Decision> {
    let mut decision = Decision {
        tunnels: BTreeMap::new(),
        bypass: BTreeSet::new(),
        nat: nat(settings, seen),
        refused: BTreeSet::new(),
        kept: Vec::new(),
        replacing: Vec::new(),
        removed: BTreeSet::new(),
        held: None,
        awaited: Vec::new(),
        presence: None,
        state: State { identity: Some(seen.me.clone()), ..State::default() },
    };
    match settings.mode {
        Mode::NatHub => {}
        Mode::VpnHub => hub::hub(settings, seen, force, &mut decision)?,
        Mode::NatVpn => spoke::spoke(settings, seen, force, &mut decision),
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

impl Decision {
    /// Takes over what the roster found.
    fn take(&mut self, roster: &mut Roster) {
        self.refused.append(&mut roster.refused);
        self.kept.append(&mut roster.kept);
        self.removed.append(&mut roster.removed);
        self.held = roster.held.take();
        self.state.regions = std::mem::take(&mut roster.regions);
    }

    /// The credential of a client VPC's tunnel; what is wrong with it is reported.
    fn credential(&mut self, credential: Credential, region: &Region, vpc: &VpcId) -> Option<Auth> {
        let (vpc, region) = (vpc.clone(), region.clone());
        if let Some(why) = credential.kept {
            self.kept.push(Kept { vpc: vpc.clone(), region: region.clone(), why });
        }
        match credential.auth {
            Ok(auth) => return Some(auth),
            Err(NoAuth::Awaited(what)) => self.awaited.push(what),
            Err(NoAuth::Missing(reason)) => {
                self.refused.insert(Refusal { region, vpc: Some(vpc), instance: None, cidr: None, reason });
            }
            Err(NoAuth::Refused) => {}
        }
        None
    }

    /// Adds the connections by which this gateway's next key and the peer's are proved beside `tunnel`.
    fn prove_next_keys(&mut self, name: &ConnName, tunnel: &Tunnel, own_next: Option<PublicKey>) {
        let Auth::Key { own, peer } = &tunnel.auth else { return };
        let proof = |local_id, remote_id, own: PublicKey, peer: Vec<PublicKey>| Tunnel {
            local_id,
            remote_id,
            children: BTreeMap::new(),
            auth: Auth::Key { own, peer },
            ..tunnel.clone()
        };
        if let Some(next) = own_next {
            let local_id = tunnel.local_id.next(next);
            let proof = proof(local_id, tunnel.remote_id.clone(), next, peer.clone());
            self.tunnels.insert(name.own_next(), proof);
        }
        if let [_, next] = peer[..] {
            let proof = proof(tunnel.local_id.clone(), tunnel.remote_id.next(next), *own, vec![next]);
            self.tunnels.insert(name.peer_next(), proof);
        }
    }
}

/// A refusal of this gateway for `reason`.
fn refusal(gateway: &Gateway, vpc: Option<&VpcId>, reason: String) -> Refusal {
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
