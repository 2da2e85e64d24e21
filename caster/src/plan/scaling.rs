//! Auto Scaling groups and their launch templates. A change makes a new version, which new instances get; none that runs
//! is replaced, and a cast does not change the size of a group after its creation.

use std::collections::BTreeSet;

use super::{planner::Planner, resource, step::Step};
use crate::{
    desired::Scaled,
    part::{CAST, Part, Ref, Tags},
    seen::{self, Id, Tagged},
    text,
};

impl<'a> Planner<'a> {
    pub(super) fn scaling(&mut self) {
        for app in &self.desired.scaled {
            self.scaled(app);
        }
    }

    fn scaled(&mut self, app: &'a Scaled) {
        let name = &app.launch.name;
        let found = self.seen.scaling_groups.get(name);
        if let Some(there) = found {
            let outside = |id: &Id| self.seen.subnets.get(id).is_some_and(|s| !self.in_vpc(&s.vpc));
            if there.subnets.iter().any(outside) || there.tag(CAST).is_some_and(|cast| cast != self.desired.cast) {
                return self.foreign(name, "is an Auto Scaling group of another VPC");
            }
        }
        let Some((template, version)) = self.launch_template(app) else { return };
        match found {
            None => self.new_group(app, template, version),
            Some(there) => self.existing_group(app, there, template, version),
        }
    }

    /// The launch template and the version to use.
    fn launch_template(&mut self, app: &Scaled) -> Option<(Ref, u32)> {
        let part = Part::template(&app.name);
        let name = &app.launch.name;
        let tags = self.desired.instance_tags(&Part::scaling(&app.name), &app.launch);
        let there = self.seen.templates.get(name);
        if there.is_some_and(|t| t.tag(CAST).is_some_and(|cast| *cast != self.desired.cast)) {
            self.foreign(name, "is a launch template of another cast");
            return None;
        }
        let data = self.template(&app.launch, tags)?;
        let Some(there) = there else {
            let (tags, name) = (self.desired.tags(&part), name.clone());
            self.step(Step::CreateTemplate { part: part.clone(), name, data: Box::new(data), tags });
            return Some((Ref::New(part), 1));
        };
        self.adopt(name, there, &part, Tags::new(), "by its name");
        let reference = Ref::Id(name.clone());
        let changes = changes(&there.data, &data);
        if changes.is_empty() {
            return Some((reference, there.version));
        }
        let version = there.version + 1;
        self.step(Step::CreateTemplateVersion { template: reference.clone(), version, data: Box::new(data), changes });
        Some((reference, version))
    }

    /// Target groups, and classic load balancers.
    fn backends(&self, app: &Scaled) -> (Vec<Ref>, Vec<Ref>) {
        let (mut groups, mut classic) = (Vec::new(), Vec::new());
        for (i, elb) in self.desired.balancers.iter().enumerate().filter(|(_, elb)| app.balancers.contains(&elb.name)) {
            let of: Vec<Ref> = elb
                .target_groups
                .keys()
                .filter_map(|p| self.target_groups.get(&(elb.name.clone(), *p)).cloned())
                .collect();
            if of.is_empty() {
                classic.extend(self.balancers.get(i).cloned().flatten());
            }
            groups.extend(of);
        }
        (groups, classic)
    }

    fn new_group(&mut self, app: &Scaled, template: Ref, version: u32) {
        let part = Part::scaling(&app.name);
        let (target_groups, balancers) = self.backends(app);
        self.step(Step::CreateScalingGroup(Box::new(resource::ScalingGroup {
            tags: self.desired.instance_tags(&part, &app.launch),
            part,
            name: app.launch.name.clone(),
            template,
            version,
            subnets: app.subnets.iter().map(|s| self.subnet(s)).collect(),
            min: app.min,
            max: app.max,
            desired: app.desired,
            target_groups,
            balancers,
        })));
    }

