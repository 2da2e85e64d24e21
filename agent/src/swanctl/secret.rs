//! The `secrets` section: which shared keys a file holds, decoded as `load_secret` of load_creds.c does.

use std::collections::BTreeMap;

use super::{Node, Tree, sections};
use crate::model::{Secret, printable};

/// One `load-shared` message. The key's bytes show in no `Debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    pub secret: Secret,
    /// The IKE identities it belongs to: the values of `id*`, in the order of their keys.
    pub owners: Vec<String>,
}

/// A secret that cannot be loaded. Names the section, never the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secrets.{}: {what}", printable(id))]
pub struct BadSecret {
    pub id: String,
    pub what: &'static str,
}

/// Every pre-shared key (`ike…`) of a parsed file, by its section's name, which is its id in charon.
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
        [b'0', b's' | b'S', base64 @ ..] => from_base64(base64).ok_or_else(|| bad("secret is not base64"))?,
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

/// RFC 4648 with padding. charon is lax and skips what it does not know; a key must not depend on that.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &b in group {
            bits = bits << 6 | u32::from(digit(b)?);
        }
        bits <<= 6 * (4 - group.len());
        let bytes = bits.to_be_bytes();
        let used = group.len() - 1;
        if bytes[1 + used..].iter().any(|&b| b != 0) {
            return None; // stray bits: not what an encoder writes
        }
        out.extend_from_slice(&bytes[1..1 + used]);
    }
    Some(out)
}
