//! Gateways: an interface that stays, an Elastic IP on it, an instance launched on it.
//!
//! EC2 refuses a second instance on an interface in use, so two casts at once cannot make two gateways, and a replaced
//! instance takes over address and routes without anybody moving them.

use super::{
    planner::{Planner, Slot},
    resource::{self, Place},
    step::Step,
};
use crate::{
    desired::{Fault, Gateway, Launch, Wanted},
    part::{CAST, Part, Ref, Tags},
    seen::{Address, Id, Instance, Interface, State, Tagged, of_part},
    text,
};

/// Key of the tag of the Elastic IPs that crosswan's gateways take by themselves (`address.tag`). They change hands, so none gets
/// the tags of a cast.
const POOL: &str = "crosswan-address";

fn is_pooled(address: &Address) -> bool {
    address.tag(POOL).is_some()
}

impl<'a> Planner<'a> {
    pub(super) fn gateways(&mut self) {
        for i in 0..self.desired.gateways.len() {
            let gateway = &self.desired.gateways[i];
            let slot = self.slot(gateway);
            self.slots.push(slot);
        }
    }

    fn slot(&mut self, gateway: &'a Gateway) -> Slot {
        let seen = self.seen;
        let instance = self.holder(gateway);
        let made = of_part(&seen.interfaces, &self.desired.cast, &gateway.part.interface());
        // A gateway that is elsewhere than on our interface is the gateway: what works is not launched again.
        let found = match instance {
            Some((_, instance)) => seen.interfaces.get_key_value(&instance.interface),
            None => made,
        };
        let (interface, dns) = match found {
            Some((id, there)) => {
                self.interface(gateway, id, there);
                (Ref::Id(id.clone()), there.public_dns.clone())
            }
            None => {
                let part = gateway.part.interface();
                let (tags, subnet) = (self.desired.named(&part, &gateway.launch.name), self.subnet(&gateway.subnet));
                let groups = gateway.launch.groups.iter().filter_map(|g| self.group(g)).collect();
                self.step(Step::CreateInterface { part: part.clone(), subnet, groups, tags });
                (Ref::New(part), None)
            }
        };
        let changed = self.address(gateway, &interface, found.map(|(_, there)| there));
        match instance {
            Some((id, there)) => self.existing(gateway, id, there),
            // A terminated instance holds its interface until it is gone; apply waits for that.
            None => self.launch(gateway.part.clone(), &gateway.launch, Place::Interface(interface.clone())),
        }
        let enabled = self.out.steps.iter().any(|s| matches!(s, Step::EnableDnsHostnames { .. }));
        let dns_will_change = changed || (enabled && dns.is_none());
        let instance = instance.map(|(id, _)| id.clone());
        Slot { interface, instance, dns: dns.filter(|_| !changed), dns_will_change }
    }

    /// The gateway's instance. One that is up is preferred to a stopped one, which has its place all the same: a second
    /// one beside it would be there when somebody starts it again.
    fn holder(&mut self, gateway: &Gateway) -> Option<(&'a Id, &'a Instance)> {
        self.holder_in(gateway, State::is_up).or_else(|| self.holder_in(gateway, State::is_stopped))
    }

    /// By its tag, by the interface it is on, else by the service and environment as in 2014.
    fn holder_in(&mut self, gateway: &Gateway, state: fn(State) -> bool) -> Option<(&'a Id, &'a Instance)> {
        let seen = self.seen;
        let up = |i: &Instance| state(i.state) && self.in_vpc(&i.vpc);
        let ours = seen.instances.iter().find(|(_, i)| up(i) && i.is(&self.desired.cast, &gateway.part));
        let on_slot = of_part(&seen.interfaces, &self.desired.cast, &gateway.part.interface())
            .and_then(|(_, e)| seen.instances.get_key_value(e.instance.as_ref()?))
            .filter(|(_, i)| up(i));
        if let Some(found) = ours.or(on_slot) {
            return Some(found);
        }
        let mut found: Vec<(&Id, &Instance)> =
            seen.instances.iter().filter(|(_, i)| up(i) && self.of_2014(i, &gateway.launch)).collect();
        // Several: the one that has the name, then the one with the address that the document gives.
        found.sort_by_key(|(_, i)| {
            let public = seen.interfaces.get(&i.interface).and_then(|e| e.public);
            let given = matches!(gateway.address, Wanted::Given(a) if public == Some(a));
            (!given, i.tag("Name") != Some(&gateway.launch.name))
        });
        for (id, _) in found.iter().skip(1) {
            let why =
                format!("is another {} of this VPC; {} is taken for the gateway", gateway.launch.service, found[0].0);
            self.left(id, why);
        }
        found.first().copied()
    }

