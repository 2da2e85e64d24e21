//! Instances, and what they are made of and reached by.

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::Id;
use crate::part::Tags;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    pub vpc: Id,
    pub subnet: Id,
    pub private: Ipv4Addr,
    #[serde(default)]
    pub secondary: BTreeSet<Ipv4Addr>,
    /// Elastic, or assigned at launch.
    #[serde(default)]
    pub public: Option<Ipv4Addr>,
    #[serde(default)]
    pub public_dns: Option<String>,
    #[serde(default)]
    pub groups: BTreeSet<Id>,
    pub source_dest_check: bool,
    #[serde(default)]
    pub instance: Option<Id>,
    #[serde(default)]
    pub tags: Tags,
}

/// An Elastic IP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    pub public: Ipv4Addr,
    #[serde(default)]
    pub interface: Option<Id>,
    #[serde(default)]
    pub tags: Tags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
}

impl State {
    /// It runs, or will in a moment. 2014 did not count pending ones, and launched a second NAT.
    pub fn is_up(self) -> bool {
        matches!(self, State::Pending | State::Running)
    }
    pub fn is_stopped(self) -> bool {
        matches!(self, State::Stopping | State::Stopped)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    pub vpc: Id,
    pub subnet: Id,
    pub state: State,
    pub image: Id,
    #[serde(rename = "type")]
    pub instance_type: String,
    /// The primary interface.
    pub interface: Id,
    /// The instance's own flag, beside that of its interface.
    #[serde(default = "on")]
    pub source_dest_check: bool,
    /// Answers metadata requests without a token.
    #[serde(default)]
    pub imds_v1: bool,
    #[serde(default)]
    pub tags: Tags,
}

fn on() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    pub name: String,
    /// The owner's account id.
    pub owner: String,
    /// `amazon` and the like.
    #[serde(default)]
    pub owner_alias: Option<String>,
    pub available: bool,
    pub architecture: String,
    pub virtualization: String,
    /// The device name of the root disk, such as `/dev/xvda`.
    #[serde(default)]
    pub root: Option<String>,
    /// Its size in GiB.
    #[serde(default)]
    pub root_gib: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceType {
    /// Where it is offered.
    pub zones: BTreeSet<String>,
    pub architectures: BTreeSet<String>,
    pub virtualizations: BTreeSet<String>,
    /// Whether AWS counts it to the current generation.
    pub current: bool,
}
