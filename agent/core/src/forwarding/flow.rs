//! The traffic that this gateway should forward, as sets of addresses and interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::model::{Interface, Mode, Nat, TunnelMatch};

/// For how many packets of a flow something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    None,
    /// For some, or it cannot be told.
    Some,
    All,
}

impl Answer {
    pub fn opposite(self) -> Answer {
        match self {
            Answer::None => Answer::All,
            Answer::Some => Answer::Some,
            Answer::All => Answer::None,
        }
    }
}

/// A set of addresses.
#[derive(Debug, Clone)]
pub enum Addresses {
    In(BTreeSet<Ipv4Net>),
    /// All but these: the internet.
    NotIn(BTreeSet<Ipv4Net>),
}

impl Addresses {
    /// How much of the set lies in `nets`.
    pub fn within(&self, nets: &[Ipv4Net]) -> Answer {
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

/// One kind of traffic, in one direction.
#[derive(Debug, Clone)]
pub struct Flow {
    /// As the report calls it.
    pub what: &'static str,
    pub from: Addresses,
    pub to: Addresses,
    /// The interfaces it may come and go by.
    pub input: BTreeSet<String>,
    pub output: BTreeSet<String>,
    /// conntrack's state of a packet that decides: the first, or for answers one of the rest.
    pub state: &'static str,
    /// Its source address must stay what it is.
    pub keeps_source: bool,
}

/// What this gateway forwards, as the last refresh decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub own: BTreeSet<Ipv4Net>,
    /// Further networks that are masqueraded.
    pub sources: BTreeSet<Ipv4Net>,
    pub private_net: BTreeSet<Ipv4Net>,
    pub uplink: Interface,
    pub masquerade: bool,
    /// There are tunnels; in userspace they are this device.
    pub tunnels: bool,
    pub device: Option<Interface>,
    /// Packets go from tunnel to tunnel.
    pub hub: bool,
}

impl Traffic {
    pub fn of(mode: Mode, nat: &Nat, uplink: &Interface) -> Traffic {
        let device = match &nat.tunnel {
            TunnelMatch::Interface(device) => Some(device.clone()),
            TunnelMatch::None | TunnelMatch::Policy => None,
        };
        Traffic {
            own: nat.own.clone(),
            sources: nat.sources.clone(),
            private_net: nat.private_net.clone(),
            uplink: uplink.clone(),
            masquerade: nat.masquerade.is_some(),
            tunnels: nat.tunnel != TunnelMatch::None,
            device,
            hub: mode == Mode::VpnHub,
        }
    }

    /// The flows, on a host with these `interfaces` and their addresses: the VPC is where an address of its CIDRs is.
    pub fn flows(&self, interfaces: &BTreeMap<String, Vec<Ipv4Addr>>) -> Vec<Flow> {
        let uplink = BTreeSet::from([self.uplink.to_string()]);
        let in_vpc = |addresses: &Vec<Ipv4Addr>| addresses.iter().any(|a| self.own.iter().any(|own| own.contains(a)));
        let vpc: BTreeSet<String> =
            interfaces.iter().filter(|(_, a)| in_vpc(a)).map(|(name, _)| name.clone()).collect();
        let vpc = if vpc.is_empty() { uplink.clone() } else { vpc };
        // Out of a tunnel of the kernel's a packet comes by the interface that ESP came by.
        let tunnel = match &self.device {
            Some(device) => BTreeSet::from([device.to_string()]),
            None => vpc.union(&uplink).cloned().collect(),
        };
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
