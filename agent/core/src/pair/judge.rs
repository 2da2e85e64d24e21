//! Who is dead, and what follows: a state machine without IO, a clock or chance.
//!
//! It judges late and moves little. Whoever is in doubt, about itself or about the other, does nothing: both members forward all the
//! time, so that a route that stays where it is harms less than one that moves without need.

use std::{fmt, time::Duration};

use super::{Health, Says};

/// After a move, whoever made it, nothing moves for so long.
const HOLD_DOWN: u64 = 60_000;
/// Within [`WINDOW`] there are at most so many moves.
const MOVES: usize = 3;
const WINDOW: u64 = 600_000;
/// How old EC2's word on the routes may be when a route is moved.
const FRESH: u64 = 1_500;
/// EC2 is asked for that no more often than this, and only as long as something could be moved.
const SPACING: u64 = 1_000;
/// Where both believe that they have a route, it is asked no more often than this: settings may differ for good.
const DISPUTED: u64 = 10_000;
/// The other member's kernel is asked while all is well, too, so that its silence means something.
const PROBE: u64 = 30_000;
/// After an attempt that EC2 did not accept, the next one waits for so long; after each further one twice as long, up to [`RARELY`].
const AGAIN: u64 = 2_000;
const RARELY: u64 = 64_000;
/// charon counts as away after so long: one that is restarted is back by then.
const CHARON: u64 = 1_000;

/// Where the routes of the VPC's managed tables lead that a gateway may take: how many to each member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ways {
    /// To this gateway.
    pub here: usize,
    /// To the other member.
    pub there: usize,
    /// How many of these are routes to the private network, which need a tunnel.
    pub private: usize,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A beat of the other member that counts.
    Beat(Says),
    /// The other member's kernel has answered.
    Answer,
    /// The own timer has fired; how this gateway is.
    Tick(Health),
    /// EC2 has answered where the routes lead.
    Routes(Ways),
    /// What came of [`Action::TakeOver`]: whether each route reads back as moved.
    Moved(bool),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the other member's kernel a packet that it answers, whatever its processes do.
    AskKernel,
    /// Ask EC2 where the routes lead.
    LookAtRoutes,
    /// Lead the other member's routes to this gateway.
    TakeOver {
        /// Those to the private network as well, because a tunnel of this gateway is up.
        private: bool,
    },
    /// Say what has changed.
    Say(Judgement),
    /// Say that the routes which led here lead to the other member.
    StandDown,
}

/// How the other member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It has not been heard since this process started, or since it took routes while it was not heard. It is not judged.
    Unheard,
    /// Its beats come.
    Alive,
    /// Its beats come, and say that its charon is away: its tunnels are dead, and its NAT is not.
    NoCharon,
    /// Its beats come, and say that it does not carry traffic.
    Unfit(Health),
    /// Its beats do not come, and its kernel answers: `crosswan pair` is dead there, and the data path is not.
    AgentDead,
    /// Neither its beats nor its kernel's answers come.
    Dead,
}

/// Why nothing is taken over from a member that is dead or unfit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// No route leads to it.
    NothingThere,
    /// Its kernel did not answer while its beats came, so that its silence means nothing.
    Mute,
    /// This gateway is not well enough itself.
    Own(Health),
    /// EC2 has not said where the routes lead.
    Routes,
    /// The last move is less than a minute ago.
    HoldDown,
    /// There have been three moves in ten minutes.
    TooMany,
}

/// What this gateway thinks of the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// How the other one is.
    pub peer: Peer,
    /// Why its routes stay, where it does not carry traffic.
    pub waits: Option<Wait>,
}

/// One gateway's view of the other one of its pair.
#[derive(Debug)]
pub struct Pair {
    interval: u64,
    misses: u64,
    tick: u64,
    /// Silence before this says nothing: this process started then, or its own timer fired late.
    judges_from: u64,
    heard: Option<(u64, Says)>,
    unfit_since: Option<u64>,
    no_charon_since: Option<u64>,
    /// When its kernel was first asked in this silence, and when it answered last.
    asked: Option<u64>,
    answered: Option<u64>,
    /// When its kernel was asked and answered last, whatever its beats did.
    probed: Option<u64>,
    proven: Option<u64>,
    /// EC2's last word, and when it came; no time if something has moved since.
    ways: Option<Ways>,
    looked: Option<u64>,
    /// When EC2 was last asked to show the routes for a decision.
    asked_ec2: Option<u64>,
    moving: bool,
    not_before: u64,
    /// The last pause between two attempts; 0 if the last one was accepted.
    pause: u64,
    moves: Vec<u64>,
    judgement: Judgement,
}

