//! Who is dead, and what follows.

use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;

use crate::pair::{Action, Event, Handing, Health, Judgement, Pair, Peer, Says, Wait, Ways};

const WELL: Health = Health { forwards: true, uplink: true, charon: true, ec2: true, tunnels: 1 };
const INTERVAL: u64 = 100;
const MISSES: u32 = 4;
/// From the last beat to the order: four intervals, one until the own timer fires, and one until its kernel counts as silent.
const BUDGET: u64 = 600;

/// The other member as it really is, and what EC2 would answer.
#[derive(Debug, Clone, Copy)]
struct World {
    beats: Option<Health>,
    kernel: bool,
    ways: Ways,
    ec2: bool,
    own: Health,
    /// The time between two own ticks.
    tick: u64,
    /// Whether EC2 accepts a move.
    accepts: bool,
    /// Whether it hands over.
    leaves: bool,
    /// The takeovers of which the other one knows.
    generation: u32,
}

const ITS: Ways = Ways { here: 0, there: 2, private: 1 };
const OURS: Ways = Ways { here: 2, there: 0, private: 0 };
const FINE: World = World {
    beats: Some(WELL),
    kernel: true,
    ways: ITS,
    ec2: true,
    own: WELL,
    tick: INTERVAL,
    accepts: true,
    leaves: false,
    generation: 0,
};

struct Run {
    pair: Pair,
    now: u64,
    said: Vec<(u64, Judgement)>,
    taken: Vec<u64>,
    stood_down: Vec<u64>,
    looks: usize,
    /// So often far ends were asked.
    far_asked: usize,
    /// When the wait for an answer ends, and when it began.
    asked: VecDeque<(u64, u64)>,
}

impl Run {
    fn new() -> Run {
        let pair = Pair::new(1000, Duration::from_millis(INTERVAL), MISSES);
        Run {
            pair,
            now: 1000,
            said: vec![],
            taken: vec![],
            stood_down: vec![],
            looks: 0,
            far_asked: 0,
            asked: VecDeque::new(),
        }
    }

    fn on(&mut self, world: &mut World, event: Event) {
        for action in self.pair.on(self.now, event) {
            match action {
                Action::AskKernel { .. } if world.kernel => self.on(world, Event::Answer),
                Action::AskKernel { wait } => {
                    self.asked.push_back((self.now + u64::try_from(wait.as_millis()).unwrap(), self.now));
                }
                Action::LookAtRoutes => {
                    self.looks += 1;
                    if world.ec2 {
                        self.on(world, Event::Routes { asked: self.now, ways: world.ways });
                    }
                }
                Action::TakeOver { private } => {
                    let left = if private { 0 } else { world.ways.private };
                    let known = self.pair.ways().unwrap();
                    let wanted = known.there - if private { 0 } else { known.private };
                    assert!(wanted > 0, "took what does not lead there");
                    self.taken.push(self.now);
                    if world.accepts {
                        let here = world.ways.here + world.ways.there - left;
                        world.ways = Ways { here, there: left, private: left };
                    }
                    self.on(world, Event::Moved { wanted, moved: if world.accepts { wanted } else { 0 } });
                }
                Action::AskFarEnds => self.far_asked += 1,
                Action::Say(judgement) => self.said.push((self.now, judgement)),
                Action::StandDown => self.stood_down.push(self.now),
            }
        }
    }

    /// Lets time pass in this world, whose changes are kept.
    fn lives(&mut self, world: &mut World, millis: u64) {
        let end = self.now + millis;
        while self.now < end {
            self.now += world.tick;
            if let Some(health) = world.beats {
                let holds = world.ways.there > 0;
                let (leaving, interval) = (world.leaves, Duration::from_millis(INTERVAL));
                let says = Says { health, holds, leaving, interval, generation: world.generation, ..Says::default() };
                self.on(world, Event::Beat(says));
            }
            while let Some((_, asked)) = self.asked.pop_front_if(|(due, _)| *due <= self.now) {
                self.on(world, Event::Silent { asked });
            }
            self.on(world, Event::Tick(world.own));
        }
    }

    fn after(world: World) -> (Run, World) {
        let (mut run, mut fine) = (Run::new(), FINE);
        run.lives(&mut fine, 1000);
        assert_eq!(run.pair.judgement().peer, Peer::Alive);
        let mut world = world;
        let from = run.now;
        run.lives(&mut world, 5000);
        run.said.retain(|(at, _)| *at > from);
        (run, world)
    }
}

