//! Load balancers, their target groups and listeners. Those of 2014 are adopted as they are: classic.

use super::{planner::Planner, resource, step::Step};
use crate::{
    desired::Balancer,
    document::BalancerKind,
    part::{CAST, Part, Ref, Tags},
    seen::{self, Id, Tagged},
    text,
};

impl<'a> Planner<'a> {
    pub(super) fn plan_balancers(&mut self) {
        for elb in &self.desired.balancers {
            let found = self.seen.balancers.iter().find(|(_, b)| b.name == elb.full);
            let reference = match found {
                Some((id, there)) if !self.in_vpc(&there.vpc) => {
                    self.foreign(id, format!("is called {} and belongs to {}", elb.full, text::plain(&there.vpc)));
                    None
                }
                Some((id, there)) if there.tag(CAST).is_some_and(|cast| cast != self.desired.cast) => {
                    self.foreign(id, format!("is called {} and belongs to another cast", elb.full));
                    None
                }
                Some((id, there)) => Some(self.existing_balancer(elb, id, there)),
                None => self.new_balancer(elb),
            };
            self.balancers.push(reference);
        }
    }

    fn new_balancer(&mut self, elb: &'a Balancer) -> Option<Ref> {
        let part = Part::balancer(&elb.name);
        let mut listeners = Vec::new();
        if elb.kind != BalancerKind::Classic {
            self.plan_target_groups(elb);
        }
        for port in elb.listeners.keys() {
            listeners.push(self.listener(elb, *port, elb.kind)?);
        }
        let classic = elb.kind == BalancerKind::Classic;
        let reference = Ref::New(part.clone());
        self.step(Step::CreateBalancer(Box::new(resource::Balancer {
            tags: self.desired.tags(&part),
            part,
            name: elb.full.clone(),
            kind: elb.kind,
            vpc: self.vpc.clone(),
            internal: elb.internal,
            subnets: elb.subnets.iter().map(|s| self.subnet(s)).collect(),
            group: self.group(&elb.group)?,
            idle_timeout: elb.idle_timeout,
            cross_zone: elb.cross_zone,
            listeners: if classic { listeners.clone() } else { Vec::new() },
            health: classic.then(|| elb.health.clone()),
        })));
        if !classic {
            for listener in listeners {
                self.step(Step::CreateListener { balancer: reference.clone(), listener });
            }
        }
        Some(reference)
    }

    /// A listener with its certificate; `None` if there is none, which is then among the faults.
    fn listener(&mut self, elb: &Balancer, port: u16, kind: BalancerKind) -> Option<resource::Listener> {
        let wanted = elb.listeners.get(&port)?;
        let certificate = match &wanted.certificate {
            None => None,
            Some(Ok(arn)) => Some(arn.clone()),
            Some(Err(fault)) => {
                self.out.faults.push(fault.clone());
                return None;
            }
        };
        let classic = kind == BalancerKind::Classic;
        let to = if classic {
            Ref::Id(format!("{}:{}", spelled(&wanted.to_protocol, kind), wanted.to))
        } else {
            self.target_groups.get(&(elb.name.clone(), wanted.to)).cloned()?
        };
        Some(resource::Listener { port, protocol: spelled(&wanted.protocol, kind), to, certificate })
    }

