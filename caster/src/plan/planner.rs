//! What the planning of one document has found and planned so far.

use std::{collections::BTreeMap, fmt};

use ipnet::Ipv4Net;

use super::{
    outcome::{Note, Options, Plan},
    step::Step,
};
use crate::{
    desired::Desired,
    part::{CAST, Part, Ref, Tags},
    seen::{Id, Seen, Tagged},
    text,
};

/// The planner of one document.
pub(super) struct Planner<'a> {
    pub desired: &'a Desired,
    pub seen: &'a Seen,
    pub options: Options,
    pub vpc: Ref,
    /// The VPC was there before the first cast, so what 2014 made in it is ours.
    pub adopting: bool,
    pub subnets: BTreeMap<Ipv4Net, Ref>,
    pub groups: BTreeMap<String, Ref>,
    pub private_table: Ref,
    pub public_table: Ref,
    pub internet_gateway: Ref,
    /// Of each gateway, in the order of the document.
    pub slots: Vec<Slot>,
    pub balancers: Vec<Option<Ref>>,
    pub target_groups: BTreeMap<(String, u16), Ref>,
    pub out: Plan,
}

/// What a gateway has, after the steps planned so far.
pub(super) struct Slot {
    pub interface: Ref,
    /// The instance that is there already.
    pub instance: Option<Id>,
    /// The public DNS name, once EC2 has told it.
    pub dns: Option<String>,
    /// The steps so far give it a new one.
    pub dns_will_change: bool,
}

impl<'a> Planner<'a> {
    pub fn step(&mut self, step: Step) {
        self.out.steps.push(step);
    }
    pub fn left(&mut self, what: impl fmt::Display, why: impl Into<String>) {
        self.out.left.push(Note { what: what.to_string(), why: why.into() });
    }
    pub fn foreign(&mut self, what: impl fmt::Display, why: impl Into<String>) {
        self.out.foreign.push(Note { what: what.to_string(), why: why.into() });
    }
    /// The VPC's id, if there is one.
    pub fn vpc_id(&self) -> Option<&str> {
        match &self.vpc {
            Ref::Id(id) => Some(id),
            Ref::New(_) => None,
        }
    }
    pub fn in_vpc(&self, vpc: &str) -> bool {
        self.vpc_id() == Some(vpc)
    }
    pub fn subnet(&self, cidr: &Ipv4Net) -> Ref {
        self.subnets.get(cidr).cloned().unwrap_or_else(|| Ref::New(Part::subnet(*cidr)))
    }
    /// A group of the document, or one that is in the VPC already.
    pub fn group(&self, name: &str) -> Option<Ref> {
        self.groups.get(name).cloned().or_else(|| self.group_in_vpc(name))
    }
    /// Gives `thing` the tags it should have and lacks: an adoption. What has another cast's tag belongs to that cast.
    pub fn adopt(&mut self, id: &Id, thing: &impl Tagged, part: &Part, more: Tags, why: &str) {
        if let Some(other) = thing.tag(CAST).filter(|cast| *cast != self.desired.cast) {
            return self.foreign(
                id,
                format!("belongs to the cast {}, and the document needs it as {part}", text::plain(other)),
            );
        }
        let mut wanted = self.desired.tags(part);
        wanted.extend(more);
        let tags: Tags = wanted.into_iter().filter(|(k, v)| thing.tag(k) != Some(v)).collect();
        if !tags.is_empty() {
            self.step(Step::Adopt { what: Ref::Id(id.clone()), part: part.clone(), tags, why: why.to_owned() });
        }
    }
}