#[test]
fn each_death_has_its_judgement_and_moves_what_it_should() {
    let unfit = Health { uplink: false, ..WELL };
    let dead = World { beats: None, kernel: false, ..FINE };
    let no_charon = Health { charon: false, ..WELL };
    let cases: [(&str, World, Peer, Option<Wait>, usize); 13] = [
        ("nothing happens", FINE, Peer::Alive, None, 0),
        ("it is gone", dead, Peer::Dead, Some(Wait::NothingThere), 1),
        ("its agent is gone", World { beats: None, ..FINE }, Peer::AgentDead, None, 0),
        ("it lost its uplink", World { beats: Some(unfit), ..FINE }, Peer::Unfit(unfit), Some(Wait::NothingThere), 1),
        (
            "it does not forward",
            World { beats: Some(Health { forwards: false, ..WELL }), ..FINE },
            Peer::Unfit(Health { forwards: false, ..WELL }),
            Some(Wait::NothingThere),
            1,
        ),
        ("its charon is away: NAT goes on", World { beats: Some(no_charon), ..FINE }, Peer::NoCharon, None, 0),
        ("the one that stood by is gone", World { ways: OURS, ..dead }, Peer::Dead, Some(Wait::NothingThere), 0),
        (
            "both are unfit",
            World { beats: Some(unfit), own: unfit, ..FINE },
            Peer::Unfit(unfit),
            Some(Wait::Own(unfit)),
            0,
        ),
        (
            "it is gone, and so is our charon",
            World { own: no_charon, ..dead },
            Peer::Dead,
            Some(Wait::Own(no_charon)),
            0,
        ),
        (
            "it is gone, and EC2 has been silent",
            World { own: Health { ec2: false, ..WELL }, ..dead },
            Peer::Dead,
            Some(Wait::Own(Health { ec2: false, ..WELL })),
            0,
        ),
        ("it is gone, and EC2 does not answer now", World { ec2: false, ..dead }, Peer::Dead, Some(Wait::Routes), 0),
        ("it is gone, and we sleep all the time", World { tick: 3 * INTERVAL, ..dead }, Peer::Alive, None, 0),
        ("neither is led to", World { ways: Ways::default(), ..dead }, Peer::Dead, Some(Wait::NothingThere), 0),
    ];
    for (name, world, peer, waits, moves) in cases {
        let (run, _) = Run::after(world);
        assert_eq!(run.pair.judgement(), Judgement { peer, waits }, "{name}");
        assert_eq!(run.taken.len(), moves, "{name}");
        for (_, judgement) in run.said {
            let line = judgement.to_string();
            assert!(!line.is_empty() && line.chars().all(|c| (' '..='~').contains(&c)), "{line}");
        }
    }
}

#[test]
fn one_that_was_never_heard_is_not_judged() {
    let (mut run, mut world) = (Run::new(), World { beats: None, kernel: false, ..FINE });
    run.lives(&mut world, 60_000);
    assert_eq!((run.pair.judgement().peer, run.taken.len(), run.looks), (Peer::Unheard, 0, 0));
}

#[test]
fn the_silence_of_a_kernel_that_never_answered_means_nothing() {
    let (mut run, mut closed) = (Run::new(), World { kernel: false, ..FINE });
    run.lives(&mut closed, 200_000);
    closed.beats = None;
    run.lives(&mut closed, 5000);
    assert_eq!((run.pair.judgement().waits, run.taken.len()), (Some(Wait::Mute), 0));
    assert!(run.pair.judgement().to_string().contains("pair.port"));
}

/// Each time that it oversleeps it begins its judgement anew, and asks the kernel of one that is dead as if all were well.
#[test]
fn a_kernel_that_is_silent_while_no_beat_comes_is_dead_and_not_mute_however_often_this_gateway_oversleeps() {
    let (mut run, mut world) = (Run::new(), FINE);
    run.lives(&mut world, 1000);
    let mut dead = World { beats: None, kernel: false, ec2: false, ..FINE };
    for slept in [35_000, 6000, 6000, 6000, 6000] {
        dead.tick = slept;
        run.lives(&mut dead, slept);
        dead.tick = INTERVAL;
        run.lives(&mut dead, 2000);
        assert_eq!(run.pair.judgement(), Judgement { peer: Peer::Dead, waits: Some(Wait::Routes) });
    }
    dead.ec2 = true;
    run.lives(&mut dead, 2000);
    assert_eq!(run.taken.len(), 1);
    // Nor is it taken for deaf when it is back and EC2 has not answered it yet.
    let mut back = World { beats: Some(Health { ec2: false, ..WELL }), ways: OURS, ..FINE };
    run.lives(&mut back, INTERVAL);
    assert_eq!(run.pair.judgement().peer, Peer::Alive);
}

#[test]
fn it_is_taken_over_within_the_budget_and_an_agents_death_is_no_death_until_its_kernel_dies_too() {
    let (mut run, mut world) = Run::after(World { beats: None, ..FINE });
    assert_eq!(run.pair.judgement().peer, Peer::AgentDead);
    world.kernel = false;
    let died = run.now;
    run.lives(&mut world, 5000);
    assert!(run.taken[0] - died <= BUDGET, "{} ms", run.taken[0] - died);

    let (mut run, mut fine) = (Run::new(), FINE);
    run.lives(&mut fine, 1000);
    let (died, mut dead) = (run.now, World { beats: None, kernel: false, ..FINE });
    run.lives(&mut dead, 1000);
    assert!(run.taken[0] - died <= BUDGET, "{} ms", run.taken[0] - died);
}

#[test]
fn lost_beats_and_lost_answers_alone_move_nothing() {
    let (mut run, mut world) = (Run::new(), FINE);
    run.lives(&mut world, 1000);
    for round in 0..50 {
        let mut lost = World { beats: None, kernel: round % 2 == 0, ..world };
        run.lives(&mut lost, 200);
        run.lives(&mut world, 100);
    }
    assert_eq!((run.taken.len(), run.pair.judgement().peer), (0, Peer::Alive));
    assert!(run.looks <= 16, "{} calls of EC2 in 15 s of a bad network", run.looks);
}

