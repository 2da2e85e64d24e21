//! How long a tunnel stays down before a refresh is asked for. Pure; the tests simulate a fleet whose members all ask EC2.
//!
//! When a hub dies, all its spokes come to ask EC2 for the next one, and so does that hub itself when it boots, out of the
//! same account's bucket of requests: 100, and 20 more a second (`docs/facts.md`, "EC2"). No gateway knows how many
//! others there are, so each waits for a random time, in a window so wide that thousands stay below EC2's limit.

use std::time::Duration;

use crate::model::Mode;

/// The number of intervals before any gateway asks: most outages are over by then.
const PATIENCE: u32 = 8;
/// How many times as long the last spoke waits. A hub has no others to wait for, and asks within twice the time.
const SPOKES: f64 = 4.5;
const HUB: f64 = 2.0;

/// How long this gateway waits; `interval` is that between two looks, and `random` is from 0 to 1.
pub fn patience(mode: Mode, interval: Duration, random: f64) -> Duration {
    interval * PATIENCE + spread(mode, interval).mul_f64(random)
}

/// The window in which the gateways of a fleet ask.
pub(super) fn spread(mode: Mode, interval: Duration) -> Duration {
    let longest = if mode == Mode::VpnHub { HUB } else { SPOKES };
    (interval * PATIENCE).mul_f64(longest - 1.0)
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);
    /// `observe/ec2.rs`, ATTEMPTS.
    const HUBS_ATTEMPTS: u32 = 8;
    /// A second has so many ticks.
    const TICKS: u64 = 1_000;

    /// Knuth's linear congruential generator: the same fleet in each run.
    struct Dice(u64);

    impl Dice {
        /// From 0 to 1.
        fn roll(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    fn ticks(seconds: f64) -> u64 {
        (seconds * TICKS as f64) as u64
    }

    /// One gateway and its requests, one after the other. As the agent's SDK has it, each is tried several times, after random
    /// pauses that double from 1 s to 6 s; a pass that got no answer is made again after 30 s, as its unit has it.
    struct Client {
        next: u64,
        calls: usize,
        left: usize,
        attempt: u32,
        /// How often a request is made before it is left to the next pass.
        attempts: u32,
    }

    impl Client {
        fn new(at: f64, calls: usize, attempts: u32) -> Client {
            Client { next: ticks(at), calls, left: calls, attempt: 0, attempts }
        }

        fn ask(&mut self, now: u64, bucket: &mut f64, dice: &mut Dice) {
            if *bucket >= 1.0 {
                *bucket -= 1.0;
                (self.left, self.attempt) = (self.left - 1, 0);
                // EC2 takes a moment for each answer.
                self.next = now + ticks(0.2);
                return;
            }
            self.attempt += 1;
            self.next = now + ticks(f64::from(1 << (self.attempt - 1).min(3)).min(6.0) * dice.roll()).max(1);
            if self.attempt == self.attempts {
                (self.left, self.attempt, self.next) = (self.calls, 0, now + ticks(30.0));
            }
        }
    }

    /// The spokes of a hub that died.
    struct Fleet {
        spokes: usize,
        /// Requests of one pass: the hub by its tag, and the own tags.
        calls: usize,
        attempts: u32,
        /// Their hourly passes are spread over so many seconds.
        hour: f64,
        /// From the tunnel that is missing to the pass that is asked for, by a number from 0 to 1.
        wait: fn(f64) -> f64,
    }

    /// Seconds that a new hub needs for its answers if it asks `after` seconds after the old one died.
    fn hubs_wait(fleet: &Fleet, after: f64) -> f64 {
        let &Fleet { spokes, calls, attempts, hour, wait } = fleet;
        let mut dice = Dice(spokes as u64);
        // Dead peer detection, and the look that finds the tunnel missing.
        let seen_down = |dice: &mut Dice| 18.0 + 15.0 * dice.roll();
        // The hub: its own tags, and a page for each 200 gateways.
        let mut clients = vec![Client::new(after, 2 + spokes / 200, HUBS_ATTEMPTS)];
        for _ in 0..spokes {
            clients.push(Client::new(seen_down(&mut dice) + wait(dice.roll()), calls, attempts));
            clients.push(Client::new(hour * dice.roll(), calls, attempts));
        }
        // By time; who comes first of those that come at once is chance.
        let mut queue: BinaryHeap<_> = clients.iter().enumerate().map(|(n, c)| Reverse((c.next, n))).collect();
        let (mut bucket, mut last) = (100.0_f64, 0);
        while let Some(Reverse((now, n))) = queue.pop() {
            bucket = (bucket + 20.0 * (now - last) as f64 / TICKS as f64).min(100.0);
            last = now;
            let client = &mut clients[n];
            client.ask(now, &mut bucket, &mut dice);
            match (client.left, n) {
                (0, 0) => return now as f64 / TICKS as f64 - after,
                (0, _) => {}
                _ => queue.push(Reverse((client.next, n))),
            }
        }
        unreachable!("everybody asks until the answer is there")
    }

    /// For a hub that boots between one and ten minutes after the old one died.
    fn slowest(fleet: &Fleet) -> f64 {
        (0..55).map(|n| hubs_wait(fleet, 60.0 + 10.0 * f64::from(n))).fold(0.0, f64::max)
    }

    #[test]
    fn a_new_hub_gets_its_answers_within_a_minute_while_three_thousand_spokes_look_for_it() {
        // systemd/crosswan-refresh.timer spreads the passes; a spoke makes way, see observe/ec2/throttle.rs.
        let wait = |random| patience(Mode::NatVpn, INTERVAL, random).as_secs_f64();
        let fleet = Fleet { spokes: 3_000, calls: 2, attempts: 1, hour: 3_540.0, wait };
        let now = slowest(&fleet);
        assert!(now < 10.0, "{now} s: not throttled at all");
        // More of them, or a request more: throttled, and answered in time all the same.
        for crowd in [Fleet { spokes: 4_000, ..fleet }, Fleet { calls: 3, ..fleet }] {
            let crowded = slowest(&crowd);
            assert!(crowded < 60.0, "{crowded} s");
            // Insisting spokes would starve it.
            assert!(slowest(&Fleet { attempts: 8, ..crowd }) > 60.0, "the simulation would not notice");
        }
        // All of them hear it knock at once, see keep/knock.rs.
        let heard =
            slowest(&Fleet { wait: |random| spread(Mode::NatVpn, INTERVAL).mul_f64(random).as_secs_f64(), ..fleet });
        assert!(heard < 60.0, "{heard} s");
        let at_once = slowest(&Fleet { wait: |random| 20.0 * random, attempts: 8, ..fleet });
        assert!(at_once > 60.0, "the simulation would not notice: {at_once} s");
        // As it was: within twice the patience, all timers within a quarter of an hour, and eight attempts each.
        let before = slowest(&Fleet { attempts: 8, hour: 900.0, wait: |random| 120.0 * (1.0 + random), ..fleet });
        assert!(before > 60.0, "the simulation would not notice: {before} s");
    }

    #[test]
    fn a_spoke_waits_two_to_nine_minutes_and_a_hub_two_to_four() {
        let minutes = |mode, random| patience(mode, INTERVAL, random).as_secs() / 60;
        assert_eq!([0.0, 1.0].map(|random| minutes(Mode::NatVpn, random)), [2, 9]);
        assert_eq!([0.0, 1.0].map(|random| minutes(Mode::VpnHub, random)), [2, 4]);
    }
}
