//! The document as types, key by key as it is written. What a key means is in `schema`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{Health, Secret};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub aws: Aws,
    pub vpc: Vpc,
    pub nat: Option<Nat>,
    pub elbs: Vec<Elb>,
    pub apps: Vec<App>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aws {
    pub region: String,
    pub env: String,
    pub envtag: String,
    pub svctag: String,
    pub privnet: Ipv4Net,
    pub continent: String,
    pub provider: String,
    pub zone: String,
    pub r53xacct: Option<String>,
    pub account: Option<String>,
    #[serde(default = "own")]
    pub image_owners: Vec<String>,
    pub privnet_via: Option<String>,
    pub regions: Option<Vec<String>>,
}

fn own() -> Vec<String> {
    vec!["self".to_owned()]
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpc {
    pub cidr: Ipv4Net,
    #[serde(default)]
    pub subnets: Vec<Ipv4Net>,
    pub pubsubnets: Vec<Ipv4Net>,
    pub azs: Vec<String>,
    pub name: Option<String>,
    pub acls: Option<Vec<AclRule>>,
    pub default_rules: Option<Vec<DefaultRule>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AclRule {
    pub rule_number: u16,
    pub protocol: i16,
    pub rule_action: String,
    pub cidr_block: Ipv4Net,
    #[serde(default)]
    pub egress: bool,
    pub port_range_from: Option<u16>,
    pub port_range_to: Option<u16>,
    pub icmp_type: Option<i16>,
    pub icmp_code: Option<i16>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultRule {
    pub cidr_ip: Ipv4Net,
    pub from_port: i32,
    pub to_port: i32,
    pub ip_protocol: Protocol,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nat {
    pub name: String,
    pub group: String,
    pub svctag: String,
    #[serde(rename = "type")]
    pub instance_type: String,
    pub role: String,
    pub keypair: String,
    pub ports: Vec<Ports>,
    pub ami: Option<String>,
    pub aminame: Option<String>,
    #[serde(default)]
    pub addrs: Vec<Ipv4Addr>,
    /// Read by nobody, so not kept either.
    #[serde(default, rename = "psk")]
    _psk: IgnoredAny,
}

/// What `prot` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
    #[serde(alias = "-1")]
    All,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    pub from: i32,
    pub to: i32,
    pub prot: Protocol,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    pub cidr: Option<Ipv4Net>,
    pub group: Option<String>,
    pub from: i32,
    pub to: i32,
    pub prot: Protocol,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elb {
    pub name: String,
    pub group: String,
    pub ports: Vec<Ports>,
    pub listeners: Vec<Listener>,
    pub target: Health,
    pub interval: u16,
    pub healthy: u8,
    pub unhealthy: u8,
    #[serde(default)]
    pub allow: Vec<Allow>,
    #[serde(default, deserialize_with = "present")]
    pub internal: bool,
    #[serde(default, deserialize_with = "present")]
    pub nocrossaz: bool,
    pub idle_timeout: Option<u16>,
    #[serde(rename = "type")]
    pub kind: Option<BalancerKind>,
}

/// The three kinds of load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BalancerKind {
    Application,
    Network,
    Classic,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub from: u16,
    pub from_prot: ListenerProtocol,
    pub to: u16,
    pub to_prot: ListenerProtocol,
    pub cert: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerProtocol {
    Http,
    Https,
    Tcp,
    Ssl,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    pub name: String,
    pub svctag: String,
    pub group: String,
    #[serde(rename = "type")]
    pub instance_type: String,
    pub role: String,
    pub cluster: Option<String>,
    #[serde(default)]
    pub groups: Vec<String>,
    pub ami: Option<String>,
    pub aminame: Option<String>,
    pub keypair: Option<String>,
    pub count: Option<u32>,
    pub autoscale: Option<Autoscale>,
    #[serde(default, deserialize_with = "present")]
    pub public: bool,
    pub azlimit: Option<String>,
    pub elb: Option<String>,
    #[serde(default)]
    pub elbs: Vec<String>,
    #[serde(default)]
    pub ports: Vec<Ports>,
    #[serde(default)]
    pub pubports: Vec<Ports>,
    #[serde(default)]
    pub allow: Vec<Allow>,
    pub egress: Option<Vec<Allow>>,
    #[serde(default)]
    pub addrs: Vec<Ipv4Addr>,
    #[serde(default)]
    pub intaddrs: Vec<Ipv4Addr>,
    #[serde(default)]
    pub extports: Vec<Ports>,
    pub userdata: Option<Secret>,
    pub userdata_file: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autoscale {
    pub min: u32,
    pub max: u32,
}

/// A key that takes effect by being present: any value is true, null included.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

impl App {
    /// The load balancers that the app registers with, `elb` first.
    pub fn balancers(&self) -> impl Iterator<Item = &str> {
        self.elb.iter().chain(&self.elbs).map(String::as_str)
    }
    /// Its own security group, then the further ones; each once.
    pub fn all_groups(&self) -> Vec<&str> {
        let mut groups = vec![self.group.as_str()];
        for group in &self.groups {
            if !groups.contains(&group.as_str()) {
                groups.push(group);
            }
        }
        groups
    }
}

impl Elb {
    /// The kind that `type` says, or that the listeners ask for: HTTP and HTTPS make an application load balancer.
    pub fn kind(&self) -> BalancerKind {
        let web = self.listeners.iter().all(|l| l.from_prot.is_web());
        self.kind.unwrap_or(if web { BalancerKind::Application } else { BalancerKind::Network })
    }
}

impl ListenerProtocol {
    pub fn is_web(self) -> bool {
        matches!(self, ListenerProtocol::Http | ListenerProtocol::Https)
    }
    pub fn is_encrypted(self) -> bool {
        matches!(self, ListenerProtocol::Https | ListenerProtocol::Ssl)
    }
}
