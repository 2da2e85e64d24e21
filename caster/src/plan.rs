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
mod outcome;
mod planner;
mod quotas;
mod records;
pub mod resource;
mod routes;
mod scaling;
pub mod step;

use std::collections::BTreeMap;

pub use outcome::{Need, Note, Options, Plan};
pub use routes::MANAGED;
pub use step::Step;

use self::planner::Planner;
use crate::{
    desired::Desired,
    part::{CAST, PART, Part, Ref, Tags},
    seen::Seen,
    text,
};

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

impl Planner<'_> {
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
