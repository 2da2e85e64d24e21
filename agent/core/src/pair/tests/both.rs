//! Two judges at once, in a world with delays: what they do to each other, and to the routes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use proptest::prelude::*;

use crate::pair::{Action, Event, Follow, Health, IDLE, Judgement, Pair, Peer, Says, Wait, Ways, Word};

const WELL: Health = Health { forwards: true, uplink: true, charon: true, ec2: true, tunnels: 1 };
const INTERVAL: u64 = 100;
const MISSES: u32 = 4;
/// From one host to another.
const LATENCY: u64 = 1;
const MINUTE: u64 = 60_000;

/// Which routes lead to which member.
type Table = [usize; 3];

/// Something that happens to a member, in the order in which its process takes what is due at one time: what its socket has first, and
/// what its tasks have last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Beat {
        fit: bool,
        holds: bool,
        leaving: bool,
        generation: u32,
    },
    Tick,
    /// EC2 is asked from time to time.
    Warm,
    /// A member's word reaches the far end, and is answered. Without need it is said from time to time.
    Word {
        idle: bool,
    },
    /// The task that asks the other member's kernel runs.
    Ask {
        asked: u64,
        wait: u64,
    },
    Answer,
    Silent {
        asked: u64,
    },
    Routes {
        asked: u64,
        table: Table,
    },
    /// EC2 carries the move out: of these routes, as many as it accepts.
    Move {
        of: [bool; 3],
        accepted: usize,
    },
    Moved {
        wanted: usize,
        accepted: usize,
    },
}

/// What goes wrong in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The process of a member does not run.
    Stall(usize),
    /// Nothing of a member's machine runs.
    Freeze(usize),
    /// Nothing reaches this member from the other one.
    Deaf(usize),
    /// A member hands over.
    Leaves(usize),
    /// Nothing of a member reaches the far end.
    Unheard(usize),
    /// A member has no uplink.
    Unfit(usize),
    /// Each call of EC2 takes so long.
    Slow(u64),
    /// EC2 moves no more than so many routes at once.
    Refuses(usize),
    /// A process is busy for so long before its tasks run.
    Busy(usize, u64),
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: u64,
    until: u64,
    trouble: Trouble,
}

struct World {
    now: u64,
    troubles: Vec<Stretch>,
    pairs: [Pair; 2],
    /// The table as each process has read it last.
    read: [Table; 2],
    table: Table,
    queue: BinaryHeap<Reverse<(u64, Due, usize)>>,
    /// Each order to take over, by whom; and when each route came to lead elsewhere.
    orders: Vec<(u64, usize)>,
    /// Whom the far end follows, and the takeovers that each member has made.
    follow: Follow<usize>,
    made: [BTreeSet<u32>; 2],
    leaving: [bool; 2],
    moved: BTreeMap<usize, Vec<u64>>,
}

impl World {
    fn new(table: Table, troubles: Vec<Stretch>) -> World {
        let pair = || Pair::new(0, Duration::from_millis(INTERVAL), MISSES);
        let mut world = World {
            now: 0,
            troubles,
            pairs: [pair(), pair()],
            read: [table; 2],
            table,
            queue: BinaryHeap::new(),
            orders: Vec::new(),
            follow: Follow::default(),
            made: Default::default(),
            leaving: [false; 2],
            moved: BTreeMap::new(),
        };
        for member in [0, 1] {
            world.plan(37 * member as u64, Due::Tick, member);
            world.plan(10, Due::Warm, member);
            world.plan(20, Due::Word { idle: true }, member);
        }
        world
    }

    fn has(&self, trouble: Trouble) -> bool {
        self.active().any(|active| active == trouble)
    }

    fn plan(&mut self, at: u64, due: Due, member: usize) {
        self.queue.push(Reverse((at, due, member)));
    }

    /// When a process or a machine that does not run now runs again.
    fn runs_again(&self, member: usize) -> Option<u64> {
        let stops = |trouble| matches!(trouble, Trouble::Stall(m) | Trouble::Freeze(m) if m == member);
        let now = self.troubles.iter().filter(|s| stops(s.trouble) && (s.from..s.until).contains(&self.now));
        now.map(|s| s.until).max()
    }

    fn active(&self) -> impl Iterator<Item = Trouble> {
        self.troubles.iter().filter(|s| (s.from..s.until).contains(&self.now)).map(|s| s.trouble)
    }

    fn ec2_takes(&self) -> u64 {
        self.active()
            .filter_map(|trouble| if let Trouble::Slow(by) = trouble { Some(by) } else { None })
            .max()
            .unwrap_or(100)
    }

