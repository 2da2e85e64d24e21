//! Carries the steps of a plan out, level by level: within a level up to eight at once. One `match` over steps; what each does is
//! in the module of its kind.
//!
//! A step that is cut off is found again by its tags, so a cast that was killed anywhere is simply cast again. Where EC2 takes a
//! client token, two calls for the same thing make one thing.

#![allow(clippy::disallowed_methods, reason = "edge: bounded waits on AWS")]

mod adoption;
mod balancers;
mod call;
mod classic;
mod context;
mod gateways;
mod groups;
mod instances;
mod ledger;
mod network;
mod patience;
mod records;
mod scaling;
mod tags;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

pub use context::Apply;

use crate::{
    aws::Failure,
    plan::{Plan, Step},
};

/// Calls of one cast under way at once: EC2's bucket for calls that change something holds 50 or more and fills with 5 a second.
const AT_ONCE: usize = 8;

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Applied {
    pub done: Vec<Done>,
    pub failed: Vec<(Step, Failure)>,
    /// Of later levels, which were not begun.
    pub not_tried: usize,
}

/// A step that was carried out.
#[derive(Debug, Clone)]
pub struct Done {
    pub step: Step,
    /// What it made, if anything.
    pub id: Option<String>,
    pub took: Duration,
}

impl<'a> Apply<'a> {
    /// All steps of `plan`. After a failure the rest of its level goes on, and no further level is begun.
    pub async fn carry_out(mut self, plan: &Plan) -> Applied {
        self.vpc.clone_from(&plan.vpc);
        let mut applied = Applied::default();
        let mut rest = &plan.steps[..];
        while let Some(level) = rest.first().map(Step::level) {
            let here = rest.iter().take_while(|step| step.level() == level).count();
            let (now, later) = rest.split_at(here);
            let outcomes = stream::iter(units(now)).map(|unit| self.unit(unit)).buffer_unordered(AT_ONCE);
            for (unit, took, outcome) in outcomes.collect::<Vec<_>>().await {
                match outcome {
                    Ok(id) => applied.done.extend(unit.into_iter().map(|step| Done {
                        step: step.clone(),
                        id: id.clone(),
                        took,
                    })),
                    Err(failure) => applied.failed.extend(unit.into_iter().map(|step| (step.clone(), failure.clone()))),
                }
            }
            if !applied.failed.is_empty() {
                applied.not_tried = later.len();
                break;
            }
            rest = later;
        }
        applied
    }

    async fn unit(&self, unit: Vec<&'a Step>) -> (Vec<&'a Step>, Duration, Result<Option<String>, Failure>)
    where
        Self: 'a,
    {
        let started = Instant::now();
        let label = unit.first().map(|step| step.to_string()).unwrap_or_default();
        let outcome = self.progress.during(&label, Box::pin(self.steps(&unit))).await;
        let took = started.elapsed();
        match &outcome {
            Ok(id) => unit.iter().for_each(|step| self.progress.done(step, id.as_deref(), took)),
            Err(failure) => unit.iter().for_each(|step| self.progress.failed(step, failure, took)),
        }
        (unit, took, outcome)
    }

    /// Rules and groups of one thing come several at once, anything else alone.
    async fn steps(&self, unit: &[&Step]) -> Result<Option<String>, Failure> {
        match unit {
            [Step::Allow { group, .. }, ..] => self.allow(group, unit).await.map(|()| None),
            [Step::AddGroup { interface, .. }, ..] => self.add_groups(interface, unit).await.map(|()| None),
            [step] => self.step(step).await,
            _ => Ok(None),
        }
    }

