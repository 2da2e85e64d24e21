//! VPC, internet gateway, subnets, route tables and their associations, and the network ACL.

use super::{planner::Planner, step::Step};
use crate::{
    part::{CAST, PART, Part, Ref, Tags},
    seen::{Id, RouteTable, Tagged, Vpc, of_part},
    text,
};

impl Planner<'_> {
    /// Finds the VPC, or plans one. False if there is one that may not be used.
    pub(super) fn find_vpc(&mut self) -> bool {
        let (desired, seen) = (self.desired, self.seen);
        let ours: Vec<(&Id, &Vpc)> = seen.vpcs.iter().filter(|(_, v)| v.is_of(&desired.cast)).collect();
        let same: Vec<(&Id, &Vpc)> = seen.vpcs.iter().filter(|(_, v)| v.cidr == desired.vpc_cidr).collect();
        let candidates = if ours.is_empty() { &same } else { &ours };
        let (id, vpc) = match candidates[..] {
            [] => {
                let part = Part::vpc();
                let tags = match &desired.vpc_name {
                    Some(name) => desired.named(&part, name),
                    None => desired.tags(&part),
                };
                self.step(Step::CreateVpc { part, cidr: desired.vpc_cidr, tags });
                self.step(Step::EnableDnsHostnames { vpc: self.vpc.clone() });
                return true;
            }
            [one] => one,
            _ => {
                let ids = text::list(candidates.iter().map(|(id, _)| text::plain(id)));
                let why = match ours.is_empty() {
                    true => format!(
                        "all have {}, so it cannot be told which one is meant; tag one of them {CAST} = {} and {PART} = {}",
                        desired.vpc_cidr,
                        desired.cast,
                        Part::adopted_vpc()
                    ),
                    false => format!("all are tagged {CAST} = {}; take the tag from all but one", desired.cast),
                };
                self.foreign(ids, why);
                return false;
            }
        };
        if vpc.default {
            self.foreign(id, "is the default VPC, which is never used or changed");
            return false;
        }
        if vpc.cidr != desired.vpc_cidr {
            self.foreign(id, format!("has this cast's tag, but the CIDR {}", vpc.cidr));
            return false;
        }
        if let Some(other) = vpc.tag(CAST).filter(|cast| *cast != desired.cast) {
            self.foreign(id, format!("belongs to the cast {}", text::plain(other)));
            return false;
        }
        self.vpc = Ref::Id(id.clone());
        let made = vpc.tag(PART) == Some(Part::vpc().as_str());
        self.adopting = !made;
        if !made {
            self.adopt(id, vpc, &Part::adopted_vpc(), Tags::new(), "by its CIDR");
        }
        self.name(id, vpc, desired.vpc_name.clone());
        if !vpc.dns_hostnames {
            self.step(Step::EnableDnsHostnames { vpc: self.vpc.clone() });
        }
        true
    }

    pub(super) fn network(&mut self) {
        self.internet_gateway();
        self.subnets();
        self.tables();
        self.associations();
        self.acl();
    }

    /// Name is overwritten, as in 2014, if the document has one.
    fn name(&mut self, id: &Id, thing: &impl Tagged, name: Option<String>) {
        if let Some(new) = name.filter(|name| thing.tag("Name") != Some(name)) {
            let old = thing.tag("Name").map(str::to_owned);
            self.step(Step::Retag { what: Ref::Id(id.clone()), key: "Name".to_owned(), old, new });
        }
    }

    /// One is attached; or an earlier cast was stopped before it attached its own.
    fn internet_gateway(&mut self) {
        let part = Part::internet_gateway();
        let attached = self.seen.internet_gateways.iter().find(|(_, g)| g.vpc.as_ref().is_some_and(|v| self.in_vpc(v)));
        if let Some((id, gateway)) = attached {
            self.internet_gateway = Ref::Id(id.clone());
            return self.adopt(id, gateway, &part, Tags::new(), "attached to the VPC");
        }
        let free = self.seen.internet_gateways.iter().find(|(_, g)| g.vpc.is_none() && g.is(&self.desired.cast, &part));
        match free {
            Some((id, _)) => self.internet_gateway = Ref::Id(id.clone()),
            None => self.step(Step::CreateInternetGateway { tags: self.desired.tags(&part), part }),
        }
        self.step(Step::AttachInternetGateway { gateway: self.internet_gateway.clone(), vpc: self.vpc.clone() });
    }

    fn subnets(&mut self) {
        for subnet in &self.desired.subnets {
            let part = Part::subnet(subnet.cidr);
            let kind = if subnet.public { "public" } else { "private" };
            let name = self.desired.vpc_name.as_ref().map(|name| format!("{name}-{kind}"));
            let found = self.seen.subnets.iter().find(|(_, s)| s.cidr == subnet.cidr && self.in_vpc(&s.vpc));
            let made = match found {
                Some((id, there)) => {
                    self.adopt(id, there, &part, Tags::new(), "by its CIDR");
                    self.name(id, there, name);
                    if there.zone != subnet.zone {
                        let why = format!(
                            "is in {}, the document says {}; a subnet cannot move",
                            text::plain(&there.zone),
                            subnet.zone
                        );
                        self.left(id, why);
                    }
                    Ref::Id(id.clone())
                }
                None => {
                    let tags = match name {
                        Some(name) => self.desired.named(&part, &name),
                        None => self.desired.tags(&part),
                    };
                    let (vpc, zone) = (self.vpc.clone(), subnet.zone.clone());
                    self.step(Step::CreateSubnet {
                        part: part.clone(),
                        vpc,
                        cidr: subnet.cidr,
                        zone,
                        public: subnet.public,
                        tags,
                    });
                    Ref::New(part)
                }
            };
            self.subnets.insert(subnet.cidr, made);
        }
    }

    /// The main table is the private one, so that a subnet nobody thought of has no way in.
    fn tables(&mut self) {
        let tables: Vec<(&Id, &RouteTable)> =
            self.seen.route_tables.iter().filter(|(_, t)| self.in_vpc(&t.vpc)).collect();
        let private = Part::private_table();
        match tables.iter().find(|(_, t)| t.main) {
            Some((id, table)) => {
                self.private_table = Ref::Id((*id).clone());
                self.adopt(id, *table, &private, Tags::new(), "the VPC's main table");
            }
            // It comes with the VPC.
            None => self.step(Step::Adopt {
                what: self.private_table.clone(),
                tags: self.desired.tags(&private),
                part: private,
                why: "the main table that comes with the VPC".to_owned(),
            }),
        }
        if self.desired.subnets.iter().all(|s| !s.public) {
            return;
        }
        let part = Part::public_table();
        let vpc = self.vpc.clone();
        if let Some((id, _)) = of_part(&self.seen.route_tables, &self.desired.cast, &part) {
            self.public_table = Ref::Id(id.clone());
            return;
        }
        let others: Vec<_> = tables.into_iter().filter(|(_, t)| !t.main && t.tag(CAST).is_none()).collect();
        let public: Vec<&Ref> =
            self.desired.subnets.iter().filter(|s| s.public).filter_map(|s| self.subnets.get(&s.cidr)).collect();
        let holds = |t: &RouteTable| t.subnets.iter().any(|s| public.contains(&&Ref::Id(s.clone())));
        let holding: Vec<_> = others.iter().filter(|(_, t)| holds(t)).copied().collect();
        // 2014 took the first other table that EC2 listed, whichever that was.
        let candidates = if holding.is_empty() && self.adopting { others } else { holding };
        match candidates[..] {
            [] => self.step(Step::CreateRouteTable { tags: self.desired.tags(&part), part, vpc }),
            [(id, table)] => {
                self.public_table = Ref::Id(id.clone());
                self.adopt(id, table, &part, Tags::new(), "the VPC's other table");
            }
            _ => {
                let ids = text::list(candidates.iter().map(|(id, _)| text::plain(id)));
                self.foreign(
                    ids,
                    format!(
                        "each could be the public route table; tag one of them {CAST} = {} and {PART} = {part}",
                        self.desired.cast
                    ),
                );
            }
        }
    }

    fn associations(&mut self) {
        let live = self.seen.instances.values().any(|i| i.state.is_up() && self.in_vpc(&i.vpc));
        for subnet in &self.desired.subnets {
            let table = if subnet.public { self.public_table.clone() } else { self.private_table.clone() };
            let this = self.subnet(&subnet.cidr);
            let holder = match &this {
                Ref::Id(id) => self.seen.route_tables.iter().find(|(_, t)| t.subnets.contains(id)),
                Ref::New(_) => None,
            };
            match holder {
                None => self.step(Step::Associate { table, subnet: this, live }),
                Some((id, _)) if Ref::Id(id.clone()) == table => {}
                Some((id, there)) => {
                    let old = Ref::Id(id.clone());
                    let ours = old == self.private_table || old == self.public_table || there.is_of(&self.desired.cast);
                    if ours || self.options.take_routes {
                        self.step(Step::MoveAssociation { subnet: this, old, table });
                    } else {
                        let why = format!(
                            "is associated with {}, not with {table}; --take-routes changes that",
                            text::plain(id)
                        );
                        self.foreign(this, why);
                    }
                }
            }
        }
    }

    /// The document's entries; in a VPC of our own making they replace those that AWS made.
    fn acl(&mut self) {
        let Some(wanted) = &self.desired.acl else { return };
        let there = self.seen.acls.iter().find(|(_, a)| self.in_vpc(&a.vpc));
        let acl = there.map_or(Ref::New(Part::acl()), |(id, _)| Ref::Id(id.clone()));
        let default = |egress| crate::rule::AclEntry {
            egress,
            number: 100,
            protocol: -1,
            allow: true,
            cidr: crate::rule::ANYWHERE,
            ports: None,
            icmp: None,
        };
        let entries = match there {
            Some((_, acl)) => acl.entries.clone(),
            None => [default(false), default(true)].into(),
        };
        for entry in wanted.iter().filter(|entry| !entries.contains(entry)) {
            let other = entries.iter().find(|e| e.place() == entry.place());
            match other {
                None => self.step(Step::CreateAclEntry { acl: acl.clone(), entry: entry.clone() }),
                // The default one is replaced below.
                Some(other) if other.is_default() && !self.adopting => {}
                Some(other) => {
                    let why = format!("has the entry {other}, where the document has {entry}");
                    self.foreign(&acl, why);
                }
            }
        }
        if self.adopting {
            return;
        }
        for entry in entries.iter().filter(|e| e.is_default() && !wanted.contains(e)).cloned() {
            let acl = acl.clone();
            self.step(match wanted.iter().find(|w| w.place() == entry.place()) {
                Some(new) => Step::ReplaceDefaultAclEntry { acl, entry: new.clone() },
                None => Step::RemoveDefaultAclEntry { acl, entry },
            });
        }
    }
}
