//! The steps for load balancers, Auto Scaling groups and records.

use cloudcaster::{
    document::BalancerKind,
    plan::{Step, resource::RecordKind},
    seen,
};

use super::Region;

impl Region {
    pub(super) fn apply_balancing(&mut self, step: Step) {
        match step {
            Step::CreateTargetGroup { part, vpc, name, protocol, port, health, tags } => {
                let (id, vpc) = (self.make(&part, "tg"), self.get(&vpc));
                assert!(self.seen.target_groups.values().all(|g| g.name != name), "{name} is there");
                let group = seen::TargetGroup { name, vpc, protocol, port, health, targets: [].into(), tags };
                self.seen.target_groups.insert(id, group);
            }
            Step::SetHealthCheck { target_group, new, .. } => {
                self.seen.target_groups.get_mut(&self.get(&target_group)).unwrap().health = new;
            }
            Step::CreateBalancer(b) => {
                assert!(self.seen.balancers.values().all(|other| other.name != b.name), "{} is there", b.name);
                let id = match b.kind {
                    BalancerKind::Classic => {
                        self.made.insert(b.part.clone(), b.name.clone());
                        b.name.clone()
                    }
                    _ => self.make(&b.part, "lb"),
                };
                let listener = |l: &cloudcaster::plan::resource::Listener| {
                    let to = self.get(&l.to);
                    (l.port, seen::Listener { protocol: l.protocol.clone(), certificate: l.certificate.clone(), to })
                };
                let balancer = seen::Balancer {
                    dns: format!("{}.elb.amazonaws.com", b.name),
                    name: b.name.clone(),
                    kind: b.kind,
                    vpc: self.get(&b.vpc),
                    internal: b.internal,
                    listeners: b.listeners.iter().map(listener).collect(),
                    idle_timeout: b.idle_timeout,
                    cross_zone: b.cross_zone,
                    instances: [].into(),
                    tags: b.tags,
                };
                self.seen.balancers.insert(id, balancer);
            }
            Step::CreateListener { balancer, listener } => {
                let (id, to) = (self.get(&balancer), self.get(&listener.to));
                let made = seen::Listener { protocol: listener.protocol, certificate: listener.certificate, to };
                let listeners = &mut self.seen.balancers.get_mut(&id).unwrap().listeners;
                assert_eq!(listeners.insert(listener.port, made), None);
            }
            Step::SetIdleTimeout { balancer, new, .. } => {
                self.seen.balancers.get_mut(&self.get(&balancer)).unwrap().idle_timeout = Some(new);
            }
            Step::SetCrossZone { balancer, on } => {
                self.seen.balancers.get_mut(&self.get(&balancer)).unwrap().cross_zone = on;
            }
            Step::CreateTemplate { part, name, data, tags } => {
                self.made.insert(part, name.clone());
                let template = seen::Template { version: 1, data: self.data(&data), tags };
                assert_eq!(self.seen.templates.insert(name, template), None);
            }
            Step::CreateTemplateVersion { template, version, data, .. } => {
                let data = self.data(&data);
                let template = self.seen.templates.get_mut(&self.get(&template)).unwrap();
                assert_eq!(version, template.version + 1);
                (template.version, template.data) = (version, data);
            }
            Step::CreateScalingGroup(g) => {
                self.made.insert(g.part.clone(), g.name.clone());
                // Its members come later, as they do.
                let group = seen::ScalingGroup {
                    subnets: g.subnets.iter().map(|s| self.get(s)).collect(),
                    min: g.min,
                    max: g.max,
                    desired: g.desired,
                    template: Some((self.get(&g.template), g.version.to_string())),
                    configuration: None,
                    target_groups: g.target_groups.iter().map(|t| self.get(t)).collect(),
                    balancers: g.balancers.iter().map(|b| self.get(b)).collect(),
                    instances: [].into(),
                    tags: g.tags,
                };
                assert_eq!(self.seen.scaling_groups.insert(g.name, group), None, "AlreadyExists");
            }
            Step::UseTemplate { group, template, version, .. } => {
                let template = self.get(&template);
                let group = self.seen.scaling_groups.get_mut(&self.get(&group)).unwrap();
                (group.template, group.configuration) = (Some((template, version.to_string())), None);
            }
            Step::AttachTargetGroup { group, target_group } => {
                let target_group = self.get(&target_group);
                let classic = self.seen.balancers.contains_key(&target_group);
                let group = self.seen.scaling_groups.get_mut(&self.get(&group)).unwrap();
                assert!(if classic { &mut group.balancers } else { &mut group.target_groups }.insert(target_group));
            }
            Step::Register { target, with } => {
                let (target, with) = (self.get(&target), self.get(&with));
                let targets = match self.seen.target_groups.get_mut(&with) {
                    Some(group) => &mut group.targets,
                    None => &mut self.seen.balancers.get_mut(&with).unwrap().instances,
                };
                assert!(targets.insert(target));
            }
            Step::AssignPrivateAddress { interface, address } => {
                assert!(self.seen.interfaces.get_mut(&self.get(&interface)).unwrap().secondary.insert(address));
            }
            Step::SetRecord { name, kind, old, target, value } => {
                let value = value.unwrap_or_else(|| {
                    let id = self.get(&target);
                    let interface = self.seen.interfaces.get(&id).and_then(|e| e.public_dns.clone());
                    interface.unwrap_or_else(|| self.seen.balancers[&id].dns.clone())
                });
                let (kind, alias) = if kind == RecordKind::Alias { ("A", true) } else { ("CNAME", false) };
                if let Some(old) = old {
                    let before = self.seen.records.len();
                    self.seen.records.retain(|r| r.name != name || r.value != old);
                    assert_eq!(self.seen.records.len(), before - 1, "the old value");
                }
                assert!(self.seen.records.iter().all(|r| r.name != name), "{name} is there");
                self.seen.records.insert(seen::Record { name, kind: kind.to_owned(), value, alias });
            }
            other => panic!("not carried out: {other}"),
        }
    }
}
