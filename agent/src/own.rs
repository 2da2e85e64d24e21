//! This gateway's own key through one pass: made if need be, looked up in its tags, taken over, announced.
//!
//! IO at both ends of a pass; how the gateway presents itself in between is `decide`'s. An announcement is no step of the
//! plan: EC2 may show it seconds later, and a tag that cannot be written is no reason to roll tunnels back.

use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::{
    keyring::{self},
    observe::ec2::{OwnTags, Session, own_tags, publish},
    paths::Paths,
    refresh::Options,
};
use crosswan_core::{
    decide::{
        rotation::{OwnKeys, Presence},
        trust::fingerprints,
    },
    error::{Kind, Result},
    model::{
        Holder, Identity, InstanceId, KEY_TAG, KeyTags, Keyring, PrivateKey, PublicKey, Region, Tagged, Timestamp,
        VpcId,
    },
    report::{KeyReport, Outcome, Report},
    settings::{AuthMethod, Settings},
};

/// EC2 is asked for the own instance only where this gateway has a key of its own.
const NOT_LOOKED_AT: &str = "EC2's source/destination check was not looked at, as EC2 was not asked for this instance or did not say: it must be off";

/// See the module. Empty where this gateway needs no key.
#[derive(Debug, Default)]
pub struct Own {
    ring: Option<Keyring>,
    me: Option<(Region, VpcId, InstanceId)>,
    /// The tags as EC2 shows them, or why it could not be asked.
    tags: Option<std::result::Result<OwnTags, String>>,
    /// What `decide` made of it.
    pub presence: Option<Presence>,
    notes: Vec<String>,
    problem: Option<String>,
}

impl Own {
    /// The keys of this instance: made if there is none, unless this is a dry run.
    pub fn ready(settings: &Settings, paths: &Paths, me: &Identity, now: Timestamp, options: &Options) -> Result<Own> {
        if !settings.mode.has_ipsec() || settings.auth.method != AuthMethod::Key {
            return Ok(Own::default());
        }
        let identity = (me.region.clone(), me.vpc.clone(), me.instance.clone());
        let mut own = Own { me: Some(identity), ..Own::default() };
        let rotate = |key: &PrivateKey| {
            options.rotate || settings.auth.max_key_age.is_some_and(|age| is_old(key.made, now, age, &me.instance))
        };
        let on_disk = || Ok(keyring::read(paths)?.filter(|ring| ring.current.instance == me.instance));
        if options.dry_run {
            own.ring = on_disk()?;
            let missing = own.ring.is_none().then(|| "a refresh would make this gateway's key first".to_owned());
            own.notes.extend(missing);
            return Ok(own);
        }
        match keyring::ensure(paths, &me.instance, now, rotate) {
            Ok((ring, note)) => {
                own.ring = Some(ring);
                own.notes.extend(note);
            }
            // A full disk takes no tunnel down.
            Err(e) if e.kind() == Kind::Apply => {
                own.ring = on_disk()?;
                own.problem = Some(e.chain());
            }
            Err(e) => return Err(e),
        }
        Ok(own)
    }

    /// Asks EC2 what the tags say.
    pub async fn look(&mut self, ec2: &Session, timeout: Duration) {
        if let (Some(_), Some((region, _, instance))) = (&self.ring, &self.me) {
            self.tags = Some(own_tags(ec2, region, instance, timeout).await);
        }
    }

    /// The public keys, with what this gateway signs about them.
    pub fn keys(&self) -> Option<OwnKeys> {
        let (Some(ring), Some((_, vpc, instance))) = (&self.ring, &self.me) else { return None };
        let me = Holder { vpc, instance };
        let next = ring.next.as_ref().and_then(|next| Some((next.proven(&me)?, ring.current.succeeded_by(next, &me)?)));
        Some(OwnKeys { current: ring.current.proven(&me)?, next })
    }

    /// The private keys that charon should have after this pass: both during a rotation, the pass in which the next key
    /// takes over included, so that nothing is signed with a key that is gone.
    pub fn wanted(&self) -> Vec<PrivateKey> {
        self.ring.iter().flat_map(|ring| ring.keys().cloned()).collect()
    }

    /// The tags that are to be written; empty if they say what they should.
    fn news(&self) -> Vec<(&'static str, String)> {
        let Some(presence) = &self.presence else { return Vec::new() };
        let nothing = OwnTags::default();
        let there = self.tags.as_ref().and_then(|tags| tags.as_ref().ok()).unwrap_or(&nothing);
        presence.announce.missing_from(there.key.as_deref(), there.next.as_deref())
    }

    /// The announcement, as an operator reads it.
    pub fn announcing(&self) -> Vec<String> {
        let Some((.., instance)) = &self.me else { return Vec::new() };
        self.news().iter().map(|(tag, value)| format!("announce {value} in tag {tag} of {instance}")).collect()
    }

