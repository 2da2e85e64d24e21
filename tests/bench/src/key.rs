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
    let (instance, vpc) = ids(n);
    let proven = private(n).proven(&Holder { vpc: &vpc, instance: &instance });
    proven.expect("32 bytes are a seed").to_string()
}

/// Its key.
pub fn private(n: usize) -> PrivateKey {
    PrivateKey::from_seed(&seed(n), &ids(n).0, Timestamp(0)).expect("32 bytes are a seed")
}

/// Its instance and VPC.
pub fn ids(n: usize) -> (InstanceId, VpcId) {
    let id = "17 hex digits are an id";
    (instance_id(n).parse().expect(id), vpc_id(n).parse().expect(id))
}