#[test]
fn a_timer_that_fired_late_judges_nobody_and_one_that_is_well_again_does() {
    let (mut run, mut world) = (Run::new(), FINE);
    run.lives(&mut world, 1000);
    let mut dead = World { beats: None, kernel: false, ..FINE };
    // Stopped for ten seconds, as a machine without credits is; what has come meanwhile is not there yet.
    run.now += 10_000;
    run.on(&mut dead, Event::Tick(WELL));
    assert_eq!((run.taken.len(), run.pair.judgement().peer), (0, Peer::Alive));
    run.lives(&mut dead, 300);
    assert_eq!(run.taken.len(), 0, "silence counts from the awakening");
    run.lives(&mut dead, 300);
    assert_eq!(run.taken.len(), 1);
}

#[test]
fn the_one_that_returns_takes_nothing_back_and_the_loser_stands_down() {
    let (mut run, mut world) = Run::after(World { beats: None, kernel: false, ..FINE });
    assert_eq!((world.ways, run.taken.len()), (OURS, 1));
    (world.beats, world.kernel) = (Some(WELL), true);
    run.lives(&mut world, 120_000);
    assert_eq!((run.taken.len(), run.stood_down.len(), run.pair.judgement().peer), (1, 0, Peer::Alive));
    // The other one has taken the routes, and says so: EC2 is asked who is right.
    world.ways = ITS;
    run.lives(&mut world, 3000);
    assert_eq!((run.stood_down.len(), run.taken.len()), (1, 1));
    // It dies at once: the move a moment ago counts, whoever made it.
    (world.beats, world.kernel) = (None, false);
    let from = run.now;
    run.lives(&mut world, 30_000);
    assert_eq!((run.taken.len(), run.pair.judgement().waits), (1, Some(Wait::HoldDown)));
    run.lives(&mut world, 35_000);
    assert!(run.taken.len() == 2 && run.taken[1] - from < 61_000);
}

#[test]
fn one_that_hears_nothing_is_found_out_by_its_own_word_and_its_mute_kernel_together() {
    let (mut run, mut world) = (Run::new(), FINE);
    run.lives(&mut world, 40_000);
    for (beats, kernel) in [(Health { ec2: false, ..WELL }, true), (WELL, false), (WELL, true)] {
        (world.beats, world.kernel) = (Some(beats), kernel);
        run.lives(&mut world, 120_000);
        assert_eq!((run.taken.len(), run.pair.judgement().peer), (0, Peer::Alive));
    }
    let began = run.now;
    (world.beats, world.kernel) = (Some(Health { ec2: false, ..WELL }), false);
    run.lives(&mut world, 60_000);
    assert_eq!((run.taken.len(), run.pair.judgement().peer, world.ways), (1, Peer::Deaf, OURS));
    assert!((10_000..45_000).contains(&(run.taken[0] - began)), "{} ms", run.taken[0] - began);
    (world.beats, world.kernel) = (Some(WELL), true);
    run.lives(&mut world, 120_000);
    assert_eq!((run.taken.len(), run.stood_down.len(), run.pair.judgement().peer), (1, 0, Peer::Alive));
}

#[test]
fn a_member_that_is_silent_for_an_hour_costs_ec2_nothing() {
    let dead = World { beats: None, kernel: false, ..FINE };
    let unable = Health { charon: false, ..WELL };
    for world in [World { beats: None, ..FINE }, dead, World { ways: OURS, ..dead }, World { own: unable, ..dead }] {
        let (mut run, mut fine) = (Run::new(), FINE);
        run.lives(&mut fine, 1000);
        let (mut world, before) = (world, run.looks);
        run.lives(&mut world, 3_600_000);
        assert!(run.looks - before <= 5, "{} calls in {world:?}", run.looks - before);
    }
}

#[test]
fn routes_to_the_private_network_are_taken_once_a_tunnel_is_up() {
    let without = Health { tunnels: 0, ..WELL };
    let (mut run, mut world) = Run::after(World { beats: None, kernel: false, own: without, ..FINE });
    assert_eq!((run.taken.len(), world.ways), (1, Ways { here: 1, there: 1, private: 1 }));
    assert_eq!(run.pair.judgement().waits, Some(Wait::Own(without)));
    world.own = WELL;
    run.lives(&mut world, 61_000);
    assert_eq!((run.taken.len(), world.ways), (2, OURS));
}

#[test]
fn two_that_live_and_do_not_hear_each_other_move_the_routes_once() {
    let (mut run, mut world) = (Run::new(), World { ways: OURS, ..FINE });
    let asked = run.now;
    run.on(&mut world, Event::Routes { asked, ways: OURS });
    run.lives(&mut world, 1000);
    // The network between the two is gone, and EC2 reaches both: the other one takes the routes.
    (world.beats, world.kernel) = (None, false);
    run.lives(&mut world, 1000);
    assert_eq!(run.pair.judgement().peer, Peer::Dead);
    world.ways = ITS;
    let asked = run.now;
    run.on(&mut world, Event::Routes { asked, ways: ITS });
    run.lives(&mut world, 700_000);
    assert_eq!((run.stood_down.len(), run.taken.len(), run.pair.judgement().peer), (1, 0, Peer::Unheard));
    // Once it is heard again, its death counts as before.
    (world.beats, world.kernel) = (Some(WELL), true);
    run.lives(&mut world, 60_000);
    (world.beats, world.kernel) = (None, false);
    run.lives(&mut world, 1000);
    assert_eq!(run.taken.len(), 1);
}

