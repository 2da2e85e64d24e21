//! The rules within one document that need no AWS: networks, images, names. Those of groups, apps and load balancers are
//! in modules of their own.

use crosswan_core::model::overlap;
use ipnet::Ipv4Net;

use super::{Document, Way, apps, balancers, groups, way_of};
use crate::{names::Names, problem::Source, text, tree::KeyPath};

/// Puts everything that is wrong with `document` into `source`.
pub fn check(source: &mut Source, document: &Document) {
    networks(source, document);
    zones(source, document);
    acls(source, document);
    nat(source, document);
    groups::check(source, document);
    balancers::check(source, document);
    apps::check(source, document);
    names(source, document);
    way(source, document);
}

/// The CIDRs of a document that lie in its VPC, with their paths.
fn subnets(document: &Document) -> Vec<(KeyPath, Ipv4Net)> {
    let vpc = &document.vpc;
    let lists = [("subnets", &vpc.subnets), ("pubsubnets", &vpc.pubsubnets)];
    let of = |(key, nets): (&str, &Vec<Ipv4Net>)| {
        let path = KeyPath::of("vpc").key(key);
        nets.iter().enumerate().map(|(i, net)| (path.index(i), *net)).collect::<Vec<_>>()
    };
    lists.into_iter().flat_map(of).collect()
}

fn networks(source: &mut Source, document: &Document) {
    let (vpc, privnet) = (document.vpc.cidr, document.aws.privnet);
    let at = KeyPath::of("vpc").key("cidr");
    if !(16..=28).contains(&vpc.prefix_len()) {
        source.error(&at, format!("expected a prefix length from /16 to /28, found {vpc}"));
    }
    if privnet.prefix_len() == 0 {
        source.error(
            &KeyPath::of("aws").key("privnet"),
            "everything cannot be the private network: it would take the default route's place",
        );
    } else if vpc.contains(&privnet) {
        let what = format!("{privnet} lies within vpc.cidr {vpc}: the private network must be larger than one VPC");
        source.error(&KeyPath::of("aws").key("privnet"), what);
    } else if !privnet.contains(&vpc) {
        source.warn(&at, format!("{vpc} is not within aws.privnet {privnet}: crosswan refuses such a VPC"));
    }
    let mut earlier: Vec<(KeyPath, Ipv4Net)> = Vec::new();
    for (path, net) in subnets(document) {
        if !vpc.contains(&net) {
            source.error(&path, format!("{net} is not within vpc.cidr {vpc}"));
        } else if net.prefix_len() > 28 {
            source.error(&path, format!("{net} is too small: AWS allows subnets from /16 to /28"));
        }
        if let Some((other, at)) = earlier.iter().find(|(_, other)| overlap(other, &net)).map(|(p, n)| (n, p)) {
            source.error(&path, format!("{net} overlaps {other}, which is {at}"));
        }
        earlier.push((path, net));
    }
}

fn zones(source: &mut Source, document: &Document) {
    let (aws, vpc) = (&document.aws, &document.vpc);
    let path = KeyPath::of("vpc");
    for (i, zone) in vpc.azs.iter().enumerate() {
        let at = path.key("azs").index(i);
        // Local zones (us-west-2-lax-1a) begin with the region, too; whether they will do is for EC2 to say.
        if !zone.strip_prefix(&aws.region).is_some_and(|rest| rest.ends_with(|c: char| c.is_ascii_lowercase())) {
            source.error(&at, format!("{zone} is not a zone of aws.region {}", aws.region));
        }
        if vpc.azs[..i].contains(zone) {
            source.error(&at, format!("{zone} is listed twice"));
        }
    }
    for (key, nets) in [("subnets", &vpc.subnets), ("pubsubnets", &vpc.pubsubnets)] {
        if nets.len() > vpc.azs.len() {
            let what = format!(
                "{}, but vpc.azs has {}: each subnet needs a zone of its own",
                text::count(nets.len(), "subnet"),
                vpc.azs.len()
            );
            source.error(&path.key(key), what);
        }
    }
    if document.nat.is_some() && vpc.pubsubnets.is_empty() {
        source.error(&path.key("pubsubnets"), "empty, but nat needs the first public subnet");
    }
}

fn acls(source: &mut Source, document: &Document) {
    let entries = document.vpc.acls.as_deref().unwrap_or_default();
    for (i, acl) in entries.iter().enumerate() {
        let path = KeyPath::of("vpc").key("acls").index(i);
        let ports = (acl.port_range_from, acl.port_range_to);
        let icmp = (acl.icmp_type, acl.icmp_code);
        match (acl.protocol, ports, icmp) {
            (6 | 17, (Some(from), Some(to)), _) if from > to => {
                source.error(&path.key("port_range_from"), format!("{from} is above port_range_to {to}"));
            }
            (6 | 17, (Some(_), Some(_)), (None, None)) | (1, (None, None), (Some(_), Some(_))) => {}
            (6 | 17, ..) => source.error(
                &path,
                "TCP and UDP need port_range_from and port_range_to, and neither icmp_type nor icmp_code",
            ),
            (1, ..) => source.error(&path, "ICMP needs icmp_type and icmp_code, and no port range"),
            (_, (None, None), (None, None)) => {}
            _ => source.error(&path, format!("protocol {} has neither ports nor ICMP types", acl.protocol)),
        }
        if entries[..i].iter().any(|e| (e.rule_number, e.egress) == (acl.rule_number, acl.egress)) {
            let direction = if acl.egress { "outgoing" } else { "incoming" };
            source
                .error(&path.key("rule_number"), format!("{} is there twice for {direction} packets", acl.rule_number));
        }
    }
}

