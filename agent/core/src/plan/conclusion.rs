//! What follows once the system is as planned. A failure is reported, and what depends on it is not done; the system has been
//! changed by then, and nothing goes back.

use std::fmt;

use super::Remember;
use crate::{
    decide::Decided,
    model::{InstanceId, PublicKey, Region},
    observed::Observed,
};

/// One thing that concludes a pass. `Display` is what an operator reads.
#[derive(Debug, Clone)]
pub enum Conclusion {
    /// The next key takes the place of the current one on disk, and charon forgets the old one. Only if every connection signs
    /// with it by now.
    PromoteKey { next: PublicKey, old: PublicKey },
    /// What is remembered is this gateway's own business, and no change that an operator has to know of.
    RememberState(Box<Remember>),
    /// Writes tags of the own instance. Only what charon accepts by now may be announced, and the state must not remember less.
    AnnounceKey { region: Region, instance: InstanceId, tags: Vec<(&'static str, String)> },
}

/// What concludes this pass, in order.
pub(super) fn conclusions(observed: &Observed, decided: &Decided) -> Vec<Conclusion> {
    let promotes = decided.presence.as_ref().is_some_and(|presence| presence.promote);
    let keys = observed.own.filter(|_| promotes);
    let promote = keys.and_then(|own| Some(Conclusion::PromoteKey { next: own.next_key()?, old: own.current.key }));
    let remember = Conclusion::RememberState(Box::new(Remember::of(observed, decided)));
    let announce = (!decided.announce.is_empty()).then(|| Conclusion::AnnounceKey {
        region: observed.me.region.clone(),
        instance: observed.me.instance.clone(),
        tags: decided.announce.clone(),
    });
    promote.into_iter().chain([remember]).chain(announce).collect()
}

impl Conclusion {
    /// Whether it changes anything that others see.
    pub fn is_change(&self) -> bool {
        !matches!(self, Conclusion::RememberState(_))
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conclusion::PromoteKey { next, old } => {
                write!(f, "use this gateway's key {} in place of {}", next.fingerprint(), old.fingerprint())
            }
            Conclusion::RememberState(_) => f.write_str("remember the peers and EC2's answers"),
            Conclusion::AnnounceKey { instance, tags, .. } => {
                let tags: Vec<String> = tags.iter().map(|(tag, value)| format!("{value} in tag {tag}")).collect();
                write!(f, "announce {} of {instance}", tags.join(" and "))
            }
        }
    }
}
