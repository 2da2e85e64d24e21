//! This gateway's own keys, in the form in which it announces them.

use serde::{Deserialize, Serialize};

use super::{Holder, Keyring, Mode, PrivateKey, ProvenKey, PublicKey, Succession};

/// This gateway's own keys with their signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKeys {
    /// The key that this gateway signs with until the next one takes over.
    pub current: ProvenKey,
    /// During a rotation the next key, in both forms: as it will be announced once it is the only one, and as it is announced
    /// beside the current one.
    pub next: Option<(ProvenKey, Succession)>,
}

impl OwnKeys {
    /// Signs the keys of a ring for `holder`, which is in this mode. `None` if the text of a key cannot be read.
    pub fn of(ring: &Keyring, mode: Mode, holder: &Holder<'_>) -> Option<OwnKeys> {
        let next = |next: &PrivateKey| Some((next.proven_in(mode, holder)?, ring.current.succeeded_by(next, holder)?));
        Some(OwnKeys { current: ring.current.proven_in(mode, holder)?, next: ring.next.as_ref().and_then(next) })
    }

    /// The key whose acceptance has to be proved.
    pub fn next_key(&self) -> Option<PublicKey> {
        self.next.map(|(next, _)| next.key)
    }
}
