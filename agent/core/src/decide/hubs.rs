//! Which hubs a spoke has a tunnel to, and which of two is in use where EC2 does not show both: the one that has said so as a member of a
//! pair, else the one that the routes lead to, until its tunnel is down and the other one's is up. Nothing else remembers it.

use std::net::Ipv4Addr;

use super::{
    credential::{Credential, Link},
    facts::Facts,
    findings::Findings,
    gateways::{Chosen, End},
};
use crate::model::{ConnName, Gateway, PublicKey};

/// A hub that this spoke has a tunnel to.
#[derive(Debug, Clone)]
pub(super) struct Hub<'a> {
    pub name: ConnName,
    pub address: Ipv4Addr,
    /// `None` where EC2 was not asked or does not show it.
    pub gateway: Option<&'a Gateway>,
    pub keys: Vec<PublicKey>,
}

impl<'a> Hub<'a> {
    /// The hub that EC2 shows.
    fn found(facts: &Facts, address: Ipv4Addr, chosen: &'a Chosen) -> Hub<'a> {
        let (gateway, keys) = (&chosen.peer.gateway, chosen.peer.keys.clone());
        Hub { name: connection(facts, address, Some(gateway)), address, gateway: Some(gateway), keys }
    }

    /// A hub that EC2 does not show or was not asked about. Its keys are those of settings, otherwise those loaded last.
    fn unseen(facts: &Facts, address: Ipv4Addr) -> Hub<'a> {
        let name = connection(facts, address, None);
        let keys = match facts.settings.auth.hub_key.of(Some(address)) {
            _ if facts.own.keys().is_none() => Vec::new(),
            [] => facts.pinned(&name).cloned().unwrap_or_default(),
            keys => keys.to_vec(),
        };
        Hub { name, address, gateway: None, keys }
    }

    /// How its tunnel can be authenticated.
    pub(super) fn credential(&self, end: &End) -> Credential {
        match self.gateway {
            Some(hub) => end.credential(hub, &self.keys),
            None => {
                let spoke = &end.facts.me.vpc;
                Link { spoke, peer: None, keys: &self.keys, known: true }.credential(end.facts)
            }
        }
    }
}

/// The name of the connection to the hub at this address: the one that is loaded, otherwise one with the hub's instance if that
/// is known.
pub(super) fn connection(facts: &Facts, address: Ipv4Addr, hub: Option<&Gateway>) -> ConnName {
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

/// The hubs that this spoke has tunnels to, at most two: those that settings name, in their order, with what EC2 shows of them;
/// otherwise the one that EC2 shows. One that stands by in the VPC of the chosen one is not among them.
pub(super) fn hubs<'a>(facts: &Facts, chosen: Option<&'a Chosen>) -> Vec<Hub<'a>> {
    let named = facts.settings.hub.iter();
    let Some(chosen) = chosen else {
        let named: Vec<_> = named.map(|address| Hub::unseen(facts, *address)).collect();
        // While a region does not answer, the hub that this spoke is connected to counts as found.
        let silent = facts.answers.values().any(|answer| answer.is_err());
        let remembered = facts.loaded.iter().find_map(ConnName::hub).filter(|_| silent && named.is_empty());
        return named.into_iter().chain(remembered.map(|(address, _)| Hub::unseen(facts, address))).collect();
    };
    let Some(found) = chosen.peer.gateway.public.or(facts.settings.hub.first().copied()) else { return Vec::new() };
    let mut hubs: Vec<_> = named
        .filter(|address| **address == found || chosen.others.is_empty() && !is_shown(facts, **address))
        .map(|address| if *address == found { Hub::found(facts, found, chosen) } else { Hub::unseen(facts, *address) })
        .collect();
    if hubs.is_empty() {
        hubs.push(Hub::found(facts, found, chosen));
    }
    hubs
}

/// Whether EC2 shows a gateway at this address, used or not.
fn is_shown(facts: &Facts, address: Ipv4Addr) -> bool {
    facts.answers.values().flatten().flat_map(|view| &view.gateways).any(|gateway| gateway.public == Some(address))
}

/// The hub in use, of those that this spoke can have a tunnel to: the one that has said so, else the one that the routes lead to, at first
/// the first one. It is followed by another only if no packet can pass by it and packets can pass by the other, so a move costs nothing and
/// needs no patience. One that comes back takes nothing. One that is only drained is not used.
pub(super) fn in_use<'h, 'a>(facts: &Facts, hubs: &'h [Hub<'a>], drained: Option<&ConnName>) -> Option<&'h Hub<'a>> {
    let routed = facts.routed_hub();
    let mut usable = hubs.iter().filter(|hub| Some(&hub.name) != drained);
    let said = usable.clone().find(|hub| facts.followed(&hub.name).is_some());
    let was =
        said.or_else(|| usable.clone().find(|hub| Some(&hub.name) == routed)).or_else(|| usable.clone().next())?;
    let works = |hub: &&Hub| facts.contacts.carries_as(&hub.name, &was.name);
    let next = usable.find(|hub| facts.contacts.is_dead(&was.name) && works(hub));
    Some(next.unwrap_or(was))
}

/// A hub that settings no longer name, while its tunnel carries packets. An operator who wants it gone at once says so.
#[derive(Debug)]
pub(super) struct Leaving {
    pub hub: Hub<'static>,
    /// Whether it is in use until the tunnel to one of those that settings name carries as much. Otherwise it is only drained: the
    /// other spokes decide at times of their own, and until then their packets come through it. It stays for one pass.
    pub in_use: bool,
}

impl Leaving {
    /// The hub, if it is only drained.
    pub(super) fn drained(&self) -> Option<&Hub<'static>> {
        (!self.in_use).then_some(&self.hub)
    }

    /// This hub and the one of `named` for which there is a place beside it, with a note of it.
    pub(super) fn beside<'a>(&self, facts: &Facts, mut named: Vec<Hub<'a>>, findings: &mut Findings) -> Vec<Hub<'a>> {
        let until = match self.in_use {
            true => format!("is in use until the one to {} is up", named[0].address),
            false => "stays until the next refresh, because packets of others may still come through it".to_owned(),
        };
        findings.notes.push(format!(
            "the tunnel to {}, which settings no longer name, {until}; to end it now: crosswan refresh --force",
            self.hub.address
        ));
        if self.in_use {
            named.truncate(1);
        } else if let Some(used) = in_use(facts, &named, None).map(|hub| hub.name.clone()) {
            named.retain(|hub| hub.name == used);
        }
        named.push(self.hub.clone());
        named
    }
}

/// The hub that leaves, `named` being those that settings name. There are two places, so of two that leave it is the one in use.
pub(super) fn leaving(facts: &Facts, named: &[Hub]) -> Option<Leaving> {
    let Facts { settings, contacts, .. } = facts;
    if settings.hub.is_empty() || facts.request.force {
        return None;
    }
    let routed = facts.routed_hub();
    let left = |name: &&ConnName| {
        contacts.carries(name) && name.hub().is_some_and(|(address, _)| !settings.hub.contains(&address))
    };
    let name = routed.into_iter().chain(&facts.loaded).find(left)?;
    let (address, _) = name.hub()?;
    let in_use = Some(name) == routed && !named.iter().any(|hub| contacts.carries_as(&hub.name, name));
    if !in_use && facts.state.drained == Some(address) {
        return None;
    }
    let keys = facts.pinned(name).filter(|_| facts.own.keys().is_some()).cloned().unwrap_or_default();
    Some(Leaving { hub: Hub { name: name.clone(), address, gateway: None, keys }, in_use })
}
