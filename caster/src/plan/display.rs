//! How an operator reads the steps.

use std::fmt;

use super::{
    resource::{Launch, Listener, Place, RecordKind, Template},
    step::Step,
};
use crate::text::plain;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateVpc { cidr, .. } => write!(f, "create VPC {cidr}"),
            Step::EnableDnsHostnames { vpc } => write!(f, "enable DNS hostnames in {vpc}"),
            Step::CreateInternetGateway { .. } => f.write_str("create internet gateway"),
            Step::AttachInternetGateway { gateway, vpc } => write!(f, "attach {gateway} to {vpc}"),
            Step::CreateSubnet { cidr, zone, public, .. } => {
                write!(f, "create {} subnet {cidr} in {zone}", if *public { "public" } else { "private" })
            }
            Step::CreateRouteTable { .. } => f.write_str("create public route table"),
            Step::Associate { table, subnet, .. } => write!(f, "associate {subnet} with {table}"),
            Step::MoveAssociation { subnet, old, table } => write!(f, "associate {subnet}: {old} => {table}"),
            Step::CreateGroup { name, .. } => write!(f, "create security group {name}"),
            Step::CreateAclEntry { acl, entry } => write!(f, "add to {acl} {entry}"),
            Step::RemoveDefaultAclEntry { acl, entry } => {
                write!(f, "REMOVE from {acl} the default entry {} (vpc.acls takes its place)", entry.place())
            }
            Step::ReplaceDefaultAclEntry { acl, entry } => write!(f, "REPLACE in {acl} the default entry by {entry}"),
            Step::Allow { group, rule, why } => write!(f, "allow in {group}: {rule} ({why})"),
            Step::RevokeDefaultEgress { group, why } => write!(f, "REVOKE in {group}: everything to anywhere ({why})"),
            Step::Adopt { what, part, why, .. } => {
                let verb = if matches!(what, crate::part::Ref::New(_)) { "tag" } else { "adopt" };
                write!(f, "{verb} {what} as {part} ({why})")
            }
            Step::Retag { what, key, old, new } => {
                write!(f, "tag {what}: {key} {} => {}", plain(old.as_deref().unwrap_or("(none)")), plain(new))
            }
            Step::AllocateAddress { part, .. } => write!(f, "allocate Elastic IP for {}", owner(part.as_str())),
            Step::CreateInterface { part, subnet, .. } => {
                write!(f, "create interface for {} in {subnet}, source/destination check off", owner(part.as_str()))
            }
            Step::AddGroup { interface, group } => write!(f, "add {group} to {interface}"),
            Step::DisableSourceDestCheck { what } => {
                write!(f, "switch the source/destination check of {what} off (it forwards)")
            }
            Step::AssociateAddress { address, public, to } => match public {
                Some(public) => write!(f, "associate {public} ({address}) with {to}"),
                None => write!(f, "associate {address} with {to}"),
            },
            Step::Launch(launch) => write!(f, "{launch}"),
            Step::CreateRoute { table, to, target, why } => write!(f, "route in {table}: {to} to {target} ({why})"),
            Step::ReplaceRoute { table, to, old, target, why } => {
                write!(f, "route in {table}: {to} to {old} => {target} ({why})")
            }
            Step::CreateTargetGroup { name, protocol, port, health, .. } => {
                write!(f, "create target group {name}: {protocol} {port}, check {health}")
            }
            Step::SetHealthCheck { target_group, old, new } => {
                write!(f, "set health check of {target_group}: {} => {new}", plain(old))
            }
            Step::CreateBalancer(b) => {
                let scheme = if b.internal { "internal" } else { "internet-facing" };
                write!(f, "create {} load balancer {}, {scheme}", format!("{:?}", b.kind).to_lowercase(), b.name)?;
                b.idle_timeout.map_or(Ok(()), |idle| write!(f, ", idle timeout {idle} s"))?;
                f.write_str(if b.cross_zone { "" } else { ", each zone for itself" })?;
                b.listeners.iter().try_for_each(|l| write!(f, ", {l}"))
            }
            Step::CreateListener { balancer, listener } => write!(f, "create listener of {balancer}: {listener}"),
            Step::SetIdleTimeout { balancer, old, new } => match old {
                Some(old) => write!(f, "set idle timeout of {balancer}: {old} s => {new} s"),
                None => write!(f, "set idle timeout of {balancer}: {new} s"),
            },
            Step::SetCrossZone { balancer, on } => {
                write!(f, "switch balancing across zones of {balancer} {}", if *on { "on" } else { "off" })
            }
            Step::CreateTemplate { name, data, .. } => write!(f, "create launch template {name}: {data}"),
            Step::CreateTemplateVersion { template, version, changes, .. } => {
                write!(f, "create version {version} of launch template {template}: {}", changes.join(", "))
            }
            Step::CreateScalingGroup(g) => write!(
                f,
                "create Auto Scaling group {}: {} to {} instances, {} at first, {} version {}",
                g.name, g.min, g.max, g.desired, g.template, g.version
            ),
            Step::UseTemplate { group, old, template, version } => write!(
                f,
                "new instances of Auto Scaling group {group}: {} => launch template {template} version {version}",
                plain(old)
            ),
            Step::AttachTargetGroup { group, target_group } => write!(f, "attach {target_group} to {group}"),
            Step::Register { target, with } => write!(f, "register {target} with {with}"),
            Step::AssignPrivateAddress { interface, address } => {
                write!(f, "assign private address {address} to {interface}")
            }
            Step::SetRecord { name, kind, old, target, value } => {
                let kind = if *kind == RecordKind::Cname { "CNAME" } else { "alias" };
                write!(f, "record {name} {kind} ")?;
                old.as_ref().map_or(Ok(()), |old| write!(f, "{} => ", plain(old)))?;
                match value {
                    Some(value) => f.write_str(&plain(value)),
                    None => write!(f, "the DNS name of {target}"),
                }
            }
        }
    }
}

/// The part that an interface or address is for.
fn owner(part: &str) -> &str {
    part.rsplit_once('/').map_or(part, |(owner, _)| owner)
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Interface(interface) => format!("on {interface}"),
            Place::Subnet(subnet) => format!("in {subnet}"),
        };
        write!(f, "launch {} ({}) {place}: {}; {}", self.part, self.name, self.spec, self.why)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} ({}), profile {}", self.instance_type, self.image.image, self.image.why, self.profile)?;
        self.key_pair.as_ref().map_or(Ok(()), |key| write!(f, ", key pair {key}"))?;
        if self.public {
            f.write_str(", public address")?;
        }
        self.user_data.as_ref().map_or(Ok(()), |digest| write!(f, ", user data {digest}"))
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} to {}", self.protocol, self.port, self.to)?;
        self.certificate.as_ref().map_or(Ok(()), |arn| write!(f, " with {}", plain(arn)))
    }
}
