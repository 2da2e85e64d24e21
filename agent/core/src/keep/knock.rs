//! Knocks: gateways that want a tunnel of this one, which does not know them yet, or knows them by another address or key. Pure.
//!
//! They are heard in what charon logs. Each is worth a pass, because EC2 may know who knocks. But whoever can send a packet can knock,
//! so passes have a budget, and an address that a pass did not bring is not listened to for a while, each time for twice as long.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::Ipv4Addr,
    time::Duration,
};

use super::patience::spread;
use crate::model::Mode;

/// The shortest time between two passes for knocks, in milliseconds.
const SPACING: u64 = 60_000;
/// So many passes may follow each other at that distance, and one more after each [`REFILL`]: eight in any twenty minutes, because
/// `crosswan-refresh.service` may be started twelve times.
const BUDGET: u64 = 4;
const REFILL: u64 = 5 * 60_000;
/// An address that passes did not bring is listened to at least this often: as often as by the timer.
const LONGEST: u64 = 3_600_000;
/// The number of addresses that are remembered, of each kind. With more at once, a pass is wanted all the same.
const ROOM: usize = 1024;

/// Why charon did not take somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knock {
    /// It has no connection for this address.
    Unknown,
    /// It has one, which expects another key or identity.
    Unauthenticated,
}

/// Hears knocks in the lines that charon logs.
#[derive(Debug, Default)]
pub struct Ear {
    /// The addresses that have begun, by the unique ids of their IKE_SAs, which grow.
    begun: BTreeMap<u32, Ipv4Addr>,
}

impl Ear {
    /// Takes one line with the unique id of the IKE_SA that it belongs to. Returns who knocks, if the line tells that. The lines are
    /// those of strongSwan 5.9 and 6.0; none has foreign text where this looks (`docs/facts.md`, "VICI").
    pub fn hear(&mut self, ike: u32, line: &str) -> Option<(Ipv4Addr, Knock)> {
        if let Some(ends) = line.strip_prefix("no IKE config found for ") {
            let remote = ends.split_once("...")?.1.split(',').next()?;
            return Some((remote.parse().ok()?, Knock::Unknown));
        }
        // 5.9 and 6.0.1 go on with "an IKE_SA", 6.0.6 with its name and number.
        if let Some((remote, _)) = line.split_once(" is initiating ") {
            self.begun.insert(ike, remote.parse().ok()?);
            if self.begun.len() > ROOM {
                self.begun.pop_first();
            }
        } else if line == "no alternative config found" || line == "no matching peer config found" {
            return Some((self.begun.remove(&ike)?, Knock::Unauthenticated));
        }
        None
    }
}

/// What is known of an address, for [`Knocks::take_wanted`].
#[derive(Debug, Default)]
pub struct Known {
    /// The addresses of the managed connections.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// When the newest IKE_SA with each address was established.
    pub established: BTreeMap<Ipv4Addr, u64>,
}

impl Known {
    /// Whether a knock at `at` has been answered.
    fn answers(&self, from: Ipv4Addr, (knock, at): (Knock, u64)) -> bool {
        match knock {
            Knock::Unknown => self.addresses.contains(&from),
            // The IKE_SA of a gateway that this one replaces may stand until charon notices. charon counts in whole seconds.
            Knock::Unauthenticated => self.established.get(&from).is_some_and(|then| *then + 1_000 > at),
        }
    }
}

/// Who has knocked, and what came of the passes for that. Times are in milliseconds on the caller's clock.
#[derive(Debug)]
pub struct Knocks {
    /// From the first knock to its pass.
    delay: u64,
    waiting: BTreeMap<Ipv4Addr, (Knock, u64)>,
    /// Those for whom the last pass was wanted.
    asked: BTreeMap<Ipv4Addr, (Knock, u64)>,
    /// Those whom passes did not bring: how many, and until when they are not listened to.
    vain: BTreeMap<Ipv4Addr, (u32, u64)>,
    /// When the next pass may be wanted.
    next: u64,
    /// The budget as the time in which it was saved.
    saved: u64,
    counted: u64,
}

