//! What was set, as the rest of crosswan sees it.

use std::{collections::BTreeSet, net::Ipv4Addr, path::PathBuf, str::FromStr, time::Duration};

use ipnet::Ipv4Net;

use super::{parse::Tag, stored::StoredPsk};
use crate::model::{BadName, Identity, Interface, Mode, Nat, Opening, PublicKey, Region, Secret, TunnelMatch};

/// Everything crosswan was told, checked: what is here can be acted on in this mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    /// The networks that are excluded from NAT and tunnelled. Never empty, no two overlap.
    pub private_net: BTreeSet<Ipv4Net>,
    /// nat-vpn: the hub's Elastic IP. `None` there means: find it by `hub_tag` in `regions`.
    pub hub: Option<Ipv4Addr>,
    pub hub_tag: Tag,
    /// Where to ask EC2; empty if this mode has nothing to ask.
    pub regions: BTreeSet<Region>,
    pub gateway_tag: Tag,
    /// A second tag that a gateway or hub must have.
    pub environment_tag: Option<Tag>,
    /// By default off on vpn-hub and on elsewhere.
    pub masquerade: bool,
    /// Further networks to masquerade; empty where nothing is masqueraded.
    pub nat_sources: BTreeSet<Ipv4Net>,
    /// What of this gateway can be reached out of a tunnel, beside ICMP.
    pub guard_input: BTreeSet<Opening>,
    /// Parts of `private_net` that this gateway itself reaches in the clear.
    pub guard_exclude: BTreeSet<Ipv4Net>,
    /// The interface of charon's userspace ESP backend; only a lab sets it. `None`: kernel ESP.
    pub ipsec_interface: Option<Interface>,
    pub auth: AuthSettings,
    pub removal: Removal,
    pub keep: Keep,
    pub ec2: Ec2,
    /// The files that were read, weakest first.
    pub sources: Vec<PathBuf>,
    /// What is accepted but should not stay so, one line each.
    pub warnings: Vec<String>,
}

/// How gateways prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    pub method: AuthMethod,
    /// nat-vpn: the hub's public keys, one or two, if they are not to be taken from its tag. Empty in other modes.
    pub hub_key: Vec<PublicKey>,
    /// This gateway's key is rotated when it is older than this; 1 day to 10 years.
    pub max_key_age: Option<Duration>,
    /// With [`AuthMethod::Key`] for the peers that announce no key.
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

/// Where pre-shared keys are found; `None` stands for the default place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PskSource {
    /// `auth.psk_file`, the shared key. Default: systemd's credential `crosswan.psk`, else `/etc/crosswan/psk`.
    pub file: Option<PathBuf>,
    /// `auth.psk_dir`, a file per peer named by its VPC id. Default: `/etc/crosswan/psk.d`, if there is one.
    pub dir: Option<PathBuf>,
    /// `auth.psk_parameter` or `auth.psk_secret`, in place of `file`: fetched at each refresh.
    pub stored: Option<StoredPsk>,
    /// `VPN_PSK` of a 2014 file: weaker than all of the above, as its file is the weakest source.
    pub inline: Option<InlinePsk>,
}

/// A key that stood in a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlinePsk {
    pub key: Secret,
    /// `file:line: VPN_PSK`, for messages.
    pub from: String,
}

/// When a peer that EC2 no longer shows loses its tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// Successful polls that must miss it, 1 to 1000.
    pub after_misses: u32,
    /// Polls closer together than this count once: a failed pass is tried again after seconds. 0 to 1 day.
    pub spacing: Duration,
    /// A pass that would remove more than this many percent of the peers removes none.
    pub hold_above: u8,
    /// So many peers may leave in spite of that, if their tunnels are dead or EC2 says that they are gone, 0 to 100.
    pub hold_floor: u32,
    /// After so many polls without it a peer leaves in spite of a hold, if EC2 says that its VPC is gone; 1 to 1000.
    pub confirmed_after: u32,
}

/// The resident loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Between two looks at charon, 1 s to 1 min.
    pub interval: Duration,
}

/// Asking EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ec2 {
    /// The bound on one region's whole answer, retries and all pages included, 1 s to 10 min.
    pub timeout: Duration,
}

impl Settings {
    /// The NAT and guard rules that should exist on this gateway.
    pub fn nat(&self, me: &Identity, uplink: &Interface) -> Nat {
        let tunnel = match (self.mode.has_ipsec(), &self.ipsec_interface) {
            (false, _) => TunnelMatch::None,
            (true, None) => TunnelMatch::Policy,
            (true, Some(interface)) => TunnelMatch::Interface(interface.clone()),
        };
        Nat {
            private_net: self.private_net.clone(),
            own: me.cidrs.clone(),
            masquerade: self.masquerade.then(|| uplink.clone()),
            sources: self.nat_sources.clone(),
            exclude: self.guard_exclude.clone(),
            input: self.guard_input.clone(),
            tunnel,
        }
    }
}