    fn ec2_accepts(&self) -> usize {
        let most = |trouble| if let Trouble::Refuses(but) = trouble { Some(but) } else { None };
        self.active().filter_map(most).min().unwrap_or(3)
    }

    /// What EC2 shows is what it has when it is asked, which is the oldest that it may show.
    fn look(&mut self, member: usize) {
        self.plan(self.now + self.ec2_takes(), Due::Routes { asked: self.now, table: self.table }, member);
    }

    fn runs(&mut self, until: u64) {
        while self.queue.peek().is_some_and(|Reverse((at, ..))| *at <= until) {
            let Some(Reverse((at, due, member))) = self.queue.pop() else { return };
            self.now = self.now.max(at);
            // EC2 does not wait for those who asked it.
            match self.runs_again(member) {
                Some(again) if !matches!(due, Due::Move { .. }) => self.plan(again, due, member),
                _ => self.happens(due, member),
            }
        }
        self.now = until;
    }

    fn ways(&self, member: usize, table: Table) -> Ways {
        let here = table.iter().filter(|holder| **holder == member).count();
        let private = usize::from(table[2] != member);
        Ways { here, there: 3 - here, private }
    }

    fn happens(&mut self, due: Due, member: usize) {
        let other = 1 - member;
        match due {
            Due::Tick => {
                let fit = !self.has(Trouble::Unfit(member));
                let leaving = self.has(Trouble::Leaves(member));
                self.leaving[member] = leaving;
                self.on(member, Event::Leaving(leaving));
                self.on(member, Event::Tick(Health { uplink: fit, ..WELL }));
                if !self.has(Trouble::Deaf(other)) {
                    let (holds, generation) = (self.pairs[member].holds(), self.pairs[member].generation());
                    self.plan(self.now + LATENCY, Due::Beat { fit, holds, leaving, generation }, other);
                }
                self.plan(self.now + INTERVAL, Due::Tick, member);
            }
            Due::Beat { fit, holds, leaving, generation } => {
                let health = Health { uplink: fit, ..WELL };
                let interval = Duration::from_millis(INTERVAL);
                self.on(member, Event::Beat(Says { health, holds, leaving, interval, generation, ..Says::default() }));
            }
            Due::Ask { asked, wait } => {
                let lost = self.has(Trouble::Deaf(other)) || self.has(Trouble::Deaf(member));
                if !lost && !self.has(Trouble::Freeze(other)) {
                    self.plan(self.now + 2 * LATENCY, Due::Answer, member);
                } else {
                    self.plan(self.now + wait, Due::Silent { asked }, member);
                }
            }
            Due::Silent { asked } => self.on(member, Event::Silent { asked }),
            Due::Answer => self.on(member, Event::Answer),
            Due::Warm => {
                self.look(member);
                self.plan(self.now + MINUTE / 2, Due::Warm, member);
            }
            Due::Word { idle } => {
                if !self.has(Trouble::Unheard(member)) {
                    let Word { holds, generation, .. } = self.pairs[member].word();
                    if holds && self.follow.follow(member, generation) {
                        self.plan(self.now + LATENCY, Due::Word { idle: false }, other);
                    }
                    let (known, follows) = (self.follow.generation(), self.follow.followed() == Some(&member));
                    self.on(member, Event::FarEnds { known, follows });
                }
                if idle {
                    self.plan(self.now + IDLE, Due::Word { idle }, member);
                }
            }
            Due::Routes { asked, table } => {
                if self.pairs[member].believes(asked) {
                    self.read[member] = table;
                }
                let ways = self.ways(member, table);
                self.on(member, Event::Routes { asked, ways });
            }
            Due::Move { of, accepted } => {
                let wanted = of.iter().filter(|wanted| **wanted).count();
                for route in (0..3).filter(|route| of[*route]).take(accepted) {
                    if self.table[route] != member {
                        self.table[route] = member;
                        self.moved.entry(route).or_default().push(self.now);
                    }
                }
                self.plan(
                    self.now + self.ec2_takes() / 2,
                    Due::Moved { wanted, accepted: accepted.min(wanted) },
                    member,
                );
            }
            Due::Moved { wanted, accepted } => self.on(member, Event::Moved { wanted, moved: accepted }),
        }
    }

