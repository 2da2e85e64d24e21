//! A region as a value: carries the steps of a plan out on an observation, as AWS would.

use std::{collections::BTreeMap, net::Ipv4Addr};

use cloudcaster::{
    decide::decide,
    document::{BalancerKind, Document},
    part::{PART, Part, Ref, Tags},
    plan::{
        Options, Plan, Step, plan,
        resource::{Place, RecordKind, Template},
    },
    rule::{ANYWHERE, AclEntry, Peer, Rule},
    seen::{self, Seen, State},
};

/// A region, and the ids of what was made in it.
#[derive(Clone)]
pub struct Region {
    pub seen: Seen,
    made: BTreeMap<Part, String>,
    next: u32,
}

/// Plans a document that must be free of faults.
pub fn plan_for(document: &Document, seen: &Seen) -> Plan {
    let decision = decide(document, &BTreeMap::new(), seen);
    assert_eq!(decision.faults, vec![], "faults");
    let plan = plan(&decision.desired, seen, Options::default());
    assert_eq!(plan.faults, vec![], "faults of the plan");
    plan
}

impl Region {
    pub fn new(seen: Seen) -> Self {
        Region { seen, made: BTreeMap::new(), next: 0x1000_0000 }
    }
    pub fn cast(&mut self, document: &Document) {
        let plan = plan_for(document, &self.seen);
        plan.steps.iter().for_each(|step| self.apply(step));
    }
    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}-{:08x}", self.next)
    }
    fn make(&mut self, part: &Part, prefix: &str) -> String {
        let id = self.id(prefix);
        self.made.insert(part.clone(), id.clone());
        id
    }
    fn get(&self, reference: &Ref) -> String {
        match reference {
            Ref::Id(id) => id.clone(),
            Ref::New(part) => self.made.get(part).unwrap_or_else(|| panic!("{part} was not made before")).clone(),
        }
    }
    /// An interface, also by its instance.
    fn interface(&self, reference: &Ref) -> String {
        let id = self.get(reference);
        self.seen.instances.get(&id).map(|i| i.interface.clone()).unwrap_or(id)
    }
    /// The tags of a resource. Templates, scaling groups and classic load balancers share names: the part tells.
    fn tags(&mut self, id: &str, part: &str) -> &mut Tags {
        let seen = &mut self.seen;
        if part.ends_with("/template") {
            return &mut seen.templates.get_mut(id).unwrap().tags;
        }
        if part.ends_with("/scaling") {
            return &mut seen.scaling_groups.get_mut(id).unwrap().tags;
        }
        macro_rules! find {
            ($($map:ident),*) => {
                $(if seen.$map.contains_key(id) {
                    return &mut seen.$map.get_mut(id).unwrap().tags;
                })*
            };
        }
        find!(vpcs, internet_gateways, subnets, route_tables, groups, interfaces);
        find!(addresses, instances, balancers, target_groups);
        panic!("no {id}")
    }
    fn data(&self, template: &Template) -> seen::TemplateData {
        seen::TemplateData {
            image: template.image.image.clone(),
            instance_type: template.instance_type.clone(),
            key_pair: template.key_pair.clone(),
            profile: template.profile.clone(),
            groups: template.groups.iter().map(|g| self.get(g)).collect(),
            public: template.public,
            user_data: template.user_data.clone(),
            tags: template.instance_tags.clone(),
        }
    }
    fn new_interface(&mut self, id: &str, subnet: &str, groups: Vec<String>, check: bool, tags: Tags) {
        let there = &self.seen.subnets[subnet];
        let used = self.seen.interfaces.values().filter(|e| e.subnet == subnet).count() as u32;
        let private = Ipv4Addr::from(u32::from(there.cidr.network()) + 4 + used);
        let interface = seen::Interface {
            vpc: there.vpc.clone(),
            subnet: subnet.to_owned(),
            private,
            secondary: [].into(),
            public: None,
            public_dns: None,
            groups: groups.into_iter().collect(),
            source_dest_check: check,
            instance: None,
            tags,
        };
        self.seen.interfaces.insert(id.to_owned(), interface);
    }
    fn publish(&mut self, interface: &str, public: Ipv4Addr) {
        let interface = self.seen.interfaces.get_mut(interface).unwrap();
        interface.public = Some(public);
        interface.public_dns = Some(format!("ec2-{}.compute.amazonaws.com", public.to_string().replace('.', "-")));
    }
    fn a_public_address(&mut self) -> Ipv4Addr {
        self.next += 1;
        Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 0, 2, 0)) + 100 + self.next % 100)
    }

    /// One step, as AWS would do it.
    pub fn apply(&mut self, step: &Step) {
        match step.clone() {
            Step::CreateVpc { part, cidr, tags } => {
                let id = self.make(&part, "vpc");
                let table = self.make(&Part::private_table(), "rtb");
                let acl = self.make(&Part::acl(), "acl");
                let default = |egress| AclEntry {
                    egress,
                    number: 100,
                    protocol: -1,
                    allow: true,
                    cidr: ANYWHERE,
                    ports: None,
                    icmp: None,
                };
                self.seen.vpcs.insert(id.clone(), seen::Vpc { cidr, default: false, dns_hostnames: false, tags });
                let main = seen::RouteTable {
                    vpc: id.clone(),
                    main: true,
                    subnets: [].into(),
                    routes: [].into(),
                    tags: [].into(),
                };
                self.seen.route_tables.insert(table, main);
                self.seen.acls.insert(acl, seen::Acl { vpc: id, entries: [default(false), default(true)].into() });
            }
            Step::EnableDnsHostnames { vpc } => self.seen.vpcs.get_mut(&self.get(&vpc)).unwrap().dns_hostnames = true,
            Step::CreateInternetGateway { part, tags } => {
                let id = self.make(&part, "igw");
                self.seen.internet_gateways.insert(id, seen::InternetGateway { vpc: None, tags });
            }
            Step::AttachInternetGateway { gateway, vpc } => {
                let (gateway, vpc) = (self.get(&gateway), self.get(&vpc));
                let attached = &mut self.seen.internet_gateways.get_mut(&gateway).unwrap().vpc;
                assert_eq!(attached.replace(vpc), None, "attached already");
            }
            Step::CreateSubnet { part, vpc, cidr, zone, tags, .. } => {
                let (id, vpc) = (self.make(&part, "subnet"), self.get(&vpc));
                let taken = self.seen.subnets.values().any(|s| s.vpc == vpc && s.cidr.contains(&cidr.network()));
                assert!(!taken, "{cidr} conflicts");
                self.seen.subnets.insert(id, seen::Subnet { vpc, cidr, zone, tags });
            }
            Step::CreateRouteTable { part, vpc, tags } => {
                let (id, vpc) = (self.make(&part, "rtb"), self.get(&vpc));
                self.seen
                    .route_tables
                    .insert(id, seen::RouteTable { vpc, main: false, subnets: [].into(), routes: [].into(), tags });
            }
            Step::Associate { table, subnet } => {
                let (table, subnet) = (self.get(&table), self.get(&subnet));
                assert!(self.seen.route_tables.values().all(|t| !t.subnets.contains(&subnet)), "AlreadyAssociated");
                self.seen.route_tables.get_mut(&table).unwrap().subnets.insert(subnet);
            }
            Step::MoveAssociation { subnet, old, table } => {
                let (table, old, subnet) = (self.get(&table), self.get(&old), self.get(&subnet));
                assert!(self.seen.route_tables.get_mut(&old).unwrap().subnets.remove(&subnet));
                self.seen.route_tables.get_mut(&table).unwrap().subnets.insert(subnet);
            }
            Step::CreateGroup { part, vpc, name, tags } => {
                let (id, vpc) = (self.make(&part, "sg"), self.get(&vpc));
                assert!(self.seen.groups.values().all(|g| g.vpc != vpc || g.name != name), "{name} is there");
                self.seen.groups.insert(id, seen::Group { vpc, name, rules: [Rule::default_egress()].into(), tags });
            }
            Step::CreateAclEntry { acl, entry } => {
                let entries = &mut self.seen.acls.get_mut(&self.get(&acl)).unwrap().entries;
                assert!(entries.iter().all(|e| e.place() != entry.place()), "{} is there", entry.place());
                entries.insert(entry);
            }
            Step::RemoveDefaultAclEntry { acl, entry } => {
                assert!(entry.is_default() && self.seen.acls.get_mut(&self.get(&acl)).unwrap().entries.remove(&entry));
            }
            Step::ReplaceDefaultAclEntry { acl, entry } => {
                let entries = &mut self.seen.acls.get_mut(&self.get(&acl)).unwrap().entries;
                let old = entries.iter().find(|e| e.place() == entry.place()).cloned().expect("an entry to replace");
                assert!(old.is_default() && entries.remove(&old));
                entries.insert(entry);
            }
            Step::Allow { group, rule, .. } => {
                let id = self.get(&group);
                let vpc = self.seen.groups[&id].vpc.clone();
                let peer = match &rule.peer {
                    Peer::Group(name) => {
                        let found = self.seen.groups.iter().find(|(_, g)| g.vpc == vpc && g.name == *name);
                        Peer::Group(found.unwrap_or_else(|| panic!("no group {name}")).0.clone())
                    }
                    cidr => cidr.clone(),
                };
                assert!(self.seen.groups.get_mut(&id).unwrap().rules.insert(Rule { peer, ..rule }), "Duplicate");
            }
            Step::RevokeDefaultEgress { group, .. } => {
                assert!(self.seen.groups.get_mut(&self.get(&group)).unwrap().rules.remove(&Rule::default_egress()));
            }
            Step::Adopt { what, part, tags, .. } => {
                let id = self.get(&what);
                self.tags(&id, part.as_str()).extend(tags);
            }
            Step::Retag { what, key, old, new } => {
                let id = self.get(&what);
                assert_eq!(self.tags(&id, "").insert(key, new), old);
            }
            Step::AllocateAddress { part, tags } => {
                let (id, public) = (self.make(&part, "eipalloc"), self.a_public_address());
                self.seen.addresses.insert(id, seen::Address { public, interface: None, tags });
            }
            Step::CreateInterface { part, subnet, groups, tags } => {
                let (id, subnet) = (self.make(&part, "eni"), self.get(&subnet));
                let groups = groups.iter().map(|g| self.get(g)).collect();
                self.new_interface(&id, &subnet, groups, false, tags);
            }
            Step::AddGroup { interface, group } => {
                let (interface, group) = (self.get(&interface), self.get(&group));
                assert!(self.seen.interfaces.get_mut(&interface).unwrap().groups.insert(group));
            }
            Step::DisableSourceDestCheck { what } => {
                let id = self.get(&what);
                match self.seen.interfaces.get_mut(&id) {
                    Some(interface) => interface.source_dest_check = false,
                    None => self.seen.instances.get_mut(&id).unwrap().source_dest_check = false,
                }
            }
            Step::AssociateAddress { address, to, .. } => {
                let (address, to) = (self.get(&address), self.interface(&to));
                let address = self.seen.addresses.get_mut(&address).unwrap();
                assert_eq!(address.interface.replace(to.clone()), None, "stolen");
                let public = address.public;
                self.publish(&to, public);
            }
            Step::Launch(launch) => {
                let id = self.make(&launch.part, "i");
                let interface = match &launch.place {
                    Place::Interface(interface) => self.get(interface),
                    Place::Subnet(subnet) => {
                        let (interface, subnet) = (self.id("eni"), self.get(subnet));
                        let groups = launch.spec.groups.iter().map(|g| self.get(g)).collect();
                        self.new_interface(&interface, &subnet, groups, true, [].into());
                        if launch.spec.public {
                            let public = self.a_public_address();
                            self.publish(&interface, public);
                        }
                        interface
                    }
                };
                let there = self.seen.interfaces.get_mut(&interface).unwrap();
                assert_eq!(there.instance.replace(id.clone()), None, "the interface is in use");
                let (vpc, subnet, source_dest_check) =
                    (there.vpc.clone(), there.subnet.clone(), there.source_dest_check);
                let instance = seen::Instance {
                    vpc,
                    subnet,
                    state: State::Running,
                    image: launch.spec.image.image.clone(),
                    instance_type: launch.spec.instance_type.clone(),
                    interface,
                    source_dest_check,
                    imds_v1: false,
                    tags: launch.tags,
                };
                self.seen.instances.insert(id, instance);
            }
            Step::CreateRoute { table, to, target, .. } => {
                let (table, target) = (self.get(&table), self.get(&target));
                let routes = &mut self.seen.route_tables.get_mut(&table).unwrap().routes;
                assert_eq!(routes.insert(to, target), None, "RouteAlreadyExists");
            }
            Step::ReplaceRoute { table, to, old, target, .. } => {
                let (table, target, old) = (self.get(&table), self.get(&target), self.get(&old));
                let routes = &mut self.seen.route_tables.get_mut(&table).unwrap().routes;
                assert_eq!(routes.insert(to, target), Some(old));
            }
            other => self.apply_balancing(other),
        }
    }

    fn apply_balancing(&mut self, step: Step) {
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

    /// How many of everything there are, and which parts of casts.
    pub fn census(&self) -> (Vec<usize>, Vec<String>) {
        let s = &self.seen;
        let counts = vec![
            s.vpcs.len(),
            s.internet_gateways.len(),
            s.subnets.len(),
            s.route_tables.len(),
            s.groups.len(),
            s.interfaces.len(),
            s.addresses.len(),
            s.instances.len(),
            s.balancers.len(),
            s.target_groups.len(),
            s.templates.len(),
            s.scaling_groups.len(),
            s.records.len(),
            s.groups.values().map(|g| g.rules.len()).sum(),
            s.route_tables.values().map(|t| t.routes.len()).sum(),
            s.acls.values().map(|a| a.entries.len()).sum(),
        ];
        let mut parts: Vec<String> = s.instances.values().filter_map(|i| i.tags.get(PART).cloned()).collect();
        parts.sort();
        (counts, parts)
    }
}
