//! An Ed25519 signature in a tag or a beat, and the texts that gateways sign.
//!
//! Each text names its purpose, the VPC and the instance, so that a signature made for one gateway says nothing about
//! another. None of them can be mistaken for what IKE signs: there the peer chooses at most the first eight bytes, its SPI
//! (RFC 7296, section 2.15).

use std::fmt::{self, Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::{BadName, InstanceId, Mode, PublicKey, VpcId};

/// An Ed25519 signature. `Display` and `FromStr` are base64 without padding, 86 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; 64]);

impl Signature {
    /// Wraps the bytes of a signature (RFC 8032).
    pub const fn new(bytes: [u8; 64]) -> Self {
        Signature(bytes)
    }

    /// The bytes (RFC 8032).
    pub(crate) const fn bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Whether the holder of `key` has signed `text`.
    pub(crate) fn is_by(&self, key: &PublicKey, text: &str) -> bool {
        UnparsedPublicKey::new(&ED25519, key.bytes()).verify(text.as_bytes(), &self.0).is_ok()
    }
}

/// The gateway that a signed statement about a key names. `Display` is part of the signed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The gateway's VPC.
    pub vpc: &'a VpcId,
    /// The gateway's instance.
    pub instance: &'a InstanceId,
}

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.instance, self.vpc)
    }
}

/// The text that a key signs to prove that `holder` has it. That of a `nat-hub` says so: no tunnel can be made with such a key, and the
/// ends of tunnels have said nothing of their mode since 0.1.
pub(crate) fn possession(key: &PublicKey, mode: Mode, holder: &Holder<'_>) -> String {
    let whose = if mode.has_ipsec() { "" } else { "the nat-hub " };
    format!("crosswan: {key} is the key of {whose}{holder}")
}

/// The text that a key and its successor both sign: the first allows the change, the second proves that `holder` has it.
pub(crate) fn succession(key: &PublicKey, next: &PublicKey, holder: &Holder<'_>) -> String {
    format!("crosswan: {next} follows {key} as the key of {holder}")
}

/// The text that the key of `holder` signs when that member of a pair has left its place to `heir`.
pub(crate) fn makes_way(heir: &InstanceId, holder: &Holder<'_>) -> String {
    format!("crosswan: {holder} has made way for {heir}")
}

/// The text that the key of `holder` signs when that newcomer is to take the place of `member` in its pair.
pub(crate) fn takes_place(member: &InstanceId, holder: &Holder<'_>) -> String {
    format!("crosswan: {holder} is to take the place of {member}")
}

/// The text that a member of a pair signs with each beat: the beat's own bytes in hex, who sends it, and to whom.
pub(crate) fn beat(bytes: &[u8], from: &Holder<'_>, to: &InstanceId) -> String {
    format!("crosswan: the beat {} of {from} to {to}", hex(bytes))
}

/// The text that an end of a tunnel signs with each beat to the other end: the beat's own bytes in hex, and the IKE identities of both.
pub(crate) fn beat_in_tunnel(bytes: &[u8], from: &str, to: &str) -> String {
    format!("crosswan: the beat {} in the tunnel of {from} to {to}", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
        hex
    })
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD_NO_PAD.encode(self.0))
    }
}

impl std::str::FromStr for Signature {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bytes = STANDARD_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        let expected = "a signature of 86 characters of base64";
        bytes.map(Signature).ok_or_else(|| BadName { expected, found: text.to_owned() })
    }
}

as_text!(Signature, BadName);
