//! What crosswan talks about: identities, gateways, tunnels, NAT. No IO, no SDK types.
//!
//! Every name that can reach a template, a file name or a VICI message is a newtype with a closed
//! character set, parsed once at the edge. A tag's value never becomes one of these.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    str::FromStr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A name that was refused: what was expected, and what was found (escaped and cut, safe to print).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {}", printable(found))]
pub struct BadName {
    pub expected: &'static str,
    pub found: String,
}

/// Foreign text made safe for a log line: control and non-ASCII characters escaped, 64 characters at most.
pub fn printable(foreign: &str) -> String {
    let mut out: String = foreign.chars().take(64).flat_map(char::escape_default).collect();
    if foreign.chars().count() > 64 {
        out.push('…');
    }
    format!("\"{out}\"")
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl FromStr for $name {
            type Err = BadName;
            fn from_str(s: &str) -> Result<Self, BadName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(s) { Ok(Self(s.to_owned())) } else { Err(BadName { expected: $expected, found: s.to_owned() }) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(s: String) -> Result<Self, BadName> { s.parse() }
        }
        impl From<$name> for String {
            fn from(n: $name) -> String { n.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(&self.0) }
        }
    };
}

/// `prefix` followed by 8 to 17 lower-case hex digits: both lengths EC2 has used.
fn ec2_id(s: &str, prefix: &str) -> bool {
    s.strip_prefix(prefix).is_some_and(|h| {
        (8..=17).contains(&h.len()) && h.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

name_type!(
    /// A VPC's id. Also a spoke's IKE identity: stable over replaced instances and addresses.
    VpcId, "a VPC id such as vpc-0a1b2c3d", |s| ec2_id(s, "vpc-"));
name_type!(
    /// An instance's id.
    InstanceId, "an instance id such as i-0a1b2c3d", |s| ec2_id(s, "i-"));
name_type!(
/// An AWS region's code. Checked for shape only: new regions appear, and EC2 refuses what does not exist.
Region, "a region such as eu-west-1", |s| {
    let parts: Vec<&str> = s.split('-').collect();
    (3..=4).contains(&parts.len())
        && parts[..parts.len() - 1].iter().all(|p| (1..=12).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_lowercase()))
        && matches!(parts.last(), Some(n) if (1..=2).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
});
name_type!(
/// A network interface's name as the kernel allows it, narrowed to what iptables prints unquoted.
Interface, "an interface name such as ens5", |s| {
    (1..=15).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.')
});
name_type!(
/// A connection's name in charon. The prefix `crosswan-` is what makes a connection ours: nothing else is ever touched.
ConnName, "a connection name crosswan-…", |s| {
    s.strip_prefix("crosswan-").is_some_and(|n| (1..=48).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
});

impl ConnName {
    /// The hub's connection to the gateway of a client VPC.
    pub fn to_vpc(vpc: &VpcId) -> Self {
        ConnName(format!("crosswan-{vpc}"))
    }
    /// A spoke's connection to the hub with this Elastic IP.
    pub fn to_hub(hub: Ipv4Addr) -> Self {
        ConnName(format!("crosswan-hub-{}", hub.to_string().replace('.', "-")))
    }
    /// The pass shunt that keeps a spoke's own VPC out of the tunnel.
    pub fn own() -> Self {
        ConnName("crosswan-own".into())
    }
}

/// The name of the CHILD_SA for one CIDR: `c-10-1-0-0-16`.
pub fn child_name(cidr: &Ipv4Net) -> String {
    format!("c-{}-{}", cidr.network().to_string().replace('.', "-"), cidr.prefix_len())
}

/// Two networks share at least one address.
pub fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// What this gateway is for; decides which stages do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The IPsec concentrator: one connection per client VPC.
    VpnHub,
    /// NAT/PAT with the private network excluded.
    NatHub,
    /// NAT/PAT, and a tunnel for the private network to the hub.
    NatVpn,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::VpnHub, Mode::NatHub, Mode::NatVpn];
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::VpnHub => "vpn-hub",
            Mode::NatHub => "nat-hub",
            Mode::NatVpn => "nat-vpn",
        }
    }
    /// Whether charon has anything to do in this mode.
    pub fn has_ipsec(self) -> bool {
        self != Mode::NatHub
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        Mode::ALL
            .into_iter()
            .find(|m| m.as_str() == s)
            .ok_or(BadName { expected: "vpn-hub, nat-hub or nat-vpn", found: s.into() })
    }
}

