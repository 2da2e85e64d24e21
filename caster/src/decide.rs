//! Pure: a document and what was observed, into what should exist.
//!
//! What was observed matters here only for what the document leaves open: which image a name means, which certificate,
//! whose public addresses `extports` are for. What exists already is `plan`'s business.

mod apps;
mod balancers;
mod groups;
mod images;
mod input;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use crosswan_core::model::Mode;
use ipnet::Ipv4Net;

use self::input::Input;
use crate::{
    desired::{Desired, Fault, Gateway, Record, RecordTarget, Route, Subnet, Table, Target, Wanted},
    document::{Digest, Document, Secret, UserData, Way, way_of},
    names::Names,
    part::Part,
    rule::{ANYWHERE, AclEntry},
    seen::Seen,
    text,
    tree::KeyPath,
};

/// What should exist, what cannot be, and what the operator should know.
pub struct Decision {
    pub desired: Desired,
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
    /// User data that is made here: settings of gateways, by digest.
    pub texts: BTreeMap<Digest, Secret>,
}

/// Decides for one document. `data` is each app's user data, `seen` the document's region.
pub fn decide(document: &Document, data: &BTreeMap<String, UserData>, seen: &Seen) -> Decision {
    let input = Input { document, data, seen, names: Names::of(document) };
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    input.surroundings(&mut faults);
    let aws = &document.aws;
    let gateways = input.gateways(&mut warnings);
    let balancers = input.balancers(&mut warnings);
    let (apps, scaled) = input.apps(&mut warnings);
    let desired = Desired {
        cast: input.names.cast(),
        env: (aws.envtag.clone(), aws.env.clone()),
        service_key: aws.svctag.clone(),
        vpc_cidr: document.vpc.cidr,
        vpc_name: document.vpc.name.clone(),
        subnets: input.subnets(),
        acl: input.acl(),
        groups: input.groups(),
        routes: input.routes(&gateways),
        records: input.records(&gateways),
        gateways,
        apps,
        scaled,
        balancers,
        zone: aws.zone.to_lowercase(),
    };
    let texts = Mode::ALL.map(|mode| input.settings(mode)).map(|text| (text.digest(), text)).into();
    Decision { desired, faults, warnings, texts }
}

