//! Pure: what should exist against what was observed, into steps. An empty plan means: do nothing, and say so.
//!
//! A resource is looked up by its own tags first, then by the rules of 2014 within the VPC; what those find is adopted.
//! Nothing is looked up outside the VPC but what AWS keeps outside: addresses, images, names of a region or a zone.

mod balancers;
mod display;
mod gateways;
mod groups;
mod instances;
mod network;
mod quotas;
mod records;
pub mod resource;
mod routes;
mod scaling;
pub mod step;

use std::{collections::BTreeMap, fmt};

use ipnet::Ipv4Net;
pub use routes::MANAGED;
use serde::Serialize;
pub use step::Step;

use crate::{
    desired::{Desired, Fault},
    part::{CAST, PART, Part, Ref, Tags},
    seen::{Id, Seen, Tagged},
    text,
};

#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Routes and associations of others are replaced.
    pub take_routes: bool,
}

/// What to do, and what is not done and why.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// `ENV/CIDR in REGION`, for the heading.
    pub subject: String,
    /// The VPC's id, if it is there.
    pub vpc: Option<Id>,
    /// In the order of their levels.
    pub steps: Vec<Step>,
    /// Differences that are the operator's to judge.
    pub left: Vec<Note>,
    /// Somebody else's, in the way of the document.
    pub foreign: Vec<Note>,
    /// What the document asks for and cannot be: nothing may be tried.
    pub faults: Vec<Fault>,
}

/// A resource and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    pub what: String,
    pub why: String,
}

/// Plans one document.
pub fn plan(desired: &Desired, seen: &Seen, options: Options) -> Plan {
    let mut planner = Planner {
        desired,
        seen,
        options,
        vpc: Ref::New(Part::vpc()),
        adopting: false,
        subnets: BTreeMap::new(),
        groups: BTreeMap::new(),
        private_table: Ref::New(Part::private_table()),
        public_table: Ref::New(Part::public_table()),
        internet_gateway: Ref::New(Part::internet_gateway()),
        slots: Vec::new(),
        balancers: Vec::new(),
        target_groups: BTreeMap::new(),
        out: Plan { subject: format!("{} in {}", desired.cast, seen.region), ..Plan::default() },
    };
    // Without a VPC that is ours nothing below it can be looked up.
    if planner.find_vpc() {
        planner.network();
        planner.plan_groups();
        planner.gateways();
        planner.routes();
        planner.plan_balancers();
        planner.instances();
        planner.scaling();
        planner.records();
        planner.quotas();
        planner.not_in_the_document();
    }
    let vpc = planner.vpc_id().map(str::to_owned);
    let mut out = planner.out;
    out.vpc = vpc;
    out.steps.sort_by_key(Step::level);
    out.left.sort();
    out.foreign.sort();
    out
}

struct Planner<'a> {
    desired: &'a Desired,
    seen: &'a Seen,
    options: Options,
    vpc: Ref,
    /// The VPC was there before the first cast, so what 2014 made in it is ours.
    adopting: bool,
    subnets: BTreeMap<Ipv4Net, Ref>,
    groups: BTreeMap<String, Ref>,
    private_table: Ref,
    public_table: Ref,
    internet_gateway: Ref,
    /// Of each gateway, in the order of the document.
    slots: Vec<gateways::Slot>,
    balancers: Vec<Option<Ref>>,
    target_groups: BTreeMap<(String, u16), Ref>,
    out: Plan,
}

impl<'a> Planner<'a> {
    fn step(&mut self, step: Step) {
        self.out.steps.push(step);
    }
    fn left(&mut self, what: impl fmt::Display, why: impl Into<String>) {
        self.out.left.push(Note { what: what.to_string(), why: why.into() });
    }
    fn foreign(&mut self, what: impl fmt::Display, why: impl Into<String>) {
        self.out.foreign.push(Note { what: what.to_string(), why: why.into() });
    }
    /// The VPC's id, if there is one.
    fn vpc_id(&self) -> Option<&str> {
        match &self.vpc {
            Ref::Id(id) => Some(id),
            Ref::New(_) => None,
        }
    }
    fn in_vpc(&self, vpc: &str) -> bool {
        self.vpc_id() == Some(vpc)
    }
    fn subnet(&self, cidr: &Ipv4Net) -> Ref {
        self.subnets.get(cidr).cloned().unwrap_or_else(|| Ref::New(Part::subnet(*cidr)))
    }
    /// A group of the document, or one that is in the VPC already.
    fn group(&self, name: &str) -> Option<Ref> {
        self.groups.get(name).cloned().or_else(|| self.group_in_vpc(name))
    }
    /// Gives `thing` the tags it should have and lacks: an adoption. What has another cast's tag belongs to that cast.
    fn adopt(&mut self, id: &Id, thing: &impl Tagged, part: &Part, more: Tags, why: &str) {
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

    /// What has this cast's tag and is no part of the document any more, or is one that another resource is already.
    /// It stays: this tool deletes nothing.
    fn not_in_the_document(&mut self) {
        let mut gone: Vec<(String, String)> = Vec::new();
        let mut first: BTreeMap<String, String> = BTreeMap::new();
        let mut look = |id: &str, tags: &Tags| {
            if tags.get(CAST) != Some(&self.desired.cast) {
                return;
            }
            let part = tags.get(PART).cloned().unwrap_or_default();
            let named = text::plain(&part);
            if !self.desired.knows(&part) {
                gone.push((id.to_owned(), format!("{named} is not in the document; it stays")));
            }
            // What an Auto Scaling group launches has the group's own part.
            if part.ends_with("/scaling") {
                return;
            }
            match first.get(&part) {
                Some(other) => {
                    gone.push((id.to_owned(), format!("is tagged {named}, as {other} is; one of them is not needed")))
                }
                None => _ = first.insert(part, id.to_owned()),
            }
        };
        self.seen.subnets.iter().for_each(|(id, t)| look(id, &t.tags));
        self.seen.groups.iter().for_each(|(id, t)| look(id, &t.tags));
        self.seen.interfaces.iter().for_each(|(id, t)| look(id, &t.tags));
        self.seen.addresses.iter().for_each(|(id, t)| look(id, &t.tags));
        self.seen.instances.iter().filter(|(_, t)| t.state.is_up()).for_each(|(id, t)| look(id, &t.tags));
        self.seen.balancers.iter().for_each(|(id, t)| look(id, &t.tags));
        self.seen.target_groups.iter().for_each(|(id, t)| look(id, &t.tags));
        self.seen.templates.iter().for_each(|(id, t)| look(id, &t.tags));
        self.seen.scaling_groups.iter().for_each(|(id, t)| look(id, &t.tags));
        for (id, why) in gone {
            self.left(id, why);
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = match (self.steps.len(), self.foreign.is_empty()) {
            (0, true) => "nothing to do".to_owned(),
            (0, false) => "no steps; something is in the way".to_owned(),
            (n, _) => text::count(n, "step"),
        };
        writeln!(f, "{}: {steps}", self.subject)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))?;
        for (heading, notes) in [("left alone", &self.left), ("in the way", &self.foreign)] {
            if !notes.is_empty() {
                writeln!(f, "{heading}:")?;
            }
            notes.iter().try_for_each(|n| writeln!(f, "  {}: {}", text::plain(&n.what), n.why))?;
        }
        Ok(())
    }
}
