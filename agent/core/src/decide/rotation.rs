//! This gateway's own keys: which one it signs with, what it announces, and when the next key takes over.
//!
//! The next key is used when every peer that is known by a key has accepted it. IKE itself shows that: this gateway initiates
//! an IKE_SA without a child, signed with the next key, and it stands. That takes no room in a tag, however many peers there
//! are, it names the peer and the key, and nobody can forge it by writing tags.

use std::{collections::BTreeSet, time::Duration};

use crate::model::{Announcement, InstanceId, OwnKeys, PublicKey, Timestamp};
use ring::digest::{SHA256, digest};

/// The keys that this gateway shows its peers from this pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The key that it signs with.
    pub sign: PublicKey,
    /// What its tags should say.
    pub announce: Announcement,
    /// Whether the next key takes the place of the current one.
    pub promote: bool,
    /// The next key, as long as peers have to accept it.
    pub next: Option<PublicKey>,
    /// The peers that have not accepted the next key, by VPC id.
    pub waiting: BTreeSet<String>,
}

/// Decides which keys to show. `peers` is every peer that is known by a key: its name, and whether it has accepted the next key
/// of this gateway.
pub(super) fn present(own: &OwnKeys, peers: impl Iterator<Item = (String, bool)>) -> Presence {
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

/// Whether a key that was `made` then is too old: older than `age`, less up to a tenth of it that depends on the instance, so
/// that a fleet that was launched together does not rotate at once.
pub fn is_old(made: Timestamp, now: Timestamp, age: Duration, instance: &InstanceId) -> bool {
    let hash = digest(&SHA256, instance.as_str().as_bytes());
    let spread = u32::from_be_bytes(std::array::from_fn(|i| hash.as_ref()[i]));
    let earlier = age.mul_f64(f64::from(spread) / f64::from(u32::MAX) / 10.0);
    u64::try_from(now.0 - made.0).is_ok_and(|old| old > (age - earlier).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleets_keys_grow_old_spread_over_a_tenth_of_their_age() {
        let day = |n: i64| Timestamp(n * 86_400);
        let age = Duration::from_secs(100 * 86_400);
        let id = |n: u32| format!("i-{n:08x}").parse::<InstanceId>().unwrap();
        let old = |hour: i64| (0..1000).filter(|n| is_old(day(0), Timestamp(hour * 3600), age, &id(*n))).count();
        assert_eq!((old(90 * 24), old(100 * 24 + 1)), (0, 1000));
        // Each of its 240 hours has its share: with whole percents there were ten days on which a hundred each rotated.
        let hours: Vec<usize> = (90 * 24..100 * 24).map(|hour| old(hour + 1) - old(hour)).collect();
        assert!(hours.iter().all(|n| *n < 20), "{hours:?}");
        // A clock that was set back makes no key old.
        assert!(!is_old(day(500), day(0), age, &id(1)));
    }
}
