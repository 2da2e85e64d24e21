//! decide: settings and what was observed -> the tunnels and NAT that should exist, and a reason for everything left out.
//!
//! Pure: no IO, no clock. The safety rules live in the modules below: which regions count ([`disabled`]), what is known of
//! peers ([`recover`](mod@recover)), who is there ([`roster`]), which keys count ([`trust`]), which gateway of a VPC is used
//! ([`election`]), who holds which CIDR ([`claims`]), and how each tunnel is authenticated ([`credential`]).

mod claims;
mod contacts;
mod credential;
pub mod disabled;
mod election;
mod findings;
mod gateways;
mod hub;
mod own;
mod recover;
mod roster;
pub mod rotation;
mod spoke;
pub mod trust;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use self::{
    contacts::Contacts,
    findings::{Findings, Kept, Replacing},
};
use self::{credential::OwnAuth, rotation::Presence};
use crate::{
    error::Result,
    model::{Answers, ConnName, Identity, Interface, Mode, Nat, PublicKey, Tunnel, TunnelMatch, VpcId},
    observed::Observed,
    settings::Settings,
    state::State,
};

/// What the operator asked of this pass.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Stop after the plan.
    pub dry_run: bool,
    /// Let more peers go than `removal.hold_above`.
    pub force: bool,
    /// Make the next key now, whatever the age of the current one.
    pub rotate: bool,
    /// The fingerprints of keys that are right though their VPCs' gateways are not known by them.
    pub accept: BTreeMap<VpcId, String>,
}

/// What should exist after this pass.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Tunnels, and connections without a child by which a gateway or a key proves that it works.
    pub tunnels: BTreeMap<ConnName, Tunnel>,
    /// The own VPC's CIDRs that must bypass the tunnel; empty where there is no wider remote selector.
    pub bypass: BTreeSet<Ipv4Net>,
    pub nat: Nat,
    pub findings: Findings,
    /// Peers that leave with this pass.
    pub removed: BTreeSet<VpcId>,
    pub held: Option<Held>,
    /// How this gateway presents itself, if it has a key.
    pub presence: Option<Presence>,
    /// Its tags that do not say what they should, and what they should say.
    pub announce: Vec<(&'static str, String)>,
    /// What was known of peers before this pass.
    pub known: State,
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

/// What the modules below decide by.
struct Facts<'a> {
    settings: &'a Settings,
    request: &'a Request,
    observed: &'a Observed,
    me: &'a Identity,
    /// Of the regions that count.
    answers: &'a Answers,
    /// What was known of peers.
    state: &'a State,
    /// The connections that charon has: for a state that does not know them.
    loaded: BTreeSet<ConnName>,
    contacts: Contacts,
    own: OwnAuth<'a>,
}

/// What hub and spoke decide.
#[derive(Debug, Default)]
struct Tunnels {
    tunnels: BTreeMap<ConnName, Tunnel>,
    bypass: BTreeSet<Ipv4Net>,
    removed: BTreeSet<VpcId>,
    held: Option<Held>,
    presence: Option<Presence>,
    state: State,
}

/// Decides one pass.
///
/// # Errors
/// This gateway itself cannot take part: a hub without a public address.
pub fn decide(settings: &Settings, observed: &Observed, request: &Request) -> Result<Decided> {
    let mut findings = Findings::default();
    let mut answers = observed.answers.clone();
    let regions = disabled::sort_out(&mut answers, &observed.state, settings.removal.spacing, observed.now);
    findings.not_enabled = regions.not_enabled;
    let known = recover::recover(observed, &answers);
    let charon = observed.system.charon.as_ref();
    let facts = Facts {
        settings,
        request,
        observed,
        me: &observed.me,
        answers: &answers,
        state: &known,
        loaded: charon.iter().flat_map(|c| c.connections.keys()).filter_map(|name| name.parse().ok()).collect(),
        contacts: charon.map(|charon| Contacts::of(&charon.sas)).unwrap_or_default(),
        own: OwnAuth::of(settings, observed.own.as_ref()),
    };
    let Tunnels { tunnels, bypass, removed, held, presence, state } = match settings.mode {
        Mode::NatHub => Tunnels::default(),
        Mode::VpnHub => hub::hub(&facts, &mut findings)?,
        Mode::NatVpn => spoke::spoke(&facts, &mut findings),
    };
    findings.notes.extend(own::tampered(observed));
    Ok(Decided {
        tunnels,
        bypass,
        nat: nat(settings, &observed.me, &observed.uplink),
        findings,
        removed,
        held,
        announce: own::announce(presence.as_ref(), observed),
        presence,
        state: State { identity: Some(observed.me.clone()), disabled: regions.refused, ..state },
        known,
    })
}

/// The NAT and guard rules that should exist.
pub fn nat(settings: &Settings, me: &Identity, uplink: &Interface) -> Nat {
    let tunnel = match (settings.mode.has_ipsec(), &settings.ipsec_interface) {
        (false, _) => TunnelMatch::None,
        (true, None) => TunnelMatch::Policy,
        (true, Some(interface)) => TunnelMatch::Interface(interface.clone()),
    };
    Nat {
        private_net: settings.private_net.clone(),
        own: me.cidrs.clone(),
        masquerade: settings.masquerade.then(|| uplink.clone()),
        sources: settings.nat_sources.clone(),
        exclude: settings.guard_exclude.clone(),
        input: settings.guard_input.clone(),
        tunnel,
    }
}

impl Facts<'_> {
    /// The keys of a peer by which its connection was last loaded.
    fn pinned(&self, name: &ConnName) -> Option<&Vec<PublicKey>> {
        self.observed.system.peer_keys.get(name)
    }
}

#[cfg(test)]
mod tests;
