//! Which keys each gateway is known by.
//!
//! EC2 is the directory, and its tags are only as trustworthy as everyone who may write them. So a key counts for a gateway
//! only if its holder has signed that VPC and that instance with it. A key that is known stays known: a tag that is gone,
//! unreadable or older takes no tunnel down, and an instance changes its key only by a rotation that the known key has signed.
//! An accepted next key stays accepted even while a read does not show it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Gateway, InstanceId, KEY_TAG, Mode, NEXT_KEY_TAG, ProvenKey, PublicKey, Succession, Tagged};

/// The judgement of a gateway's announcement, given the keys that it was known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The keys that it may sign with: its key, and during a rotation the next one. Empty if it has no key that counts.
    pub keys: Vec<PublicKey>,
    /// Set if the announcement, or a part of it, does not count.
    pub objection: Option<Objection>,
}

/// Why the announcement, or part of it, does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// It is missing or cannot be read, and the known key stays. The text is for the report.
    Kept(String),
    /// It must not be believed, and the known key stays if there is one. The text is for the report.
    Refused(String),
}

/// What has to be known to judge one gateway's announcement.
pub struct Case<'a> {
    /// The gateway as EC2 shows it, with its key tags.
    pub gateway: &'a Gateway,
    /// The keys that it was known by.
    pub known: &'a [PublicKey],
    /// The fingerprint of the key that the operator has accepted for this VPC.
    pub accept: Option<&'a str>,
}

/// Judges the announcement of every gateway. Two that prove to hold the same key share a private key, by a theft or a copy: one
/// that was known by it, or that the operator has accepted, keeps it. A newcomer to the key is refused, and if both are
/// newcomers, both are.
pub fn trust(cases: &BTreeMap<InstanceId, Case>) -> BTreeMap<InstanceId, Trust> {
    let mut out: BTreeMap<InstanceId, Trust> =
        cases.iter().map(|(instance, case)| (instance.clone(), judge(case))).collect();
    // The gateways that prove to hold each key, whether that counts or not.
    let mut holders: BTreeMap<PublicKey, BTreeSet<&InstanceId>> = BTreeMap::new();
    for (instance, case) in cases {
        let refused = refused_though_proven(case, &out[instance]);
        let keys = out[instance].keys.iter().copied().chain(refused);
        for key in keys {
            holders.entry(key).or_default().insert(instance);
        }
    }
    for (key, instances) in holders.iter().filter(|(_, instances)| instances.len() > 1) {
        for instance in instances {
            let case = &cases[*instance];
            if !case.known.contains(key) && !accepted(case, key) {
                let others = instances.iter().filter(|other| *other != instance).map(|other| cases[*other].gateway);
                let trust = without(case, &out[*instance], key, others);
                out.insert((*instance).clone(), trust);
            }
        }
    }
    out
}

/// The key that a gateway announces and proves to hold, if it does not count.
fn refused_though_proven(case: &Case, trust: &Trust) -> Option<PublicKey> {
    let proven = case.gateway.tags.key.read().filter(|proven| !trust.keys.contains(&proven.key))?;
    proven.belongs_to(&case.gateway.holder()).then_some(proven.key)
}

/// The gateway's judgement once a key that others also hold has been refused.
fn without<'a>(case: &Case, was: &Trust, key: &PublicKey, others: impl Iterator<Item = &'a Gateway>) -> Trust {
    let others: Vec<String> = others.map(|g| g.holder().to_string()).collect();
    let objection = Objection::Refused(format!(
        "{} holds the private key of {} {}: somebody has copied a private key. If this gateway is the right one, run: {}",
        case.gateway.instance,
        others.join(" and "),
        key.fingerprint(),
        accept_command(case.gateway, key)
    ));
    // A key that is refused as the next one leaves the current one as it was.
    let rest: Vec<PublicKey> = was.keys.iter().copied().filter(|other| other != key).collect();
    let keys = if rest.is_empty() { case.known.to_vec() } else { rest };
    Trust { keys, objection: Some(objection) }
}

fn accepted(case: &Case, key: &PublicKey) -> bool {
    case.accept.is_some_and(|fingerprint| fingerprint == key.fingerprint())
}

fn accept_command(gateway: &Gateway, key: &PublicKey) -> String {
    format!("crosswan refresh --accept-key {}={}", gateway.vpc, key.fingerprint())
}