    /// The rule of 2014: service and environment within the VPC. What a cast made is that cast's.
    pub(super) fn of_2014(&self, instance: &Instance, launch: &Launch) -> bool {
        let (key, value) = &self.desired.env;
        instance.tag(CAST).is_none()
            && self.in_vpc(&instance.vpc)
            && instance.tag(&self.desired.service_key) == Some(&launch.service)
            && instance.tag(key) == Some(value)
    }

    fn interface(&mut self, gateway: &Gateway, id: &Id, there: &Interface) {
        self.adopt(id, there, &gateway.part.interface(), Tags::new(), "the gateway's interface");
        if there.source_dest_check {
            self.step(Step::DisableSourceDestCheck { what: Ref::Id(id.clone()) });
        }
        for group in gateway.launch.groups.iter().filter_map(|g| self.group(g)).collect::<Vec<_>>() {
            if !there.groups.iter().any(|g| Ref::Id(g.clone()) == group) {
                self.step(Step::AddGroup { interface: Ref::Id(id.clone()), group });
            }
        }
        let wanted = self.subnet(&gateway.subnet);
        if Ref::Id(there.subnet.clone()) != wanted {
            self.left(id, format!("is in {}, not in {wanted}; an interface cannot move", text::plain(&there.subnet)));
        }
    }

    /// The gateway's Elastic IP. True if the public address changes.
    fn address(&mut self, gateway: &Gateway, interface: &Ref, there: Option<&Interface>) -> bool {
        let seen = self.seen;
        let part = gateway.part.address();
        let here = |id: &Option<Id>| matches!((id, interface), (Some(a), Ref::Id(b)) if a == b);
        let has = seen.addresses.iter().find(|(_, a)| here(&a.interface));
        if let Some((id, address)) = has {
            if is_pooled(address) {
                self.spare(gateway, address);
            } else {
                self.adopt(id, address, &part, Tags::new(), "the gateway's address");
            }
            if let Wanted::Given(given) = gateway.address
                && given != address.public
            {
                let why =
                    format!("has {}, the document says {given}; changing it would cut its tunnels", address.public);
                self.left(gateway.launch.name.clone(), why);
            }
            return false;
        }
        let (address, public) = match gateway.address {
            Wanted::Given(given) => match seen.addresses.iter().find(|(_, a)| a.public == given) {
                None => {
                    let what = format!("{given} is not an Elastic IP of this account in {}", seen.region);
                    self.out.faults.push(Fault { path: gateway.path.key("addrs"), what });
                    return false;
                }
                Some((_, address)) if self.is_with_a_stand_in(gateway, address) => {
                    let why = format!("another gateway of the same service took it; {} has none", gateway.launch.name);
                    self.left(given, why);
                    return false;
                }
                Some((_, address)) if address.interface.is_some() => {
                    let holder = address.interface.as_deref().unwrap_or_default();
                    self.foreign(
                        given,
                        format!("is associated with {}, and {} needs it", text::plain(holder), gateway.launch.name),
                    );
                    return false;
                }
                Some((id, address)) => {
                    if !is_pooled(address) {
                        self.adopt(id, address, &part, Tags::new(), "given by the document");
                        if address.tag(CAST).is_some_and(|cast| cast != self.desired.cast) {
                            return false;
                        }
                    }
                    (Ref::Id(id.clone()), Some(given))
                }
            },
            Wanted::Own => {
                let free =
                    seen.addresses.iter().find(|(_, a)| a.interface.is_none() && a.is(&self.desired.cast, &part));
                let assigned = there.and_then(|e| e.public);
                match (free, assigned) {
                    (_, Some(assigned)) => {
                        let why = format!(
                            "has the assigned address {assigned}; an Elastic IP would replace it and cut its tunnels, so it comes with the next instance"
                        );
                        self.left(gateway.launch.name.clone(), why);
                        return false;
                    }
                    (Some((id, address)), None) => (Ref::Id(id.clone()), Some(address.public)),
                    (None, None) => {
                        self.step(Step::AllocateAddress {
                            tags: self.desired.named(&part, &gateway.launch.name),
                            part: part.clone(),
                        });
                        (Ref::New(part), None)
                    }
                }
            }
        };
        self.step(Step::AssociateAddress { address, public, to: interface.clone() });
        true
    }

