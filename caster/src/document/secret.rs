//! Texts that are never printed, and what is printed in their place.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that no log, plan or report shows. Only apply reads it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Secret(text)
    }
    pub fn reveal(&self) -> &str {
        &self.0
    }
    pub fn digest(&self) -> Digest {
        let sum = ring::digest::digest(&ring::digest::SHA256, self.0.as_bytes());
        let hex: String = sum.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
        Digest(format!("{} bytes, sha256 {hex}...", self.0.len()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// Length and the first half of a SHA-256, enough to tell two texts apart: `12 bytes, sha256 9f86d081884c7d65...`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where user data comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserData {
    /// The document or a file beside it.
    Text(Secret),
    /// `ssm:NAME` or `secretsmanager:NAME`, whole. Asked for at each cast.
    Reference(String),
}

impl UserData {
    /// Of the key `userdata`.
    pub fn of(text: &Secret) -> Self {
        let reference = |prefix| text.0.strip_prefix(prefix).is_some_and(|name: &str| !name.is_empty());
        // A name has no spaces and no lines: a script that happens to begin like this is still a script.
        let word = text.0.len() <= 512 && text.0.bytes().all(|b| b.is_ascii_graphic());
        if word && (reference("ssm:") || reference("secretsmanager:")) {
            UserData::Reference(text.0.clone())
        } else {
            UserData::Text(text.clone())
        }
    }
}
