//! strongSwan settings text: parsed into the tree that is compared and sent over VICI.
//!
//! It accepts the subset that the templates use and nothing more: as it refuses the rest (includes, references, duplicates), a
//! text never means one thing to crosswan and another to `swanctl`. The meaning follows strongSwan 5.9.8: `settings_lexer.l`
//! for the text, `swanctl/commands/load_{conns,creds}.c` for what becomes a VICI list and what becomes a secret.

mod parse;
mod secret;
mod splice;
mod summary;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use parse::{SyntaxError, parse};
pub use secret::{BadSecret, Shared, secrets};
pub use splice::{Replacement, splice};
pub use summary::{ChildSummary, Summary};

use crate::model::{Place, PublicKey};

/// A section's content by name. charon does not care about the order, and a name occurs only once.
pub type Tree = BTreeMap<String, Node>;

/// One setting, or a section of them. [`parse`] yields no `List`: only VICI messages have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// `name = value`, with quotes and escapes taken off.
    Value(String),
    /// A list of VICI, such as `remote_addrs`.
    List(Vec<String>),
    /// `name { … }`.
    Section(Tree),
}

/// The settings whose values are lists on the wire (`is_list_key` of load_conns.c).
const LIST_SETTINGS: [&str; 10] = [
    "local_addrs",
    "remote_addrs",
    "proposals",
    "esp_proposals",
    "ah_proposals",
    "local_ts",
    "remote_ts",
    "vips",
    "pools",
    "groups",
];

/// The setting of raw public keys. A file has `0s` and base64, VICI takes PEM.
const PUBKEYS: &str = "pubkeys";

/// A key of a file in the form that VICI takes. Text that is not an Ed25519 key is passed on unchanged, and charon refuses it.
fn pem(text: &str) -> String {
    let key = text.strip_prefix("0s").and_then(|base64| base64.parse::<PublicKey>().ok());
    key.map_or_else(|| text.to_owned(), |key| key.pem())
}

/// The raw public keys that a connection accepts from its peer. `conn` is one of [`connections`].
pub fn peer_keys(conn: &Tree) -> Vec<PublicKey> {
    pubkeys(conn, "remote")
}

/// The raw public keys with which this gateway signs for a connection.
pub(crate) fn own_keys(conn: &Tree) -> Vec<PublicKey> {
    pubkeys(conn, "local")
}

/// The place of a connection's children; `None` if it has none, or they have no interface of crosswan's.
pub fn place(conn: &Tree) -> Option<Place> {
    let if_id = |child: &Tree| match child.get("if_id_in") {
        Some(Node::Value(if_id)) => if_id.parse().ok(),
        _ => None,
    };
    sections(conn, "children").find_map(|(_, child)| Place::with_if_id(if_id(child)?))
}

fn pubkeys(conn: &Tree, side: &str) -> Vec<PublicKey> {
    let Some(Node::Section(side)) = conn.get(side) else { return Vec::new() };
    let Some(Node::List(keys)) = side.get(PUBKEYS) else { return Vec::new() };
    keys.iter().filter_map(|key| PublicKey::from_pem(key)).collect()
}

/// Every connection of a parsed file by its name, as the body of its `load-conn` message.
pub fn connections(mut file: Tree) -> BTreeMap<String, Tree> {
    let Some(Node::Section(connections)) = file.remove("connections") else { return BTreeMap::new() };
    let section = |(name, node)| match node {
        Node::Section(conn) => Some((name, with_lists(conn))),
        _ => None,
    };
    connections.into_iter().filter_map(section).collect()
}

/// The sections inside section `name` of `tree`. Values beside them are skipped, as swanctl skips them.
fn sections<'t>(tree: &'t Tree, name: &str) -> impl Iterator<Item = (&'t String, &'t Tree)> {
    let inner = match tree.get(name) {
        Some(Node::Section(inner)) => Some(inner),
        _ => None,
    };
    inner.into_iter().flatten().filter_map(|(name, node)| match node {
        Node::Section(section) => Some((name, section)),
        _ => None,
    })
}

fn with_lists(mut tree: Tree) -> Tree {
    for (key, node) in &mut tree {
        match node {
            Node::Value(v) if key.eq_ignore_ascii_case(PUBKEYS) => {
                *node = Node::List(split(v).iter().map(|k| pem(k)).collect());
            }
            Node::Value(v) if LIST_SETTINGS.iter().any(|k| k.eq_ignore_ascii_case(key)) => *node = Node::List(split(v)),
            Node::Section(inner) => *inner = with_lists(std::mem::take(inner)),
            Node::Value(_) | Node::List(_) => {}
        }
    }
    tree
}

fn split(value: &str) -> Vec<String> {
    value.split(',').map(|item| item.trim_matches(' ')).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
