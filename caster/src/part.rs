//! What a cast calls its resources: the tags they have, and references to those that do not exist yet.

use std::{collections::BTreeMap, fmt};

use ipnet::Ipv4Net;
use serde::{Serialize, Serializer};

/// Tag key: which cast a resource belongs to, `ENV/CIDR`.
pub const CAST: &str = "crosswan-cast";
/// Tag key: which part of it the resource is.
pub const PART: &str = "crosswan-part";

pub type Tags = BTreeMap<String, String>;

/// Part of a cast, as the tag has it: `subnet/10.0.0.0/24`, `nat/interface`, `app/vpn-hub/0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Part(String);

impl Part {
    pub fn vpc() -> Self {
        Part("vpc".into())
    }
    /// A VPC that was there before the first cast. Kept apart, because only in a VPC of its own making may the tool
    /// replace the default ACL entries.
    pub fn adopted_vpc() -> Self {
        Part("vpc/adopted".into())
    }
    pub fn internet_gateway() -> Self {
        Part("internet-gateway".into())
    }
    pub fn subnet(cidr: Ipv4Net) -> Self {
        Part(format!("subnet/{cidr}"))
    }
    pub fn private_table() -> Self {
        Part("table/private".into())
    }
    pub fn public_table() -> Self {
        Part("table/public".into())
    }
    pub fn acl() -> Self {
        Part("acl/default".into())
    }
    pub fn group(name: &str) -> Self {
        Part(format!("group/{name}"))
    }
    pub fn nat() -> Self {
        Part("nat".into())
    }
    /// An instance of an app, counted from 0.
    pub fn instance(app: &str, n: usize) -> Self {
        Part(format!("app/{app}/{n}"))
    }
    pub fn template(app: &str) -> Self {
        Part(format!("app/{app}/template"))
    }
    pub fn scaling(app: &str) -> Self {
        Part(format!("app/{app}/scaling"))
    }
    pub fn balancer(name: &str) -> Self {
        Part(format!("elb/{name}"))
    }
    pub fn target_group(name: &str, port: u16) -> Self {
        Part(format!("elb/{name}/{port}"))
    }
    /// The interface that an instance is launched on, which stays when the instance goes.
    pub fn interface(&self) -> Self {
        Part(format!("{self}/interface"))
    }
    pub fn address(&self) -> Self {
        Part(format!("{self}/address"))
    }
    /// Which instance of the app a tag's value names, if it does.
    pub fn index(value: &str, app: &str) -> Option<usize> {
        value.strip_prefix("app/")?.strip_prefix(app)?.strip_prefix('/')?.parse().ok()
    }
    pub fn is_interface(&self) -> bool {
        self.0.ends_with("/interface")
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A resource that exists, by its id (load balancers: by their ARN or name), or one that an earlier step makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ref {
    Id(String),
    New(Part),
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ref::Id(id) => f.write_str(&crate::text::plain(id)),
            Ref::New(part) => write!(f, "(new {})", part.0.replacen('/', " ", 1)),
        }
    }
}

/// For programs: an id is a text, what an earlier step makes is `{"new": PART}`.
impl Serialize for Ref {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Ref::Id(id) => s.serialize_str(id),
            Ref::New(part) => s.collect_map([("new", part)]),
        }
    }
}