    fn plan_target_groups(&mut self, elb: &'a Balancer) {
        for (port, wanted) in &elb.target_groups {
            let part = Part::target_group(&elb.name, *port);
            let found = self.seen.target_groups.iter().find(|(_, g)| g.name == wanted.name);
            let reference = match found {
                Some((id, there)) if !self.in_vpc(&there.vpc) => {
                    self.foreign(id, format!("is called {} and belongs to {}", wanted.name, text::plain(&there.vpc)));
                    continue;
                }
                Some((id, there)) => {
                    self.adopt(id, there, &part, Tags::new(), "by its name");
                    if there.health != wanted.health {
                        let (old, new) = (there.health.clone(), wanted.health.clone());
                        self.step(Step::SetHealthCheck { target_group: Ref::Id(id.clone()), old, new });
                    }
                    if (&there.protocol, there.port) != (&wanted.protocol, *port) {
                        let why = format!(
                            "{}: is {} {}, the document says {} {port}; a target group cannot change",
                            wanted.name,
                            text::plain(&there.protocol),
                            there.port,
                            wanted.protocol
                        );
                        self.left(id, why);
                    }
                    Ref::Id(id.clone())
                }
                None => {
                    let (vpc, tags) = (self.vpc.clone(), self.desired.tags(&part));
                    let (name, protocol, health) =
                        (wanted.name.clone(), wanted.protocol.clone(), wanted.health.clone());
                    self.step(Step::CreateTargetGroup {
                        part: part.clone(),
                        vpc,
                        name,
                        protocol,
                        port: *port,
                        health,
                        tags,
                    });
                    Ref::New(part)
                }
            };
            self.target_groups.insert((elb.name.clone(), *port), reference);
        }
    }

    fn existing_balancer(&mut self, elb: &'a Balancer, id: &Id, there: &seen::Balancer) -> Ref {
        let reference = Ref::Id(id.clone());
        self.adopt(id, there, &Part::balancer(&elb.name), Tags::new(), "by its name");
        if there.kind == BalancerKind::Classic {
            self.left(id, format!("{}: is a classic load balancer, of the previous generation; it goes on", elb.full));
        } else if there.kind != elb.kind {
            self.left(id, format!("{}: is of another kind than the document says; it cannot change", elb.full));
            return reference;
        } else {
            self.plan_target_groups(elb);
        }
        if there.internal != elb.internal {
            let is = if there.internal { "internal" } else { "internet-facing" };
            self.left(id, format!("{}: is {is}, the document says otherwise; it cannot change", elb.full));
        }
        if let Some(new) = elb.idle_timeout.filter(|new| there.idle_timeout != Some(*new)) {
            self.step(Step::SetIdleTimeout { balancer: reference.clone(), old: there.idle_timeout, new });
        }
        if there.cross_zone != elb.cross_zone && there.kind != BalancerKind::Application {
            self.step(Step::SetCrossZone { balancer: reference.clone(), on: elb.cross_zone });
        }
        for port in elb.listeners.keys() {
            self.existing_listener(elb, id, *port, there);
        }
        reference
    }

    fn existing_listener(&mut self, elb: &Balancer, id: &Id, port: u16, there: &seen::Balancer) {
        let Some(found) = there.listeners.get(&port) else {
            let balancer = Ref::Id(id.clone());
            if let Some(listener) = self.listener(elb, port, there.kind) {
                self.step(Step::CreateListener { balancer, listener });
            }
            return;
        };
        let Some(wanted) = elb.listeners.get(&port) else { return };
        let to = match there.kind {
            BalancerKind::Classic => {
                Some(Ref::Id(format!("{}:{}", spelled(&wanted.to_protocol, there.kind), wanted.to)))
            }
            _ => self.target_groups.get(&(elb.name.clone(), wanted.to)).cloned(),
        };
        let certificate = wanted.certificate.as_ref().and_then(|c| c.as_ref().ok());
        let same = found.protocol == spelled(&wanted.protocol, there.kind)
            && to.as_ref() == Some(&Ref::Id(found.to.clone()))
            && certificate.is_none_or(|arn| found.certificate.as_ref() == Some(arn));
        if !same {
            let is = format!("{} to {}", text::plain(&found.protocol), text::plain(&found.to));
            self.left(id, format!("{}: its listener {port} is {is}, which is not what the document says", elb.full));
        }
    }
}

/// A protocol as this kind of load balancer calls it: a classic one has SSL for TLS.
fn spelled(protocol: &str, kind: BalancerKind) -> String {
    match (protocol, kind) {
        ("TLS", BalancerKind::Classic) => "SSL".to_owned(),
        (protocol, _) => protocol.to_owned(),
    }
}
