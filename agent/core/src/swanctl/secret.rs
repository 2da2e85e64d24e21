//! The `secrets` section: the pre-shared keys of a file, decoded as `load_secret` of load_creds.c decodes them.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Node, Tree, sections};
use crate::model::{Secret, printable};

/// A pre-shared key, as a `load-shared` message takes it. `Debug` does not show its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The decoded bytes.
    pub secret: Secret,
    /// The IKE identities it belongs to: the values of `id*`, in the order of their keys.
    pub owners: Vec<String>,
}

/// A secret that cannot be loaded. The error names the section, and shows nothing of the pre-shared key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secrets.{}: {what}", printable(id))]
pub struct BadSecret {
    /// The name of its section.
    pub id: String,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Every pre-shared key (`ike…`) of a parsed file by its section's name, which is its id in charon.
///
/// # Errors
/// A section is not an `ike` secret, or its value is missing, empty or badly encoded.
pub fn secrets(file: &Tree) -> Result<BTreeMap<String, Shared>, BadSecret> {
    sections(file, "secrets").map(|(id, section)| Ok((id.clone(), shared(id, section)?))).collect()
}

fn shared(id: &str, section: &Tree) -> Result<Shared, BadSecret> {
    let bad = |what| BadSecret { id: id.to_owned(), what };
    if !id.starts_with("ike") {
        return Err(bad("only ike secrets are supported"));
    }
    let value = match section.get("secret") {
        Some(Node::Value(value)) => value,
        _ => return Err(bad("secret is missing")),
    };
    let bytes = match value.as_bytes() {
        [b'0', b'x' | b'X', hex @ ..] => from_hex(hex).ok_or_else(|| bad("secret is not hexadecimal"))?,
        [b'0', b's' | b'S', base64 @ ..] => STANDARD.decode(base64).map_err(|_| bad("secret is not base64"))?,
        plain => plain.to_vec(),
    };
    if bytes.is_empty() {
        return Err(bad("secret is empty"));
    }
    let owner = |(key, node): (&String, &Node)| match node {
        Node::Value(v) if key.starts_with("id") => Some(v.clone()),
        _ => None,
    };
    Ok(Shared { secret: Secret::new(bytes), owners: section.iter().filter_map(owner).collect() })
}

fn from_hex(hex: &[u8]) -> Option<Vec<u8>> {
    let nibble = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let pair = |p: &[u8]| match *p {
        [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
        _ => None,
    };
    hex.chunks(2).map(pair).collect()
}