impl Pair {
    /// At `now` nothing is known. A beat is due every `interval`; after `misses` of them the other member's kernel decides.
    pub fn new(now: u64, interval: Duration, misses: u32) -> Pair {
        Pair {
            interval: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            misses: misses.into(),
            tick: now,
            judges_from: now,
            heard: None,
            unfit_since: None,
            no_charon_since: None,
            asked: None,
            answered: None,
            probed: None,
            proven: None,
            ways: None,
            looked: None,
            asked_ec2: None,
            moving: false,
            not_before: now,
            pause: 0,
            moves: Vec::new(),
            judgement: Judgement { peer: Peer::Unheard, waits: None },
        }
    }

    /// What this gateway thinks of the other one now.
    pub fn judgement(&self) -> Judgement {
        self.judgement
    }

    /// What the other one has said last.
    pub fn says(&self) -> Option<Says> {
        self.heard.map(|(_, says)| says)
    }

    /// Where the routes led when EC2 was asked last.
    pub fn ways(&self) -> Option<Ways> {
        self.ways
    }

    /// Takes note of an event at `now`, which never goes back, and returns what is to be done, in order.
    pub fn on(&mut self, now: u64, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Beat(says) => self.beat(now, says, &mut actions),
            Event::Answer => (self.answered, self.proven) = (Some(now), Some(now)),
            Event::Tick(own) => self.tick(now, own, &mut actions),
            Event::Routes(ways) => self.routes(now, ways, &mut actions),
            Event::Moved(accepted) => {
                self.moving = false;
                if accepted {
                    self.moves.push(now);
                    self.pause = 0;
                } else {
                    self.pause = (2 * self.pause).clamp(AGAIN, RARELY);
                    self.not_before = now + self.pause;
                }
                // Only EC2 knows what is now, and a call that failed may have worked.
                self.looked = None;
                self.asked_ec2 = Some(now);
                actions.push(Action::LookAtRoutes);
            }
        }
        actions
    }

    fn beat(&mut self, now: u64, says: Says, actions: &mut Vec<Action>) {
        self.heard = Some((now, says));
        (self.asked, self.answered) = (None, None);
        self.unfit_since = if says.health.is_fit() { None } else { self.unfit_since.or(Some(now)) };
        self.no_charon_since = if says.health.charon { None } else { self.no_charon_since.or(Some(now)) };
        // The route table is the arbiter: if one believes that it has all routes, and the other one that it has some, EC2 says who is right.
        let due = self.looked.is_none_or(|at| now - at >= DISPUTED);
        if due && says.holds && self.ways.is_some_and(|ways| ways.here > 0 && ways.there == 0) {
            self.look(now, actions);
        }
    }

    fn routes(&mut self, now: u64, ways: Ways, actions: &mut Vec<Action>) {
        let before = self.ways.replace(ways);
        self.looked = Some(now);
        if before.is_some_and(|before| before.here > 0 && ways.here == 0 && ways.there > 0) {
            self.moves.push(now);
            // Only one that lives takes routes. Where nothing is heard of it, its silence is the network's, and would move them to and fro.
            if matches!(self.judgement.peer, Peer::AgentDead | Peer::Dead) {
                self.heard = None;
            }
            actions.push(Action::StandDown);
        }
    }

    fn tick(&mut self, now: u64, own: Health, actions: &mut Vec<Action>) {
        // Whoever oversleeps by more than an interval may have missed what came meanwhile, and so judges nobody.
        if now.saturating_sub(self.tick) > 2 * self.interval {
            self.judges_from = now;
            (self.asked, self.answered) = (None, None);
            self.unfit_since = self.unfit_since.map(|_| now);
        }
        self.tick = now;
        self.moves.retain(|at| now - at < WINDOW);
        let (peer, anew) = self.judge(now, actions);
        let waits = match peer {
            Peer::Dead if !anew => self.judgement.waits,
            Peer::Dead if self.proven.zip(self.heard).is_none_or(|(at, (heard, _))| at + 3 * PROBE < heard) => {
                Some(Wait::Mute)
            }
            Peer::Dead => self.take_over(now, own, actions),
            Peer::Unfit(_) if self.unfit_since.is_some_and(|since| now - since >= self.limit()) => {
                self.take_over(now, own, actions)
            }
            _ => None,
        };
        let judgement = Judgement { peer, waits };
        if judgement != self.judgement {
            self.judgement = judgement;
            actions.insert(0, Action::Say(judgement));
        }
    }

    /// The slower one of the two paces counts.
    fn pace(&self) -> u64 {
        let its = self.says().map_or(0, |says| u64::try_from(says.interval.as_millis()).unwrap_or(u64::MAX));
        self.interval.max(its)
    }

    fn limit(&self) -> u64 {
        self.pace().saturating_mul(self.misses)
    }

    /// How the other one is, and whether that is judged anew or stands from before this gateway overslept.
    fn judge(&mut self, now: u64, actions: &mut Vec<Action>) -> (Peer, bool) {
        let Some((heard, says)) = self.heard else { return (Peer::Unheard, true) };
        let (pace, limit) = (self.pace(), self.limit());
        let silence = now - heard.max(self.judges_from);
        let silent = |peer: Peer| matches!(peer, Peer::AgentDead | Peer::Dead);
        // A beat may come an interval late. Its kernel is asked before it counts as silent, so that the answer is there by then.
        if silence >= 2 * pace || self.probed.is_none_or(|at| now - at >= PROBE) {
            self.probed = Some(now);
            actions.push(Action::AskKernel);
        }
        if silence >= 2 * pace && self.asked.is_none() {
            self.asked = Some(now);
            self.look(now, actions);
        }
        if silence < limit {
            return match self.judgement.peer {
                before if self.judges_from > heard && silent(before) => (before, false),
                _ if self.no_charon_since.is_some_and(|since| now - since >= CHARON) && says.health.is_fit() => {
                    (Peer::NoCharon, true)
                }
                _ if says.health.is_fit() => (Peer::Alive, true),
                _ => (Peer::Unfit(says.health), true),
            };
        }
        let unanswered = now - self.asked.max(self.answered).unwrap_or(now);
        match self.answered {
            Some(at) if now - at < limit => (Peer::AgentDead, true),
            _ if unanswered >= 2 * pace => (Peer::Dead, true),
            // Its kernel has not had the time to answer.
            _ => (self.judgement.peer, false),
        }
    }

    /// Takes over unless something speaks against it, which is returned.
    fn take_over(&mut self, now: u64, own: Health, actions: &mut Vec<Action>) -> Option<Wait> {
        let fresh = |pair: &Pair| pair.looked.is_some_and(|at| now - at <= FRESH) && pair.looked >= pair.asked_ec2;
        let held = self.moves.last().is_some_and(|last| now - last < HOLD_DOWN);
        let wait = match self.ways {
            _ if !own.is_able() => Some(Wait::Own(own)),
            _ if self.moving => None,
            Some(Ways { there: 0, .. }) => Some(Wait::NothingThere),
            Some(Ways { there, private, .. }) if there == private && !own.tunnel => Some(Wait::Own(own)),
            _ if held => Some(Wait::HoldDown),
            _ if self.moves.len() >= MOVES => Some(Wait::TooMany),
            Some(_) if fresh(self) && now >= self.not_before => {
                self.moving = true;
                actions.push(Action::TakeOver { private: own.tunnel });
                None
            }
            _ => Some(Wait::Routes),
        };
        // A member can be dead for days. EC2 is asked again only while its word would move something, or proves that it answers.
        let stuck = matches!(wait, Some(Wait::Own(Health { ec2: true, .. }) | Wait::HoldDown | Wait::TooMany));
        let something = self.ways.is_none_or(|ways| ways.there > 0);
        if something && !stuck && !fresh(self) && now >= self.not_before {
            self.look(now, actions);
        }
        wait
    }

    /// Asks EC2 for the routes, unless it has said or been asked a moment ago.
    fn look(&mut self, now: u64, actions: &mut Vec<Action>) {
        let recent = |at: Option<u64>| at.is_some_and(|at| now - at < SPACING);
        if !self.moving && !recent(self.looked) && !recent(self.asked_ec2) {
            self.asked_ec2 = Some(now);
            actions.push(Action::LookAtRoutes);
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Peer::Unheard => {
                f.write_str(
                    "has not been heard since this gateway's crosswan pair started, or since it took routes unheard",
                )?;
            }
            Peer::Alive => f.write_str("alive")?,
            Peer::NoCharon => f.write_str("alive, and its charon is away: its NAT goes on, and nothing moves")?,
            Peer::Unfit(health) => write!(f, "does not carry traffic by its own word: {health}")?,
            Peer::AgentDead => f.write_str("its crosswan pair is silent and its kernel answers: nothing moves")?,
            Peer::Dead => f.write_str("dead: neither its crosswan pair nor its kernel answers")?,
        }
        match self.waits {
            None => Ok(()),
            Some(Wait::Mute) => f.write_str(
                "; nothing is taken over, as its kernel did not answer before either: open the port pair.port for TCP between the two",
            ),
            Some(Wait::NothingThere) => f.write_str("; no route leads to it"),
            Some(Wait::Own(health)) => {
                write!(f, "; nothing is taken over, as this gateway is not well either: {health}")
            }
            Some(Wait::Routes) => f.write_str("; EC2 is asked where the routes lead"),
            Some(Wait::HoldDown) => f.write_str("; its routes stay, as the last move is less than a minute ago"),
            Some(Wait::TooMany) => f.write_str("; its routes stay, as there have been three moves in ten minutes"),
        }
    }
}
