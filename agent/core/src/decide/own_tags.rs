//! What this gateway's own tags should say, and what is wrong with those that EC2 shows.

use super::{rotation::Presence, trust::fingerprints};
use crate::{
    model::{Holder, KEY_TAG, KeyTags, OwnTags, PublicKey, Tagged},
    observed::Observed,
};

/// The tags that do not say what they should, with the values that they should have. If EC2 could not be asked, that is all of
/// them: they are written again.
pub(super) fn announce(presence: Option<&Presence>, observed: &Observed) -> Vec<(&'static str, String)> {
    let nothing = OwnTags::default();
    let there = observed.tags.as_ref().and_then(|tags| tags.as_ref().ok()).unwrap_or(&nothing);
    presence.map(|p| p.announce.missing_from(there.key.as_deref(), there.next.as_deref())).unwrap_or_default()
}

/// A note about a key tag that this gateway cannot have written, if there is one.
pub(super) fn tampered(observed: &Observed) -> Option<String> {
    let (Some(Ok(tags)), Some(keys)) = (&observed.tags, &observed.own) else { return None };
    let instance = &observed.me.instance;
    let me = Holder { vpc: &observed.me.vpc, instance };
    let KeyTags { key, next } = KeyTags::of(tags.key.as_deref(), tags.next.as_deref());
    let own: Vec<PublicKey> = [keys.current.key].into_iter().chain(keys.next_key()).collect();
    // After a next key has taken over and its announcement has failed, it follows a key that is gone from this disk.
    let before = |key: &PublicKey| next.read().is_some_and(|s| own.contains(&s.next) && s.follows(key, &me));
    let found = match key {
        Tagged::Absent => return None,
        Tagged::Read(shown) if shown.belongs_to(&me) && (own.contains(&shown.key) || before(&shown.key)) => {
            return None;
        }
        Tagged::Read(shown) => format!("announces {}", fingerprints(&[shown.key])),
        Tagged::Unreadable(bad) => format!("is unreadable ({bad})"),
    };
    Some(format!(
        "tag {KEY_TAG} of {instance} {found}, but this gateway's key is {}: unless its key file was removed, somebody else \
         wrote the tag; it is replaced",
        fingerprints(&own)
    ))
}
