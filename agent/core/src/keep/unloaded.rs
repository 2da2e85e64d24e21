//! Connections of the managed file that charon does not have, because somebody loaded a configuration without them. Pure.
//!
//! `decide` does not notice that, as it goes by the loaded connections. Only a refresh loads connections, so this module only
//! finds out when to ask for one.

use std::collections::BTreeSet;

/// How often a pass is wanted for the same connections, each time after twice as long.
const MAX_PASSES: u32 = 5;

/// The missing connections, and since when they are. Times are in milliseconds on the caller's clock.
#[derive(Debug, Default)]
pub struct Unloaded {
    missing: BTreeSet<String>,
    since: u64,
    passes: u32,
}

impl Unloaded {
    /// Notes one look: the connections that should be loaded, and those that are.
    pub fn look<'a>(&mut self, now: u64, wanted: &BTreeSet<String>, loaded: impl Iterator<Item = &'a String>) {
        let loaded: BTreeSet<&String> = loaded.collect();
        let missing: BTreeSet<String> = wanted.iter().filter(|name| !loaded.contains(name)).cloned().collect();
        if missing != self.missing {
            *self = Unloaded { missing, since: now, passes: 0 };
        }
    }

    /// The first missing name, and for how many milliseconds it has been missing, if a pass is wanted for it: after `patience` in
    /// which none of the missing ones was loaded, as strongSwan's own start may take long. The caller must ask for that pass.
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