#[test]
fn one_that_starts_anew_remembers_the_moves_of_before() {
    let dead = World { beats: None, kernel: false, ..FINE };
    for (moves, waits, taken) in
        [(vec![], Wait::NothingThere, 1), (vec![400], Wait::HoldDown, 0), (vec![400, 410, 420], Wait::HoldDown, 0)]
    {
        let (mut run, mut fine) = (Run::new(), FINE);
        run.pair = run.pair.remembering(moves.clone());
        assert_eq!(run.pair.moves(), moves);
        run.lives(&mut fine, 1000);
        run.lives(&mut { dead }, 5000);
        assert_eq!((run.pair.judgement().waits, run.taken.len()), (Some(waits), taken), "{moves:?}");
        run.lives(&mut { dead }, 70_000);
        let stopped = moves.len() == 3;
        assert_eq!(run.pair.judgement().waits == Some(Wait::TooMany), stopped, "{moves:?}");
    }
}

#[test]
fn after_three_moves_in_ten_minutes_it_stops_and_says_so() {
    let (mut run, mut world) = (Run::new(), World { ways: OURS, ..FINE });
    let asked = run.now;
    run.on(&mut world, Event::Routes { asked, ways: OURS });
    run.lives(&mut world, 1000);
    // The other one takes them, it takes them back, and so does the other one: each is a move.
    for _ in 0..2 {
        (world.beats, world.kernel, world.ways) = (Some(WELL), true, ITS);
        run.lives(&mut world, 62_000);
        (world.beats, world.kernel) = (None, false);
        run.lives(&mut world, 62_000);
    }
    assert_eq!((run.taken.len(), run.stood_down.len()), (1, 2), "{:?}", run.taken);
    assert_eq!(run.pair.judgement().waits, Some(Wait::TooMany));
    run.lives(&mut world, 600_000);
    assert_eq!(run.taken.len(), 2, "a window later it may again");
}

#[test]
fn a_move_that_ec2_refuses_is_tried_again_and_not_in_a_hurry() {
    let (run, _) = Run::after(World { beats: None, kernel: false, accepts: false, ..FINE });
    assert!((2..=3).contains(&run.taken.len()), "{:?}", run.taken);
    assert!(run.taken.windows(2).all(|two| two[1] - two[0] >= 2000));
}

#[test]
fn what_the_other_one_hands_over_is_taken_at_once_and_in_the_hold_down_too_but_not_a_fourth_time() {
    let (mut run, mut world) = (Run::new(), FINE);
    run.lives(&mut world, 1000);
    // It is heard at the next tick, EC2 is asked, and its answer counts at the tick after that.
    for handover in 1..=3 {
        (world.leaves, world.ways) = (true, ITS);
        let (from, asked) = (run.now, run.now);
        run.on(&mut world, Event::Routes { asked, ways: ITS });
        run.lives(&mut world, 1000);
        assert_eq!(run.taken.len(), handover.min(2), "{:?}", run.taken);
        assert!(handover == 3 || run.taken[handover - 1] - from <= 4 * INTERVAL, "{:?}", run.taken);
        world.leaves = false;
        run.lives(&mut world, 5000);
    }
    assert_eq!(
        run.stood_down.len(),
        2,
        "before the second and the third the other one had taken them, and that were moves, too"
    );
    world.leaves = true;
    run.lives(&mut world, 1000);
    assert_eq!(run.pair.judgement(), Judgement { peer: Peer::Leaving, waits: Some(Wait::TooMany) });
    let looks = run.looks;
    run.lives(&mut world, 570_000);
    assert_eq!((run.taken.len(), run.looks), (2, looks), "EC2 is not asked while nothing could move");
    run.lives(&mut world, 30_000);
    assert_eq!(run.taken.len(), 3);
}

#[test]
fn nothing_is_handed_over_to_one_that_is_not_well_and_it_is_taken_whole() {
    let unwell = [
        Health { charon: false, ..WELL },
        Health { ec2: false, ..WELL },
        Health { uplink: false, ..WELL },
        // Without a tunnel it could take the default route, but not the rest.
        Health { tunnels: 0, ..WELL },
    ];
    for own in unwell {
        let (run, world) = Run::after(World { leaves: true, own, ..FINE });
        assert_eq!((run.taken.len(), world.ways), (0, ITS), "{own:?}");
        assert_eq!(run.pair.judgement(), Judgement { peer: Peer::Leaving, waits: Some(Wait::Own(own)) });
    }
    let only_default = Ways { private: 0, ..ITS };
    let own = Health { tunnels: 0, ..WELL };
    let (run, world) = Run::after(World { leaves: true, own, ways: only_default, ..FINE });
    assert_eq!((run.taken.len(), world.ways), (1, OURS));
}

