//! The steps of a plan: values that an operator reads and that apply carries out. No step deletes anything; the two that
//! take something away are [`Step::RevokeDefaultEgress`] and [`Step::RemoveDefaultAclEntry`] (or its replacement).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::resource::{Balancer, Launch, Listener, Place, RecordKind, ScalingGroup, Template};
use crate::{
    part::{Part, Ref, Tags},
    rule::{AclEntry, Rule},
};

/// One change. `Display` is what an operator reads; secrets never show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    CreateVpc {
        part: Part,
        cidr: Ipv4Net,
        tags: Tags,
    },
    EnableDnsHostnames {
        vpc: Ref,
    },
    CreateInternetGateway {
        part: Part,
        tags: Tags,
    },
    AttachInternetGateway {
        gateway: Ref,
        vpc: Ref,
    },
    CreateSubnet {
        part: Part,
        vpc: Ref,
        cidr: Ipv4Net,
        zone: String,
        public: bool,
        tags: Tags,
    },
    CreateRouteTable {
        part: Part,
        vpc: Ref,
        tags: Tags,
    },
    /// `live`: something runs in the VPC, so the subnet may carry traffic by the main table's routes now.
    Associate {
        table: Ref,
        subnet: Ref,
        live: bool,
    },
    /// Of a subnet that another table had.
    MoveAssociation {
        subnet: Ref,
        old: Ref,
        table: Ref,
    },
    CreateGroup {
        part: Part,
        vpc: Ref,
        name: String,
        tags: Tags,
    },
    CreateAclEntry {
        acl: Ref,
        entry: AclEntry,
    },
    RemoveDefaultAclEntry {
        acl: Ref,
        entry: AclEntry,
    },
    /// The document has an entry of the same number.
    ReplaceDefaultAclEntry {
        acl: Ref,
        entry: AclEntry,
    },
    Allow {
        group: Ref,
        rule: Rule,
        why: String,
    },
    RevokeDefaultEgress {
        group: Ref,
        why: String,
    },
    /// Tags on something that an earlier cast did not make.
    Adopt {
        what: Ref,
        part: Part,
        tags: Tags,
        why: String,
    },
    Retag {
        what: Ref,
        key: String,
        old: Option<String>,
        new: String,
    },
    AllocateAddress {
        part: Part,
        tags: Tags,
    },
    /// With the source/destination check off.
    CreateInterface {
        part: Part,
        subnet: Ref,
        groups: Vec<Ref>,
        tags: Tags,
    },
    AddGroup {
        interface: Ref,
        group: Ref,
    },
    DisableSourceDestCheck {
        what: Ref,
    },
    AssociateAddress {
        address: Ref,
        public: Option<Ipv4Addr>,
        to: Ref,
    },
    Launch(Box<Launch>),
    CreateRoute {
        table: Ref,
        to: Ipv4Net,
        target: Ref,
        why: String,
    },
    ReplaceRoute {
        table: Ref,
        to: Ipv4Net,
        old: Ref,
        target: Ref,
        why: String,
    },
    CreateTargetGroup {
        part: Part,
        vpc: Ref,
        name: String,
        protocol: String,
        port: u16,
        health: String,
        tags: Tags,
    },
    SetHealthCheck {
        target_group: Ref,
        old: String,
        new: String,
    },
    CreateBalancer(Box<Balancer>),
    CreateListener {
        balancer: Ref,
        listener: Listener,
    },
    SetIdleTimeout {
        balancer: Ref,
        old: Option<u16>,
        new: u16,
    },
    SetCrossZone {
        balancer: Ref,
        on: bool,
    },
    CreateTemplate {
        part: Part,
        name: String,
        data: Box<Template>,
        tags: Tags,
    },
    CreateTemplateVersion {
        template: Ref,
        version: u32,
        data: Box<Template>,
        changes: Vec<String>,
    },
    CreateScalingGroup(Box<ScalingGroup>),
    /// New instances only: none is replaced.
    UseTemplate {
        group: Ref,
        old: String,
        template: Ref,
        version: u32,
    },
    AttachTargetGroup {
        group: Ref,
        target_group: Ref,
    },
    Register {
        target: Ref,
        with: Ref,
    },
    AssignPrivateAddress {
        interface: Ref,
        address: Ipv4Addr,
    },
    SetRecord {
        name: String,
        kind: RecordKind,
        old: Option<String>,
        target: Ref,
        value: Option<String>,
    },
}

impl Step {
    /// Steps of a level may run at once; a level begins when the one before has ended.
    pub fn level(&self) -> u8 {
        use Step::*;
        match self {
            CreateVpc { .. } => 0,
            EnableDnsHostnames { .. }
            | CreateInternetGateway { .. }
            | CreateSubnet { .. }
            | CreateRouteTable { .. }
            | CreateGroup { .. }
            | Adopt { .. }
            | Retag { .. } => 1,
            AttachInternetGateway { .. } => 2,
            // Entries before the default ones go: in between, both are there.
            CreateAclEntry { .. } => 3,
            RemoveDefaultAclEntry { .. }
            | ReplaceDefaultAclEntry { .. }
            | Associate { live: false, .. }
            | Allow { .. } => 4,
            // After the rules that take its place.
            RevokeDefaultEgress { .. } => 5,
            AllocateAddress { .. } | CreateInterface { .. } | AddGroup { .. } | DisableSourceDestCheck { .. } => 6,
            Launch(launch) if matches!(launch.place, Place::Interface(_)) => 8,
            AssociateAddress { to: Ref::New(part), .. } if !part.is_interface() => 15,
            AssociateAddress { .. } => 7,
            CreateRoute { .. } | ReplaceRoute { .. } => 9,
            // A subnet in use changes its table when the table has its routes and the gateways run: make before break.
            Associate { live: true, .. } | MoveAssociation { .. } => 10,
            CreateTargetGroup { .. } | SetHealthCheck { .. } | CreateBalancer(_) => 11,
            CreateListener { .. }
            | SetIdleTimeout { .. }
            | SetCrossZone { .. }
            | CreateTemplate { .. }
            | CreateTemplateVersion { .. } => 12,
            Launch(_) | CreateScalingGroup(_) | UseTemplate { .. } => 13,
            AttachTargetGroup { .. } | Register { .. } | AssignPrivateAddress { .. } => 14,
            SetRecord { .. } => 16,
        }
    }

    /// Whether the step may be carried out twice without making anything twice.
    pub fn is_repeatable(&self) -> bool {
        use Step::*;
        !matches!(
            self,
            CreateVpc { .. }
                | CreateInternetGateway { .. }
                | CreateSubnet { .. }
                | CreateRouteTable { .. }
                | CreateGroup { .. }
                | AllocateAddress { .. }
                | CreateInterface { .. }
                | Launch(_)
                | CreateTargetGroup { .. }
                | CreateBalancer(_)
                | CreateListener { .. }
                | CreateTemplate { .. }
                | CreateTemplateVersion { .. }
                | CreateScalingGroup(_)
        )
    }

    /// Whether something is taken away: the two exceptions.
    pub fn takes_away(&self) -> bool {
        matches!(
            self,
            Step::RevokeDefaultEgress { .. } | Step::RemoveDefaultAclEntry { .. } | Step::ReplaceDefaultAclEntry { .. }
        )
    }
}
