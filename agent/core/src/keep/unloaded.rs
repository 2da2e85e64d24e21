//! Connections of the managed file that charon does not have: somebody loaded a configuration without them. Pure.
//!
//! `decide` cannot miss them, as it goes by what is loaded. Only a refresh loads connections, so all that is done here is to
//! want one.

use std::collections::BTreeSet;

/// Times a pass is wanted for the same: each after twice as long.
const MAX_PASSES: u32 = 5;

/// What is missing, and since when. Times are milliseconds on the caller's clock.
#[derive(Debug, Default)]
pub struct Unloaded {
    missing: BTreeSet<String>,
    since: u64,
    passes: u32,
}

impl Unloaded {
    /// One look: what should be there, and what is.
    pub fn look<'a>(&mut self, now: u64, wanted: &BTreeSet<String>, loaded: impl Iterator<Item = &'a String>) {
        let loaded: BTreeSet<&String> = loaded.collect();
        let missing: BTreeSet<String> = wanted.iter().filter(|name| !loaded.contains(name)).cloned().collect();
        if missing != self.missing {
            *self = Unloaded { missing, since: now, passes: 0 };
        }
    }

    /// The first name that is missing, and for how long, if a pass is wanted for it: after `patience` in which none of the
    /// missing came, as strongSwan's own start may take its time. Who takes the answer asks for that pass.
    pub fn take_wanted(&mut self, now: u64, patience: u64) -> Option<(String, u64)> {
        let first = self.missing.first()?;
        if self.passes == MAX_PASSES || now < self.since + (patience << self.passes) {
            return None;
        }
        self.passes += 1;
        Some((first.clone(), now - self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_charon_lost_is_asked_for_after_patience_and_not_for_ever() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let (wanted, mut unloaded) = (names(&["a", "b", "c"]), Unloaded::default());
        let mut look = |now, loaded: &[&str]| {
            unloaded.look(now, &wanted, names(loaded).iter());
            unloaded.take_wanted(now, 10)
        };
        assert_eq!(look(0, &["a", "b", "c", "foreign"]), None);
        // charon has been started, and loads one after the other.
        for (now, loaded) in [(100, &[][..]), (109, &["a"]), (118, &["a", "b"]), (127, &["a", "b", "c"])] {
            assert_eq!(look(now, loaded), None, "{now}");
        }
        assert_eq!(look(200, &["foreign"]), None);
        assert_eq!(look(210, &["foreign"]), Some(("a".into(), 10)));
        assert_eq!(look(211, &["foreign"]), None, "it has just been asked for");
        let asked = (212..100_000).filter(|now| look(*now, &["foreign"]).is_some()).count();
        assert_eq!(asked, 4);
        // A pass that brings some of them starts the count anew.
        assert_eq!(look(200_000, &["a"]), None);
        assert_eq!(look(200_010, &["a"]), Some(("b".into(), 10)));
    }
}
