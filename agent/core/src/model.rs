//! What crosswan talks about: identities, gateways, tunnels, NAT. No IO, no SDK types.
//!
//! Every name that can reach a template, a file name or a VICI message is a newtype with a closed
//! character set, parsed once at the edge. The value of a tag never becomes such a name.

#[macro_use]
mod names;
mod announcement;
mod ask;
mod elastic_ip;
mod key;
mod nat;
mod own_interface;
mod own_keys;
mod own_vpc;
mod packet_filter;
mod place;
pub(crate) mod private_key;
mod scope;
mod segment;
pub(crate) mod signature;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    str::FromStr,
};

pub use announcement::{
    Announcement, KEY_TAG, KeyTags, MAKES_WAY_TAG, NEXT_KEY_TAG, OwnTags, PlaceClaim, ProvenKey, Succession,
    TAKES_PLACE_TAG, Tagged,
};
pub(crate) use ask::NOT_ENABLED;
pub use ask::{AskError, Format, Substitute, Tries};
pub use elastic_ip::{AddressHolder, ElasticIp};
use ipnet::Ipv4Net;
pub use key::PublicKey;
pub use names::{
    AccountId, AccountName, AllocationId, AssociationId, BadName, ConnName, InstanceId, Interface, InterfaceId, Region,
    RoleArn, RouteTableId, SegmentName, SubnetId, VpcId, Zone, plain, printable,
};
pub use nat::{Nat, Opening, Protocol};
pub use own_interface::OwnInterface;
pub use own_keys::OwnKeys;
pub use own_vpc::{Member, Neighbour, OwnVpc, RouteTable, RouteTarget, VpcRoute};
pub use packet_filter::{AclEntry, Carries, FarEnd, LAST_ENTRY, May, NetworkAcl, Packets, SecurityGroups, Way};
pub use place::Place;
pub use private_key::{Keyring, PrivateKey};
pub use scope::Scope;
pub use segment::{Reach, Realm, Relation, SegmentTag, Segments, relation};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
pub use signature::{Holder, Signature};

/// The name of the CHILD_SA for one CIDR: `c-10-1-0-0-16`.
pub fn child_name(cidr: &Ipv4Net) -> String {
    format!("c-{}-{}", cidr.network().to_string().replace('.', "-"), cidr.prefix_len())
}

/// Whether two networks share at least one address.
pub fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

/// A VPC's CIDR out of its text. `None` if it is not a network, has host bits, or is the whole internet, for which
/// iptables-save prints no match.
pub fn vpc_cidr(text: &str) -> Option<Ipv4Net> {
    text.parse().ok().filter(|cidr: &Ipv4Net| cidr.prefix_len() > 0 && *cidr == cidr.trunc())
}

/// [`vpc_cidr`] for remembered networks: a state file must not bring in what EC2 and IMDS could not.
fn cidrs<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<Ipv4Net>, D::Error> {
    let bad =
        |found: &str| D::Error::custom(format!("expected a CIDR such as 10.1.0.0/16, found {}", printable(found)));
    BTreeSet::<String>::deserialize(from)?.iter().map(|c| vpc_cidr(c).ok_or_else(|| bad(c))).collect()
}

/// A line that crosswan wrote into a file which others may have edited: escaped by [`plain`].
fn line<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(|text| plain(&text))
}

/// What this gateway is for. It decides which stages have anything to do.
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
    /// Every mode, in the order of the documents.
    pub const ALL: [Mode; 3] = [Mode::VpnHub, Mode::NatHub, Mode::NatVpn];
    /// The name in settings, on the command line and in JSON.
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

/// Seconds since the epoch. It is passed in, as the pure stages never read a clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// A pre-shared or private key. Never printed: `Debug` is redacted and there is no `Display` or `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the bytes, which nothing prints from here on.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }
    /// The bytes, for charon, a signature or a file of mode 0600; never for a message.
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
    /// A pre-shared key, the same at both ends.
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
    /// The method's name in swanctl's `auth`.
    pub fn method(&self) -> &'static str {
        match self {
            Auth::Psk(_) => "psk",
            Auth::Key { .. } => "pubkey",
        }
    }
}

/// Who this gateway is, as IMDSv2 says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The instance that this program runs on.
    pub instance: InstanceId,
    /// The instance's region.
    pub region: Region,
    /// The instance's VPC.
    pub vpc: VpcId,
    /// Every CIDR of the own VPC, sorted.
    #[serde(deserialize_with = "cidrs")]
    pub cidrs: BTreeSet<Ipv4Net>,
    /// The primary private address of its first interface.
    pub private: Ipv4Addr,
    /// The Elastic or public address; `None` if the instance has none.
    pub public: Option<Ipv4Addr>,
}

