//! Raw public keys.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use serde::{Deserialize, Serialize};

use super::BadName;

/// What precedes the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Bytes of the digest that name a key within an identity: enough to tell the keys of one gateway apart.
const SHORT: usize = 6;

/// An Ed25519 public key (RFC 8032). `Display` and `FromStr` are what a tag and a file hold: its SPKI in base64, 60
/// characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Wraps the 32 bytes of a public key (RFC 8032, section 5.1.5). They are not checked.
    pub const fn new(bytes: [u8; 32]) -> Self {
        PublicKey(bytes)
    }

    /// The 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The SubjectPublicKeyInfo in DER.
    fn spki(&self) -> Vec<u8> {
        [&SPKI[..], &self.0].concat()
    }

    /// The text that an operator compares: `SHA256:` and the base64 of the SPKI's digest, as
    /// `openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64` prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD.encode(digest(&SHA256, &self.spki())))
    }

    /// The first 48 bits of the fingerprint's digest in hex, 12 characters, which name the key within an IKE identity.
    pub fn short(&self) -> String {
        hex(&digest(&SHA256, &self.spki()).as_ref()[..SHORT])
    }

    /// The id by which charon lists the matching private key: the SHA-1 of the key's bytes, in hex
    /// (KEYID_PUBKEY_SHA1 in libstrongswan).
    pub fn charon_id(&self) -> String {
        hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.0).as_ref())
    }

    /// The key in PEM, which is how VICI takes it as text.
    pub fn pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{self}\n-----END PUBLIC KEY-----\n")
    }

    /// Reads the text of [`PublicKey::pem`]; `None` for anything else.
    pub(crate) fn from_pem(pem: &str) -> Option<Self> {
        pem.strip_prefix("-----BEGIN PUBLIC KEY-----\n")?.strip_suffix("\n-----END PUBLIC KEY-----\n")?.parse().ok()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.spki()))
    }
}

impl FromStr for PublicKey {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let key = STANDARD.decode(text).ok().and_then(|der| der.strip_prefix(&SPKI)?.try_into().ok());
        let expected = "an Ed25519 public key (SPKI in base64, 60 characters)";
        key.map(PublicKey).ok_or_else(|| BadName { expected, found: text.to_owned() })
    }
}

as_text!(PublicKey, BadName);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> PublicKey {
        PublicKey::new([n; 32])
    }

    #[test]
    fn a_key_is_what_openssl_says_it_is() {
        // openssl genpkey -algorithm ed25519 | openssl pkey -pubout -outform DER | base64, and its digest.
        let text = "MCowBQYDK2VwAyEAAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        assert_eq!((key(1).to_string().as_str(), text.len()), (text, 60));
        assert_eq!(text.parse(), Ok(key(1)));
        assert_eq!(PublicKey::from_pem(&key(1).pem()), Some(key(1)));
        assert_eq!(key(1).short().len(), 12);
        let rsa = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK";
        for bad in ["", "x", rsa, &text[..59], &format!("{text} "), &text.replace('=', "")] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }
}
