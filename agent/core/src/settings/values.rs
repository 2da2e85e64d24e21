//! The checked settings, as the rest of crosswan uses them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::Ipv4Net;

use super::{accounts::Account, hubs::HubKeys, parse::Tag, stored::StoredPsk};
use crate::model::{
    AccountId, AccountName, AllocationId, BadName, Identity, Interface, Mode, Nat, Opening, Reach, Region, Secret,
    plain,
};

/// All settings, checked against each other: each can be used as it is in this mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What this gateway is for.
    pub mode: Mode,
    /// The networks that are excluded from NAT and tunnelled. There is at least one, and no two overlap.
    pub private_net: BTreeSet<Ipv4Net>,
    /// nat-vpn: the Elastic IPs of one hub or of two, the preferred one first; empty if they have to be found by `hub_tag` in
    /// `regions`.
    pub hub: Vec<Ipv4Addr>,
    /// nat-vpn: the tag by which the hub is found.
    pub hub_tag: Tag,
    /// The regions of the own account in which EC2 is asked; empty if there is nothing to ask for.
    pub regions: BTreeSet<Region>,
    /// The further accounts in which EC2 is asked; empty if there is nothing to ask for.
    pub accounts: BTreeMap<AccountId, Account>,
    /// vpn-hub: the tag of the gateways that it connects.
    pub gateway_tag: Tag,
    /// vpn-hub: which client VPCs may reach which; `None` if all may.
    pub segments: Option<Segmentation>,
    /// A second tag that a gateway or hub must have.
    pub environment_tag: Option<Tag>,
    /// The tag of the own VPC's route tables that this gateway writes.
    pub routes_tag: Tag,
    /// Whether it takes routes there that lead to a living foreign target.
    pub routes_overrule: bool,
    /// The Elastic IP that this gateway takes; `None` if it keeps the public address that it has.
    pub address: Option<WantedAddress>,
    /// Whether this gateway does NAT; by default every mode except vpn-hub does.
    pub masquerade: bool,
    /// Further networks to masquerade; empty where nothing is masqueraded.
    pub nat_sources: BTreeSet<Ipv4Net>,
    /// The ports of this gateway that can be reached from a tunnel. ICMP always can.
    pub guard_input: BTreeSet<Opening>,
    /// Parts of `private_net` that this gateway itself reaches in the clear.
    pub guard_exclude: BTreeSet<Ipv4Net>,
    /// How gateways prove who they are.
    pub auth: AuthSettings,
    /// When a peer loses its tunnel.
    pub removal: Removal,
    /// The pace of `crosswan keep`.
    pub keep: Keep,
    /// The pair that this gateway makes with another of its mode in its VPC; `None` if settings want none, or it can be of none.
    pub pair: Option<Pairing>,
    /// The port of the beats that come out of tunnels, UDP: on every hub that has keys, and on a member of a pair; `None` elsewhere.
    pub far_port: Option<u16>,
    /// The limits on asking EC2.
    pub ec2: Ec2,
    /// Settings that are accepted but should be changed, a line each.
    pub warnings: Vec<String>,
}

/// Which VPCs may reach which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segmentation {
    /// The key of the tag that puts a VPC into a segment.
    pub tag: String,
    /// Whom each segment may initiate to. `default` is always a key, and so is each name in a set. No two keys have one realm.
    pub reach: Reach,
}

/// How the members of a pair watch each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairing {
    /// Whether settings ask for it in so many words. If not, what stands against a pair matters to nobody before there is a second gateway.
    pub asked: bool,
    /// The port of the beats, UDP; TCP to it is what a living kernel refuses.
    pub port: u16,
    /// The time between two beats, 50 ms to 5 s.
    pub interval: Duration,
    /// After so many beats that do not come the other member is silent, 3 to 50.
    pub misses: u32,
    /// Whether a gateway beside a pair takes the place of a member, once it works. If not, it waits until one is gone or told to make way.
    pub newcomer_replaces: bool,
}

/// Which Elastic IP a gateway takes. `Display` names it in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedAddress {
    /// `address.allocation`: this one.
    Allocation(AllocationId),
    /// `address.tag`: any with this tag.
    Tagged(Tag),
}

impl fmt::Display for WantedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WantedAddress::Allocation(id) => write!(f, "the Elastic IP {id}"),
            WantedAddress::Tagged(tag) => {
                write!(f, "an Elastic IP with the tag {}={}", plain(&tag.key), plain(&tag.value))
            }
        }
    }
}