impl Input<'_> {
    /// Where the document says it is, against where we are.
    fn surroundings(&self, faults: &mut Vec<Fault>) {
        let (aws, seen) = (&self.document.aws, self.seen);
        let mut fault = |path: KeyPath, what: String| faults.push(Fault { path, what });
        let path = KeyPath::of("aws");
        if aws.region != seen.region {
            fault(path.key("region"), format!("{}, but {} was observed", aws.region, text::quoted(&seen.region)));
            return;
        }
        if aws.account.as_ref().is_some_and(|account| *account != seen.account) {
            let what = format!("the credentials belong to account {}", text::quoted(&seen.account));
            fault(path.key("account"), what);
        }
        for (i, zone) in self.document.vpc.azs.iter().enumerate() {
            let at = KeyPath::of("vpc").key("azs").index(i);
            match seen.zones.get(zone).map(String::as_str) {
                Some("availability-zone") => {}
                Some(kind) => fault(at, format!("{zone} is a {}, where gateways are not supported", text::plain(kind))),
                None => {
                    let zones = text::list(seen.zones.keys().map(|z| text::plain(z)));
                    fault(at, format!("this account has no zone {zone}; it has {zones}"));
                }
            }
        }
        let needs_zone = self.document.nat.is_some() || !self.document.elbs.is_empty();
        if needs_zone && !seen.hosted_zones.contains_key(&aws.zone.to_lowercase()) {
            fault(path.key("zone"), format!("there is no hosted zone {} in Route 53", aws.zone));
        }
    }

    fn subnets(&self) -> Vec<Subnet> {
        let vpc = &self.document.vpc;
        let of = |nets: &[Ipv4Net], public: bool| -> Vec<Subnet> {
            let both = nets.iter().zip(&vpc.azs);
            both.map(|(cidr, zone)| Subnet { cidr: *cidr, zone: zone.clone(), public }).collect()
        };
        let mut subnets = of(&vpc.subnets, false);
        subnets.extend(of(&vpc.pubsubnets, true));
        subnets
    }

    /// The subnets of one kind, or the one of them in a zone.
    fn subnets_in(&self, public: bool, zone: Option<&str>) -> Vec<Ipv4Net> {
        let fits = |s: &Subnet| s.public == public && zone.is_none_or(|z| s.zone == z);
        self.subnets().into_iter().filter(fits).map(|s| s.cidr).collect()
    }

    fn acl(&self) -> Option<BTreeSet<AclEntry>> {
        let entries = self.document.vpc.acls.as_ref()?;
        let entry = |acl: &crate::document::AclRule| AclEntry {
            egress: acl.egress,
            number: acl.rule_number,
            protocol: acl.protocol,
            allow: acl.rule_action == "allow",
            cidr: acl.cidr_block,
            ports: acl.port_range_from.zip(acl.port_range_to),
            icmp: acl.icmp_type.zip(acl.icmp_code),
        };
        Some(entries.iter().map(entry).collect())
    }

    /// nat, and the app that carries the private network. In a public subnet each: the internet gateway translates for
    /// their Elastic IPs.
    fn gateways(&self, warnings: &mut Vec<Fault>) -> Vec<Gateway> {
        let mut gateways = Vec::new();
        if let (Some(nat), Some(subnet)) = (&self.document.nat, self.subnets_in(true, None).first()) {
            gateways.push(Gateway {
                part: Part::nat(),
                path: KeyPath::of("nat"),
                subnet: *subnet,
                address: nat.addrs.first().map_or(Wanted::Own, |a| Wanted::Given(*a)),
                launch: self.launch_nat(nat, warnings),
            });
        }
        if let Way::App(i) = way_of(self.document) {
            let app = &self.document.apps[i];
            let subnets = self.subnets_in(true, app.azlimit.as_deref());
            gateways.extend(subnets.first().map(|subnet| Gateway {
                part: Part::instance(&app.name, 0),
                path: KeyPath::of("apps").index(i),
                subnet: *subnet,
                address: app.addrs.first().map_or(Wanted::Own, |a| Wanted::Given(*a)),
                launch: self.launch_app(i, warnings),
            }));
        }
        gateways
    }

    /// The routes of both tables. The private table has a route of its own for the private network, although the default
    /// route covers it in clients: so it stays when an AWS NAT gateway takes the default route over.
    fn routes(&self, gateways: &[Gateway]) -> Vec<Route> {
        let nat = gateways.iter().position(|g| g.part == Part::nat());
        let way = match way_of(self.document) {
            Way::Nat => nat,
            Way::App(i) => {
                let part = Part::instance(&self.document.apps[i].name, 0);
                gateways.iter().position(|g| g.part == part)
            }
            Way::Nobody => None,
        };
        let mut routes = Vec::new();
        let mut route = |table, to, by, why: &str| routes.push(Route { table, to, by, why: why.to_owned() });
        if let Some(nat) = nat {
            route(Table::Private, ANYWHERE, Target::Gateway(nat), "internet through NAT");
        }
        if !self.document.vpc.pubsubnets.is_empty() {
            route(Table::Public, ANYWHERE, Target::InternetGateway, "internet");
        }
        if let Some(way) = way {
            let privnet = self.document.aws.privnet;
            route(Table::Private, privnet, Target::Gateway(way), "private network");
            if !self.document.vpc.pubsubnets.is_empty() {
                route(Table::Public, privnet, Target::Gateway(way), "private network");
            }
        }
        routes
    }

    fn records(&self, gateways: &[Gateway]) -> Vec<Record> {
        let nat = self.document.nat.iter().zip(gateways.iter().position(|g| g.part == Part::nat()));
        let mut records: Vec<Record> = nat
            .map(|(nat, gateway)| Record {
                name: self.names.dns(&nat.name),
                path: KeyPath::of("nat").key("name"),
                to: RecordTarget::Gateway(gateway),
            })
            .collect();
        records.extend(self.document.elbs.iter().enumerate().map(|(i, elb)| Record {
            name: self.names.dns(&elb.name),
            path: KeyPath::of("elbs").index(i).key("name"),
            to: RecordTarget::Balancer(i),
        }));
        records
    }
}