    fn on(&mut self, member: usize, event: Event) {
        let before = self.pairs[member].word();
        for action in self.pairs[member].on(self.now, event) {
            match action {
                Action::AskKernel { wait } => {
                    let (asked, wait) = (self.now, u64::try_from(wait.as_millis()).unwrap());
                    let busy = self.active().filter_map(|trouble| match trouble {
                        Trouble::Busy(whose, by) if whose == member => Some(by),
                        _ => None,
                    });
                    self.plan(self.now + busy.max().unwrap_or(0), Due::Ask { asked, wait }, member);
                }
                Action::LookAtRoutes => self.look(member),
                Action::TakeOver { private } => {
                    assert!(!self.has(Trouble::Unfit(member)), "one that is not well takes over");
                    let peer = self.pairs[member].judgement().peer;
                    let down = matches!(peer, Peer::Dead | Peer::Unfit(_) | Peer::Deaf);
                    assert!(
                        down || !self.has(Trouble::Leaves(member)),
                        "one that hands over takes from one that lives"
                    );
                    self.orders.push((self.now, member));
                    let read = self.read[member];
                    let of = [0, 1, 2].map(|route| read[route] != member && (private || route < 2));
                    let accepted = self.ec2_accepts();
                    self.plan(self.now + self.ec2_takes() / 2, Due::Move { of, accepted }, member);
                }
                Action::AskFarEnds => self.plan(self.now + LATENCY, Due::Word { idle: false }, member),
                Action::Say(_) | Action::StandDown => {}
            }
        }
        let words = [0, 1].map(|member| self.pairs[member].word());
        if words[member] != before {
            self.plan(self.now + LATENCY, Due::Word { idle: false }, member);
        }
        for (member, word) in words.iter().enumerate() {
            // One that hands over speaks of its own takeovers only.
            let made = word.mine || word.holds && self.leaving[member];
            self.made[member].extend(made.then_some(word.generation));
        }
        // A far end would follow whoever it hears first.
        let [one, two] = self.made.each_ref().map(|made| made.contains(&words[0].generation));
        let both = words[0].generation == words[1].generation && words.iter().all(|word| word.holds);
        assert!(!both || one == two, "both speak of a takeover that one has made: {words:?}");
    }
}

fn table() -> impl Strategy<Value = Table> {
    prop_oneof![Just([0; 3]), Just([1; 3]), [0..2_usize, 0..2_usize, 0..2_usize]]
}

/// Stretches of these troubles within so many milliseconds.
fn stretches(
    trouble: impl Strategy<Value = Trouble>,
    within: u64,
    lengths: impl Strategy<Value = u64>,
    most: usize,
) -> impl Strategy<Value = Vec<Stretch>> {
    let stretch = (2000..within, lengths, trouble).prop_map(|(from, length, trouble)| Stretch {
        from,
        until: from + length,
        trouble,
    });
    prop::collection::vec(stretch, 0..most)
}

