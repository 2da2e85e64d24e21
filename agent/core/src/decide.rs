//! decide: settings and what was observed -> the tunnels and NAT that should exist, and a reason for everything left out.
//!
//! Pure: no IO, no clock. The safety rules are in the modules below: which regions count (`disabled`), what is known about
//! peers (`recover`), who is there (`roster`), which keys count ([`trust`]), which gateway of a VPC is used (`election`),
//! which VPC holds which CIDR (`claims`), and how each tunnel is authenticated (`credential`).

mod across;
mod address;
mod beside;
mod claims;
mod contacts;
mod credential;
mod disabled;
mod election;
mod facts;
mod findings;
mod gateways;
mod hub;
mod hubs;
mod met;
mod own_tags;
mod pair;
mod places;
mod recover;
mod roster;
pub mod rotation;
mod segments;
mod spoke;
mod third;
pub mod trust;
mod vpc_routes;
mod zones;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

pub use self::{
    address::{AddressIs, Candidate, OwnAddress, TakeAddress, address},
    disabled::NotEnabled,
    facts::{Held, Request},
    findings::{Findings, Kept, Replacing},
    segments::{Membership, Segmented},
    vpc_routes::{Needs, RouteIs, TakeRoute, VpcRoutes, vpc_routes},
    zones::Owner,
};
use self::{
    contacts::Contacts,
    facts::{Facts, OwnAuth, Tunnels},
    places::Places,
    rotation::Presence,
};
use crate::{
    error::Result,
    model::{ConnName, Mode, Nat, Tunnel, VpcId},
    observed::Observed,
    pair::{Beside, Members},
    settings::Settings,
    state::State,
    system::Routing,
};

/// What should exist after this pass.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The tunnels, and the connections without a child by which a gateway or a key proves that it works.
    pub tunnels: BTreeMap<ConnName, Tunnel>,
    /// The interfaces, rules and routes that lead packets into the tunnels; empty in a mode without tunnels.
    pub routing: Routing,
    /// What becomes of this gateway's Elastic IP.
    pub address: OwnAddress,
    /// What becomes of the own VPC's routes to this gateway.
    pub vpc_routes: VpcRoutes,
    /// The NAT and guard rules that this gateway should have.
    pub nat: Nat,
    /// Which segments the VPCs are in; `None` where there are none.
    pub segments: Option<Segmented>,
    /// The members of the pair, if there is one.
    pub pair: Option<Members>,
    /// The two that this gateway waits beside, if they are the pair.
    pub beside: Option<Beside>,
    /// The words of far pairs that this pass goes against, as no packet can pass by those gateways: by party, the generation.
    pub overruled: BTreeMap<String, u32>,
    /// What has to be said about peers, with the reasons.
    pub findings: Findings,
    /// Peers that leave with this pass.
    pub removed: BTreeSet<VpcId>,
    /// Set if peers stay because too many would have left at once.
    pub held: Option<Held>,
    /// Which keys this gateway signs with and announces, if it has a key.
    pub presence: Option<Presence>,
    /// The own tags that do not say what they should, each with the value that it should have.
    pub announce: Vec<(&'static str, String)>,
    /// What was known about peers before this pass.
    pub known: State,
    /// What to remember once this pass is verified.
    pub state: State,
}

/// Decides one pass: `settings` and `request` are the operator's, `observed` is everything that was found out.
///
/// # Errors
/// This gateway is a hub without a public address.
pub fn decide(settings: &Settings, observed: &Observed, request: &Request) -> Result<Decided> {
    let mut findings = Findings::default();
    let regions = disabled::sort_out(&observed.answers, &observed.state, settings.removal.spacing, observed.now);
    let mut answers = Cow::Borrowed(&observed.answers);
    for out in &regions.not_enabled {
        answers.to_mut().remove(&out.region);
    }
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
        places: Places::of(&observed.system),
        own: OwnAuth::of(settings, observed.own.as_ref()),
    };
    let address = address(settings, observed);
    let pair = pair::members(settings, observed);
    let Tunnels { mut tunnels, mut routes, removed, held, presence, state } = match settings.mode {
        Mode::NatHub => Tunnels { presence: own_tags::of_nat_hub(settings, observed), ..Tunnels::default() },
        Mode::VpnHub => hub::hub(&facts, pair.as_ref().ok(), &mut findings)?,
        Mode::NatVpn => spoke::spoke(&facts, &mut findings),
    };
    // A tunnel belongs to an address: it would break as soon as this gateway takes its own. What there is already stays.
    if address.is_awaited() && facts.loaded.is_empty() && observed.system.believed.connections.is_empty() {
        tunnels.clear();
        routes.clear();
    }
    findings.notes.extend(own_tags::tampered(settings, observed));
    let (me, private_net) = (&observed.me, &settings.private_net);
    let across = tunnels.keys().any(|name| name.other_hub().is_some());
    let routing = match settings.mode.has_ipsec() {
        true => Routing::of(&me.cidrs, private_net, &settings.guard_exclude, me.private, &routes).across(across),
        false => Routing::default(),
    };
    findings.notes.extend(pair.as_ref().err().cloned().flatten());
    findings.notes.extend(beside::note(settings, observed));
    let pair = pair.ok();
    let segments = segments::segments(settings, observed, &state.peers, &mut findings);
    let routing = match &segments {
        Some(segments) => routing.in_realms(segments.realm(&state)),
        None => routing,
    };
    let overruled = observed.system.followed.against(&routing);
    let base = settings.nat(&observed.me, &observed.uplink);
    let to_hubs = tunnels.iter().filter(|(name, tunnel)| name.hub().is_some() && !tunnel.children.is_empty());
    let has_two_hubs = to_hubs.count() > 1;
    let nat = Nat {
        segments: segments.as_ref().map(|segments| segments.rules.clone()),
        beats: pair.as_ref().map(|pair| (pair.port, pair.other.address)),
        across,
        // A client's gateway that is alone has nothing to say to its only hub, nor to hear.
        far: base.far.filter(|_| settings.mode == Mode::VpnHub || pair.is_some() || has_two_hubs),
        ..base
    };
    let vpc_routes = vpc_routes(settings, observed, address.awaited());
    findings.awaited.extend(vpc_routes.left.iter().cloned());
    let routes = vpc_routes.held.clone();
    let met = met::met(observed, pair.as_ref());
    Ok(Decided {
        tunnels,
        routing,
        address,
        vpc_routes,
        nat,
        pair,
        beside: beside::beside(settings, observed),
        overruled,
        findings,
        removed,
        held,
        announce: own_tags::announce(presence.as_ref(), observed),
        presence,
        state: State {
            identity: Some(observed.me.clone()),
            disabled: regions.refused,
            routes,
            segment: segments.as_ref().and_then(|segments| segments.tag.clone()),
            met,
            ..state
        },
        segments,
        known,
    })
}

#[cfg(test)]
mod tests;