#[test]
fn the_one_that_hands_over_says_what_becomes_of_it_and_takes_only_from_one_that_is_dead() {
    let unfit = Health { charon: false, ..WELL };
    let hands = |its: Health| {
        let (mut run, mut world) = (Run::new(), World { ways: OURS, ..FINE });
        let asked = run.now;
        run.on(&mut world, Event::Routes { asked, ways: OURS });
        run.on(&mut world, Event::Leaving(true));
        world.beats = Some(its);
        run.lives(&mut world, 3000);
        (run, world)
    };
    let (run, _) = hands(WELL);
    assert_eq!(run.pair.judgement().waits, Some(Wait::Handing(Handing::Taking)));
    let (run, _) = hands(unfit);
    assert_eq!(run.pair.judgement().waits, Some(Wait::Handing(Handing::Unable(unfit))));
    assert!(run.pair.judgement().to_string().ends_with("the other one is not well enough: its charon is away"));
    // The other one dies: nobody else is there. It returns, and takes back what is still handed over.
    let (mut run, mut world) = (Run::new(), FINE);
    run.on(&mut world, Event::Leaving(true));
    run.lives(&mut world, 1000);
    (world.beats, world.kernel) = (None, false);
    run.lives(&mut world, 5000);
    assert_eq!((run.taken.len(), world.ways), (1, OURS));
    (world.beats, world.kernel) = (Some(WELL), true);
    run.lives(&mut world, 1000);
    assert_eq!(run.pair.judgement(), Judgement { peer: Peer::Alive, waits: Some(Wait::Handing(Handing::Taking)) });
    // To and fro: each is a move of its own, and there are three.
    for _ in 0..2 {
        world.ways = ITS;
        let asked = run.now;
        run.on(&mut world, Event::Routes { asked, ways: ITS });
        run.lives(&mut world, 61_000);
        (world.beats, world.kernel) = (None, false);
        run.lives(&mut world, 5000);
        (world.beats, world.kernel) = (Some(WELL), true);
        run.lives(&mut world, 1000);
    }
    assert_eq!((run.taken.len(), run.stood_down.len()), (2, 2), "{:?} {:?}", run.taken, run.stood_down);
    let asked = run.now;
    world.ways = OURS;
    run.on(&mut world, Event::Routes { asked, ways: OURS });
    run.lives(&mut world, 1000);
    assert_eq!(run.pair.judgement().waits, Some(Wait::Handing(Handing::TooMany)));
    let both = World { leaves: true, ways: OURS, ..FINE };
    let mut run = Run::new();
    run.on(&mut FINE.clone(), Event::Leaving(true));
    run.lives(&mut both.clone(), 5000);
    assert_eq!(run.pair.judgement(), Judgement { peer: Peer::Leaving, waits: Some(Wait::Leaving) });
}

#[test]
fn what_is_handed_over_in_parts_is_one_move_for_both() {
    // For the one that takes, EC2 does half of it at first.
    let (mut run, mut world) = (Run::new(), FINE);
    run.lives(&mut world, 1000);
    (world.leaves, world.accepts) = (true, false);
    run.lives(&mut world, 300);
    assert_eq!(run.taken.len(), 1);
    world.ways = Ways { here: 1, there: 1, private: 1 };
    run.on(&mut world, Event::Moved { wanted: 2, moved: 1 });
    world.accepts = true;
    run.lives(&mut world, 10_000);
    assert_eq!((run.taken.len(), world.ways), (2, OURS));
    // For the one that hands over, EC2 shows it bit by bit, and it was one of three.
    let mut run = Run::new();
    let mut world = World { ways: OURS, ..FINE };
    run.on(&mut world, Event::Leaving(true));
    for (here, there) in [(3, 0), (2, 1), (1, 2), (0, 3)] {
        run.now += 100;
        let asked = run.now;
        run.on(&mut world, Event::Routes { asked, ways: Ways { here, there, private: 0 } });
    }
    run.on(&mut world, Event::Leaving(false));
    world.ways = ITS;
    run.lives(&mut world, 62_000);
    (world.beats, world.kernel) = (None, false);
    run.lives(&mut world, 5000);
    assert_eq!((run.stood_down.len(), run.taken.len()), (1, 1), "{:?}", run.pair.judgement());
}

#[test]
fn an_old_word_that_the_other_one_hands_over_does_not_count_after_a_sleep() {
    let (mut run, mut world) = (Run::new(), FINE);
    run.lives(&mut world, 1000);
    let says =
        Says { health: WELL, holds: true, leaving: true, interval: Duration::from_millis(INTERVAL), ..Says::default() };
    run.on(&mut world, Event::Beat(says));
    run.now += 10_000;
    run.on(&mut world, Event::Tick(WELL));
    run.now += INTERVAL;
    run.on(&mut world, Event::Tick(WELL));
    assert_eq!((run.taken.len(), run.pair.judgement().peer), (0, Peer::Alive));
    world.leaves = true;
    run.lives(&mut world, 3 * INTERVAL);
    assert_eq!(run.taken.len(), 1);
}

