//! The NAT and guard rules of a gateway, as values.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;

use super::{BadName, Interface, Segments};

/// The NAT and guard rules that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    /// The networks that are excluded from NAT and may not travel in the clear.
    pub private_net: BTreeSet<Ipv4Net>,
    /// The own VPC's CIDRs.
    pub own: BTreeSet<Ipv4Net>,
    /// The default route's interface, if the own VPC's CIDRs are masqueraded behind it.
    pub masquerade: Option<Interface>,
    /// Further networks to masquerade. Their packets reach this gateway through a Transit Gateway or a peering.
    pub sources: BTreeSet<Ipv4Net>,
    /// Parts of the private network that this gateway itself reaches in the clear.
    pub exclude: BTreeSet<Ipv4Net>,
    /// The ports of this gateway that can be reached from a tunnel. ICMP always can.
    pub input: BTreeSet<Opening>,
    /// Whether there are tunnels. A packet is tunnelled if it comes or goes through an interface of crosswan's.
    pub tunnels: bool,
    /// Which tunnels may reach which; `None` if all may.
    pub segments: Option<Segments>,
    /// The port of a pair's beats and the other member, from whom alone they are taken; `None` without a pair.
    pub beats: Option<(u16, Ipv4Addr)>,
    /// Whether there is a tunnel to the other hub of a pair.
    pub across: bool,
    /// The port of the beats that come out of tunnels; `None` where nobody hears them.
    pub far: Option<u16>,
}

/// A port of this gateway that is open to tunnels, written as in settings: `tcp/22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub port: u16,
}

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, `tcp` in settings.
    Tcp,
    /// UDP, `udp` in settings.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Protocol::Tcp { "tcp" } else { "udp" })
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.port)
    }
}

impl FromStr for Opening {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (protocol, port) = text.split_once('/').unwrap_or_default();
        let protocol = match protocol {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        };
        // Only digits: `u16` would also accept "+22".
        let port = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit())).and_then(|p| p.parse().ok());
        match (protocol, port) {
            (Some(protocol), Some(port @ 1..)) => Ok(Opening { protocol, port }),
            _ => Err(BadName { expected: "a port such as tcp/22", found: text.into() }),
        }
    }
}