/// Seconds since the epoch. Passed in; the pure stages never read a clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A pre-shared key. Never printed: `Debug` is redacted and there is no `Display` or `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How two gateways prove who they are. Public keys will be a second variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    Psk(Secret),
}

/// Who this gateway is, as IMDSv2 tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub instance: InstanceId,
    pub region: Region,
    pub vpc: VpcId,
    /// Every CIDR of the own VPC, sorted.
    pub cidrs: BTreeSet<Ipv4Net>,
    pub private: Ipv4Addr,
    /// The Elastic or public address; `None` if the instance has none.
    pub public: Option<Ipv4Addr>,
}

/// A running gateway as EC2 tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    pub instance: InstanceId,
    pub region: Region,
    pub vpc: VpcId,
    pub private: Ipv4Addr,
    pub public: Option<Ipv4Addr>,
    pub launched: Timestamp,
    /// The associated CIDRs of its VPC, sorted; empty on a spoke that looks for its hub.
    pub cidrs: BTreeSet<Ipv4Net>,
}

/// Something EC2 showed that no tunnel will be built to, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    pub region: Region,
    pub vpc: Option<VpcId>,
    pub instance: Option<InstanceId>,
    /// Set when only this CIDR of the VPC is refused.
    pub cidr: Option<Ipv4Net>,
    /// One line an operator understands. Foreign text in it went through [`printable`].
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.vpc, &self.instance) {
            (Some(vpc), _) => write!(f, "{vpc}")?,
            (None, Some(instance)) => write!(f, "{instance}")?,
            (None, None) => f.write_str("an instance without an id")?,
        }
        write!(f, " ({})", self.region)?;
        if let Some(cidr) = self.cidr {
            write!(f, " {cidr}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A region's whole answer: complete pages only. Half an answer is a failure, never this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionView {
    pub gateways: Vec<Gateway>,
    /// What was in the answer but did not fit the model (no VPC, a CIDR that is none, …).
    pub unusable: Vec<Refusal>,
}

/// What asking one region came to: its answer, or why there is none.
pub type RegionAnswer = Result<RegionView, String>;

/// What asking every listed region came to.
pub type Answers = BTreeMap<Region, RegionAnswer>;

/// Traffic selectors of one CHILD_SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selectors {
    pub local: BTreeSet<Ipv4Net>,
    pub remote: BTreeSet<Ipv4Net>,
}

/// One IKEv2 connection that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The peer's VPC; unknown on a spoke whose hub is named by its Elastic IP.
    pub vpc: Option<VpcId>,
    pub local_addr: Ipv4Addr,
    pub remote_addr: Ipv4Addr,
    pub local_id: IkeId,
    pub remote_id: IkeId,
    /// One child per CIDR, by [`child_name`]: adding or removing one loses no packet (`docs/facts.md`, "Loading
    /// connections").
    pub children: BTreeMap<String, Selectors>,
    pub auth: Auth,
}

/// An IKE identity: a spoke is its VPC, a hub its Elastic IP; both ends can know either beforehand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum IkeId {
    Vpc(VpcId),
    Hub(Ipv4Addr),
}

impl fmt::Display for IkeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IkeId::Vpc(vpc) => write!(f, "{vpc}"),
            IkeId::Hub(eip) => write!(f, "{eip}"),
        }
    }
}

/// How a rule tells a tunnelled packet from one in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelMatch {
    /// nat-hub: there is no tunnel.
    None,
    /// Kernel ESP: `-m policy --pol ipsec`.
    Policy,
    /// charon's userspace ESP backend: packets come and go by this interface.
    Interface(Interface),
}

/// The NAT and guard rules that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    pub private_net: BTreeSet<Ipv4Net>,
    /// The own VPC's CIDRs.
    pub own: BTreeSet<Ipv4Net>,
    /// Masquerade the own VPC's CIDRs behind the default route's interface.
    pub masquerade: Option<Interface>,
    pub tunnel: TunnelMatch,
}
