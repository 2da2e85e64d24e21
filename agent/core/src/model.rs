//! What crosswan talks about: identities, gateways, tunnels, NAT. No IO, no SDK types.
//!
//! Every name that can reach a template, a file name or a VICI message is a newtype with a closed
//! character set, parsed once at the edge. A tag's value never becomes one of these.

#[macro_use]
mod names;
mod announcement;
mod ask;
mod key;
mod own_keys;
pub(crate) mod private_key;
pub mod signature;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    str::FromStr,
};

pub use announcement::{Announcement, KEY_TAG, KeyTags, NEXT_KEY_TAG, OwnTags, ProvenKey, Succession, Tagged};
pub(crate) use ask::NOT_ENABLED;
pub use ask::{AskError, Format, Substitute, Tries};
use ipnet::Ipv4Net;
pub use key::PublicKey;
pub use names::{BadName, ConnName, InstanceId, Interface, Region, VpcId, plain, printable};
pub use own_keys::OwnKeys;
pub use private_key::{Keyring, PrivateKey};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
pub use signature::{Holder, Signature};

/// The name of the CHILD_SA for one CIDR: `c-10-1-0-0-16`.
pub fn child_name(cidr: &Ipv4Net) -> String {
    format!("c-{}-{}", cidr.network().to_string().replace('.', "-"), cidr.prefix_len())
}

/// Two networks share at least one address.
pub fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// A network as a VPC can have it: without host bits, and not the whole internet, for which iptables-save prints no match.
pub fn vpc_cidr(text: &str) -> Option<Ipv4Net> {
    text.parse().ok().filter(|cidr: &Ipv4Net| cidr.prefix_len() > 0 && *cidr == cidr.trunc())
}

/// [`vpc_cidr`] for what was remembered: a state file must not bring in what EC2 and IMDS could not.
fn cidrs<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<Ipv4Net>, D::Error> {
    let bad =
        |found: &str| D::Error::custom(format!("expected a CIDR such as 10.1.0.0/16, found {}", printable(found)));
    BTreeSet::<String>::deserialize(from)?.iter().map(|c| vpc_cidr(c).ok_or_else(|| bad(c))).collect()
}

/// A line of our own words, remembered in a file that others may have edited.
fn line<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(|text| plain(&text))
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

/// A pre-shared or private key. Never printed: `Debug` is redacted and there is no `Display` or `Serialize`.
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

/// How two gateways prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    Psk(Secret),
    /// Raw public keys.
    Key {
        /// What this gateway signs with.
        own: PublicKey,
        /// What the peer may sign with: one key, or two during its rotation.
        peer: Vec<PublicKey>,
    },
}

impl Auth {
    /// As swanctl calls it.
    pub fn method(&self) -> &'static str {
        match self {
            Auth::Psk(_) => "psk",
            Auth::Key { .. } => "pubkey",
        }
    }
}

/// Who this gateway is, as IMDSv2 tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub instance: InstanceId,
    pub region: Region,
    pub vpc: VpcId,
    /// Every CIDR of the own VPC, sorted.
    #[serde(deserialize_with = "cidrs")]
    pub cidrs: BTreeSet<Ipv4Net>,
    pub private: Ipv4Addr,
    /// The Elastic or public address; `None` if the instance has none.
    pub public: Option<Ipv4Addr>,
}

/// A running gateway as EC2 tells it.
///
/// Versions up to 0.1.0 require a `private` address of it in state.json, which nothing reads, and lose all that they remember
/// without one. So that a downgrade does not, it is still written: as a tag, which serde passes over when it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "private", rename = "0.0.0.0")]
pub struct Gateway {
    pub instance: InstanceId,
    pub region: Region,
    pub vpc: VpcId,
    pub public: Option<Ipv4Addr>,
    pub launched: Timestamp,
    /// The associated CIDRs of its VPC, sorted; empty on a spoke that looks for its hub.
    #[serde(deserialize_with = "cidrs")]
    pub cidrs: BTreeSet<Ipv4Net>,
    /// The keys it announces in its tags.
    #[serde(default)]
    pub tags: KeyTags,
}