/// How gateways prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// By keys or by pre-shared keys.
    pub method: AuthMethod,
    /// nat-vpn: the hubs' public keys, if settings name them; their tags do not count then. None in other modes.
    pub hub_key: HubKeys,
    /// This gateway's key is rotated when it is older than this; 1 day to 10 years.
    pub max_key_age: Option<Duration>,
    /// The pre-shared keys. With [`AuthMethod::Key`] they are for the peers that announce no key.
    pub psk: PskSource,
}

/// `auth.method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// Each gateway has a key pair of its own and announces the public key in a tag of its instance.
    Key,
    /// Pre-shared keys only.
    Psk,
}

impl FromStr for AuthMethod {
    type Err = BadName;
    fn from_str(text: &str) -> std::result::Result<Self, BadName> {
        match text {
            "key" => Ok(AuthMethod::Key),
            "psk" => Ok(AuthMethod::Psk),
            _ => Err(BadName { expected: "key or psk", found: text.into() }),
        }
    }
}

/// Where the pre-shared keys are; `None` stands for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PskSource {
    /// `auth.psk_file`, the pre-shared key of all peers. Default: the systemd credential `crosswan.psk`, otherwise
    /// `/etc/crosswan/psk`.
    pub file: Option<PathBuf>,
    /// `auth.psk_dir`, with a file per peer, named by its VPC id. Default: `/etc/crosswan/psk.d`, if there is one.
    pub dir: Option<PathBuf>,
    /// `auth.psk_parameter` or `auth.psk_secret`, which is used instead of `file` and fetched at each refresh.
    pub stored: Option<StoredPsk>,
    /// `VPN_PSK` of a 2014 file. All of the above override it, as its file is the weakest source.
    pub inline: Option<InlinePsk>,
}

/// A pre-shared key in a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlinePsk {
    /// The pre-shared key itself.
    pub secret: Secret,
    /// `file:line: VPN_PSK`, for messages.
    pub from: String,
}

/// The rules by which a peer that EC2 no longer shows loses its tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// The number of successful polls that must miss it, 1 to 1000.
    pub after_misses: u32,
    /// Polls closer together than this count once, as a failed pass is tried again after seconds; 0 to 1 day.
    pub spacing: Duration,
    /// A pass that would remove more than this many percent of the peers removes none.
    pub hold_above: u8,
    /// The number of peers that may leave in spite of that if their tunnels are dead or EC2 says that they are gone, 0 to 100.
    pub hold_floor: u32,
    /// The number of polls without it after which a peer leaves in spite of a hold if EC2 says that its VPC is gone, 1 to 1000.
    pub confirmed_after: u32,
}

/// The pace of `crosswan keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The time between two looks at charon, 1 s to 1 min.
    pub interval: Duration,
}

/// The limits on asking EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ec2 {
    /// The limit on one region's whole answer with retries and all pages, 1 s to 10 min.
    pub timeout: Duration,
}

impl Settings {
    /// What to call an account: the own one has no name, and one that is no longer listed is called by its id.
    pub(crate) fn name_of(&self, account: Option<&AccountId>) -> Option<AccountName> {
        account.map(|id| self.accounts.get(id).map_or_else(|| AccountName::from(id), |account| account.name.clone()))
    }

    /// Whether EC2 is asked for gateways at all.
    pub fn asks(&self) -> bool {
        !(self.regions.is_empty() && self.accounts.is_empty())
    }

    /// Whether this gateway has a key of its own: for its tunnels, or for the beats of a pair.
    pub fn has_key(&self) -> bool {
        self.auth.method == AuthMethod::Key && (self.mode.has_ipsec() || self.pair.is_some())
    }

    /// Whether this gateway cannot do without that key, however alone it is.
    pub fn needs_key(&self) -> bool {
        self.has_key() && (self.mode.has_ipsec() || self.pair.is_some_and(|pair| pair.asked))
    }

    /// The destinations whose routes in the VPC should lead to this gateway, by the mode.
    pub fn destinations(&self) -> BTreeSet<Ipv4Net> {
        let nat = self.masquerade && self.mode != Mode::VpnHub;
        let private = self.private_net.iter().copied().filter(|_| self.mode.has_ipsec());
        private.chain(nat.then(Ipv4Net::default)).collect()
    }

    /// The NAT and guard rules that should exist on this gateway.
    pub fn nat(&self, me: &Identity, uplink: &Interface) -> Nat {
        Nat {
            private_net: self.private_net.clone(),
            own: me.cidrs.clone(),
            masquerade: self.masquerade.then(|| uplink.clone()),
            sources: self.nat_sources.clone(),
            exclude: self.guard_exclude.clone(),
            input: self.guard_input.clone(),
            tunnels: self.mode.has_ipsec(),
            segments: None,
            // Who the other member is, a pass finds out.
            beats: None,
            across: false,
            far: self.far_port,
        }
    }
}
