//! A region as a value: carries the steps of a plan out on an observation, as AWS would.

mod balancing;

use std::{collections::BTreeMap, net::Ipv4Addr};

use cloudcaster::{
    decide::decide,
    document::Document,
    part::{PART, Part, Ref, Tags},
    plan::{
        Options, Plan, Step, plan,
        resource::{Place, Template},
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
            Step::Associate { table, subnet, .. } => {
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