fn judge(case: &Case) -> Trust {
    let (gateway, known) = (case.gateway, case.known);
    let keep = |objection| Trust { keys: known.to_vec(), objection: Some(objection) };
    let proven = match &gateway.tags.key {
        Tagged::Read(proven) => proven,
        Tagged::Absent if known.is_empty() => return Trust::default(),
        Tagged::Absent => {
            let why = format!("{} announces no key (tag {KEY_TAG}); the known key stays", gateway.instance);
            return keep(Objection::Kept(why));
        }
        Tagged::Unreadable(what) => {
            let why = format!("tag {KEY_TAG} of {} is unreadable: {what}", gateway.instance);
            return keep(if known.is_empty() {
                Objection::Refused(why)
            } else {
                Objection::Kept(why + "; the known key stays")
            });
        }
    };
    if !known.contains(&proven.key)
        && let Some(objection) = stranger(case, proven)
    {
        return keep(objection);
    }
    let (next, objection) = next(case, &proven.key);
    Trust { keys: [proven.key].into_iter().chain(next).collect(), objection }
}

/// Why a key that this gateway is not known by does not count; `None` if it counts.
fn stranger(case: &Case, proven: &ProvenKey) -> Option<Objection> {
    let Case { gateway, known, .. } = case;
    let (holder, succession) = (gateway.holder(), gateway.tags.next.read());
    let came_after = |key: &PublicKey| succession.is_some_and(|s| s.next == proven.key && s.follows(key, &holder));
    let came_before = |key: &PublicKey| succession.is_some_and(|s| s.next == *key && s.follows(&proven.key, &holder));
    let fingerprint = proven.key.fingerprint();
    if proven.is_in(Mode::NatHub, &holder) {
        let why = format!("{} is a nat-hub by its key {fingerprint}, and so has no tunnel", gateway.instance);
        return Some(Objection::Refused(why + if known.is_empty() { "" } else { "; the known key stays" }));
    }
    if !proven.belongs_to(&holder) {
        return Some(Objection::Refused(format!(
            "{} announces the key {fingerprint} without proof: tag {KEY_TAG} is not signed by that key for this instance, \
             so somebody else wrote the tag{}",
            gateway.instance,
            if known.is_empty() { "" } else { "; the known key stays" }
        )));
    }
    if accepted(case, &proven.key) || known.iter().any(came_after) {
        return None;
    }
    if known.is_empty() {
        let wanted = case.accept?;
        return Some(Objection::Refused(format!(
            "{} announces the key {fingerprint}, but --accept-key names {wanted}",
            gateway.instance
        )));
    }
    if known.iter().any(came_before) {
        let why = format!("EC2 shows an older announcement of {}; the known key stays", gateway.instance);
        return Some(Objection::Kept(why));
    }
    Some(Objection::Refused(format!(
        "{} announces the key {fingerprint}, but is known by {}, which stays. If the new key is right, run: {}",
        gateway.instance,
        fingerprints(known),
        accept_command(gateway, &proven.key)
    )))
}

/// The next key beside `key`, which counts: the announced one if it is signed, otherwise the one that was accepted before.
fn next(case: &Case, key: &PublicKey) -> (Option<PublicKey>, Option<Objection>) {
    let Case { gateway, known, .. } = case;
    let before = match known {
        [current, next] if current == key => Some(*next),
        _ => None,
    };
    match &gateway.tags.next {
        Tagged::Unreadable(what) => {
            let why = format!("tag {NEXT_KEY_TAG} of {} is unreadable: {what}", gateway.instance);
            (before, Some(Objection::Kept(why)))
        }
        Tagged::Read(succession) if succession.next == *key => (before, None),
        Tagged::Read(succession) if before == Some(succession.next) => (before, None),
        Tagged::Read(succession) if succession.follows(key, &gateway.holder()) => (Some(succession.next), None),
        Tagged::Read(succession) => (before, Some(unsigned(gateway, key, succession))),
        Tagged::Absent => (before, None),
    }
}

fn unsigned(gateway: &Gateway, key: &PublicKey, succession: &Succession) -> Objection {
    Objection::Refused(format!(
        "{} announces the key {} as the one after {}, but the two keys have not both signed that for this instance: the \
         tags were read while they changed, or somebody else wrote tag {NEXT_KEY_TAG}",
        gateway.instance,
        succession.next.fingerprint(),
        key.fingerprint()
    ))
}

/// The hub's keys, as a spoke's settings name them. They count more than anything that EC2 shows, but a difference is reported.
pub(super) fn named(keys: &[PublicKey], gateway: &Gateway) -> Trust {
    let announced = gateway.tags.key.read().map(|proven| proven.key);
    let objection = announced.filter(|key| !keys.contains(key)).map(|key| {
        Objection::Refused(format!(
            "{} announces the key {}, but auth.hub_key is {} for {}, which stays",
            gateway.instance,
            key.fingerprint(),
            fingerprints(keys),
            gateway.public.map_or_else(|| "it".into(), |address| address.to_string())
        ))
    });
    Trust { keys: keys.to_vec(), objection }
}

/// The keys' fingerprints, joined for a sentence.
pub(super) fn fingerprints(keys: &[PublicKey]) -> String {
    keys.iter().map(PublicKey::fingerprint).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests;
