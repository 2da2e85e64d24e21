//! The rules about load balancers: what AWS's kinds of today can do of what the document asks.

use std::ops::RangeInclusive;

use super::{BalancerKind, Document, Elb, HealthProtocol};
use crate::{names::Names, problem::Source, tree::KeyPath};

/// Names of load balancers and target groups.
const LONGEST: usize = 32;

pub(super) fn check(source: &mut Source, document: &Document) {
    let names = Names::of(document);
    for (i, elb) in document.elbs.iter().enumerate() {
        let path = KeyPath::of("elbs").index(i);
        name(source, &path, elb, &names);
        listeners(source, &path, elb);
        attributes(source, &path, elb);
        health(source, &path, elb);
        place(source, &path, elb, document);
    }
}

fn name(source: &mut Source, path: &KeyPath, elb: &Elb, names: &Names) {
    let path = path.key("name");
    let full = names.full(&elb.name);
    let groups = elb.listeners.iter().map(|l| names.target_group(&elb.name, l.to));
    // The longest name that comes of it is the one to shorten.
    let longest = groups.filter(|_| elb.kind() != BalancerKind::Classic).chain([full.clone()]).max_by_key(String::len);
    if let Some(longest) = longest.filter(|l| l.len() > LONGEST) {
        source.error(&path, format!("the name {longest} has {} characters; AWS allows {LONGEST}", longest.len()));
    }
    if full.starts_with("internal-") {
        source.error(&path, format!("the name {full} begins with internal-, which AWS reserves"));
    }
}

fn listeners(source: &mut Source, path: &KeyPath, elb: &Elb) {
    let path = path.key("listeners");
    if elb.listeners.is_empty() {
        source.error(&path, "empty: a load balancer needs a listener");
    }
    let kind = elb.kind();
    for (i, l) in elb.listeners.iter().enumerate() {
        let at = path.index(i);
        if elb.listeners[..i].iter().any(|other| other.from == l.from) {
            source.error(&at.key("from"), format!("{} has another listener already", l.from));
        }
        let earlier = elb.listeners[..i].iter().find(|other| other.to == l.to && other.to_prot != l.to_prot);
        if kind != BalancerKind::Classic && earlier.is_some() {
            source.error(
                &at.key("to_prot"),
                format!("another listener sends another protocol to {}: a target group has one", l.to),
            );
        }
        if l.from_prot.is_web() != l.to_prot.is_web() {
            source.error(&at.key("to_prot"), "http and https go to http or https, tcp and ssl to tcp or ssl");
        }
        match kind {
            BalancerKind::Application if !l.from_prot.is_web() => {
                source.error(
                    &at.key("from_prot"),
                    "an application load balancer has http and https only; put tcp and ssl into another elb",
                );
            }
            BalancerKind::Network if l.from_prot.is_web() => {
                source.error(
                    &at.key("from_prot"),
                    "a network load balancer has tcp and ssl only; put http and https into another elb",
                );
            }
            _ => {}
        }
        match (&l.cert, l.from_prot.is_encrypted()) {
            (None, true) => source.error(&at.key("cert"), "missing: https and ssl need a certificate"),
            (Some(_), false) => source.warn(&at.key("cert"), "not used: only https and ssl have a certificate"),
            _ => {}
        }
    }
}

fn attributes(source: &mut Source, path: &KeyPath, elb: &Elb) {
    let kind = elb.kind();
    let bounds: RangeInclusive<u16> = match kind {
        BalancerKind::Application | BalancerKind::Classic => 1..=4000,
        BalancerKind::Network => 60..=6000,
    };
    if let Some(idle) = elb.idle_timeout {
        let at = path.key("idle_timeout");
        if !bounds.contains(&idle) {
            let (low, high) = bounds.into_inner();
            source.error(&at, format!("expected {low} to {high} seconds for this kind of load balancer, found {idle}"));
        }
        if kind == BalancerKind::Network && elb.listeners.iter().any(|l| l.from_prot.is_encrypted()) {
            source.warn(&at, "has no effect on ssl listeners: AWS fixes theirs at 350 seconds");
        }
    }
    if elb.nocrossaz && kind == BalancerKind::Application {
        source.warn(&path.key("nocrossaz"), "has no effect: an application load balancer always balances across zones");
    }
}

fn health(source: &mut Source, path: &KeyPath, elb: &Elb) {
    let at = path.key("target");
    let plain = matches!(elb.target.protocol, HealthProtocol::Tcp | HealthProtocol::Ssl);
    match elb.kind() {
        BalancerKind::Application if plain => {
            let http = if elb.target.protocol == HealthProtocol::Tcp { "HTTP" } else { "HTTPS" };
            source.warn(
                &at,
                format!(
                    "becomes {http}:{}/: an application load balancer checks with HTTP or HTTPS only",
                    elb.target.port
                ),
            );
        }
        BalancerKind::Network if elb.target.protocol == HealthProtocol::Ssl => {
            source.warn(&at, format!("becomes TCP:{}: a network load balancer has no TLS check", elb.target.port));
        }
        _ => {}
    }
}

fn place(source: &mut Source, path: &KeyPath, elb: &Elb, document: &Document) {
    let vpc = &document.vpc;
    let inside = elb.internal && !vpc.subnets.is_empty();
    let (key, subnets) = if inside { ("vpc.subnets", &vpc.subnets) } else { ("vpc.pubsubnets", &vpc.pubsubnets) };
    let wanted = if elb.kind() == BalancerKind::Application { 2 } else { 1 };
    if subnets.len() < wanted {
        let remedy = if wanted == 2 { ", or \"type\": \"classic\"" } else { "" };
        let what = format!("needs subnets in {wanted} zones{remedy}; {key} has {}", subnets.len());
        source.error(&path.key("name"), what);
    }
    if inside {
        source.warn(
            &path.key("internal"),
            "a new internal load balancer is placed in the private subnets; in 2014 it was in the public ones",
        );
    }
}
