//! The Ed25519 key of each gateway, by number: a real one, since charon and the agent read it.

use crosswan_core::model::PrivateKey;
use crosswan_core::model::{Holder, InstanceId, Timestamp, VpcId};

use crate::xml::{instance_id, vpc_id};

/// The same in every run, so that runs compare; nobody guards these.
fn seed(n: usize) -> [u8; 32] {
    let mut seed = [0x5e; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    seed
}

/// What gateway `n` announces in its tag: its public key, signed by itself.
pub fn announced(n: usize) -> String {
    let instance: InstanceId = instance_id(n).parse().expect("17 hex digits are an id");
    let vpc: VpcId = vpc_id(n).parse().expect("17 hex digits are an id");
    let key = PrivateKey::from_seed(&seed(n), &instance, Timestamp(0));
    let proven = key.and_then(|key| key.proven(&Holder { vpc: &vpc, instance: &instance }));
    proven.expect("32 bytes are a seed").to_string()
}
