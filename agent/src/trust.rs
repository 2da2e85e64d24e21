//! Which keys a peer is known by, and when this gateway's next key may be used. Half of `decide`, and as pure.
//!
//! EC2 is the directory: what an instance's tag announces counts. But a key that is known stays known: a tag that is gone
//! or unreadable takes no tunnel down, and the key of one and the same instance changes only by a rotation, in which the
//! old key and the new one are announced together, the new one signed by the old.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{Announcement, Gateway, KEY_TAG, KeyTag, Pin, PublicKey, Successor, VpcId};

/// What came of holding a peer's announcement against what was known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// `None`: it has no key that counts.
    pub pin: Option<Pin>,
    pub doubt: Option<Doubt>,
}

/// Why the announcement does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// There is none to read; the known key stays.
    Kept(String),
    /// It is not to be believed; the known key stays, if there is one.
    Refused(String),
}

/// A peer, as far as its keys are concerned.
pub struct Claim<'a> {
    pub gateway: &'a Gateway,
    /// The keys it was known by.
    pub before: Option<Pin>,
    /// The operator says that a key other than the known one is right.
    pub accept: bool,
}

/// Decides on every peer. A key that two VPCs announce belongs to the one known by it, or else launched first.
pub fn trust(claims: &BTreeMap<VpcId, Claim>) -> BTreeMap<VpcId, Trust> {
    let mut order: Vec<_> = claims.iter().collect();
    // Stable: of equals the first VPC comes first.
    order.sort_by_key(|(_, claim)| (claim.before.is_none(), claim.gateway.launched));
    let mut holders: BTreeMap<PublicKey, VpcId> = BTreeMap::new();
    for (vpc, claim) in &order {
        for key in claim.before.iter().flat_map(|pin| &pin.keys) {
            holders.entry(*key).or_insert_with(|| (*vpc).clone());
        }
    }
    let mut out = BTreeMap::new();
    for (vpc, claim) in order {
        let announced = claim.gateway.key.announced().map_or(&[][..], |a| &a.keys);
        let copied = announced.iter().find_map(|key| Some((key, holders.get(key).filter(|holder| *holder != vpc)?)));
        let trust = match copied {
            Some((key, holder)) => {
                let why = format!("its key {} is that of {holder}", key.fingerprint());
                Trust { pin: claim.before.clone(), doubt: Some(Doubt::Refused(why)) }
            }
            None => one(claim),
        };
        for key in trust.pin.iter().flat_map(|pin| &pin.keys) {
            holders.entry(*key).or_insert_with(|| vpc.clone());
        }
        out.insert(vpc.clone(), trust);
    }
    out
}

fn one(claim: &Claim) -> Trust {
    let Claim { gateway, before, accept } = claim;
    let announced = match (&gateway.key, before) {
        (KeyTag::Announced(announced), _) => announced,
        (KeyTag::Absent, None) => return Trust::default(),
        (KeyTag::Absent, Some(_)) => {
            let why = format!("{} announces no key (tag {KEY_TAG}); the known one stays", gateway.instance);
            return Trust { pin: before.clone(), doubt: Some(Doubt::Kept(why)) };
        }
        (KeyTag::Unreadable(what), _) => {
            let why = format!("tag {KEY_TAG} of {}: {what}", gateway.instance);
            let doubt = if before.is_some() { Doubt::Kept(why + "; the known key stays") } else { Doubt::Refused(why) };
            return Trust { pin: before.clone(), doubt: Some(doubt) };
        }
    };
    let same_instance = |pin: &Pin| pin.instance.as_ref() == Some(&gateway.instance);
    let stranger = |pin: &&Pin| same_instance(pin) && !pin.keys.contains(&announced.keys[0]);
    if let Some(pin) = before.as_ref().filter(stranger).filter(|_| !accept) {
        let doubt = Doubt::Refused(format!(
            "{} announces the key {}, and is known by {}, which stays; if the new one is right: crosswan refresh \
             --accept-key {}",
            gateway.instance,
            fingerprints(&announced.keys),
            fingerprints(&pin.keys),
            gateway.vpc
        ));
        return Trust { pin: Some(pin.clone()), doubt: Some(doubt) };
    }
    if let Some(forged) = announced.forged() {
        let known = before.as_ref().map_or(&announced.keys[..1], |pin| &pin.keys);
        let (instance, forged, known) = (&gateway.instance, forged.fingerprint(), fingerprints(known));
        let why = format!("{instance} announces the key {forged} to follow, which {known} has not signed");
        return Trust { pin: before.clone(), doubt: Some(Doubt::Refused(why)) };
    }
    let pin = Pin { instance: Some(gateway.instance.clone()), keys: announced.keys.clone() };
    Trust { pin: Some(pin), doubt: None }
}

/// The hub's keys as a spoke's settings name them: nothing EC2 says counts more, but it is told if it differs.
pub fn named(keys: &[PublicKey], gateway: Option<&Gateway>) -> Trust {
    let pin = Pin { instance: None, keys: keys.to_vec() };
    let announced = gateway.and_then(|g| Some((g, g.key.announced()?)));
    let other = announced.filter(|(_, announced)| !announced.keys.iter().any(|key| keys.contains(key)));
    let doubt = other.map(|(gateway, announced)| {
        let (found, named) = (fingerprints(&announced.keys), fingerprints(keys));
        Doubt::Refused(format!(
            "{} announces the key {found}, and auth.hub_key is {named}, which stays",
            gateway.instance
        ))
    });
    Trust { pin: Some(pin), doubt }
}

pub fn fingerprints(keys: &[PublicKey]) -> String {
    keys.iter().map(PublicKey::fingerprint).collect::<Vec<_>>().join(" and ")
}

/// This gateway's own keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnKeys {
    pub current: PublicKey,
    /// During a rotation.
    pub next: Option<Successor>,
}

/// How this gateway shows itself to its peers from this pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Showing {
    /// What it signs with.
    pub sign: PublicKey,
    /// What its tag should say.
    pub announce: Announcement,
    /// The next key takes the place of the current one.
    pub promote: bool,
    /// The peers that have not seen the next key.
    pub waiting: BTreeSet<VpcId>,
}

/// The rotation: the next key is used when every peer that is known by a key says that it accepts it, and there is none
/// that could not be asked (`silent`). A peer's own next key is acknowledged as long as it announces two.
pub fn show<'a>(own: OwnKeys, peers: impl Iterator<Item = (&'a VpcId, &'a Gateway, &'a Pin)>, silent: bool) -> Showing {
    let (mut seen, mut waiting) = (BTreeSet::new(), BTreeSet::new());
    for (vpc, gateway, pin) in peers {
        let announced = gateway.key.announced();
        let believed = announced.filter(|a| a.keys.iter().all(|key| pin.keys.contains(key)));
        let next = believed.and_then(|a| a.keys.get(1));
        seen.extend(next.map(PublicKey::short));
        if own.next.is_some_and(|next| !announced.is_some_and(|a| a.has_seen(&next.key))) {
            waiting.insert(vpc.clone());
        }
    }
    let promote = own.next.is_some() && waiting.is_empty() && !silent;
    let (sign, next) = match own.next {
        Some(next) if promote => (next.key, None),
        next => (own.current, next),
    };
    Showing { sign, announce: Announcement::new(sign, next, seen), promote, waiting }
}

#[cfg(test)]
mod tests;
