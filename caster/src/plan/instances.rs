//! Plain apps: as many instances as the document says, never fewer stopped by us, and what they are registered with.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{planner::Planner, resource::Place, step::Step};
use crate::{
    desired::{Fault, Plain},
    part::{PART, Part, Ref},
    seen::{Id, Instance, Tagged},
    text,
    tree::KeyPath,
};

impl<'a> Planner<'a> {
    pub(super) fn instances(&mut self) {
        for app in &self.desired.apps {
            self.app(app);
        }
    }

    fn app(&mut self, app: &'a Plain) {
        let found = self.members(app);
        let mut free = {
            let taken: BTreeSet<usize> = found.iter().filter_map(|(_, i)| self.index(i, app)).collect();
            (0..).filter(move |n| !taken.contains(n))
        };
        let mut members: Vec<Ref> = Vec::new();
        for (id, instance) in &found {
            if instance.state.is_stopped() {
                let why = format!("{}: is stopped; it counts, and is left as it is", app.launch.name);
                self.left(id, why);
                continue;
            }
            if self.index(instance, app).is_none() {
                let part = Part::instance(&app.name, free.next().unwrap_or_default());
                let tags = self.desired.service_tags(&app.launch);
                self.adopt(id, *instance, &part, tags, "by its service and environment");
            }
            self.drift(id, instance, &app.launch);
            members.push(Ref::Id((*id).clone()));
        }
        if found.len() > app.count {
            let why = format!("{} run, the document says {}; none is terminated", found.len(), app.count);
            self.left(app.launch.name.clone(), why);
        }
        for _ in found.len()..app.count {
            let n = free.next().unwrap_or_default();
            let Some(subnet) = app.subnets.get(n % app.subnets.len().max(1)) else { break };
            let (part, place) = (Part::instance(&app.name, n), Place::Subnet(self.subnet(subnet)));
            let before = self.out.steps.len();
            self.launch(part.clone(), &app.launch, place);
            if self.out.steps.len() > before {
                members.push(Ref::New(part));
            }
        }
        self.register(&app.balancers, &members);
        self.give_addresses(&app.path, &app.addresses, &members);
    }

    /// What is an instance of the app, stopped ones too: by its tag, else by the rule of 2014. Where several apps have one
    /// service, by the name.
    fn members(&self, app: &Plain) -> Vec<(&'a Id, &'a Instance)> {
        let alone = self.desired.apps.iter().filter(|a| a.launch.service == app.launch.service).count() == 1;
        let ours = |i: &Instance| {
            self.index(i, app).is_some()
                || (self.of_2014(i, &app.launch) && (alone || i.tag("Name") == Some(&app.launch.name)))
        };
        // An Auto Scaling group's members are its own, whatever their tags.
        let scaled = |id: &Id| self.seen.scaling_groups.values().any(|g| g.instances.contains(id));
        let there = |i: &Instance| (i.state.is_up() || i.state.is_stopped()) && self.in_vpc(&i.vpc);
        self.seen.instances.iter().filter(|(id, i)| there(i) && ours(i) && !scaled(id)).collect()
    }

    fn index(&self, instance: &Instance, app: &Plain) -> Option<usize> {
        Part::index(instance.tag(PART)?, &app.name).filter(|_| instance.is_of(&self.desired.cast))
    }

    /// Instances with each of the load balancers.
    fn register(&mut self, balancers: &[String], members: &[Ref]) {
        for (i, elb) in self.desired.balancers.iter().enumerate().filter(|(_, elb)| balancers.contains(&elb.name)) {
            let mut with: Vec<Ref> = Vec::new();
            for port in elb.target_groups.keys() {
                with.extend(self.target_groups.get(&(elb.name.clone(), *port)).cloned());
            }
            if with.is_empty() {
                with.extend(self.balancers.get(i).cloned().flatten());
            }
            for with in with {
                let registered = self.registered(&with);
                for target in members.iter().filter(|m| !matches!(m, Ref::Id(id) if registered.contains(id))) {
                    self.step(Step::Register { target: target.clone(), with: with.clone() });
                }
            }
        }
    }

    fn registered(&self, with: &Ref) -> BTreeSet<Id> {
        let Ref::Id(id) = with else { return BTreeSet::new() };
        let group = self.seen.target_groups.get(id).map(|g| g.targets.clone());
        group.or_else(|| self.seen.balancers.get(id).map(|b| b.instances.clone())).unwrap_or_default()
    }

    /// Free ones of the given Elastic IPs, to members that have none.
    pub(super) fn give_addresses(&mut self, path: &KeyPath, given: &[Ipv4Addr], members: &[Ref]) {
        let seen = self.seen;
        let interface = |member: &Ref| match member {
            Ref::Id(id) => seen.instances.get(id).map(|i| Ref::Id(i.interface.clone())),
            Ref::New(_) => Some(member.clone()),
        };
        let holders: Vec<&Id> = seen.addresses.values().filter_map(|a| a.interface.as_ref()).collect();
        let without =
            members.iter().filter_map(interface).filter(|e| !matches!(e, Ref::Id(id) if holders.contains(&id)));
        let mut without = without.collect::<Vec<_>>().into_iter();
        let mine: Vec<Ref> = members.iter().filter_map(interface).collect();
        for (i, public) in given.iter().enumerate() {
            match seen.addresses.iter().find(|(_, a)| a.public == *public) {
                None => {
                    let what = format!("{public} is not an Elastic IP of this account in {}", seen.region);
                    self.out.faults.push(Fault { path: path.key("addrs").index(i), what });
                }
                Some((_, address)) if address.interface.is_some() => {
                    let holder = address.interface.clone().unwrap_or_default();
                    if !mine.contains(&Ref::Id(holder.clone())) {
                        self.left(public, format!("is associated with {}", text::plain(&holder)));
                    }
                }
                Some((id, _)) => {
                    if let Some(to) = without.next() {
                        self.step(Step::AssociateAddress { address: Ref::Id(id.clone()), public: Some(*public), to });
                    }
                }
            }
        }
    }
}