proptest! {
    // A case is up to twenty minutes of both members' ticks.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn two_that_live_move_nothing_however_late_their_processes_and_ec2_are(
        table in table(),
        troubles in stretches(
            prop_oneof![
                8 => (0..2_usize).prop_map(Trouble::Stall),
                4 => (0..2_usize, 0..150_u64).prop_map(|(member, by)| Trouble::Busy(member, by)),
                1 => (0..8000_u64).prop_map(Trouble::Slow),
            ],
            20_000,
            prop_oneof![4 => 1..450_u64, 1 => 1..10_000_u64],
            80,
        ),
    ) {
        let mut world = World::new(table, troubles);
        world.runs(60_000);
        prop_assert_eq!(&world.orders, &vec![]);
        for pair in &world.pairs {
            prop_assert_eq!(pair.judgement().peer, Peer::Alive);
        }
    }

    #[test]
    fn two_that_live_and_do_not_hear_each_other_move_no_route_twice(
        table in table(),
        deaf in 0..3_usize,
        takes in 1..3000_u64,
        troubles in stretches((0..2_usize).prop_map(Trouble::Stall), 100_000, 1..3000_u64, 20),
    ) {
        let mut troubles = troubles;
        let all = |trouble| Stretch { from: 5000, until: u64::MAX, trouble };
        troubles.extend([0, 1].into_iter().filter(|member| deaf == 2 || deaf == *member).map(|member| all(Trouble::Deaf(member))));
        troubles.push(Stretch { from: 0, until: u64::MAX, trouble: Trouble::Slow(takes) });
        let mut world = World::new(table, troubles);
        world.runs(20 * MINUTE);
        prop_assert!(world.moved.values().all(|times| times.len() <= 1), "{:?}", world.moved);
    }

    #[test]
    fn whatever_happens_there_are_three_moves_in_ten_minutes_and_none_within_the_hold_down(
        table in table(),
        troubles in stretches(
            prop_oneof![
                2 => (0..2_usize).prop_map(Trouble::Stall),
                4 => (0..2_usize).prop_map(Trouble::Freeze),
                4 => (0..2_usize).prop_map(Trouble::Deaf),
                2 => (0..2_usize).prop_map(Trouble::Unheard),
                2 => (0..2_usize).prop_map(Trouble::Unfit),
                1 => (0..8000_u64).prop_map(Trouble::Slow),
                1 => (0..3_usize).prop_map(Trouble::Refuses),
            ],
            20 * MINUTE,
            prop_oneof![1 => 1..2000_u64, 2 => 1..200_000_u64],
            40,
        ),
    ) {
        let mut world = World::new(table, troubles);
        world.runs(25 * MINUTE);
        for times in world.moved.values() {
            prop_assert!(times.windows(4).all(|four| four[3] - four[0] >= 10 * MINUTE), "{:?}", world.moved);
            prop_assert!(times.windows(2).all(|two| two[1] - two[0] >= MINUTE), "{:?}", world.moved);
        }
    }

    #[test]
    fn what_is_handed_over_arrives_whole_and_once_whatever_else_is_late(
        by in 0..2_usize,
        kept in 0..3_usize,
        takes in 1..1500_u64,
        refuses in prop::option::of(0..3_usize),
        troubles in stretches((0..2_usize).prop_map(Trouble::Stall), 100_000, 1..3000_u64, 20),
    ) {
        // Some routes may lead to the other one before.
        let mut table = [by; 3];
        table[kept] = if takes % 2 == 0 { by } else { 1 - by };
        let mut troubles = troubles;
        troubles.push(Stretch { from: 0, until: u64::MAX, trouble: Trouble::Slow(takes) });
        troubles.push(Stretch { from: 70_000, until: 70_000 + 180_000, trouble: Trouble::Leaves(by) });
        troubles.extend(refuses.map(|most| Stretch { from: 70_000, until: 80_000, trouble: Trouble::Refuses(most) }));
        let mut world = World::new(table, troubles);
        world.runs(70_000);
        prop_assert_eq!(&world.orders, &vec![]);
        world.runs(10 * MINUTE);
        prop_assert_eq!(world.table, [1 - by; 3], "{:?}", world.orders);
        prop_assert!(world.moved.values().all(|times| times.len() == 1), "{:?}", world.moved);
        prop_assert!(world.orders.iter().all(|(_, who)| *who == 1 - by), "{:?}", world.orders);
    }

    #[test]
    fn two_that_both_hand_over_move_nothing(table in table(), troubles in stretches((0..2_usize).prop_map(Trouble::Stall), 60_000, 1..3000_u64, 20)) {
        let mut troubles = troubles;
        troubles.extend([0, 1].map(|member| Stretch { from: 0, until: u64::MAX, trouble: Trouble::Leaves(member) }));
        let mut world = World::new(table, troubles);
        world.runs(2 * MINUTE);
        prop_assert_eq!(&world.orders, &vec![]);
        for pair in &world.pairs {
            prop_assert_eq!(pair.judgement(), Judgement { peer: Peer::Leaving, waits: Some(Wait::Leaving) });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn whoever_hands_over_takes_nothing_from_one_that_lives_and_there_are_three_moves_in_ten_minutes_whatever_happens(
        table in table(),
        troubles in stretches(
            prop_oneof![
                6 => (0..2_usize).prop_map(Trouble::Leaves),
                2 => (0..2_usize).prop_map(Trouble::Stall),
                2 => (0..2_usize).prop_map(Trouble::Freeze),
                2 => (0..2_usize).prop_map(Trouble::Deaf),
                2 => (0..2_usize).prop_map(Trouble::Unheard),
                2 => (0..2_usize).prop_map(Trouble::Unfit),
                1 => (0..8000_u64).prop_map(Trouble::Slow),
                1 => (0..3_usize).prop_map(Trouble::Refuses),
            ],
            20 * MINUTE,
            prop_oneof![1 => 1..2000_u64, 2 => 1..200_000_u64],
            40,
        ),
    ) {
        let mut world = World::new(table, troubles);
        world.runs(25 * MINUTE);
        for times in world.moved.values() {
            prop_assert!(times.windows(4).all(|four| four[3] - four[0] >= 10 * MINUTE), "{:?}", world.moved);
        }
    }
}
