//! This gateway's own keys, as it shows them to others.

use serde::{Deserialize, Serialize};

use super::{Holder, Keyring, PrivateKey, ProvenKey, PublicKey, Succession};

/// This gateway's own keys, with what it signs about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKeys {
    pub current: ProvenKey,
    /// During a rotation: the next key, as it will be announced alone, and beside the current one.
    pub next: Option<(ProvenKey, Succession)>,
}

impl OwnKeys {
    /// What `holder` signs about the keys of this ring; `None` if a key's text is not one.
    pub fn of(ring: &Keyring, holder: &Holder<'_>) -> Option<OwnKeys> {
        let next = |next: &PrivateKey| Some((next.proven(holder)?, ring.current.succeeded_by(next, holder)?));
        Some(OwnKeys { current: ring.current.proven(holder)?, next: ring.next.as_ref().and_then(next) })
    }

    /// The key whose acceptance has to be proved.
    pub fn next_key(&self) -> Option<PublicKey> {
        self.next.map(|(next, _)| next.key)
    }
}