    /// This pass signs with the next key alone.
    pub fn promotes(&self) -> bool {
        self.presence.as_ref().is_some_and(|presence| presence.promote)
    }

    /// The next key takes the current one's place, once charon signs with it for every peer. The old key; charon still has
    /// it.
    pub fn settle(&self, paths: &Paths) -> Result<Option<PublicKey>> {
        match (&self.presence, &self.ring) {
            (Some(presence), Some(ring)) if presence.promote => {
                keyring::promote(paths)?;
                Ok(Some(ring.current.public))
            }
            _ => Ok(None),
        }
    }

    /// The report when the next key has not taken the current one's place after all.
    pub fn not_settled(&self, report: &mut Report) {
        if let (true, Some(ring), Some(key)) = (self.promotes(), &self.ring, &mut report.key) {
            key.fingerprint = ring.current.public.fingerprint();
            key.next = ring.next.as_ref().map(|next| next.public.fingerprint());
            report.notes.push("this gateway's next key does not take over in this pass: both stay valid".into());
        }
    }

    /// Writes the tags that do not say what they should, and reads them back.
    pub async fn announce(&self, ec2: &Session, timeout: Duration, report: &mut Report) {
        let (news, Some((region, _, instance))) = (self.news(), &self.me) else { return };
        if news.is_empty() {
            return;
        }
        match publish(ec2, region, instance, &news, timeout).await {
            Ok(()) => {
                report.steps.extend(self.announcing());
                if report.outcome == Outcome::Unchanged {
                    report.outcome = Outcome::Changed;
                }
                report.key.iter_mut().for_each(|key| key.announced = true);
            }
            Err(why) => report.unasked.push(format!("announce this gateway's key: {why}")),
        }
    }

    /// What is wrong with a tag that this gateway cannot have written.
    fn tampered(&self) -> Option<String> {
        let (Some(Ok(tags)), Some(ring), Some((_, vpc, instance))) = (&self.tags, &self.ring, &self.me) else {
            return None;
        };
        let me = Holder { vpc, instance };
        let KeyTags { key, next } = KeyTags::of(tags.key.as_deref(), tags.next.as_deref());
        let own: Vec<PublicKey> = ring.keys().map(|key| key.public).collect();
        // A next key that has taken over, and whose announcement failed, follows one that is gone from this disk.
        let before = |key: &PublicKey| next.read().is_some_and(|s| own.contains(&s.next) && s.follows(key, &me));
        let found = match key {
            Tagged::Absent => return None,
            Tagged::Read(said) if said.belongs_to(&me) && (own.contains(&said.key) || before(&said.key)) => {
                return None;
            }
            Tagged::Read(said) => format!("announces {}", fingerprints(&[said.key])),
            Tagged::Unreadable(bad) => format!("is unreadable ({bad})"),
        };
        Some(format!(
            "tag {KEY_TAG} of {instance} {found}, and this gateway's key is {}: unless its key file was removed, somebody \
             else wrote the tag; it is written anew",
            fingerprints(&own)
        ))
    }

    /// What the report says of it before anything is done.
    pub fn report(&self, report: &mut Report) {
        report.notes.extend(self.notes.iter().cloned());
        report.problems.extend(self.problem.clone());
        match &self.tags {
            Some(Ok(tags)) if tags.source_dest_check.is_some() => report.source_dest_check = tags.source_dest_check,
            // It is said already that EC2 could not be asked.
            Some(Err(_)) => {}
            _ => report.notes.push(NOT_LOOKED_AT.into()),
        }
        report.stopped.extend(report.source_dest_problem());
        let Some(ring) = &self.ring else { return };
        // Without its tags nothing is lost: what is announced is announced again.
        if let Some(Err(why)) = &self.tags {
            report.unasked.push(format!("look up this gateway's own tags: {why}"));
        }
        report.notes.extend(self.tampered());
        let presence = self.presence.as_ref();
        let promote = presence.is_some_and(|presence| presence.promote);
        let (current, next) = match &ring.next {
            Some(next) if promote => (next, None),
            next => (&ring.current, next.as_ref()),
        };
        report.key = Some(KeyReport {
            fingerprint: current.public.fingerprint(),
            next: next.map(|key| key.public.fingerprint()),
            waiting: presence.map(|presence| presence.waiting.clone()).unwrap_or_default(),
            announced: self.news().is_empty(),
        });
    }
}

/// Older than its age allows, less up to a tenth of it by instance: a fleet launched together does not rotate at once.
fn is_old(made: Timestamp, now: Timestamp, age: Duration, instance: &InstanceId) -> bool {
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