    /// crosswan gives the addresses of its pools to whichever gateway works.
    fn is_with_a_stand_in(&self, gateway: &Gateway, address: &Address) -> bool {
        let holder = address.interface.as_ref().and_then(|id| self.seen.interfaces.get(id)?.instance.as_ref());
        let holder = holder.and_then(|id| self.seen.instances.get(id));
        is_pooled(address) && holder.is_some_and(|instance| self.is_gateway(instance, &gateway.launch))
    }

    /// What a cast allocated costs money when the gateway has taken one of a pool instead.
    fn spare(&mut self, gateway: &Gateway, has: &Address) {
        let part = gateway.part.address();
        let seen = self.seen;
        let free = seen.addresses.iter().filter(|(_, a)| a.interface.is_none() && a.is(&self.desired.cast, &part));
        for (id, address) in free {
            let why =
                format!("{} is not associated: {} took {} itself", address.public, gateway.launch.name, has.public);
            self.left(id, why);
        }
    }

    /// A gateway that is there: its tags, its own flag, and what differs from the document.
    fn existing(&mut self, gateway: &Gateway, id: &Id, there: &Instance) {
        let tags = self.desired.service_tags(&gateway.launch);
        self.adopt(id, there, &gateway.part, tags, "by its service and environment");
        if there.source_dest_check {
            self.step(Step::DisableSourceDestCheck { what: Ref::Id(id.clone()) });
        }
        if there.state.is_stopped() {
            let why = format!("{}: is stopped; start it, or terminate it and cast again", gateway.launch.name);
            self.left(id, why);
        }
        self.drift(id, there, &gateway.launch);
    }

    /// What an instance has and the document says otherwise. It runs on: a changed document replaces nothing.
    pub(super) fn drift(&mut self, id: &Id, there: &Instance, launch: &Launch) {
        if there.instance_type != launch.instance_type {
            let found = text::plain(&there.instance_type);
            self.left(id, format!("{}: is a {found}, the document says {}", launch.name, launch.instance_type));
        }
        if let Ok(choice) = &launch.ready
            && there.image != choice.image
        {
            let found = text::plain(&there.image);
            self.left(
                id,
                format!("{}: runs {found}, a new one would be {} ({})", launch.name, choice.image, choice.why),
            );
        }
        if there.imds_v1 {
            self.left(id, format!("{}: answers metadata requests without a token", launch.name));
        }
    }

    /// A launch, or the faults that hinder it.
    pub(super) fn launch(&mut self, part: Part, launch: &Launch, place: Place) {
        let why = match &place {
            Place::Interface(_) => "nothing runs on its interface".to_owned(),
            Place::Subnet(_) => "fewer run than the document says".to_owned(),
        };
        let tags = self.desired.instance_tags(&part, launch);
        let Some(spec) = self.template(launch, tags.clone()) else { return };
        // The ids seen so far make a later launch of the same part another one.
        let before =
            self.seen.instances.iter().filter(|(_, i)| i.is(&self.desired.cast, &part)).map(|(id, _)| id.as_str());
        let token = token(&self.desired.cast, &part, before);
        self.step(Step::Launch(Box::new(resource::Launch {
            part,
            name: launch.name.clone(),
            place,
            spec,
            why,
            token,
            tags,
        })));
    }

    /// What to launch with; `None` if something hinders it, which is then among the faults.
    pub(super) fn template(&mut self, launch: &Launch, instance_tags: Tags) -> Option<resource::Template> {
        let image = match &launch.ready {
            Ok(image) => image.clone(),
            Err(faults) => {
                self.out.faults.extend(faults.iter().cloned());
                return None;
            }
        };
        Some(resource::Template {
            image,
            instance_type: launch.instance_type.clone(),
            key_pair: launch.key_pair.clone(),
            profile: launch.profile.clone(),
            groups: launch.groups.iter().filter_map(|g| self.group(g)).collect(),
            public: launch.public,
            user_data: launch.user_data.clone(),
            instance_tags,
        })
    }
}

/// A client token of EC2: 64 characters at most, the same for the same launch.
fn token<'a>(cast: &str, part: &Part, before: impl Iterator<Item = &'a str>) -> String {
    let text = format!("{cast} {part} {}", before.collect::<Vec<_>>().join(" "));
    let sum = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    sum.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}
