//! What should exist for a document: a graph of parts with names and CIDRs in place of ids. Made by `decide`, compared with
//! what exists by `plan`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use crate::{
    document::{BalancerKind, Digest},
    part::{Part, Tags},
    rule::{AclEntry, Rule},
    tree::KeyPath,
};

/// Something that the document asks for and that cannot be: the key, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub path: KeyPath,
    pub what: String,
}

/// The whole environment of one document.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Value of the tag `crosswan-cast`.
    pub cast: String,
    /// Key and value of the environment's tag.
    pub env: (String, String),
    /// Key of the service's tag.
    pub service_key: String,
    pub vpc_cidr: Ipv4Net,
    pub vpc_name: Option<String>,
    pub subnets: Vec<Subnet>,
    /// The ACL's entries, if the document lists any.
    pub acl: Option<BTreeSet<AclEntry>>,
    pub groups: BTreeMap<String, Group>,
    pub gateways: Vec<Gateway>,
    pub routes: Vec<Route>,
    pub apps: Vec<Plain>,
    pub scaled: Vec<Scaled>,
    pub balancers: Vec<Balancer>,
    pub records: Vec<Record>,
    /// The hosted zone of the records.
    pub zone: String,
}

#[derive(Debug, Clone)]
pub struct Subnet {
    pub cidr: Ipv4Net,
    pub zone: String,
    pub public: bool,
}

/// A security group; its name is the key of [`Desired::groups`].
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// With the key that asks for each.
    pub rules: BTreeMap<Rule, String>,
    /// The app whose `egress` revokes the default egress rule.
    pub limits_egress: Option<String>,
}

/// An instance with a place of its own: the interface stays, instances come and go.
#[derive(Debug, Clone)]
pub struct Gateway {
    pub part: Part,
    pub path: KeyPath,
    pub subnet: Ipv4Net,
    pub address: Wanted,
    pub launch: Launch,
}

/// Which Elastic IP a gateway gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This one, allocated by its owner.
    Given(Ipv4Addr),
    /// One that the cast allocates.
    Own,
}

/// What an instance is launched with.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Tag Name.
    pub name: String,
    pub service: String,
    pub cluster: Option<String>,
    pub instance_type: String,
    pub profile: String,
    pub key_pair: Option<String>,
    /// By name, the own one first.
    pub groups: Vec<String>,
    pub public: bool,
    pub user_data: Option<Digest>,
    /// The image and why this one, or all that hinders a launch. Matters only when something is launched: 2014 went on
    /// with what ran.
    pub ready: Result<Choice, Vec<Fault>>,
}

/// An image and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub image: String,
    pub why: String,
}

/// The private table is the VPC's main one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Private,
    Public,
}

/// A route that a table should have.
#[derive(Debug, Clone)]
pub struct Route {
    pub table: Table,
    pub to: Ipv4Net,
    pub by: Target,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    InternetGateway,
    /// A gateway, by its place in [`Desired::gateways`].
    Gateway(usize),
}

/// An app that is `count` instances.
#[derive(Debug, Clone)]
pub struct Plain {
    pub name: String,
    pub path: KeyPath,
    pub count: usize,
    /// In which instances take turns.
    pub subnets: Vec<Ipv4Net>,
    pub balancers: Vec<String>,
    pub addresses: Vec<Ipv4Addr>,
    pub launch: Launch,
}

/// An app that is an Auto Scaling group.
#[derive(Debug, Clone)]
pub struct Scaled {
    pub name: String,
    pub path: KeyPath,
    pub min: u32,
    pub max: u32,
    /// At creation; a cast does not change it afterwards.
    pub desired: u32,
    pub subnets: Vec<Ipv4Net>,
    pub balancers: Vec<String>,
    pub addresses: Vec<Ipv4Addr>,
    pub private_addresses: Vec<Ipv4Addr>,
    pub launch: Launch,
}