    async fn step(&self, step: &Step) -> Result<Option<String>, Failure> {
        let nothing = |()| None;
        match step {
            Step::CreateVpc { part, cidr, tags } => self.create_vpc(part, *cidr, tags).await.map(Some),
            Step::EnableDnsHostnames { vpc } => self.enable_dns_hostnames(vpc).await.map(nothing),
            Step::CreateInternetGateway { part, tags } => self.create_internet_gateway(part, tags).await.map(Some),
            Step::AttachInternetGateway { gateway, vpc } => self.attach(gateway, vpc).await.map(nothing),
            Step::CreateSubnet { part, vpc, cidr, zone, tags, .. } => {
                self.create_subnet(part, vpc, *cidr, zone, tags).await.map(Some)
            }
            Step::CreateRouteTable { part, vpc, tags } => self.create_route_table(part, vpc, tags).await.map(Some),
            Step::Associate { table, subnet, .. } => self.associate(table, subnet).await.map(nothing),
            Step::MoveAssociation { subnet, old, table } => {
                self.move_association(subnet, old, table).await.map(nothing)
            }
            Step::CreateGroup { part, vpc, name, tags } => self.create_group(part, vpc, name, tags).await.map(Some),
            Step::CreateAclEntry { acl, entry } => self.create_acl_entry(acl, entry).await.map(nothing),
            Step::RemoveDefaultAclEntry { acl, entry } => self.remove_acl_entry(acl, entry).await.map(nothing),
            Step::ReplaceDefaultAclEntry { acl, entry } => self.replace_acl_entry(acl, entry).await.map(nothing),
            Step::Allow { .. } | Step::AddGroup { .. } => Ok(None),
            Step::RevokeDefaultEgress { group, .. } => self.revoke_default_egress(group).await.map(nothing),
            Step::Adopt { what, part, tags, .. } => self.tag(what, part.as_str(), tags).await.map(nothing),
            Step::Retag { what, key, new, .. } => {
                self.tag(what, "", &[(key.clone(), new.clone())].into()).await.map(nothing)
            }
            Step::AllocateAddress { part, tags } => self.allocate_address(part, tags).await.map(Some),
            Step::CreateInterface { part, subnet, groups, tags } => {
                self.create_interface(part, subnet, groups, tags).await.map(Some)
            }
            Step::DisableSourceDestCheck { what } => self.disable_source_dest_check(what).await.map(nothing),
            Step::AssociateAddress { address, to, .. } => self.associate_address(address, to).await.map(nothing),
            Step::Launch(launch) => self.launch(launch).await.map(Some),
            Step::CreateRoute { table, to, target, .. } => self.create_route(table, *to, target).await.map(nothing),
            Step::ReplaceRoute { table, to, target, .. } => self.replace_route(table, *to, target).await.map(nothing),
            Step::CreateTargetGroup { part, vpc, name, protocol, port, health, tags } => {
                self.create_target_group(part, vpc, name, (protocol, *port), health, tags).await.map(Some)
            }
            Step::SetHealthCheck { target_group, new, .. } => {
                self.set_health_check(target_group, new).await.map(nothing)
            }
            Step::CreateBalancer(balancer) => self.create_balancer(balancer).await.map(Some),
            Step::CreateListener { balancer, listener } => self.create_listener(balancer, listener).await.map(nothing),
            Step::SetIdleTimeout { balancer, new, .. } => self.set_idle_timeout(balancer, *new).await.map(nothing),
            Step::SetCrossZone { balancer, on } => self.set_cross_zone(balancer, *on).await.map(nothing),
            Step::CreateTemplate { part, name, data, tags } => {
                self.create_template(part, name, data, tags).await.map(Some)
            }
            Step::CreateTemplateVersion { template, version, data, .. } => {
                self.create_template_version(template, *version, data).await.map(nothing)
            }
            Step::CreateScalingGroup(group) => self.create_scaling_group(group).await.map(Some),
            Step::UseTemplate { group, template, version, .. } => {
                self.use_template(group, template, *version).await.map(nothing)
            }
            Step::AttachTargetGroup { group, target_group } => {
                self.attach_target_group(group, target_group).await.map(nothing)
            }
            Step::Register { target, with } => self.register(target, with).await.map(nothing),
            Step::AssignPrivateAddress { interface, address } => {
                self.assign_private_address(interface, *address).await.map(nothing)
            }
            Step::SetRecord { name, kind, target, .. } => self.set_record(name, *kind, target).await.map(nothing),
        }
    }
}

/// Steps that are one call, or that must follow each other, put together: the rules of one group in one direction, and the groups
/// of one interface.
fn units(steps: &[Step]) -> Vec<Vec<&Step>> {
    let together = |a: &Step, b: &Step| match (a, b) {
        (Step::Allow { group: a, rule: x, .. }, Step::Allow { group: b, rule: y, .. }) => {
            a == b && x.egress == y.egress
        }
        (Step::AddGroup { interface: a, .. }, Step::AddGroup { interface: b, .. }) => a == b,
        _ => false,
    };
    let mut units: Vec<Vec<&Step>> = Vec::new();
    for step in steps {
        match units.iter_mut().find(|unit| unit.first().is_some_and(|first| together(first, step))) {
            Some(unit) => unit.push(step),
            None => units.push(vec![step]),
        }
    }
    units
}
