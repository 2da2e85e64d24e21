//! This gateway's own keys: which one it signs with, what it announces, and when the next key takes over.
//!
//! The next key is used when every peer that is known by a key has accepted it. A peer says so by IKE itself: this
//! gateway initiates an IKE_SA without a child, signed with the next key, and it stands. That needs no room in a tag,
//! however many peers there are, names the peer and the key, and cannot be forged by who writes tags.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{Announcement, ProvenKey, PublicKey, Succession};

/// This gateway's own keys, with what it signs about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKeys {
    pub current: ProvenKey,
    /// During a rotation: the next key, as it will be announced alone, and beside the current one.
    pub next: Option<(ProvenKey, Succession)>,
}

impl OwnKeys {
    /// The key whose acceptance has to be proved.
    pub fn next_key(&self) -> Option<PublicKey> {
        self.next.map(|(next, _)| next.key)
    }
}

/// How this gateway presents itself to its peers from this pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// What it signs with.
    pub sign: PublicKey,
    /// What its tags should say.
    pub announce: Announcement,
    /// The next key takes the place of the current one.
    pub promote: bool,
    /// The next key, as long as peers have to accept it.
    pub next: Option<PublicKey>,
    /// The peers that have not accepted the next key.
    pub waiting: BTreeSet<String>,
}

/// `peers`: every peer that is known by a key, by name, and whether it has accepted the next key of this gateway.
pub fn present(own: &OwnKeys, peers: impl Iterator<Item = (String, bool)>) -> Presence {
    let Some((next, succession)) = own.next else {
        let announce = Announcement { key: own.current, next: None };
        return Presence { sign: own.current.key, announce, promote: false, next: None, waiting: BTreeSet::new() };
    };
    let waiting: BTreeSet<String> = peers.filter(|(_, accepts)| !accepts).map(|(name, _)| name).collect();
    let promote = waiting.is_empty();
    let (sign, announce) = match promote {
        true => (next.key, Announcement { key: next, next: None }),
        false => (own.current.key, Announcement { key: own.current, next: Some(succession) }),
    };
    Presence { sign, announce, promote, next: (!promote).then_some(next.key), waiting }
}