impl Gateway {
    /// Whom its announcements must name.
    pub fn holder(&self) -> Holder<'_> {
        Holder { vpc: &self.vpc, instance: &self.instance }
    }
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
    #[serde(deserialize_with = "line")]
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
    /// What was in the answer but did not fit the model (no VPC, an invalid CIDR, …).
    pub unusable: Vec<Refusal>,
    /// Instances that this gateway knew as gateways and that do not run: EC2 was asked for them by their ids.
    #[serde(default, skip_serializing)]
    pub stopped: BTreeSet<InstanceId>,
    /// VPCs of known peers that do not exist any more: EC2 was asked for them by their ids.
    #[serde(default, skip_serializing)]
    pub deleted: BTreeSet<VpcId>,
}

/// What asking one region came to: its answer, or why there is none.
pub type RegionAnswer = Result<RegionView, AskError>;

/// What asking every listed region came to.
pub type Answers = BTreeMap<Region, RegionAnswer>;

/// Traffic selectors of one CHILD_SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selectors {
    pub local: BTreeSet<Ipv4Net>,
    pub remote: BTreeSet<Ipv4Net>,
}

/// One IKEv2 connection that should exist: a tunnel, or without children the place where a gateway or a key proves that
/// it works before anything depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The peer's VPC; unknown on a spoke whose hub is named by its Elastic IP.
    pub vpc: Option<VpcId>,
    pub local_addr: Ipv4Addr,
    pub remote_addr: Ipv4Addr,
    pub local_id: IkeId,
    pub remote_id: IkeId,
    /// One child per CIDR, by [`child_name`]: adding or removing one loses no packet (`docs/facts.md`, "Loading
    /// connections"). Empty for a proof.
    pub children: BTreeMap<String, Selectors>,
    pub auth: Auth,
}

/// An IKE identity, which both ends know beforehand. No two gateways share one, or with `unique = replace` one would end
/// the other's IKE_SA.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum IkeId {
    /// The gateway of a client VPC.
    Spoke(VpcId, InstanceId),
    /// A hub by its Elastic IP: all that a spoke need know of it.
    Hub(Ipv4Addr),
    /// Either of them when it proves its next key.
    Next(Box<IkeId>, PublicKey),
}

impl IkeId {
    /// The identity under which this gateway proves that `key` is accepted.
    pub fn next(&self, key: PublicKey) -> IkeId {
        IkeId::Next(Box::new(self.clone()), key)
    }
}

impl fmt::Display for IkeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IkeId::Spoke(vpc, instance) => write!(f, "{vpc}/{instance}"),
            IkeId::Hub(eip) => write!(f, "{eip}"),
            IkeId::Next(of, key) => write!(f, "next-{}/{of}", key.short()),
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
    /// Further networks to masquerade, whose packets reach this gateway by a Transit Gateway or a peering.
    pub sources: BTreeSet<Ipv4Net>,
    /// Parts of the private network that this gateway itself reaches in the clear.
    pub exclude: BTreeSet<Ipv4Net>,
    /// What of this gateway can be reached out of a tunnel, beside ICMP.
    pub input: BTreeSet<Opening>,
    pub tunnel: TunnelMatch,
}

/// A port of this gateway's own, as settings have it: `tcp/22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    pub protocol: Protocol,
    pub port: u16,
}

/// What has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
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
        // Digits alone: u16 would also read "+22".
        let port = Some(port).filter(|p| p.bytes().all(|b| b.is_ascii_digit())).and_then(|p| p.parse().ok());
        match (protocol, port) {
            (Some(protocol), Some(port @ 1..)) => Ok(Opening { protocol, port }),
            _ => Err(BadName { expected: "a port such as tcp/22", found: text.into() }),
        }
    }
}
