//! The traffic that this gateway should forward, as sets of addresses and interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::model::{Interface, Mode, Nat, Place};

/// For how many packets of a flow something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    None,
    /// For some of them, or that is not known.
    Some,
    All,
}

impl Answer {
    pub(super) fn opposite(self) -> Answer {
        match self {
            Answer::None => Answer::All,
            Answer::Some => Answer::Some,
            Answer::All => Answer::None,
        }
    }
}

/// A set of addresses.
#[derive(Debug, Clone)]
pub(super) enum Addresses {
    In(BTreeSet<Ipv4Net>),
    /// All but these: the internet.
    NotIn(BTreeSet<Ipv4Net>),
}

impl Addresses {
    /// How much of the set lies in `nets`.
    pub(super) fn within(&self, nets: &[Ipv4Net]) -> Answer {
        let everything = nets.iter().any(|net| net.prefix_len() == 0);
        let overlap = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
        match self {
            _ if everything => Answer::All,
            Addresses::In(set) if set.iter().all(|own| nets.iter().any(|net| net.contains(own))) => Answer::All,
            Addresses::In(set) if set.iter().all(|own| !nets.iter().any(|net| overlap(net, own))) => Answer::None,
            Addresses::NotIn(set) if nets.iter().all(|net| set.iter().any(|out| out.contains(net))) => Answer::None,
            _ => Answer::Some,
        }
    }
}

/// One kind of traffic that this gateway should forward, in one direction.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Its name in the report.
    pub(super) what: &'static str,
    pub(super) from: Addresses,
    pub(super) to: Addresses,
    /// The interfaces that it may arrive and leave through.
    pub(super) input: BTreeSet<String>,
    pub(super) output: BTreeSet<String>,
    /// conntrack's state of the packets that are judged: `new`, or for answers `established`.
    pub(super) state: &'static str,
    /// Whether its source address must not be replaced.
    pub(super) keeps_source: bool,
}

/// What this gateway forwards, as the last refresh decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The own VPC's CIDRs.
    pub own: BTreeSet<Ipv4Net>,
    /// Further networks that are masqueraded.
    pub sources: BTreeSet<Ipv4Net>,
    /// The networks that are reached through tunnels.
    pub private_net: BTreeSet<Ipv4Net>,
    /// The default route's interface.
    pub uplink: Interface,
    /// Whether it does NAT to the internet.
    pub masquerade: bool,
    /// Whether there are tunnels.
    pub tunnels: bool,
    /// Whether packets go from tunnel to tunnel.
    pub hub: bool,
}

impl Traffic {
    /// The traffic that the rules of `nat` are made for.
    pub fn of(mode: Mode, nat: &Nat, uplink: &Interface) -> Traffic {
        Traffic {
            own: nat.own.clone(),
            sources: nat.sources.clone(),
            private_net: nat.private_net.clone(),
            uplink: uplink.clone(),
            masquerade: nat.masquerade.is_some(),
            tunnels: nat.tunnels,
            hub: mode == Mode::VpnHub,
        }
    }

    /// The flows, on a host with these `interfaces` and their addresses. An interface with an address of the own VPC leads to it.
    pub fn flows(&self, interfaces: &BTreeMap<String, Vec<Ipv4Addr>>) -> Vec<Flow> {
        let uplink = BTreeSet::from([self.uplink.to_string()]);
        let in_vpc = |addresses: &Vec<Ipv4Addr>| addresses.iter().any(|a| self.own.iter().any(|own| own.contains(a)));
        let vpc: BTreeSet<String> =
            interfaces.iter().filter(|(_, a)| in_vpc(a)).map(|(name, _)| name.clone()).collect();
        let vpc = if vpc.is_empty() { uplink.clone() } else { vpc };
        let tunnel = Place::FAR_ENDS.map(|place| place.interface().to_owned()).into();
        let (own, private) = (Addresses::In(self.own.clone()), Addresses::In(self.private_net.clone()));
        let internet = Addresses::NotIn(self.own.union(&self.private_net).copied().collect());
        let flow =
            |what, from: &Addresses, to: &Addresses, ways: (&BTreeSet<String>, &BTreeSet<String>), state, keeps| {
                let (input, output) = (ways.0.clone(), ways.1.clone());
                Flow { what, from: from.clone(), to: to.clone(), input, output, state, keeps_source: keeps }
            };
        let inside = Addresses::In(self.own.union(&self.sources).copied().collect());
        let mut flows = Vec::new();
        if self.masquerade {
            flows.push(flow("NAT to the internet", &inside, &internet, (&vpc, &uplink), "new", false));
            flows.push(flow("answers from the internet", &internet, &inside, (&uplink, &vpc), "established", false));
        }
        if self.tunnels {
            flows.push(flow("traffic into tunnels", &own, &private, (&vpc, &tunnel), "new", true));
            flows.push(flow("traffic out of tunnels", &private, &own, (&tunnel, &vpc), "new", true));
        }
        if self.hub {
            flows.push(flow("traffic between tunnels", &private, &private, (&tunnel, &tunnel), "new", true));
        }
        flows
    }
}
