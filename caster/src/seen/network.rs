//! VPCs and what is in them.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Id;
use crate::{
    part::Tags,
    rule::{AclEntry, Rule},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpc {
    pub cidr: Ipv4Net,
    /// The account's default VPC of the region.
    #[serde(default)]
    pub default: bool,
    #[serde(default)]
    pub dns_hostnames: bool,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InternetGateway {
    #[serde(default)]
    pub vpc: Option<Id>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    pub vpc: Id,
    pub cidr: Ipv4Net,
    pub zone: String,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    pub vpc: Id,
    #[serde(default)]
    pub main: bool,
    /// The subnets that are explicitly associated.
    #[serde(default)]
    pub subnets: BTreeSet<Id>,
    /// Destination and target: the id of an interface, an instance, or of anything else that EC2 routes to. Where EC2
    /// gives both interface and instance, the interface. Without the VPC's own route.
    #[serde(default)]
    pub routes: BTreeMap<Ipv4Net, Id>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acl {
    pub vpc: Id,
    /// Without the last one, which denies everything and cannot be changed.
    #[serde(default)]
    pub entries: BTreeSet<AclEntry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub vpc: Id,
    pub name: String,
    #[serde(default)]
    pub rules: BTreeSet<Rule>,
    #[serde(default)]
    pub tags: Tags,
}