    fn existing_group(&mut self, app: &Scaled, there: &seen::ScalingGroup, template: Ref, version: u32) {
        let name = app.launch.name.clone();
        let group = Ref::Id(name.clone());
        self.adopt(&name, there, &Part::scaling(&app.name), Tags::new(), "by its name");
        let current = there.template.as_ref().is_some_and(|(t, v)| *t == name && *v == version.to_string());
        if !current {
            let old = match (&there.template, &there.configuration) {
                (Some((template, version)), _) => format!("launch template {template} version {version}"),
                (None, Some(configuration)) => format!("launch configuration {configuration}"),
                (None, None) => "nothing".to_owned(),
            };
            self.step(Step::UseTemplate { group: group.clone(), old, template, version });
        }
        let sizes = [("min", there.min, app.min), ("max", there.max, app.max)];
        for (what, is, wanted) in sizes.into_iter().filter(|(_, is, wanted)| is != wanted) {
            self.left(
                &name,
                format!("{what} is {is}, the document says {wanted}; a cast does not change the size of a group"),
            );
        }
        let (target_groups, classic) = self.backends(app);
        for target_group in target_groups.into_iter().chain(classic) {
            let attached = matches!(&target_group, Ref::Id(id) if there.target_groups.contains(id) || there.balancers.contains(id));
            if !attached {
                self.step(Step::AttachTargetGroup { group: group.clone(), target_group });
            }
        }
        let up = |id: &&Id| self.seen.instances.get(*id).is_some_and(|i| i.state.is_up());
        let members: Vec<Ref> = there.instances.iter().filter(up).cloned().map(Ref::Id).collect();
        self.give_addresses(&app.path, &app.addresses, &members);
        self.private_addresses(app, there);
    }

    /// Each address to one member whose subnet has it.
    fn private_addresses(&mut self, app: &Scaled, there: &seen::ScalingGroup) {
        let seen = self.seen;
        let mut interfaces: Vec<(&Id, &seen::Interface)> = there
            .instances
            .iter()
            .filter_map(|id| seen.instances.get(id).filter(|i| i.state.is_up()))
            .filter_map(|i| seen.interfaces.get_key_value(&i.interface))
            .collect();
        for address in &app.private_addresses {
            let holds = |e: &seen::Interface| e.private == *address || e.secondary.contains(address);
            if let Some((id, _)) = seen.interfaces.iter().find(|(_, e)| self.in_vpc(&e.vpc) && holds(e)) {
                if !interfaces.iter().any(|(mine, _)| *mine == id) {
                    self.left(address, format!("is on {}, which is no member of {}", text::plain(id), app.launch.name));
                }
                continue;
            }
            let fits = |e: &seen::Interface| seen.subnets.get(&e.subnet).is_some_and(|s| s.cidr.contains(address));
            // Members without one come first, so that the addresses spread.
            interfaces.sort_by_key(|(id, e)| (e.secondary.len(), (*id).clone()));
            match interfaces.iter().position(|(_, e)| fits(e)) {
                Some(i) => {
                    let (id, _) = interfaces.remove(i);
                    self.step(Step::AssignPrivateAddress { interface: Ref::Id(id.clone()), address: *address });
                }
                None => self.left(address, format!("no free member of {} is in its subnet", app.launch.name)),
            }
        }
    }
}

/// What of a template differs, as `key old => new`.
fn changes(old: &seen::TemplateData, new: &resource::Template) -> Vec<String> {
    let mut out = Vec::new();
    let mut differ = |key: &str, old: String, new: String| {
        if old != new {
            out.push(format!("{key} {} => {}", text::plain(&old), text::plain(&new)));
        }
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    differ("image", old.image.clone(), new.image.image.clone());
    differ("type", old.instance_type.clone(), new.instance_type.clone());
    differ("key pair", or_none(old.key_pair.clone()), or_none(new.key_pair.clone()));
    differ("profile", old.profile.clone(), new.profile.clone());
    differ(
        "user data",
        or_none(old.user_data.as_ref().map(ToString::to_string)),
        or_none(new.user_data.as_ref().map(ToString::to_string)),
    );
    differ("public address", old.public.to_string(), new.public.to_string());
    let groups: BTreeSet<Ref> = old.groups.iter().cloned().map(Ref::Id).collect();
    differ("groups", text::list(groups), text::list(&new.groups));
    differ("tags", format!("{:?}", old.tags), format!("{:?}", new.instance_tags));
    out
}
