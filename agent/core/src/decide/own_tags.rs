//! What this gateway's own tags should say, and what is wrong with what they do say.

use super::{rotation::Presence, trust::fingerprints};
use crate::{
    model::{Holder, KEY_TAG, KeyTags, OwnTags, PublicKey, Tagged},
    observed::Observed,
};

/// The tags that do not say what they should. Where EC2 could not be asked, all of them: what is announced is announced again.
pub fn announce(presence: Option<&Presence>, observed: &Observed) -> Vec<(&'static str, String)> {
    let nothing = OwnTags::default();
    let there = observed.tags.as_ref().and_then(|tags| tags.as_ref().ok()).unwrap_or(&nothing);
    presence.map(|p| p.announce.missing_from(there.key.as_deref(), there.next.as_deref())).unwrap_or_default()
}

/// What is wrong with a tag that this gateway cannot have written.
pub fn tampered(observed: &Observed) -> Option<String> {
    let (Some(Ok(tags)), Some(keys)) = (&observed.tags, &observed.own) else { return None };
    let instance = &observed.me.instance;
    let me = Holder { vpc: &observed.me.vpc, instance };
    let KeyTags { key, next } = KeyTags::of(tags.key.as_deref(), tags.next.as_deref());
    let own: Vec<PublicKey> = [keys.current.key].into_iter().chain(keys.next_key()).collect();
    // A next key that has taken over, and whose announcement failed, follows one that is gone from this disk.
    let before = |key: &PublicKey| next.read().is_some_and(|s| own.contains(&s.next) && s.follows(key, &me));
    let found = match key {
        Tagged::Absent => return None,
        Tagged::Read(said) if said.belongs_to(&me) && (own.contains(&said.key) || before(&said.key)) => return None,
        Tagged::Read(said) => format!("announces {}", fingerprints(&[said.key])),
        Tagged::Unreadable(bad) => format!("is unreadable ({bad})"),
    };
    Some(format!(
        "tag {KEY_TAG} of {instance} {found}, and this gateway's key is {}: unless its key file was removed, somebody else \
         wrote the tag; it is written anew",
        fingerprints(&own)
    ))
}
