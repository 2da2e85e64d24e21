//! What was observed in a region: everything that a plan depends on, in our own types.
//!
//! Maps are by id (by name where AWS knows a thing by its name), so the order of answers never shows. "Could not ask" is no
//! value of these types: an observation is whole, or there is none.

mod balancing;
mod compute;
mod network;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use balancing::{Balancer, Certificate, Listener, Record, ScalingGroup, TargetGroup, Template, TemplateData};
pub use compute::{Address, Image, Instance, InstanceType, Interface, State};
pub use network::{Acl, Group, InternetGateway, RouteTable, Subnet, Vpc};

use crate::{
    document::Digest,
    part::{CAST, PART, Part, Tags},
    text,
};

/// Names of quotas: AWS's own where it has any.
pub mod quota {
    pub const ELASTIC_IPS: &str = "vpc-max-elastic-ips";
    pub const GROUPS_PER_INTERFACE: &str = "vpc-max-security-groups-per-interface";
    pub const APPLICATION: &str = "application-load-balancers";
    pub const NETWORK: &str = "network-load-balancers";
    pub const CLASSIC: &str = "classic-load-balancers";
    pub const TARGET_GROUPS: &str = "target-groups";
    pub const SCALING_GROUPS: &str = "auto-scaling-groups";
}

/// An id such as `vpc-0a1b2c3d`.
pub type Id = String;

/// One region of one account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seen {
    pub region: String,
    pub account: String,
    /// The zones that the account may use, with their kind: `availability-zone`, `local-zone`, ...
    pub zones: BTreeMap<String, String>,
    pub vpcs: BTreeMap<Id, Vpc>,
    pub internet_gateways: BTreeMap<Id, InternetGateway>,
    pub subnets: BTreeMap<Id, Subnet>,
    pub route_tables: BTreeMap<Id, RouteTable>,
    /// The default ACL of each VPC.
    pub acls: BTreeMap<Id, Acl>,
    pub groups: BTreeMap<Id, Group>,
    pub interfaces: BTreeMap<Id, Interface>,
    /// Elastic IPs, by allocation id.
    pub addresses: BTreeMap<Id, Address>,
    /// How many of each kind the account may have in the region, by the names in [`quota`]; those that AWS told.
    pub quotas: BTreeMap<String, usize>,
    pub instances: BTreeMap<Id, Instance>,
    pub images: BTreeMap<Id, Image>,
    pub instance_types: BTreeMap<String, InstanceType>,
    /// Names of instance profiles.
    pub profiles: BTreeSet<String>,
    /// Names of key pairs.
    pub key_pairs: BTreeSet<String>,
    /// By ARN.
    pub certificates: BTreeMap<Id, Certificate>,
    /// By ARN; classic ones by name.
    pub balancers: BTreeMap<Id, Balancer>,
    /// By ARN.
    pub target_groups: BTreeMap<Id, TargetGroup>,
    /// Launch templates, by name.
    pub templates: BTreeMap<String, Template>,
    /// Auto Scaling groups, by name.
    pub scaling_groups: BTreeMap<String, ScalingGroup>,
    /// Hosted zones in Route 53, by name with the final dot.
    pub hosted_zones: BTreeMap<String, Id>,
    /// Their records, of the types that matter here.
    pub records: BTreeSet<Record>,
    /// What `ssm:` and `secretsmanager:` references hold: a digest, never the text.
    pub references: BTreeMap<String, Digest>,
}

impl Seen {
    /// What an observation names and does not have: then it is incomplete, and nothing may be concluded from it.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        let mut need = |there: bool, id: &str, what: &str, of: &str| {
            if !there {
                gaps.push(format!("{} names {what} {}, which is missing", text::plain(of), text::plain(id)));
            }
        };
        for (id, subnet) in &self.subnets {
            need(self.vpcs.contains_key(&subnet.vpc), &subnet.vpc, "the VPC", id);
        }
        for (id, table) in &self.route_tables {
            need(self.vpcs.contains_key(&table.vpc), &table.vpc, "the VPC", id);
            table.subnets.iter().for_each(|s| need(self.subnets.contains_key(s), s, "the subnet", id));
        }
        for (id, group) in &self.groups {
            need(self.vpcs.contains_key(&group.vpc), &group.vpc, "the VPC", id);
        }
        for (id, interface) in &self.interfaces {
            need(self.subnets.contains_key(&interface.subnet), &interface.subnet, "the subnet", id);
            let instance = interface.instance.as_ref();
            instance.into_iter().for_each(|i| need(self.instances.contains_key(i), i, "the instance", id));
        }
        for (id, instance) in self.instances.iter().filter(|(_, i)| i.state.is_up()) {
            need(self.interfaces.contains_key(&instance.interface), &instance.interface, "the interface", id);
        }
        gaps
    }
}

/// A resource with tags.
pub trait Tagged {
    fn tags(&self) -> &Tags;
    /// Whether it is this part of this cast.
    fn is(&self, cast: &str, part: &Part) -> bool {
        self.tags().get(CAST).is_some_and(|c| c == cast) && self.tags().get(PART).is_some_and(|p| p == part.as_str())
    }
    fn is_of(&self, cast: &str) -> bool {
        self.tags().get(CAST).is_some_and(|c| c == cast)
    }
    fn tag(&self, key: &str) -> Option<&str> {
        self.tags().get(key).map(String::as_str)
    }
}

macro_rules! tagged {
    ($($type:ty),*) => {
        $(impl Tagged for $type {
            fn tags(&self) -> &Tags {
                &self.tags
            }
        })*
    };
}
tagged!(
    Vpc,
    InternetGateway,
    Subnet,
    RouteTable,
    Group,
    Interface,
    Address,
    Instance,
    Balancer,
    TargetGroup,
    Template,
    ScalingGroup
);

/// The first of `map` that is this part of this cast.
pub fn of_part<'a, T: Tagged>(map: &'a BTreeMap<Id, T>, cast: &str, part: &Part) -> Option<(&'a Id, &'a T)> {
    map.iter().find(|(_, thing)| thing.is(cast, part))
}
