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
mod facts;
mod findings;
mod gateways;
mod hub;
mod own_tags;
mod recover;
mod roster;
pub mod rotation;
mod spoke;
pub mod trust;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

pub use self::{
    contacts::Contacts,
    facts::{Held, Request},
    findings::{Findings, Kept, Replacing},
};
use self::{
    facts::{Facts, OwnAuth, Tunnels},
    rotation::Presence,
};
use crate::{
    error::Result,
    model::{ConnName, Mode, Nat, Tunnel, VpcId},
    observed::Observed,
    settings::Settings,
    state::State,
};

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
    findings.notes.extend(own_tags::tampered(observed));
    Ok(Decided {
        tunnels,
        bypass,
        nat: settings.nat(&observed.me, &observed.uplink),
        findings,
        removed,
        held,
        announce: own_tags::announce(presence.as_ref(), observed),
        presence,
        state: State { identity: Some(observed.me.clone()), disabled: regions.refused, ..state },
        known,
    })
}

#[cfg(test)]
mod tests;
