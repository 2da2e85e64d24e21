//! The routes of both tables: to the gateways' interfaces, and who owns a route that points elsewhere.
//!
//! A table with crosswan's tag is the gateways': there a route that leads to a gateway which runs is theirs to move. Everywhere
//! else crosswan touches none.

use super::{planner::Planner, step::Step};
use crate::{
    desired::{Launch, Route, Table, Target},
    part::Ref,
    seen::{Id, Instance, Tagged},
    text,
};

/// Gateways move the routes of tables with this tag: crosswan's setting `routes.tag`, unless an image has another one.
pub const MANAGED: (&str, &str) = ("crosswan-routes", "managed");

/// What a route points to that is not what the document wants.
enum Found {
    /// Another gateway of the document: the state that 2014 left in the hub.
    OtherGateway(String),
    /// Nothing that runs.
    Dead(&'static str),
    /// Another gateway of the same service, which runs.
    StandIn,
    Foreign,
}

impl Planner<'_> {
    pub(super) fn routes(&mut self) {
        for route in &self.desired.routes {
            self.route(route);
        }
    }

    fn target(&self, route: &Route) -> Option<Ref> {
        match route.by {
            Target::InternetGateway => Some(self.internet_gateway.clone()),
            Target::Gateway(i) => self.slots.get(i).map(|slot| slot.interface.clone()),
        }
    }

    fn route(&mut self, route: &Route) {
        let table = match route.table {
            Table::Private => self.private_table.clone(),
            Table::Public => self.public_table.clone(),
        };
        let Some(target) = self.target(route) else { return };
        let seen = match &table {
            Ref::Id(id) => self.seen.route_tables.get(id),
            Ref::New(_) => None,
        };
        let there = seen.and_then(|table| table.routes.get(&route.to)).cloned();
        let managed = seen.is_some_and(|table| table.tag(MANAGED.0) == Some(MANAGED.1));
        let (to, why) = (route.to, route.why.clone());
        let Some(old) = there else {
            return self.step(Step::CreateRoute { table, to, target, why });
        };
        if Ref::Id(old.clone()) == target || self.is_instance_of(route, &old) {
            return;
        }
        let why = match self.found(route, &old, managed) {
            Found::OtherGateway(name) => format!("{why}; was {name}'s"),
            Found::Dead(what) => format!("{why}; {what}"),
            Found::StandIn if managed => return,
            Found::StandIn if self.options.take_routes => format!("{why}; taken from another gateway of its service"),
            Found::StandIn => {
                let old = text::plain(&old);
                let why = format!(
                    "routes {to} to {old}, another gateway of the same service, not to {target}; --take-routes changes that"
                );
                return self.left(table, why);
            }
            Found::Foreign if self.options.take_routes => format!("{why}; taken from somebody else"),
            Found::Foreign => {
                let why = format!("routes {to} to {}, not to {target}; --take-routes changes that", text::plain(&old));
                return self.foreign(table, why);
            }
        };
        self.step(Step::ReplaceRoute { table, to, old: Ref::Id(old), target, why });
    }

    /// EC2 and moto may name the instance where a route goes to its interface.
    fn is_instance_of(&self, route: &Route, id: &Id) -> bool {
        match route.by {
            Target::InternetGateway => false,
            Target::Gateway(i) => self.slots.get(i).is_some_and(|slot| slot.instance.as_ref() == Some(id)),
        }
    }

    fn found(&self, route: &Route, old: &Id, managed: bool) -> Found {
        let here = Ref::Id(old.clone());
        for (gateway, slot) in self.desired.gateways.iter().zip(&self.slots) {
            if slot.interface == here || slot.instance.as_ref() == Some(old) {
                return Found::OtherGateway(gateway.launch.name.clone());
            }
        }
        let instance = if old.starts_with("eni-") {
            match self.seen.interfaces.get(old) {
                None => return Found::Dead("its interface is gone"),
                Some(interface) => interface.instance.clone(),
            }
        } else if old.starts_with("i-") {
            Some(old.clone())
        } else if old.starts_with("igw-") && !self.seen.internet_gateways.contains_key(old) {
            return Found::Dead("its internet gateway is gone");
        } else {
            return Found::Foreign;
        };
        let Some(instance) = instance.and_then(|id| self.seen.instances.get(&id)) else {
            return Found::Dead("no instance is there");
        };
        if !instance.state.is_up() {
            return Found::Dead("its instance does not run");
        }
        if let Target::Gateway(i) = route.by {
            let (key, env) = &self.desired.env;
            // An environment is one to the gateways only if their settings say so.
            let env = managed || instance.tag(key) == Some(env);
            if env && self.is_gateway(instance, &self.desired.gateways[i].launch) {
                return Found::StandIn;
            }
        }
        Found::Foreign
    }

    /// Whether an instance runs in the VPC and is tagged as a gateway of this service.
    pub(super) fn is_gateway(&self, instance: &Instance, launch: &Launch) -> bool {
        instance.state.is_up()
            && self.in_vpc(&instance.vpc)
            && instance.tag(&self.desired.service_key) == Some(&launch.service)
    }
}
