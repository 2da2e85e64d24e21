//! Load balancers, Auto Scaling groups, certificates and records.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Id;
use crate::{
    document::{BalancerKind, Digest},
    part::Tags,
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The name of one in IAM; of one in ACM its domain, and its Name tag if it has one.
    pub names: BTreeSet<String>,
    /// In IAM, which is looked at first.
    #[serde(default)]
    pub iam: bool,
    pub issued: bool,
    #[serde(default)]
    pub days_left: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balancer {
    pub name: String,
    pub kind: BalancerKind,
    pub vpc: Id,
    #[serde(default)]
    pub internal: bool,
    pub dns: String,
    #[serde(default)]
    pub listeners: BTreeMap<u16, Listener>,
    #[serde(default)]
    pub idle_timeout: Option<u16>,
    #[serde(default)]
    pub cross_zone: bool,
    /// The instances of a classic one.
    #[serde(default)]
    pub instances: BTreeSet<Id>,
    #[serde(default)]
    pub tags: Tags,
}

/// Protocols in AWS's spelling: `HTTP`, `HTTPS`, `TCP`, `TLS`, `SSL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub protocol: String,
    #[serde(default)]
    pub certificate: Option<Id>,
    /// The target group's ARN; of a classic one `PROTOCOL:PORT`.
    pub to: Id,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetGroup {
    pub name: String,
    pub vpc: Id,
    pub protocol: String,
    pub port: u16,
    /// `PROTOCOL:PORT[/PATH] every N s, healthy after N, unhealthy after N`.
    pub health: String,
    #[serde(default)]
    pub targets: BTreeSet<Id>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The number of the newest version, whose data these are.
    pub version: u32,
    pub data: TemplateData,
    #[serde(default)]
    pub tags: Tags,
}

/// What a launch template says, as far as the document determines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateData {
    pub image: Id,
    #[serde(rename = "type")]
    pub instance_type: String,
    #[serde(default)]
    pub key_pair: Option<String>,
    pub profile: String,
    /// Ids in an observation.
    pub groups: BTreeSet<Id>,
    pub public: bool,
    #[serde(default)]
    pub user_data: Option<Digest>,
    /// Tags of the instances.
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalingGroup {
    pub subnets: BTreeSet<Id>,
    pub min: u32,
    pub max: u32,
    pub desired: u32,
    /// A launch template's name and version.
    #[serde(default)]
    pub template: Option<(String, String)>,
    /// The launch configuration of 2014.
    #[serde(default)]
    pub configuration: Option<String>,
    #[serde(default)]
    pub target_groups: BTreeSet<Id>,
    /// Classic load balancers.
    #[serde(default)]
    pub balancers: BTreeSet<String>,
    /// Members in service.
    #[serde(default)]
    pub instances: BTreeSet<Id>,
    #[serde(default)]
    pub tags: Tags,
}

/// A record of a hosted zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// With the final dot, in small letters.
    pub name: String,
    /// `A`, `AAAA` or `CNAME`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The first value, or what an alias points to; in small letters, without a final dot.
    pub value: String,
    #[serde(default)]
    pub alias: bool,
}
