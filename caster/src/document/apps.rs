//! The rules about apps: counts, places, references, addresses.

use std::net::Ipv4Addr;

use super::{App, Document, Way, way_of};
use crate::{problem::Source, text, tree::KeyPath};

pub(super) fn check(source: &mut Source, document: &Document) {
    for (i, app) in document.apps.iter().enumerate() {
        let path = KeyPath::of("apps").index(i);
        counts(source, &path, app);
        place(source, &path, app, document, way_of(document) == Way::App(i));
        references(source, &path, app, document);
        scaled_only(source, &path, app);
        match (&app.ami, &app.aminame) {
            (Some(_), Some(_)) => source.warn(&path.key("aminame"), "ami is there too, and wins"),
            (None, None) => source.warn(&path, "neither ami nor aminame: nothing can be launched"),
            _ => {}
        }
        if app.keypair.is_none() {
            source.warn(&path, "no keypair: nobody can log in with an EC2 key pair");
        }
        let shared = document.apps[..i]
            .iter()
            .find(|other| other.svctag == app.svctag && other.autoscale.is_none() && app.autoscale.is_none());
        if let Some(other) = shared {
            let what = format!(
                "{} has the same: instances of 2014, which are known by it alone, are assigned by their Name tag",
                other.name
            );
            source.warn(&path.key("svctag"), what);
        }
    }
    addresses(source, document);
}

fn counts(source: &mut Source, path: &KeyPath, app: &App) {
    let Some(scale) = app.autoscale else {
        if app.count.is_none() {
            source.error(&path.key("count"), "missing: an app needs count or autoscale");
        }
        return;
    };
    if scale.min > scale.max {
        source.error(&path.key("autoscale").key("min"), format!("{} is above max {}", scale.min, scale.max));
    } else if let Some(count) = app.count.filter(|c| !(scale.min..=scale.max).contains(c)) {
        source.error(&path.key("count"), format!("{count} is not within autoscale's {} to {}", scale.min, scale.max));
    }
    if app.cluster.is_none() {
        source.error(&path.key("cluster"), "missing: an app with autoscale needs it");
    }
}

fn place(source: &mut Source, path: &KeyPath, app: &App, document: &Document, gateway: bool) {
    let vpc = &document.vpc;
    let public = app.public || gateway;
    let (key, subnets) = if public { ("pubsubnets", &vpc.pubsubnets) } else { ("subnets", &vpc.subnets) };
    // A gateway without a public subnet is reported as such.
    if subnets.is_empty() && !gateway {
        source.error(&path.key("name"), format!("{} has nowhere to run: vpc.{key} is absent or empty", app.name));
    }
    let Some(zone) = &app.azlimit else { return };
    let at = path.key("azlimit");
    match vpc.azs.iter().position(|z| z == zone) {
        None => {
            let near = text::nearest(zone, vpc.azs.iter().map(String::as_str));
            let near = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            source.error(&at, format!("{zone} is not in vpc.azs{near}"));
        }
        Some(i) if i >= subnets.len() => source.error(&at, format!("vpc.{key} has no subnet in {zone}")),
        Some(_) => {}
    }
}

fn references(source: &mut Source, path: &KeyPath, app: &App, document: &Document) {
    let known = || document.elbs.iter().map(|e| e.name.as_str());
    let mut seen: Vec<&str> = Vec::new();
    let paths = app.elb.iter().map(|_| path.key("elb")).chain((0..app.elbs.len()).map(|i| path.key("elbs").index(i)));
    for (name, at) in app.balancers().zip(paths) {
        if !known().any(|k| k == name) {
            let near = text::nearest(name, known()).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            source.error(&at, format!("{} is not an elb of this document{near}", text::quoted(name)));
        } else if seen.contains(&name) {
            source.warn(&at, format!("{name} is named twice"));
        }
        seen.push(name);
    }
}

/// Keys that were read for Auto Scaling groups only, and still are.
fn scaled_only(source: &mut Source, path: &KeyPath, app: &App) {
    if app.autoscale.is_some() {
        return;
    }
    for (key, there) in [("intaddrs", !app.intaddrs.is_empty()), ("extports", !app.extports.is_empty())] {
        if there {
            source.warn(&path.key(key), "has no effect without autoscale");
        }
    }
}

fn addresses(source: &mut Source, document: &Document) {
    let mut seen: Vec<(Ipv4Addr, KeyPath)> = Vec::new();
    let mut once = |source: &mut Source, path: KeyPath, list: &[Ipv4Addr]| {
        for (i, address) in list.iter().enumerate() {
            let at = path.index(i);
            if let Some((_, other)) = seen.iter().find(|(a, _)| a == address) {
                source.error(&at, format!("{address} is also {other}"));
            }
            seen.push((*address, at));
        }
    };
    if let Some(nat) = &document.nat {
        once(source, KeyPath::of("nat").key("addrs"), &nat.addrs);
    }
    for (i, app) in document.apps.iter().enumerate() {
        let path = KeyPath::of("apps").index(i);
        once(source, path.key("addrs"), &app.addrs);
        once(source, path.key("intaddrs"), &app.intaddrs);
        let subnets = if app.public { &document.vpc.pubsubnets } else { &document.vpc.subnets };
        for (j, address) in app.intaddrs.iter().enumerate() {
            let at = path.key("intaddrs").index(j);
            let Some(net) = subnets.iter().find(|net| net.contains(address)) else {
                source.error(&at, format!("{address} is in no subnet of this app"));
                continue;
            };
            // The first four addresses of a subnet and the last are AWS's.
            let n = u32::from(*address) - u32::from(net.network());
            if n < 4 || *address == net.broadcast() {
                source.error(&at, format!("{address} is one of the five addresses that AWS keeps in {net}"));
            }
        }
        if let Some(count) = app.count.filter(|c| app.autoscale.is_none() && app.addrs.len() > *c as usize) {
            let what = format!(
                "{}, but only {}: the rest stays unused",
                text::count(app.addrs.len(), "address").replace("addresss", "addresses"),
                text::count(count as usize, "instance")
            );
            source.warn(&path.key("addrs"), what);
        }
    }
}
