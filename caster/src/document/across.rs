//! The rules across documents that are given together: CIDRs, names and addresses that two of them claim.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crosswan_core::model::overlap;

use super::{Document, Way, way_of};
use crate::{names::Names, problem::Source, tree::KeyPath};

/// A name that only one document may have: what it is, and how it is called, with where it counts.
type Claim = (&'static str, String);

/// Puts into each source what it has in conflict with an earlier one.
pub fn across(documents: &mut [(&mut Source, &Document)]) {
    let mut claims: BTreeMap<Claim, String> = BTreeMap::new();
    let mut addresses: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
    regions(documents);
    for i in 0..documents.len() {
        let (earlier, rest) = documents.split_at_mut(i);
        let (source, document) = &mut rest[0];
        cidrs(source, document, earlier);
        for (path, claim) in names(document) {
            let here = source.whereabouts(&path);
            match claims.get(&claim) {
                Some(other) => {
                    source.error(&path, format!("claims the {} {}, which {other} claims too", claim.0, claim.1))
                }
                None => _ = claims.insert(claim, here),
            }
        }
        for (path, address) in elastic(document) {
            let here = source.whereabouts(&path);
            match addresses.get(&address) {
                Some(other) => source.error(&path, format!("{address} is also in {other}")),
                None => _ = addresses.insert(address, here),
            }
        }
    }
}

/// A hub finds only the clients of its regions, and a client only a hub of its own.
fn regions(documents: &mut [(&mut Source, &Document)]) {
    let (path, region) = (KeyPath::of("aws").key("regions"), KeyPath::of("aws").key("region"));
    let is_hub = |document: &Document| matches!(way_of(document), Way::App(_));
    for i in 0..documents.len() {
        let (ours, mut missing) = (documents[i].1, Vec::new());
        for (source, theirs) in documents.iter() {
            let joined = is_hub(ours) != is_hub(theirs) && overlap(&ours.aws.privnet, &theirs.aws.privnet);
            let listed = ours.aws.regions.as_ref().is_none_or(|listed| listed.contains(&theirs.aws.region));
            if joined && !listed {
                missing.push(format!("{} of {} is missing", theirs.aws.region, source.whereabouts(&region)));
            }
        }
        missing.into_iter().for_each(|what| documents[i].0.error(&path, what));
    }
}

/// Two VPCs of one private network must not overlap, wherever they are, nor may two of one region have the same CIDR,
/// by which they are found again.
fn cidrs(source: &mut Source, document: &Document, earlier: &[(&mut Source, &Document)]) {
    let path = KeyPath::of("vpc").key("cidr");
    for (other, theirs) in earlier {
        let (a, b) = (document.vpc.cidr, theirs.vpc.cidr);
        let place = || other.whereabouts(&path);
        if overlap(&document.aws.privnet, &theirs.aws.privnet) && overlap(&a, &b) {
            source.error(&path, format!("{a} overlaps {b} of {}, in the same private network", place()));
        } else if a == b && document.aws.region == theirs.aws.region {
            source.error(
                &path,
                format!("{a} is also the VPC of {}, in the same region: VPCs are found by their CIDR", place()),
            );
        }
    }
}

/// What the document will call things that have one owner in a region or a zone.
fn names(document: &Document) -> Vec<(KeyPath, Claim)> {
    let names = Names::of(document);
    let region = |name: &str| format!("{} in {}", names.full(name), document.aws.region);
    let mut out = Vec::new();
    if let Some(nat) = &document.nat {
        out.push((KeyPath::of("nat").key("name"), ("record", names.dns(&nat.name))));
    }
    for (i, elb) in document.elbs.iter().enumerate() {
        let path = KeyPath::of("elbs").index(i).key("name");
        out.push((path.clone(), ("record", names.dns(&elb.name))));
        out.push((path, ("load balancer", region(&elb.name))));
    }
    for (i, app) in document.apps.iter().enumerate().filter(|(_, app)| app.autoscale.is_some()) {
        out.push((KeyPath::of("apps").index(i).key("name"), ("Auto Scaling group", region(&app.name))));
    }
    out
}

fn elastic(document: &Document) -> Vec<(KeyPath, Ipv4Addr)> {
    let mut out = Vec::new();
    let mut put = |path: KeyPath, list: &[Ipv4Addr]| {
        out.extend(list.iter().enumerate().map(|(i, a)| (path.index(i), *a)));
    };
    if let Some(nat) = &document.nat {
        put(KeyPath::of("nat").key("addrs"), &nat.addrs);
    }
    for (i, app) in document.apps.iter().enumerate() {
        put(KeyPath::of("apps").index(i).key("addrs"), &app.addrs);
    }
    out
}