fn nat(source: &mut Source, document: &Document) {
    let Some(nat) = &document.nat else { return };
    let path = KeyPath::of("nat");
    match (&nat.ami, &nat.aminame) {
        (None, None) => source.error(&path.key("aminame"), "missing: nat needs aminame or ami"),
        (Some(_), Some(_)) => source.warn(&path.key("aminame"), "ami is there too, and wins"),
        _ => {}
    }
    if nat.addrs.len() > 1 {
        source.error(&path.key("addrs"), format!("{} addresses, but a gateway has one", nat.addrs.len()));
    }
}

/// Names that must differ, and full names that must not be too long for where they go.
fn names(source: &mut Source, document: &Document) {
    let full = Names::of(document);
    let mut dns: Vec<(String, KeyPath)> = Vec::new();
    let mut instances: Vec<(&str, KeyPath)> = Vec::new();
    if let Some(nat) = &document.nat {
        instances.push((&nat.name, KeyPath::of("nat").key("name")));
        dns.push((nat.name.to_lowercase(), KeyPath::of("nat").key("name")));
    }
    for (i, app) in document.apps.iter().enumerate() {
        let path = KeyPath::of("apps").index(i).key("name");
        if let Some((_, other)) = instances.iter().find(|(name, _)| *name == app.name) {
            source.error(&path, format!("{} is also {other}: instances are told apart by their name", app.name));
        }
        instances.push((&app.name, path));
    }
    for (i, elb) in document.elbs.iter().enumerate() {
        let path = KeyPath::of("elbs").index(i).key("name");
        if let Some((_, other)) = dns.iter().find(|(name, _)| *name == elb.name.to_lowercase()) {
            source.error(
                &path,
                format!("{} is also {other}, and both would have the record {}", elb.name, full.dns(&elb.name)),
            );
        }
        dns.push((elb.name.to_lowercase(), path));
    }
    for (name, path) in dns {
        let label = full.full(&name);
        if label.len() > 63 {
            source.error(&path, format!("{label} has {} characters; a DNS label has at most 63", label.len()));
        }
    }
}

fn way(source: &mut Source, document: &Document) {
    let at = KeyPath::of("aws").key("privnet_via");
    let hubs: Vec<usize> = (0..document.apps.len()).filter(|i| document.apps[*i].svctag == "vpn-hub").collect();
    match document.aws.privnet_via.as_deref() {
        Some("nat") if document.nat.is_some() => {}
        Some(name) if document.apps.iter().all(|a| a.name != name) => {
            let known = document.apps.iter().map(|a| a.name.as_str()).chain(["nat"]);
            let near = text::nearest(name, known).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            source.error(&at, format!("{} is not an app of this document{near}", text::quoted(name)));
        }
        None if hubs.len() > 1 => {
            let path = KeyPath::of("apps").index(hubs[1]).key("svctag");
            let names = text::list(hubs.iter().map(|i| &document.apps[*i].name));
            source.error(
                &path,
                format!(
                    "{names} are all vpn-hub: name the one that is the way to the private network in aws.privnet_via"
                ),
            );
        }
        None if hubs.is_empty() && document.nat.is_none() => {
            source.warn(
                &KeyPath::of("aws").key("privnet"),
                "nothing here is a gateway: no route to the private network is made",
            );
        }
        _ => {}
    }
    let Way::App(i) = way_of(document) else { return };
    let (app, path) = (&document.apps[i], KeyPath::of("apps").index(i));
    let why = "it is the way to the private network, which is one instance with a place of its own";
    if app.autoscale.is_some() {
        source.error(&path.key("autoscale"), format!("{} cannot be an Auto Scaling group: {why}", app.name));
    } else if app.count != Some(1) {
        source.error(&path.key("count"), format!("{} must have count 1: {why}", app.name));
    }
    if !app.public {
        source.warn(
            &path,
            "the gateway to the private network is placed in a public subnet, although `public` is absent",
        );
    }
    if app.balancers().next().is_some() {
        source.warn(&path, "elb and elbs have no effect on the gateway to the private network");
    }
    if document.vpc.pubsubnets.is_empty() {
        source.error(&KeyPath::of("vpc").key("pubsubnets"), format!("empty, but {} needs a public subnet", app.name));
    }
    if app.ami.is_none() && app.aminame.is_none() {
        source.error(&path.key("aminame"), "missing: a gateway needs aminame or ami");
    }
}