/// A stretch of time in some world.
fn stretch() -> impl Strategy<Value = (World, u64)> {
    let health = || prop_oneof![3 => Just(WELL), 1 => any::<[bool; 4]>().prop_flat_map(|[forwards, uplink, charon, ec2]| (0..3_u16).prop_map(move |tunnels| Health { forwards, uplink, charon, ec2, tunnels }))];
    let ways = prop_oneof![2 => Just(ITS), 1 => Just(OURS), 1 => Just(Ways::default())];
    let tick = prop_oneof![4 => Just(INTERVAL), 1 => Just(150_u64), 1 => Just(1000_u64)];
    let worlds = (proptest::option::of(health()), any::<bool>(), ways, any::<bool>(), health(), tick, any::<bool>());
    let worlds = worlds.prop_map(|(beats, kernel, ways, ec2, own, tick, accepts)| World {
        beats,
        kernel,
        ways,
        ec2,
        own,
        tick,
        accepts,
        leaves: false,
        generation: 0,
    });
    (worlds, prop_oneof![0..1000_u64, 0..100_000_u64])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_two_moves_come_within_the_hold_down_and_no_four_within_ten_minutes(stretches in prop::collection::vec(stretch(), 1..30)) {
        let (mut run, mut moves) = (Run::new(), Vec::new());
        for (mut world, millis) in stretches {
            // Two refused attempts are no move.
            world.accepts = true;
            run.lives(&mut world, millis);
            moves.clone_from(&run.taken);
        }
        prop_assert!(moves.windows(2).all(|two| two[1] - two[0] >= 60_000), "{moves:?}");
        prop_assert!(moves.windows(4).all(|four| four[3] - four[0] >= 600_000), "{moves:?}");
        for stood in &run.stood_down {
            prop_assert!(run.taken.iter().all(|taken| taken < stood || taken - stood >= 60_000));
        }
    }

    #[test]
    fn nothing_moves_while_the_others_kernel_answers_or_the_own_timer_is_late(
        stretches in prop::collection::vec(stretch(), 1..30),
        late in any::<bool>(),
    ) {
        let mut run = Run::new();
        for (mut world, millis) in stretches {
            if late {
                world.tick = world.tick.max(2 * INTERVAL + 1);
                world.beats = world.beats.filter(|health| health.is_fit());
            } else {
                world.kernel = true;
                world.beats = world.beats.map(|health| Health { forwards: true, uplink: true, ..health });
            }
            run.lives(&mut world, millis);
        }
        prop_assert_eq!(&run.taken, &Vec::<u64>::new());
    }

    #[test]
    fn whoever_is_not_well_takes_nothing(stretches in prop::collection::vec(stretch(), 1..30)) {
        let mut run = Run::new();
        for (mut world, millis) in stretches {
            if world.own.is_able() {
                world.own.ec2 = false;
            }
            run.lives(&mut world, millis);
        }
        prop_assert_eq!(&run.taken, &Vec::<u64>::new());
    }

    #[test]
    fn one_that_is_dead_is_taken_over_within_the_budget_by_one_that_is_well_whatever_was_before(
        stretches in prop::collection::vec(stretch(), 0..20),
    ) {
        let mut run = Run::new();
        for (mut world, millis) in stretches {
            run.lives(&mut world, millis);
        }
        // Long enough for all that the past may hold against a move. EC2 is asked each half minute, and so shows what moved meanwhile.
        let mut fine = FINE;
        run.lives(&mut fine, 350_000);
        let (asked, ways) = (run.now, fine.ways);
        run.on(&mut fine, Event::Routes { asked, ways });
        run.lives(&mut fine, 350_000);
        let (died, before) = (run.now, run.taken.len());
        let mut dead = World { beats: None, kernel: false, ..FINE };
        run.lives(&mut dead, BUDGET);
        prop_assert_eq!(run.taken.len(), before + 1);
        prop_assert!(run.taken[before] - died <= BUDGET);
    }
}

/// What far ends are told: whether this gateway holds the routes, and the generation.
fn word(run: &Run) -> (bool, u32) {
    (run.pair.holds(), run.pair.generation())
}

#[test]
fn a_takeover_is_one_more_than_all_that_were_heard_of_and_another_one_once_it_is_complete() {
    let dead = World { beats: None, kernel: false, ..FINE };
    let (run, _) = Run::after(dead);
    assert_eq!(word(&run), (true, 2));
    // It has heard of seven from the other one, and of nine from a far end.
    let (mut run, mut world) = (Run::new(), World { generation: 7, ..FINE });
    run.lives(&mut world, 1000);
    assert_eq!(word(&run), (false, 7));
    run.on(&mut world, Event::FarEnds { known: 9, follows: true });
    let mut world = World { generation: 7, ..dead };
    run.lives(&mut world, 5000);
    assert_eq!(word(&run), (true, 11));
    // What was said at the decision is not said again where most far ends know it by then.
    let (mut run, mut world) = Run::after(World { accepts: false, ..dead });
    run.on(&mut world, Event::FarEnds { known: 1, follows: true });
    run.lives(&mut World { accepts: true, ..dead }, 60_000);
    assert_eq!((word(&run), run.taken.is_empty(), run.pair.ways().unwrap().there), ((true, 1), false, 0));
    // A move that EC2 does not accept, or of which some routes are still to follow, is not complete.
    let (mut run, mut world) = Run::after(World { accepts: false, ..dead });
    assert_eq!(word(&run), (true, 1));
    run.on(&mut world, Event::Moved { wanted: 2, moved: 1 });
    assert_eq!(word(&run), (true, 1));
}

#[test]
fn far_ends_are_asked_in_doubt_until_one_or_ec2_is_heard_and_not_for_ever() {
    let dead = World { beats: None, kernel: false, ec2: false, ..FINE };
    for (answer, times) in [
        (None, 2..=7),
        (Some(Event::FarEnds { known: 0, follows: true }), 1..=1),
        (Some(Event::Routes { asked: 2201, ways: Ways::default() }), 1..=1),
    ] {
        let (mut run, mut fine) = (Run::new(), FINE);
        run.lives(&mut fine, 1000);
        run.lives(&mut dead.clone(), 2 * INTERVAL);
        assert_eq!(run.far_asked, 1, "as soon as it is in doubt");
        run.now += 1;
        answer.into_iter().for_each(|event| run.on(&mut dead.clone(), event));
        run.lives(&mut dead.clone(), 60_000);
        assert!(times.contains(&run.far_asked), "{answer:?}: {}", run.far_asked);
    }
}

