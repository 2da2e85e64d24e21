//! This gateway's own key through one pass: made if need be, looked up in its tag, taken over, announced.
//!
//! IO at both ends of a pass; what is to be shown in between is `decide`'s. An announcement is no step of the plan: EC2 may
//! show it seconds later, and a tag that cannot be written is no reason to roll tunnels back.

use std::time::Duration;

use ring::digest::{SHA256, digest};

use crate::{
    error::{Kind, Result},
    keyring::{self, Keyring, PrivateKey},
    model::{Announcement, Identity, InstanceId, KEY_TAG, PublicKey, Region, Timestamp},
    observe::ec2::{Session, own_tag, publish},
    paths::Paths,
    refresh::Options,
    report::{KeyReport, Outcome, Report},
    settings::{AuthMethod, Settings},
    trust::{OwnKeys, Showing, fingerprints},
};

/// See the module. Empty where this gateway needs no key.
#[derive(Debug, Default)]
pub struct Own {
    ring: Option<Keyring>,
    instance: Option<(Region, InstanceId)>,
    /// The tag as EC2 shows it, or why it could not be asked.
    tag: Option<std::result::Result<Option<String>, String>>,
    /// What `decide` made of it.
    pub showing: Option<Showing>,
    notes: Vec<String>,
    problem: Option<String>,
}

impl Own {
    /// The keys of this instance: made if there is none, unless this is a dry run.
    pub fn ready(settings: &Settings, paths: &Paths, me: &Identity, now: Timestamp, options: &Options) -> Result<Own> {
        if !settings.mode.has_ipsec() || settings.auth.method != AuthMethod::Key {
            return Ok(Own::default());
        }
        let mut own = Own { instance: Some((me.region.clone(), me.instance.clone())), ..Own::default() };
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

    /// Asks EC2 what the tag says.
    pub async fn look(&mut self, ec2: &Session, timeout: Duration) {
        if let (Some(_), Some((region, instance))) = (&self.ring, &self.instance) {
            self.tag = Some(own_tag(ec2, region, instance, timeout).await);
        }
    }

    pub fn keys(&self) -> Option<OwnKeys> {
        let ring = self.ring.as_ref()?;
        let next = ring.next.as_ref().and_then(|next| ring.current.vouch_for(next.public));
        Some(OwnKeys { current: ring.current.public, next })
    }

    /// The private keys that charon should have after this pass.
    pub fn wanted(&self) -> Vec<PrivateKey> {
        let (Some(ring), Some(showing)) = (&self.ring, &self.showing) else { return Vec::new() };
        ring.keys().filter(|key| showing.announce.keys.contains(&key.public)).cloned().collect()
    }

    /// What is to be written into the tag; `None` if that is there.
    fn news(&self) -> Option<String> {
        let text = self.showing.as_ref()?.announce.to_string();
        let there = matches!(&self.tag, Some(Ok(Some(tag))) if *tag == text);
        (!there).then_some(text)
    }

    /// The announcement, as an operator reads it.
    pub fn announcing(&self) -> Option<String> {
        let (_, instance) = self.instance.as_ref()?;
        self.news().map(|text| format!("announce {text} in tag {} of {instance}", KEY_TAG))
    }

    /// The next key takes the current one's place, once charon signs with it.
    pub fn settle(&self, paths: &Paths) -> Result<()> {
        match &self.showing {
            Some(showing) if showing.promote => keyring::promote(paths),
            _ => Ok(()),
        }
    }

    /// The report when the next key has not taken the current one's place after all.
    pub fn not_settled(&self, report: &mut Report) {
        let promoting = self.showing.as_ref().is_some_and(|showing| showing.promote);
        if let (true, Some(ring), Some(key)) = (promoting, &self.ring, &mut report.key) {
            key.fingerprint = ring.current.public.fingerprint();
            key.next = ring.next.as_ref().map(|next| next.public.fingerprint());
            report.notes.push("this gateway's next key does not take over in this pass: both stay valid".into());
        }
    }

    /// Takes back the acknowledgements of these keys of peers: no connection accepts them yet.
    pub fn withdraw(&mut self, keys: impl IntoIterator<Item = PublicKey>) {
        let Some(showing) = &mut self.showing else { return };
        for key in keys {
            showing.announce.seen.remove(&key.short());
        }
    }

    /// Writes the tag if it does not say what it should, and reads it back.
    pub async fn announce(&self, ec2: &Session, timeout: Duration, report: &mut Report) {
        let (Some(text), Some(step), Some((region, instance))) = (self.news(), self.announcing(), &self.instance)
        else {
            return;
        };
        match publish(ec2, region, instance, &text, timeout).await {
            Ok(()) => {
                report.steps.push(step);
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
        let (Some(Ok(Some(text))), Some(ring), Some((_, instance))) = (&self.tag, &self.ring, &self.instance) else {
            return None;
        };
        let own: Vec<PublicKey> = ring.keys().map(|key| key.public).collect();
        let found = match text.parse::<Announcement>() {
            // The moment after the next key took over, before that was announced, both are there.
            Ok(said) if said.forged().is_none() && said.keys.iter().any(|key| own.contains(key)) => return None,
            Ok(said) => format!("announced {}", fingerprints(&said.keys)),
            Err(bad) => format!("could not be read ({bad})"),
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
        let Some(ring) = &self.ring else { return };
        // Without its tag nothing is lost: what is announced is announced again.
        if let Some(Err(why)) = &self.tag {
            report.unasked.push(format!("look up this gateway's own tag: {why}"));
        }
        report.notes.extend(self.tampered());
        let showing = self.showing.as_ref();
        let promote = showing.is_some_and(|s| s.promote);
        let (current, next) = match &ring.next {
            Some(next) if promote => (next, None),
            next => (&ring.current, next.as_ref()),
        };
        report.key = Some(KeyReport {
            fingerprint: current.public.fingerprint(),
            next: next.map(|key| key.public.fingerprint()),
            waiting: showing.map(|s| s.waiting.clone()).unwrap_or_default(),
            announced: self.news().is_none(),
        });
    }
}

/// Older than its age allows, less up to a tenth of it by instance: a fleet launched together does not rotate at once.
fn is_old(made: Timestamp, now: Timestamp, age: Duration, instance: &InstanceId) -> bool {
    let spread = u32::from(digest(&SHA256, instance.as_str().as_bytes()).as_ref()[0]) * 10 / 256;
    let limit = age * (100 - spread) / 100;
    u64::try_from(now.0 - made.0).is_ok_and(|old| old > limit.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleets_keys_grow_old_within_a_tenth_of_their_age_and_not_at_once() {
        let day = |n: i64| Timestamp(n * 86_400);
        let age = Duration::from_secs(100 * 86_400);
        let id = |n: u32| format!("i-{n:08x}").parse::<InstanceId>().unwrap();
        let old = |at: i64| (0..100).filter(|n| is_old(day(0), day(at), age, &id(*n))).count();
        assert_eq!((old(89), old(101)), (0, 100));
        assert!((20..80).contains(&old(95)), "{}", old(95));
        // A clock that was set back makes no key old.
        assert!(!is_old(day(500), day(0), age, &id(1)));
    }
}
