//! What a gateway's image and user data would bring: strongSwan's settings for the lab and crosswan's own.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;

/// What a gateway is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// IPsec concentrator of the hub VPC.
    VpnHub,
    /// NAT of the hub VPC.
    NatHub,
    /// NAT and tunnel of a client VPC.
    NatVpn,
}

impl Role {
    /// As `mode` in the settings, and as the gateway's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::VpnHub => "vpn-hub",
            Role::NatHub => "nat-hub",
            Role::NatVpn => "nat-vpn",
        }
    }

    /// Value of its `service` tag. nat-hub has the same as its clients' gateways, as the documents of 2014 have it.
    pub fn service_tag(self) -> &'static str {
        if self == Role::VpnHub { "vpn-hub" } else { "nat" }
    }
}

/// How gateways authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Each by its own key, which it announces in its tag; nat-vpn finds its hub by tag.
    Key,
    /// All by one pre-shared key; nat-vpn's settings name its hub's address.
    Psk,
}

/// What the default settings are made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The private network.
    pub private: Vec<Ipv4Net>,
    /// Where the hub looks for gateways.
    pub regions: Vec<String>,
    /// The hub's Elastic IP, once it has one.
    pub hub: Option<Ipv4Addr>,
    /// How gateways authenticate.
    pub auth: Auth,
    /// The pre-shared key, in a file of its own.
    pub psk: String,
    /// The hub's region, once it has one.
    pub hub_region: Option<String>,
}

/// `/etc/crosswan/crosswan.toml` of a gateway: what its AMI and user data would say, and short times.
pub fn settings(role: Role, plan: &Plan) -> String {
    let quoted = |list: Vec<String>| list.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ");
    let private = quoted(plan.private.iter().map(ToString::to_string).collect());
    let mut text = format!("mode = \"{}\"\nprivate_net = [{private}]\n", role.as_str());
    let _ = match (role, plan.auth, plan.hub) {
        (Role::VpnHub, ..) => writeln!(text, "regions = [{}]", quoted(plan.regions.clone())),
        (Role::NatVpn, Auth::Psk, Some(hub)) => writeln!(text, "hub = \"{hub}\""),
        (Role::NatVpn, Auth::Key, _) => {
            writeln!(text, "regions = [{}]", quoted(plan.hub_region.iter().cloned().collect()))
        }
        _ => Ok(()),
    };
    let auth = match plan.auth {
        Auth::Key => "",
        Auth::Psk => "[auth]\nmethod = \"psk\"\npsk_file = \"/etc/crosswan/psk\"\n",
    };
    if role != Role::NatHub {
        text += &format!("{auth}[removal]\nafter_misses = 2\nspacing = \"0s\"\n[keep]\ninterval = \"2s\"\n");
    }
    text
}

/// Plugins a gateway's image has. The machine may have more installed, and some of those answer ARP or join groups.
const PLUGINS: [&str; 28] = [
    "aes",
    "constraints",
    "counters",
    "ctr",
    "curve25519",
    "drbg",
    "gcm",
    "gmp",
    "hmac",
    "kdf",
    "kernel-netlink",
    "ml",
    "nonce",
    "openssl",
    "pem",
    "pkcs1",
    "pkcs8",
    "pubkey",
    "random",
    "revocation",
    "sha1",
    "sha2",
    "socket-default",
    "sshkey",
    "updown",
    "vici",
    "x509",
    "xcbc",
];

/// `/etc/strongswan.conf`: an image's plugins, and times fit for tests.
pub fn strongswan(log: &Path) -> String {
    let plugins: String = PLUGINS.iter().map(|name| format!("    {name} {{\n      load = yes\n    }}\n")).collect();
    format!(
        "charon-systemd {{
  load_modular = yes
  retransmit_tries = 3
  retransmit_timeout = 1.0
  retransmit_base = 1.0
  plugins {{
{plugins}  }}
  filelog {{
    lab {{
      path = {}
      time_format = %H:%M:%S
      flush_line = yes
      ike_name = yes
      default = 1
    }}
  }}
}}
",
        log.display()
    )
}

/// Folders of `/etc` a gateway has to itself, empty at first; the machine's own may hold settings, keys and rules.
pub const OWN: [&str; 18] = [
    "crosswan/conf.d",
    "default",
    "iptables",
    "strongswan.d/charon",
    "sysctl.d",
    "swanctl/conf.d",
    "swanctl/x509",
    "swanctl/x509ca",
    "swanctl/x509aa",
    "swanctl/x509ocsp",
    "swanctl/x509crl",
    "swanctl/x509ac",
    "swanctl/pubkey",
    "swanctl/private",
    "swanctl/rsa",
    "swanctl/ecdsa",
    "swanctl/pkcs8",
    "swanctl/pkcs12",
];

/// Where a gateway sees the machine's `/etc`, read-only: what it does not have itself links there.
pub const MACHINE_ETC: &str = "/run/machine-etc";