/// A load balancer; `path` is its place in the document.
#[derive(Debug, Clone)]
pub struct Balancer {
    pub name: String,
    /// `NAME-ENV`.
    pub full: String,
    pub path: KeyPath,
    pub kind: BalancerKind,
    pub internal: bool,
    pub subnets: Vec<Ipv4Net>,
    pub group: String,
    pub idle_timeout: Option<u16>,
    pub cross_zone: bool,
    pub listeners: BTreeMap<u16, Listener>,
    /// By port; none for a classic one.
    pub target_groups: BTreeMap<u16, TargetGroup>,
    pub health: String,
}

/// A listener; its port is the key of [`Balancer::listeners`]. Protocols in AWS's spelling.
#[derive(Debug, Clone)]
pub struct Listener {
    pub path: KeyPath,
    pub protocol: String,
    pub to: u16,
    pub to_protocol: String,
    /// The certificate's ARN, or why there is none.
    pub certificate: Option<Result<String, Fault>>,
}

/// A target group; its port is the key of [`Balancer::target_groups`].
#[derive(Debug, Clone)]
pub struct TargetGroup {
    pub name: String,
    pub protocol: String,
    pub health: String,
}

/// A record in Route 53; `name` is fully qualified, with the final dot.
#[derive(Debug, Clone)]
pub struct Record {
    pub name: String,
    pub path: KeyPath,
    pub to: RecordTarget,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordTarget {
    /// The public DNS name of a gateway's address.
    Gateway(usize),
    /// A load balancer, by its place in [`Desired::balancers`].
    Balancer(usize),
}

impl Desired {
    /// Tags that a resource is made with, so that a cast that was killed finds it again.
    pub fn tags(&self, part: &Part) -> Tags {
        Tags::from([
            (crate::part::CAST.to_owned(), self.cast.clone()),
            (crate::part::PART.to_owned(), part.as_str().to_owned()),
        ])
    }
    /// The same with a Name.
    pub fn named(&self, part: &Part, name: &str) -> Tags {
        let mut tags = self.tags(part);
        tags.insert("Name".to_owned(), name.to_owned());
        tags
    }
    /// Tags of an instance: those, and the service, environment and cluster of 2014.
    pub fn instance_tags(&self, part: &Part, launch: &Launch) -> Tags {
        let mut tags = self.named(part, &launch.name);
        tags.extend(self.service_tags(launch));
        tags
    }
    /// Name, service, environment and cluster, as 2014 set them.
    pub fn service_tags(&self, launch: &Launch) -> Tags {
        let mut tags = Tags::from([
            ("Name".to_owned(), launch.name.clone()),
            (self.service_key.clone(), launch.service.clone()),
            self.env.clone(),
        ]);
        tags.extend(launch.cluster.clone().map(|cluster| ("cluster".to_owned(), cluster)));
        tags
    }
    /// Whether the document still has this part.
    pub fn knows(&self, part: &str) -> bool {
        let gateway = |g: &Gateway| [g.part.clone(), g.part.interface(), g.part.address()].map(|p| p.to_string());
        let mut known: Vec<String> = self.gateways.iter().flat_map(gateway).collect();
        let fixed =
            [Part::vpc(), Part::adopted_vpc(), Part::internet_gateway(), Part::private_table(), Part::public_table()];
        known.extend(fixed.map(|p| p.to_string()));
        known.extend(self.subnets.iter().map(|s| Part::subnet(s.cidr).to_string()));
        known.extend(self.groups.keys().map(|name| Part::group(name).to_string()));
        known.extend(
            self.scaled.iter().flat_map(|a| [Part::template(&a.name), Part::scaling(&a.name)]).map(|p| p.to_string()),
        );
        for elb in &self.balancers {
            known.push(Part::balancer(&elb.name).to_string());
            known.extend(elb.target_groups.keys().map(|port| Part::target_group(&elb.name, *port).to_string()));
        }
        // An instance beyond the count is reported by its app; what a group launches has the group's part.
        known.iter().any(|k| k == part) || self.apps.iter().any(|a| Part::index(part, &a.name).is_some())
    }
}