impl Knocks {
    /// `random` is from 0 to 1. When a hub was replaced, all its spokes hear the new one within seconds, so each waits for a time of its
    /// own, in the same window as for a tunnel that is missing.
    pub fn new(mode: Mode, interval: Duration, random: f64) -> Knocks {
        let delay = if mode == Mode::VpnHub { 0.0 } else { random };
        Knocks {
            delay: spread(mode, interval).mul_f64(delay).as_millis() as u64,
            waiting: BTreeMap::new(),
            asked: BTreeMap::new(),
            vain: BTreeMap::new(),
            next: 0,
            saved: BUDGET * REFILL,
            counted: 0,
        }
    }

    /// Notes a knock, unless passes have brought nobody for that address before.
    pub fn heard(&mut self, now: u64, from: Ipv4Addr, knock: Knock) {
        if self.waiting.len() < ROOM && self.vain.get(&from).is_none_or(|(_, until)| now >= *until) {
            self.waiting.entry(from).or_insert((knock, now));
        }
    }

    /// Whether a pass was wanted for this address a moment ago: then a connection that is new is not left to the peer.
    pub fn expects(&self, now: u64, address: Ipv4Addr) -> bool {
        now < self.next && self.asked.contains_key(&address)
    }

    /// The one who has knocked first, and how many others there are, if a pass is wanted for them. The caller must ask for it.
    pub fn take_wanted(&mut self, now: u64, known: &Known) -> Option<(Ipv4Addr, usize)> {
        self.saved = (self.saved + now - self.counted).min(BUDGET * REFILL);
        self.counted = now;
        self.waiting.retain(|from, knock| !known.answers(*from, *knock));
        if now < self.next || self.waiting.values().all(|(_, at)| now < at + self.delay) {
            return None;
        }
        self.settle(now, known);
        self.waiting.retain(|from, _| self.vain.get(from).is_none_or(|(_, until)| now >= *until));
        if self.waiting.is_empty() || self.saved < REFILL {
            return None;
        }
        self.saved -= REFILL;
        self.next = now + SPACING;
        self.asked = mem::take(&mut self.waiting);
        let first = self.asked.iter().min_by_key(|(_, (_, at))| *at);
        first.map(|(from, _)| (*from, self.asked.len() - 1))
    }

