//! The rules about security groups: ports, sources, and who shares a group.

use std::collections::BTreeMap;

use super::{Allow, Document, Ports, Protocol};
use crate::{problem::Source, text, tree::KeyPath};

pub(super) fn check(source: &mut Source, document: &Document) {
    let made = made(document);
    if let Some(nat) = &document.nat {
        ports(source, &KeyPath::of("nat").key("ports"), &nat.ports);
    }
    for (i, elb) in document.elbs.iter().enumerate() {
        let path = KeyPath::of("elbs").index(i);
        ports(source, &path.key("ports"), &elb.ports);
        allows(source, &path.key("allow"), &elb.allow, &made);
    }
    for (i, app) in document.apps.iter().enumerate() {
        let path = KeyPath::of("apps").index(i);
        for (key, list) in [("ports", &app.ports), ("pubports", &app.pubports), ("extports", &app.extports)] {
            ports(source, &path.key(key), list);
        }
        allows(source, &path.key("allow"), &app.allow, &made);
        allows(source, &path.key("egress"), app.egress.as_deref().unwrap_or_default(), &made);
    }
    for (i, rule) in document.vpc.default_rules.iter().flatten().enumerate() {
        let path = KeyPath::of("vpc").key("default_rules").index(i);
        range(source, &path, ["from_port", "to_port"], rule.from_port, rule.to_port, rule.ip_protocol);
    }
    shared_egress(source, document);
    open_ssh(source, document);
}

/// Every group that the document makes, with the path of its first mention.
fn made(document: &Document) -> BTreeMap<&str, KeyPath> {
    let mut made = BTreeMap::new();
    let mut put = |group, path| {
        made.entry(group).or_insert(path);
    };
    if let Some(nat) = &document.nat {
        put(nat.group.as_str(), KeyPath::of("nat").key("group"));
    }
    for (i, elb) in document.elbs.iter().enumerate() {
        put(&elb.group, KeyPath::of("elbs").index(i).key("group"));
    }
    for (i, app) in document.apps.iter().enumerate() {
        let path = KeyPath::of("apps").index(i);
        put(&app.group, path.key("group"));
        for (j, group) in app.groups.iter().enumerate() {
            put(group, path.key("groups").index(j));
        }
    }
    made
}

fn ports(source: &mut Source, path: &KeyPath, list: &[Ports]) {
    for (i, p) in list.iter().enumerate() {
        range(source, &path.index(i), ["from", "to"], p.from, p.to, p.prot);
    }
}

fn allows(source: &mut Source, path: &KeyPath, list: &[Allow], made: &BTreeMap<&str, KeyPath>) {
    for (i, rule) in list.iter().enumerate() {
        let path = path.index(i);
        range(source, &path, ["from", "to"], rule.from, rule.to, rule.prot);
        match (&rule.cidr, &rule.group) {
            (Some(_), Some(_)) => source.error(&path, "both cidr and group; keep one"),
            (None, None) => source.error(&path, "neither cidr nor group: the rule needs one of them"),
            (None, Some(group)) if !made.contains_key(group.as_str()) => {
                let near = text::nearest(group, made.keys().copied());
                let near = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
                let what = format!(
                    "{} is not a group of this document, so it must be in the VPC already{near}",
                    text::quoted(group)
                );
                source.warn(&path.key("group"), what);
            }
            _ => {}
        }
    }
}

/// TCP and UDP: ports in order. ICMP: a type and a code of one byte, or -1. All: anything, since nothing of it counts.
fn range(source: &mut Source, path: &KeyPath, keys: [&str; 2], from: i32, to: i32, protocol: Protocol) {
    match protocol {
        Protocol::All => {}
        Protocol::Icmp => {
            for (key, value) in keys.into_iter().zip([from, to]) {
                if value > 255 {
                    source
                        .error(&path.key(key), format!("expected an ICMP type or code from -1 to 255, found {value}"));
                }
            }
        }
        Protocol::Tcp | Protocol::Udp => {
            for (key, value) in keys.into_iter().zip([from, to]) {
                if value < 0 {
                    source.error(&path.key(key), format!("expected a port from 0 to 65535, found {value}"));
                }
            }
            if from > to {
                source.error(&path.key(keys[0]), format!("{from} is above {} {to}", keys[1]));
            }
        }
    }
}

/// `egress` of one app revokes what all that share the group may send.
fn shared_egress(source: &mut Source, document: &Document) {
    for (i, app) in document.apps.iter().enumerate().filter(|(_, a)| a.egress.is_some()) {
        let others =
            document.apps.iter().filter(|a| a.egress.is_none() && a.all_groups().contains(&app.group.as_str()));
        let mut sharing: Vec<&str> = others.map(|a| a.name.as_str()).collect();
        sharing.extend(document.nat.iter().filter(|n| n.group == app.group).map(|n| n.name.as_str()));
        sharing.extend(document.elbs.iter().filter(|e| e.group == app.group).map(|e| e.name.as_str()));
        if !sharing.is_empty() {
            let what = format!("also limits what {} may send, with the same group {}", text::list(sharing), app.group);
            source.warn(&KeyPath::of("apps").index(i).key("egress"), what);
        }
    }
}

/// One warning for all, since every document of 2014 has it.
fn open_ssh(source: &mut Source, document: &Document) {
    if document.vpc.default_rules.is_none() && !document.apps.is_empty() {
        let mut groups: Vec<&str> = document.apps.iter().map(|a| a.group.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        let what = format!(
            "SSH is open to the world in {}, the default of 2014; set vpc.default_rules to change that",
            text::list(groups)
        );
        source.warn(&KeyPath::of("vpc"), what);
    }
}
