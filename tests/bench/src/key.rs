//! The Ed25519 public key of each gateway, by number: a real one, since charon and the agent read it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// What precedes the 32 bytes of a public key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The same in every run, so that runs compare; nobody guards these.
fn seed(n: usize) -> [u8; 32] {
    let mut seed = [0x5e; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    seed
}

/// The public half of gateway `n`, as its tag has it: SPKI in base64.
pub fn public(n: usize) -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed(n)).expect("32 bytes are a seed");
    STANDARD.encode([&SPKI[..], pair.public_key().as_ref()].concat())
}