#[test]
fn far_ends_are_told_of_a_takeover_before_ec2_has_answered_and_not_more_often_than_routes_may_move() {
    let dead = World { beats: None, kernel: false, ec2: false, ..FINE };
    let (mut run, mut fine) = (Run::new(), FINE);
    run.lives(&mut fine, 1000);
    run.on(&mut fine, Event::FarEnds { known: 0, follows: true });
    run.lives(&mut dead.clone(), BUDGET);
    assert_eq!(word(&run), (false, 0), "nothing reaches it, perhaps");
    run.on(&mut dead.clone(), Event::FarEnds { known: 0, follows: true });
    run.lives(&mut dead.clone(), INTERVAL);
    assert_eq!((word(&run), run.taken.len(), run.pair.moves().len()), ((true, 1), 0, 1), "a far end was heard");
    // It flaps, and nobody else has spoken of a takeover: far ends follow already.
    for _ in 0..20 {
        run.lives(&mut World { ec2: false, generation: 1, ..FINE }, 1000);
        run.lives(&mut dead.clone(), 1000);
    }
    assert_eq!((word(&run), run.pair.moves().len()), ((true, 1), 1), "within the hold-down");
    // The other one takes over each time that it is back: then the limit holds.
    for generation in 2..20 {
        run.lives(&mut World { ec2: false, generation: 10 * generation, ..FINE }, 61_000);
        run.lives(&mut dead.clone(), 1000);
        run.on(&mut dead.clone(), Event::FarEnds { known: 0, follows: true });
        run.lives(&mut dead.clone(), 1000);
    }
    assert_eq!(run.pair.moves().len(), 3);
    assert!(!run.pair.holds());
    // Without routes in the VPC there is nothing that EC2 would show, and far ends decide alone.
    let none = World { ways: Ways::default(), ..FINE };
    let (mut run, mut world) = (Run::new(), none);
    run.lives(&mut world, 1000);
    run.on(&mut world, Event::Routes { asked: run.now, ways: Ways::default() });
    run.lives(&mut World { beats: None, kernel: false, ..none }, 60_000);
    assert_eq!((word(&run), run.taken.len(), run.pair.moves().len()), ((true, 1), 0, 1));
    // Nobody is told by one whose tunnels carry nothing.
    let (run, _) = Run::after(World { own: Health { tunnels: 0, ..WELL }, ..dead });
    assert_eq!(word(&run), (false, 0));
}

#[test]
fn one_that_is_cut_off_orders_nothing_that_would_come_true_once_its_network_is_back() {
    // EC2 answered a moment before: what it said then does not show that this gateway reaches anybody now.
    let (mut run, mut fine) = (Run::new(), FINE);
    run.lives(&mut fine, 1000);
    run.on(&mut fine, Event::Routes { asked: run.now, ways: ITS });
    run.lives(&mut World { beats: None, kernel: false, ec2: false, ..FINE }, 5000);
    assert_eq!(run.pair.judgement(), Judgement { peer: Peer::Dead, waits: Some(Wait::Routes) });
    assert_eq!((run.taken.len(), word(&run)), (0, (false, 0)));
    run.lives(&mut fine, 5000);
    assert_eq!((run.taken.len(), run.pair.judgement().peer), (0, Peer::Alive));
}

#[test]
fn a_hub_that_has_the_routes_says_so_once_there_are_two_and_where_none_has_them_it_is_the_first() {
    let of = |ways: Ways, first: bool, generation: u32| {
        let (mut run, mut world) = (Run::new(), World { ways, generation, ..FINE });
        run.pair = Pair::new(1000, Duration::from_millis(INTERVAL), MISSES).of_hubs(first);
        run.lives(&mut world, 1000);
        assert_eq!(word(&run), (false, generation), "EC2 has not said where the routes lead");
        run.on(&mut world, Event::Routes { asked: run.now, ways });
        run.lives(&mut world, 1000);
        word(&run)
    };
    let shared = Ways { here: 1, there: 1, private: 1 };
    for first in [true, false] {
        assert_eq!(of(OURS, first, 0), (true, 1));
        assert_eq!(of(ITS, first, 0), (false, 0));
        assert_eq!(of(Ways::default(), first, 0), (first, u32::from(first)));
        assert_eq!(of(shared, first, 0), (true, u32::from(first)));
        assert_eq!(of(ITS, first, 3), (false, 3), "somebody has spoken");
    }
    let (mut run, mut world) = (Run::new(), World { ways: OURS, ..FINE });
    run.lives(&mut world, 1000);
    run.on(&mut world, Event::Routes { asked: run.now, ways: OURS });
    run.lives(&mut world, 1000);
    assert_eq!(word(&run), (true, 0), "the hub chooses between two clients by itself");
}

