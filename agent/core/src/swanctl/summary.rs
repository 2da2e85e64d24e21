//! The part of a connection that charon gives back, and which is compared when it is read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{Node, Tree, sections, split};

/// What both a connection's text and `list-conns` say about it, normalised so that two that mean the same are `==`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Addresses, or `%any`.
    pub local_addrs: BTreeSet<String>,
    /// Addresses, or `%any`.
    pub remote_addrs: BTreeSet<String>,
    /// `None`: any identity.
    pub local_id: Option<String>,
    /// `None`: any identity.
    pub remote_id: Option<String>,
    /// How this end proves who it is: `pubkey` or `psk`.
    pub local_auth: String,
    /// As `local_auth`.
    pub remote_auth: String,
    /// The children by name.
    pub children: BTreeMap<String, ChildSummary>,
}

/// A child of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSummary {
    /// CIDRs, without those inside another one, which charon drops; `dynamic` if there are none.
    pub local_ts: BTreeSet<String>,
    /// As `local_ts`.
    pub remote_ts: BTreeSet<String>,
    /// `tunnel`, `pass`, …
    pub mode: String,
}

impl Summary {
    /// Summarises the body of a connection: one of [`super::connections`], or one of `list-conns`. A text has `local` and
    /// `local_ts` where list-conns has `local-1` and `local-ts`; both are understood.
    pub fn of(conn: &Tree) -> Summary {
        let child = |(name, child): (&String, &Tree)| {
            let mode = strings(child, "mode").into_iter().next().unwrap_or_else(|| "tunnel".into());
            let ts = |side| selectors(strings(child, side).into_iter().chain(strings(child, &side.replace('_', "-"))));
            (
                name.clone(),
                ChildSummary { local_ts: ts("local_ts"), remote_ts: ts("remote_ts"), mode: mode.to_lowercase() },
            )
        };
        Summary {
            local_addrs: addrs(conn, "local_addrs"),
            remote_addrs: addrs(conn, "remote_addrs"),
            local_id: id(conn, "local"),
            remote_id: id(conn, "remote"),
            local_auth: auth(conn, "local"),
            remote_auth: auth(conn, "remote"),
            children: sections(conn, "children").map(child).collect(),
        }
    }
}

fn strings(tree: &Tree, key: &str) -> Vec<String> {
    match tree.get(key) {
        Some(Node::Value(v)) => split(v),
        Some(Node::List(items)) => items.clone(),
        _ => Vec::new(),
    }
}

fn addrs(conn: &Tree, key: &str) -> BTreeSet<String> {
    let addrs: BTreeSet<String> = strings(conn, key).into_iter().collect();
    if addrs.is_empty() { BTreeSet::from(["%any".into()]) } else { addrs }
}

/// The first authentication round of one side.
fn round<'t>(conn: &'t Tree, side: &str) -> Option<&'t Tree> {
    conn.iter().find_map(|(name, node)| match node {
        Node::Section(auth) if name.starts_with(side) => Some(auth),
        _ => None,
    })
}

fn id(conn: &Tree, side: &str) -> Option<String> {
    match round(conn, side)?.get("id") {
        Some(Node::Value(id)) if id != "%any" => Some(id.clone()),
        _ => None,
    }
}

/// A text has `auth`, list-conns has `class` in words. Where neither is set, charon uses public keys.
fn auth(conn: &Tree, side: &str) -> String {
    let round = round(conn, side);
    let value = |key| match round?.get(key) {
        Some(Node::Value(v)) => Some(v.as_str()),
        _ => None,
    };
    match value("auth").or(value("class")) {
        None | Some("public key") => "pubkey",
        Some("pre-shared key") => "psk",
        Some(other) => other,
    }
    .to_owned()
}

fn selectors(ts: impl Iterator<Item = String>) -> BTreeSet<String> {
    let net = |s: &str| s.parse::<Ipv4Net>().or_else(|_| s.parse::<Ipv4Addr>().map(Ipv4Net::from)).ok();
    let canonical = |s: String| match net(&s).map(|n| n.trunc()) {
        Some(n) => (n.to_string(), Some(n)),
        None => (s, None),
    };
    let all: BTreeMap<String, Option<Ipv4Net>> = ts.map(canonical).collect();
    let nets: Vec<Ipv4Net> = all.values().flatten().copied().collect();
    let inside_another = |n: &Ipv4Net| nets.iter().any(|o| o != n && o.contains(n));
    let kept = all.into_iter().filter(|(_, net)| !net.as_ref().is_some_and(inside_another));
    let kept: BTreeSet<String> = kept.map(|(selector, _)| selector).collect();
    if kept.is_empty() { BTreeSet::from(["dynamic".into()]) } else { kept }
}
