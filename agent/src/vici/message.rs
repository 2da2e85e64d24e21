//! VICI messages as settings trees, and the one message that carries bytes.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crosswan_core::{
    model::Secret,
    swanctl::{Node, Shared, Tree},
};

/// `load-shared`: its key is bytes, which a [`Tree`] cannot hold.
#[derive(Serialize)]
pub struct LoadShared<'a> {
    id: &'a str,
    r#type: &'static str,
    data: Bytes<'a>,
    owners: &'a [String],
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(self.0)
    }
}

/// `load-key`: a private key, of whatever type its text says.
#[derive(Serialize)]
pub struct LoadKey<'a> {
    r#type: &'static str,
    data: Bytes<'a>,
}

impl<'a> LoadKey<'a> {
    pub fn new(text: &'a Secret) -> Self {
        LoadKey { r#type: "any", data: Bytes(text.bytes()) }
    }
}

impl<'a> LoadShared<'a> {
    pub fn new(id: &'a str, shared: &'a Shared) -> Self {
        LoadShared { id, r#type: "IKE", data: Bytes(shared.secret.bytes()), owners: &shared.owners }
    }
}

/// A flat message.
pub fn of<const N: usize>(pairs: [(&str, &str); N]) -> Tree {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), Node::Value(v.to_owned()))).collect()
}

pub fn text<'t>(tree: &'t Tree, key: &str) -> Option<&'t str> {
    match tree.get(key) {
        Some(Node::Value(v)) => Some(v),
        _ => None,
    }
}

pub fn number<N: std::str::FromStr>(tree: &Tree, key: &str) -> Option<N> {
    text(tree, key)?.parse().ok()
}

pub fn list(tree: &Tree, key: &str) -> Vec<String> {
    match tree.get(key) {
        Some(Node::List(items)) => items.clone(),
        _ => Vec::new(),
    }
}

pub fn section<'t>(tree: &'t Tree, key: &str) -> Option<&'t Tree> {
    match tree.get(key) {
        Some(Node::Section(s)) => Some(s),
        _ => None,
    }
}

pub fn sections(tree: &Tree) -> impl Iterator<Item = (&String, &Tree)> {
    tree.iter().filter_map(|(name, node)| match node {
        Node::Section(s) => Some((name, s)),
        _ => None,
    })
}

/// charon's `%V`: "24 seconds", "3 minutes", …; one unit, rounded down.
pub fn ago(text: &str) -> Option<Duration> {
    let (count, unit) = text.split_once(' ')?;
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}