#[test]
fn nothing_is_handed_over_to_one_that_reaches_fewer_parties_and_the_dead_ones_routes_are_taken_all_the_same() {
    let (few, many) = (Health { tunnels: 4, ..WELL }, Health { tunnels: 5, ..WELL });
    let hands = World { leaves: true, beats: Some(many), own: few, ..FINE };
    let (run, _) = Run::after(hands);
    assert_eq!(run.pair.judgement().waits, Some(Wait::Fewer { own: 4, its: 5 }));
    assert_eq!((word(&run), run.taken.len()), ((false, 0), 0), "who lives carries them all");
    let (run, _) = Run::after(World { own: many, ..hands });
    assert_eq!(run.taken.len(), 1);
    let (run, _) = Run::after(World { beats: None, kernel: false, ..hands });
    assert_eq!(run.taken.len(), 1, "it is dead");
    // The one that hands over says it, too.
    let (mut run, mut world) = (Run::new(), World { ways: OURS, own: many, beats: Some(few), ..FINE });
    run.on(&mut world, Event::Routes { asked: run.now, ways: OURS });
    run.on(&mut world, Event::Leaving(true));
    run.lives(&mut world, 1000);
    assert_eq!(run.pair.judgement().waits, Some(Wait::Handing(Handing::Fewer { its: 4, own: 5 })));
}

#[test]
fn the_death_of_one_that_had_no_routes_is_told_to_far_ends_once() {
    let ours = World { ways: OURS, ..FINE };
    let (mut run, mut world) = (Run::new(), ours);
    run.lives(&mut world, 1000);
    world.beats = None;
    world.kernel = false;
    run.lives(&mut world, 60_000);
    assert_eq!(word(&run), (true, 1), "far ends may still send to it");
    assert!(run.taken.is_empty());
    let mut world = World { generation: 1, ..ours };
    run.lives(&mut world, 1000);
    assert_eq!(word(&run), (true, 1));
    // One that lives and does not carry traffic by its own word beats on.
    let (run, _) = Run::after(World { beats: Some(Health { uplink: false, ..WELL }), ..ours });
    assert_eq!(word(&run), (true, 1));
    // One that is not well itself says nothing.
    let (mut run, mut world) = (Run::new(), World { own: Health { charon: false, ..WELL }, ..ours });
    run.lives(&mut world, 1000);
    (world.beats, world.kernel) = (None, false);
    run.lives(&mut world, 60_000);
    assert_eq!(word(&run), (true, 0));
}

#[test]
fn one_that_returns_does_not_say_that_it_holds_what_was_taken_meanwhile() {
    // It was cut off, had all routes, and EC2's word is from before.
    let (mut run, mut world) = (Run::new(), World { ways: OURS, ..FINE });
    run.lives(&mut world, 1000);
    run.on(&mut world, Event::Routes { asked: run.now, ways: OURS });
    assert_eq!(word(&run), (true, 0));
    world.ec2 = false;
    world.generation = 1;
    world.ways = ITS;
    run.lives(&mut world, 100);
    assert_eq!(word(&run), (false, 1), "it has heard that the other one took over, and EC2 does not answer it");
    run.lives(&mut world, 5000);
    assert_eq!(word(&run), (false, 1));
    world.ec2 = true;
    run.lives(&mut world, 5000);
    assert_eq!(word(&run), (false, 1));
    assert_eq!(run.stood_down.len(), 1);
    // Where EC2 says that the routes are here still, it does: an operator has moved them, or it has started anew.
    world.ways = OURS;
    world.generation = 2;
    run.lives(&mut world, 5000);
    run.on(&mut world, Event::Routes { asked: run.now, ways: OURS });
    assert_eq!(word(&run), (true, 3));
}

#[test]
fn nobody_speaks_to_far_ends_of_a_takeover_that_the_other_one_has_made_while_ec2_shows_the_routes_where_they_were() {
    let had = || {
        let (mut run, mut world) = (Run::new(), World { ways: OURS, ..FINE });
        run.lives(&mut world, 1000);
        run.on(&mut world, Event::Routes { asked: run.now, ways: OURS });
        assert!(run.pair.word().holds);
        (run, world)
    };
    let (mut run, mut world) = had();
    let interval = Duration::from_millis(INTERVAL);
    let says = Says { health: WELL, holds: true, leaving: false, interval, generation: 1, ..Says::default() };
    run.on(&mut world, Event::Beat(says));
    run.on(&mut world, Event::Routes { asked: run.now, ways: OURS });
    assert_eq!((word(&run), run.pair.word().holds), ((true, 1), false));
    // It may hear of it from far ends first, which follow the other one now.
    let (mut run, mut world) = had();
    run.on(&mut world, Event::FarEnds { known: 0, follows: true });
    run.on(&mut world, Event::FarEnds { known: 1, follows: false });
    run.on(&mut world, Event::Routes { asked: run.now, ways: OURS });
    assert_eq!((word(&run), run.pair.word().holds), ((true, 1), false));
    // One that has just started cannot tell, and says what EC2 says, unless it hands over.
    let (mut run, mut world) = had();
    run.on(&mut world, Event::FarEnds { known: 1, follows: false });
    run.on(&mut world, Event::Routes { asked: run.now, ways: OURS });
    assert!(run.pair.word().holds);
    run.on(&mut world, Event::Leaving(true));
    assert!(!run.pair.word().holds);
    let (mut run, mut world) = had();
    run.on(&mut world, Event::Leaving(true));
    run.on(&mut world, Event::FarEnds { known: 1, follows: false });
    run.on(&mut world, Event::Routes { asked: run.now, ways: OURS });
    assert_eq!((word(&run), run.pair.word().holds), ((true, 1), false));
    // Its own it has made, and yet it outbids nobody.
    let (mut run, mut world) = Run::after(World { beats: None, kernel: false, ..FINE });
    assert!(run.pair.word().mine);
    run.on(&mut world, Event::Leaving(true));
    assert!(run.pair.word().holds && !run.pair.word().mine);
}
