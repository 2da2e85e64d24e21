//! What the larger steps make: instances, launch templates, load balancers, Auto Scaling groups.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    desired::Choice,
    document::{BalancerKind, Digest},
    part::{Part, Ref, Tags},
};

/// An instance to launch, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Launch {
    pub part: Part,
    pub name: String,
    pub place: Place,
    #[serde(flatten)]
    pub spec: Template,
    pub why: String,
    /// So that a launch that was cut off is not made twice.
    pub token: String,
    pub tags: Tags,
}

/// Where an instance is launched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Its interface is there before it.
    Interface(Ref),
    Subnet(Ref),
}

/// What instances are launched with. Metadata with tokens only, hop limit 1; root disk gp3, encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Template {
    #[serde(serialize_with = "image")]
    pub image: Choice,
    #[serde(rename = "type")]
    pub instance_type: String,
    pub key_pair: Option<String>,
    pub profile: String,
    pub groups: BTreeSet<Ref>,
    pub public: bool,
    pub user_data: Option<Digest>,
    pub instance_tags: Tags,
}

fn image<S: serde::Serializer>(choice: &Choice, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&choice.image)
}

/// A load balancer to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Balancer {
    pub part: Part,
    pub name: String,
    pub kind: BalancerKind,
    pub vpc: Ref,
    pub internal: bool,
    pub subnets: Vec<Ref>,
    pub group: Ref,
    pub idle_timeout: Option<u16>,
    pub cross_zone: bool,
    /// Of a classic one, which is made with them.
    pub listeners: Vec<Listener>,
    pub health: Option<String>,
    pub tags: Tags,
}

/// A listener to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    pub port: u16,
    pub protocol: String,
    /// A target group; of a classic load balancer `PROTOCOL:PORT`.
    pub to: Ref,
    pub certificate: Option<String>,
}

/// An Auto Scaling group to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScalingGroup {
    pub part: Part,
    pub name: String,
    pub template: Ref,
    pub version: u32,
    pub subnets: Vec<Ref>,
    pub min: u32,
    pub max: u32,
    pub desired: u32,
    pub target_groups: Vec<Ref>,
    /// Classic load balancers.
    pub balancers: Vec<Ref>,
    pub tags: Tags,
}

/// The two kinds of record that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum RecordKind {
    #[serde(rename = "CNAME")]
    Cname,
    #[serde(rename = "A")]
    Alias,
}