/// A running gateway, as EC2 shows it.
///
/// Versions up to 0.1.0 refuse a state.json in which a gateway has no `private` address, and then remember nothing, although
/// nothing uses that address. It is still written, so that a downgrade keeps the state: as a tag, which serde skips when it
/// reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "private", rename = "0.0.0.0")]
pub struct Gateway {
    /// The instance, which also names its connection.
    pub instance: InstanceId,
    /// The region that showed it.
    pub region: Region,
    /// The account that showed it; `None` for the own one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The instance's VPC: the peer, whichever of its gateways is used.
    pub vpc: VpcId,
    /// The Elastic or public address of its first interface; `None` if it has none.
    pub public: Option<Ipv4Addr>,
    /// The primary private address of its first interface; `None` if a version wrote this that did not remember it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// When it was launched: the later of two gateways is the newer.
    pub launched: Timestamp,
    /// The associated CIDRs of its VPC, sorted. They are empty on a spoke that looks for its hub.
    #[serde(deserialize_with = "cidrs")]
    pub cidrs: BTreeSet<Ipv4Net>,
    /// What the tag of its VPC says of the segment; `None` where EC2 was not asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentTag>,
    /// The keys that it announces in its tags.
    #[serde(default)]
    pub tags: KeyTags,
}

impl Gateway {
    /// Where EC2 showed it.
    pub fn scope(&self) -> Scope {
        Scope { account: self.account.clone(), region: self.region.clone() }
    }

    /// The VPC and instance that its announcements must name.
    pub fn holder(&self) -> Holder<'_> {
        Holder { vpc: &self.vpc, instance: &self.instance }
    }
}

/// A gateway, a VPC or a CIDR that EC2 showed and that gets no tunnel, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// The region that showed it, and the account if it is another one.
    pub region: Scope,
    /// Its VPC, if EC2 showed one.
    pub vpc: Option<VpcId>,
    /// Its instance, if EC2 showed a valid id.
    pub instance: Option<InstanceId>,
    /// Set when only this CIDR of the VPC is refused.
    pub cidr: Option<Ipv4Net>,
    /// One line for the operator. Foreign text in it has been escaped by [`printable`].
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

/// A region's whole answer with all its pages. Half an answer is an [`AskError`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionView {
    /// The gateways that could be read, in the order of the answer.
    pub gateways: Vec<Gateway>,
    /// The instances of the answer that cannot be used (no VPC, an invalid CIDR, …).
    pub unusable: Vec<Refusal>,
    /// Instances that this gateway knew as gateways and that are not running: EC2 was asked for them by their ids.
    #[serde(default, skip_serializing)]
    pub stopped: BTreeSet<InstanceId>,
    /// VPCs of known peers that no longer exist: EC2 was asked for them by their ids.
    #[serde(default, skip_serializing)]
    pub deleted: BTreeSet<VpcId>,
}

impl RegionView {
    /// What of it counts for later passes, too: not who was gone at the moment, for whom each pass asks anew.
    pub fn lasting(&self) -> RegionView {
        RegionView { gateways: self.gateways.clone(), unusable: self.unusable.clone(), ..RegionView::default() }
    }
}

/// What came of asking one region: its answer, or why there is none.
pub type RegionAnswer = Result<RegionView, AskError>;

/// What came of asking every listed region of every listed account.
pub type Answers = BTreeMap<Scope, RegionAnswer>;

/// The traffic selectors of one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selectors {
    /// The networks at this gateway's end.
    pub local: BTreeSet<Ipv4Net>,
    /// The networks at the peer's end.
    pub remote: BTreeSet<Ipv4Net>,
}

/// One IKEv2 connection that should exist: a tunnel, or without children a connection by which a gateway or a key proves
/// that it works before anything depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The peer's VPC. It is not known on a spoke whose settings name the hub by its Elastic IP.
    pub vpc: Option<VpcId>,
    /// This gateway's private address: the 1:1 NAT of the IGW is between it and the peer.
    pub local_addr: Ipv4Addr,
    /// The peer's public address.
    pub remote_addr: Ipv4Addr,
    /// The identity that this gateway claims.
    pub local_id: IkeId,
    /// The identity that the peer must prove.
    pub remote_id: IkeId,
    /// The place of the far end's gateway.
    pub place: Place,
    /// One child per CIDR, by [`child_name`]: adding or removing one loses no packet (`docs/facts.md`, "Loading
    /// connections"). Empty for a proof.
    pub children: BTreeMap<String, Selectors>,
    /// How both ends prove who they are.
    pub auth: Auth,
}

/// An IKE identity, which both ends know beforehand. Each gateway has one of its own: with `unique = replace`, two that
/// shared one would end each other's IKE_SA.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum IkeId {
    /// The gateway of a client VPC.
    Spoke(VpcId, InstanceId),
    /// A hub, by its Elastic IP, which is all that a spoke has to know about it.
    Hub(Ipv4Addr),
    /// A hub, to the other one of its pair.
    Member(VpcId, InstanceId),
    /// A gateway that proves its next key: its usual identity and that key.
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
            IkeId::Member(vpc, instance) => write!(f, "member-{vpc}/{instance}"),
            IkeId::Next(of, key) => write!(f, "next-{}/{of}", key.short()),
        }
    }
}
