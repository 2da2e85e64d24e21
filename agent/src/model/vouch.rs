//! What makes a key the successor of another: the older one's signature, in the tag beside both.
//!
//! Whoever may write the tag could announce a key of his own as the next one; he cannot sign it.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::{BadName, PublicKey};

/// A key's signature of the key that is to follow it. `Display` and `FromStr`: base64 without padding, 86 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Vouch([u8; 64]);

/// A key that is to follow, and what its predecessor says to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    pub key: PublicKey,
    pub vouch: Vouch,
}

impl Vouch {
    pub const fn new(signature: [u8; 64]) -> Self {
        Vouch(signature)
    }

    /// What is signed. Nothing that IKE has signed reads so: there the peer chooses at most the first eight bytes, its
    /// SPI (RFC 7296, section 2.15).
    pub fn message(next: &PublicKey) -> Vec<u8> {
        format!("crosswan: the next key is {next}").into_bytes()
    }

    /// Whether the holder of `key` says that `next` is to follow.
    pub fn holds(&self, key: &PublicKey, next: &PublicKey) -> bool {
        UnparsedPublicKey::new(&ED25519, key.bytes()).verify(&Vouch::message(next), &self.0).is_ok()
    }
}

impl fmt::Display for Vouch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD_NO_PAD.encode(self.0))
    }
}

impl std::str::FromStr for Vouch {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bytes = STANDARD_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Vouch)
            .ok_or_else(|| BadName { expected: "a signature of 86 characters of base64", found: text.to_owned() })
    }
}

as_text!(Vouch, BadName);
