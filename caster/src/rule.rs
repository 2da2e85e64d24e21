//! Rules of security groups and entries of network ACLs, as the document wants them and as EC2 shows them.

use std::fmt;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::document::{Allow, Ports, Protocol};

/// Anywhere.
pub const ANYWHERE: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0);

/// A rule of a security group. Ports of `icmp` are type and code, -1 for all; those of `-1` (every protocol) are -1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    #[serde(default)]
    pub egress: bool,
    /// `tcp`, `udp`, `icmp`, `-1`, or another protocol's number.
    pub protocol: String,
    pub from: i32,
    pub to: i32,
    #[serde(flatten)]
    pub peer: Peer,
}

/// The source of an inbound rule, the destination of an outbound one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    Cidr(Ipv4Net),
    /// In the document and the plan by name, in an observation by id.
    Group(String),
}

impl Rule {
    fn new(protocol: Protocol, from: i32, to: i32, peer: Peer) -> Self {
        let (protocol, from, to) = match protocol {
            Protocol::Tcp => ("tcp", from, to),
            Protocol::Udp => ("udp", from, to),
            // EC2 takes a code only with a type.
            Protocol::Icmp => ("icmp", from, if from == -1 { -1 } else { to }),
            Protocol::All => ("-1", -1, -1),
        };
        Rule { egress: false, protocol: protocol.into(), from, to, peer }
    }
    pub fn cidr(protocol: Protocol, from: i32, to: i32, cidr: Ipv4Net) -> Self {
        Self::new(protocol, from, to, Peer::Cidr(cidr))
    }
    pub fn group(protocol: Protocol, from: i32, to: i32, group: &str) -> Self {
        Self::new(protocol, from, to, Peer::Group(group.to_owned()))
    }
    pub fn everything_from(cidr: Ipv4Net) -> Self {
        Self::cidr(Protocol::All, -1, -1, cidr)
    }
    /// The rule that EC2 puts into every new group.
    pub fn default_egress() -> Self {
        Self::everything_from(ANYWHERE).outbound()
    }
    pub fn ports(ports: &Ports, peer: Peer) -> Self {
        Self::new(ports.prot, ports.from, ports.to, peer)
    }
    /// Of a rule that passed the check: it has a CIDR or a group. `None` otherwise.
    pub fn allow(allow: &Allow) -> Option<Self> {
        let peer = match (&allow.cidr, &allow.group) {
            (Some(cidr), None) => Peer::Cidr(*cidr),
            (None, Some(group)) => Peer::Group(group.clone()),
            _ => return None,
        };
        Some(Self::new(allow.prot, allow.from, allow.to, peer))
    }
    pub fn outbound(mut self) -> Self {
        self.egress = true;
        self
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { egress, protocol, from, to, peer } = self;
        match (protocol.as_str(), from, to) {
            ("-1", ..) => f.write_str("everything")?,
            ("icmp", -1, _) => f.write_str("icmp")?,
            ("icmp", kind, -1) => write!(f, "icmp type {kind}")?,
            ("icmp", kind, code) => write!(f, "icmp type {kind} code {code}")?,
            (protocol, from, to) if from == to => write!(f, "{protocol} {from}")?,
            (protocol, from, to) => write!(f, "{protocol} {from}-{to}")?,
        }
        f.write_str(if *egress { " to " } else { " from " })?;
        match peer {
            Peer::Cidr(net) if *net == ANYWHERE => f.write_str("anywhere"),
            Peer::Cidr(net) => write!(f, "{net}"),
            Peer::Group(group) => write!(f, "group {}", crate::text::plain(group)),
        }
    }
}

/// An entry of a network ACL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AclEntry {
    #[serde(default)]
    pub egress: bool,
    pub number: u16,
    /// The protocol's number, -1 for all.
    pub protocol: i16,
    pub allow: bool,
    pub cidr: Ipv4Net,
    /// First and last port, of TCP and UDP.
    #[serde(default)]
    pub ports: Option<(u16, u16)>,
    /// Type and code, of ICMP.
    #[serde(default)]
    pub icmp: Option<(i16, i16)>,
}

impl AclEntry {
    /// The entry that AWS puts into the ACL of every new VPC, once for each direction.
    pub fn is_default(&self) -> bool {
        self.number == 100 && self.protocol == -1 && self.allow && self.cidr == ANYWHERE
    }
    /// `incoming 100`: what must be unique in an ACL.
    pub fn place(&self) -> String {
        format!("{} {}", if self.egress { "outgoing" } else { "incoming" }, self.number)
    }
}

impl fmt::Display for AclEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            -1 => "everything".to_owned(),
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            n => format!("protocol {n}"),
        };
        write!(f, "{}: {} {protocol}", self.place(), if self.allow { "allow" } else { "deny" })?;
        match (self.ports, self.icmp) {
            (Some((from, to)), _) if from == to => write!(f, " {from}")?,
            (Some((from, to)), _) => write!(f, " {from}-{to}")?,
            (_, Some((kind, code))) => write!(f, " type {kind} code {code}")?,
            _ => {}
        }
        write!(f, " {} {}", if self.egress { "to" } else { "from" }, self.cidr)
    }
}