    /// Notes what came of the last pass.
    fn settle(&mut self, now: u64, known: &Known) {
        let (brought, vain): (BTreeMap<_, _>, BTreeMap<_, _>) =
            mem::take(&mut self.asked).into_iter().partition(|(from, knock)| known.answers(*from, *knock));
        for from in brought.keys() {
            self.vain.remove(from);
        }
        for from in vain.into_keys() {
            let times = self.vain.get(&from).map_or(0, |(times, _)| *times);
            self.vain.insert(from, (times + 1, now + (SPACING << times.min(16)).min(LONGEST)));
        }
        while self.vain.len() > ROOM {
            let soonest = self.vain.iter().min_by_key(|(_, (_, until))| *until).map(|(from, _)| *from);
            soonest.and_then(|from| self.vain.remove(&from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const INTERVAL: Duration = Duration::from_secs(15);
    const A: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    const B: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

    fn hub() -> Knocks {
        Knocks::new(Mode::VpnHub, INTERVAL, 0.5)
    }

    fn known(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Known {
        Known { addresses: addresses.into_iter().collect(), ..Known::default() }
    }

    #[test]
    fn a_knock_is_heard_in_charons_lines_and_in_no_others() {
        let mut ear = Ear::default();
        // As 5.9.8 and 6.0.6 log them.
        let mut hear = |ike, line: &str| ear.hear(ike, line);
        assert_eq!(
            hear(1, "no IKE config found for 192.0.2.1...198.51.100.1, sending NO_PROPOSAL_CHOSEN"),
            Some((A, Knock::Unknown))
        );
        assert_eq!(hear(2, "198.51.100.1 is initiating an IKE_SA"), None);
        assert_eq!(hear(3, "198.51.100.2 is initiating IKE_SA (unnamed)[3]"), None);
        assert_eq!(hear(2, "no alternative config found"), Some((A, Knock::Unauthenticated)));
        assert_eq!(hear(2, "no alternative config found"), None, "each is told once");
        assert_eq!(hear(3, "no matching peer config found"), Some((B, Knock::Unauthenticated)));
        for line in [
            "received packet: from 198.51.100.1[500] to 192.0.2.1[500] (232 bytes)",
            "no IKE config found for 192.0.2.1...2001:db8::1, sending NO_PROPOSAL_CHOSEN",
            "no IKE config found for ",
            "looking for peer configs matching 192.0.2.1[a]...198.51.100.1[no IKE config found for 1...198.51.100.1,]",
        ] {
            assert_eq!(hear(4, line), None, "{line}");
        }
        (10..20_000).for_each(|ike| assert_eq!(hear(ike, "198.51.100.2 is initiating an IKE_SA"), None));
        assert_eq!(ear.begun.len(), ROOM, "half-open ones are not remembered for ever");
    }

    #[test]
    fn a_hub_asks_at_once_and_a_spoke_in_a_window_of_minutes() {
        let asks = |mode, random| {
            let mut knocks = Knocks::new(mode, INTERVAL, random);
            knocks.heard(1_000, A, Knock::Unknown);
            (0..).step_by(1_000).find(|now| knocks.take_wanted(1_000 + now, &known([])).is_some()).unwrap()
        };
        assert_eq!([0.0, 1.0].map(|random| asks(Mode::VpnHub, random)), [0, 0]);
        assert_eq!([0.0, 0.5, 1.0].map(|random| asks(Mode::NatVpn, random)), [0, 210_000, 420_000]);
    }

    #[test]
    fn an_address_that_a_pass_did_not_bring_is_asked_for_less_and_less_often() {
        let mut knocks = hub();
        let mut asked = Vec::new();
        // It knocks every fifteen seconds for a day.
        for now in (0..24 * 60 * MINUTE).step_by(15_000) {
            knocks.heard(now, A, Knock::Unknown);
            if knocks.take_wanted(now, &known([])).is_some() {
                asked.push(now / MINUTE);
            }
        }
        assert_eq!(asked[..7], [0, 2, 5, 10, 19, 36, 69]);
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] <= 62), "{asked:?}");
        // Once a pass brings it, what was in vain is forgotten; another one is not held up by it.
        knocks.heard(25 * 60 * MINUTE, B, Knock::Unknown);
        assert_eq!(knocks.take_wanted(25 * 60 * MINUTE, &known([A])), Some((B, 0)));
    }

    #[test]
    fn one_that_is_known_by_now_costs_no_pass() {
        let mut knocks = hub();
        knocks.heard(0, A, Knock::Unknown);
        assert_eq!(knocks.take_wanted(0, &known([A])), None, "charon has yet to load its connection");
        // A replaced gateway with the address of the old one, whose IKE_SA still stands.
        knocks.heard(100_000, A, Knock::Unauthenticated);
        let since = |at| Known { established: [(A, at)].into(), ..known([A]) };
        assert_eq!(knocks.take_wanted(100_000, &since(100_000)), None);
        knocks.heard(100_000, A, Knock::Unauthenticated);
        assert_eq!(knocks.take_wanted(100_000, &since(90_000)), Some((A, 0)));
        assert!(knocks.expects(100_000, A) && !knocks.expects(100_000, B));
        assert!(!knocks.expects(160_000, A), "for a minute only");
    }

    #[test]
    fn a_flood_costs_no_more_passes_than_newcomers_who_come_one_after_the_other() {
        let passes = |each: u64| {
            let (mut knocks, mut passes) = (hub(), Vec::new());
            for now in (0..60 * MINUTE).step_by(1_000) {
                for n in 0..each {
                    let from = Ipv4Addr::from_bits(0xC612_0000 + (now / 1_000 * each + n) as u32);
                    knocks.heard(now, from, Knock::Unknown);
                }
                passes.extend(knocks.take_wanted(now, &known([])).map(|_| now / MINUTE));
                assert!(knocks.waiting.len() <= ROOM && knocks.asked.len() <= ROOM && knocks.vain.len() <= ROOM);
            }
            passes
        };
        let flood = passes(2 * ROOM as u64);
        assert_eq!(flood, passes(1));
        assert_eq!(flood[..6], [0, 1, 2, 3, 5, 10]);
        let most = flood.iter().map(|first| flood.iter().filter(|at| (*first..first + 20).contains(at)).count()).max();
        assert_eq!(most, Some(7), "{flood:?}");
    }
}
