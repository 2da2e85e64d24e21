//! Who is dead, and what follows: a state machine without IO, a clock or chance.
//!
//! It judges late and moves little. Whoever is in doubt, about itself or about the other, does nothing: both members forward all the
//! time, so that a route that stays where it is harms less than one that moves without need.

use std::{fmt, time::Duration};

use super::{Health, Says};

/// After a move, whoever made it, nothing moves for so long.
const HOLD_DOWN: u64 = 60_000;
/// Within [`WINDOW`] there are at most so many moves.
pub(super) const MOVES: usize = 3;
pub(super) const WINDOW: u64 = 600_000;
/// How old EC2's word on the routes may be when a route is moved.
const FRESH: u64 = 1_500;
/// EC2 is asked for that no more often than this, and only as long as something could be moved.
const SPACING: u64 = 1_000;
/// Where both believe that they have a route, it is asked no more often than this: settings may differ for good.
const DISPUTED: u64 = 10_000;
/// The other member's kernel is asked while all is well, too, so that its silence means something; sooner again if it did not answer. It
/// is mute after so many questions without an answer, which is before the hold-down after a move ends.
const PROBE: u64 = 30_000;
const PROBE_AGAIN: u64 = 5_000;
const PROBES: u32 = 3;
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
    /// The wait for its answer is over, and it has been looked whether there is one: there is none.
    Silent {
        /// When [`Action::AskKernel`] was returned.
        asked: u64,
    },
    /// The own timer has fired; how this gateway is.
    Tick(Health),
    /// Whether this gateway hands over now.
    Leaving(bool),
    /// EC2 has answered where the routes lead.
    Routes {
        /// When it was asked: answers may overtake each other.
        asked: u64,
        /// Where they lead.
        ways: Ways,
    },
    /// What came of [`Action::TakeOver`].
    Moved {
        /// How many routes were to be moved.
        wanted: usize,
        /// How many of these read back as moved.
        moved: usize,
    },
    /// A far end has been heard.
    FarEnds {
        /// Most of them know of so many takeovers of this pair,
        known: u32,
        /// and these follow this gateway.
        follows: bool,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the other member's kernel a packet that it answers, whatever its processes do.
    AskKernel {
        /// So long after the packet has left, [`Event::Silent`] is due if there is no answer then.
        wait: Duration,
    },
    /// Ask EC2 where the routes lead.
    LookAtRoutes,
    /// Ask some far ends for their word: whether they are reached, and what they know.
    AskFarEnds,
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
    /// Its beats come, and nothing reaches it: they say that EC2 does not answer it, and its kernel, which has answered, does not any more.
    Deaf,
    /// Its beats come, and say that it hands over.
    Leaving,
    /// Its beats do not come, and its kernel answers: `crosswan pair` is dead there, and the data path is not.
    AgentDead,
    /// Neither its beats nor its kernel's answers come.
    Dead,
}

/// Why nothing is taken over from a member that is dead or unfit or hands over; or how it is with what this gateway hands over.
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
    /// The tunnels of the one that hands over carry packets to more parties than those of this gateway: it lives, and they would be cut off.
    Fewer {
        /// To so many lead this gateway's.
        own: u16,
        /// And to so many the other one's.
        its: u16,
    },
    /// Both hand over.
    Leaving,
    /// This gateway hands over to the other one.
    Handing(Handing),
}

/// What is to be expected of the other member, which decides about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handing {
    /// It takes the routes.
    Taking,
    /// It is not well enough.
    Unable(Health),
    /// Its tunnels carry packets to fewer parties than this gateway's.
    Fewer {
        /// To so many.
        its: u16,
        /// And this gateway's to so many.
        own: u16,
    },
    /// There have been three moves in ten minutes.
    TooMany,
}

/// What a member of a pair has to say to far ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Word {
    /// Whether it is the one to be used.
    pub holds: bool,
    /// Whether the last takeover that it knows is its own, and it does not hand over.
    pub mine: bool,
    /// How many takeovers its pair has had, as far as it knows.
    pub generation: u32,
}

/// What this gateway thinks of the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// How the other one is.
    pub peer: Peer,
    /// Why its routes stay where it does not carry traffic or hands over, or what becomes of this gateway's where this one hands over.
    pub waits: Option<Wait>,
}

/// Who has made a takeover, as far as this gateway knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    This,
    Other,
    Unknown,
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
    /// It has taken routes since it was heard.
    took: bool,
    /// Since when this gateway hands over.
    leaving: Option<u64>,
    /// The last of `moves` that led routes away from here.
    gave: Option<u64>,
    unfit_since: Option<u64>,
    no_charon_since: Option<u64>,
    /// It is in doubt since its last beat: its kernel is asked.
    doubted: bool,
    /// When its kernel answered last in this silence, and when it was asked last without an answer.
    answered: Option<u64>,
    silent: Option<u64>,
    /// When its kernel was asked last while its beats came, and whether it ever answered.
    probed: Option<u64>,
    proven: bool,
    /// The questions without an answer while its beats came.
    unanswered: u32,
    /// EC2's last word, and when it came; no time if something has moved since.
    ways: Option<Ways>,
    looked: Option<u64>,
    /// When EC2 was asked for the word that counts, or for none before this.
    word_of: u64,
    /// When EC2 was last asked to show the routes for a decision.
    asked_ec2: Option<u64>,
    /// How long EC2 took for its last answer.
    latency: u64,
    /// Whether the move under way is one of the routes to the private network, too; `None` if nothing is being moved.
    moving: Option<bool>,
    /// Some of the routes of a takeover have moved, and the others are still to follow.
    halfway: bool,
    not_before: u64,
    /// The last pause between two attempts; 0 if the last one was accepted.
    pause: u64,
    /// How many takeovers are known, and since when. What EC2 said before that of routes that lead here may be over.
    generation: (u32, u64),
    /// Whether this gateway tells far ends to use it where routes do not decide that and nobody has told them yet; `None` where they choose
    /// by themselves until the first takeover.
    first: Option<bool>,
    /// Who has made the last takeover that is known.
    by: By,
    /// Since the other one was heard last far ends have been told that this gateway is the one to be used.
    announced: bool,
    /// When they were last told so before EC2 had shown it.
    claimed: Option<u64>,
    /// When a far end was heard last; how many takeovers most of them know, and whether these follow this gateway.
    far_heard: Option<(u64, u32, bool)>,
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
            took: false,
            leaving: None,
            gave: None,
            unfit_since: None,
            no_charon_since: None,
            doubted: false,
            answered: None,
            silent: None,
            probed: None,
            proven: false,
            unanswered: 0,
            ways: None,
            looked: None,
            word_of: now,
            asked_ec2: None,
            latency: 0,
            moving: None,
            halfway: false,
            not_before: now,
            pause: 0,
            generation: (0, now),
            first: None,
            by: By::Unknown,
            announced: false,
            claimed: None,
            far_heard: None,
            moves: Vec::new(),
            judgement: Judgement { peer: Peer::Unheard, waits: None },
        }
    }

    /// The same, with moves of before: those of [`Moves::read`](super::Moves::read).
    pub fn remembering(self, moves: Vec<u64>) -> Pair {
        Pair { moves, ..self }
    }

    /// The same of a hub: clients are told which one to use as soon as there are two, before any takeover: the one that has the VPC's routes.
    /// Where none has all of them it is the one of `first`.
    pub fn of_hubs(self, first: bool) -> Pair {
        Pair { first: Some(first), ..self }
    }

    /// When there were moves, whoever made them, as far as they still count.
    pub fn moves(&self) -> &[u64] {
        &self.moves
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

    /// How many takeovers this pair has had, as far as this gateway knows.
    pub fn generation(&self) -> u32 {
        self.generation.0
    }

    /// Whether this gateway is the one to be used: the last takeover known is its own, or routes lead to it by a word of EC2 that is not
    /// older than that.
    pub fn holds(&self) -> bool {
        self.by == By::This || self.ways.is_some_and(|ways| ways.here > 0) && self.word_of >= self.generation.1
    }

    /// What this gateway has to say to far ends. Of a takeover only the one that has made it speaks while EC2 has yet to show it: far ends are
    /// told at the decision, and would follow whoever speaks of it first.
    pub fn word(&self) -> Word {
        let (mine, stays) = (self.by == By::This, self.leaving.is_none());
        let speaks = mine || self.by == By::Unknown && stays;
        Word { holds: speaks && self.holds(), mine: mine && stays, generation: self.generation.0 }
    }

    /// Somebody has spoken of this takeover.
    fn learn(&mut self, now: u64, generation: u32, by: By) {
        if generation > self.generation.0 {
            (self.generation, self.by) = ((generation, now), by);
        }
    }

    /// This gateway is the one to be used since `at`: a takeover that nobody has spoken of yet.
    fn leads(&mut self, at: u64) {
        self.generation = (self.generation.0.saturating_add(1), at);
        (self.by, self.announced) = (By::This, true);
    }

    /// Takes note of an event at `now`, which never goes back, and returns what is to be done, in order.
    pub fn on(&mut self, now: u64, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Beat(says) => self.beat(now, says, &mut actions),
            Event::Answer => {
                (self.answered, self.proven, self.unanswered) = (Some(now), true, 0);
            }
            // It says something only of one whose beats came meanwhile: a gateway that overslept asks as if all were well.
            Event::Silent { asked } if !self.doubted && self.probed == Some(asked) => {
                self.unanswered += u32::from(self.heard.is_some_and(|(at, _)| at >= asked));
            }
            Event::Silent { asked } => self.silent = self.silent.max(Some(asked)),
            Event::Tick(own) => self.tick(now, own, &mut actions),
            Event::Leaving(leaving) => self.leaving = leaving.then(|| self.leaving.unwrap_or(now)),
            Event::Routes { asked, ways } if self.believes(asked) => self.routes(now, asked, ways, &mut actions),
            Event::Routes { .. } => {}
            Event::Moved { wanted, moved } => self.moved(now, wanted, moved, &mut actions),
            Event::FarEnds { known, follows } => {
                // A process that has just started knows nothing of those whom they followed before.
                let by = match self.far_heard.replace((now, known, follows)) {
                    Some(_) if !follows => By::Other,
                    Some(_) if self.by == By::This => By::This,
                    _ => By::Unknown,
                };
                self.learn(now, known, by);
            }
        }
        actions
    }

    /// Whether EC2's answer counts that was asked for then: not if a later one is known, and not if something has moved since or is moving.
    pub fn believes(&self, asked: u64) -> bool {
        self.moving.is_none() && asked >= self.word_of
    }

    fn moved(&mut self, now: u64, wanted: usize, moved: usize, actions: &mut Vec<Action>) {
        let private = self.moving.take().unwrap_or_default();
        // The routes that follow later are of the same move, which counts from its last one.
        if moved > 0 {
            if self.halfway {
                self.moves.pop();
            }
            self.moves.push(now);
        }
        if moved > 0 && moved == wanted {
            (self.pause, self.halfway) = (0, false);
            // What most far ends have heard at the decision need not be said again.
            if !(self.by == By::This
                && self.far_heard.is_some_and(|(_, known, follows)| follows && known == self.generation.0))
            {
                self.leads(now);
            }
            // If EC2 shows something else next, then the other one has moved it.
            self.ways = self.ways.map(|ways| {
                let left = if private { 0 } else { ways.private };
                Ways { here: ways.here + ways.there - left, there: left, private: left }
            });
        } else {
            self.halfway |= moved > 0;
            self.pause = (2 * self.pause).clamp(AGAIN, RARELY);
            self.not_before = now + self.pause;
        }
        // Only EC2 knows what is now, and a call that failed may have worked.
        self.looked = None;
        (self.word_of, self.asked_ec2) = (now, Some(now));
        actions.push(Action::LookAtRoutes);
    }

    fn beat(&mut self, now: u64, says: Says, actions: &mut Vec<Action>) {
        (self.heard, self.took) = (Some((now, says)), false);
        let gives = says.leaving || !says.health.is_fit() || self.judgement.peer == Peer::Deaf;
        self.announced &= gives;
        self.learn(now, says.generation, if says.holds { By::Other } else { By::Unknown });
        if self.doubted && self.answered.is_none() {
            // What was asked in doubt proves nothing of its kernel, so that is asked again now, and not half a minute later.
            self.probed = None;
        }
        (self.doubted, self.answered, self.silent) = (false, None, None);
        self.halfway &= gives;
        self.unfit_since = if says.health.is_fit() { None } else { self.unfit_since.or(Some(now)) };
        self.no_charon_since = if says.health.charon { None } else { self.no_charon_since.or(Some(now)) };
        // The route table is the arbiter: if one believes that it has all routes, and the other one that it has some, EC2 says who is right.
        let due = self.looked.is_none_or(|at| now - at >= DISPUTED);
        if due && says.holds && self.ways.is_some_and(|ways| ways.here > 0 && ways.there == 0) {
            self.look(now, actions);
        }
    }

    fn routes(&mut self, now: u64, asked: u64, ways: Ways, actions: &mut Vec<Action>) {
        let before = self.ways.replace(ways);
        (self.looked, self.word_of, self.latency) = (Some(now), asked, now.saturating_sub(asked));
        let Some(before) = before else { return };
        if ways.here > before.here && ways.there < before.there && !self.halfway {
            // An attempt that seemed to fail, or an operator.
            self.moves.push(now);
        }
        if ways.here > before.here && ways.there < before.there && ways.there == 0 {
            self.leads(asked);
        }
        self.halfway &= ways.there > 0;
        if ways.here < before.here && ways.there > before.there {
            // What is handed over in parts is one move, which counts from its last part.
            let part =
                self.leaving.is_some_and(|since| self.gave >= Some(since)) && self.moves.last() == self.gave.as_ref();
            if part {
                self.moves.pop();
            }
            self.moves.push(now);
            self.gave = Some(now);
            (self.took, self.halfway) = (true, false);
            if ways.here == 0 {
                self.by = By::Other;
                actions.push(Action::StandDown);
            }
        }
    }

    fn tick(&mut self, now: u64, own: Health, actions: &mut Vec<Action>) {
        // Whoever oversleeps by more than an interval may have missed what came meanwhile, and so judges nobody.
        if now.saturating_sub(self.tick) > 2 * self.interval {
            self.judges_from = now;
            (self.doubted, self.answered, self.silent) = (false, None, None);
            self.unfit_since = self.unfit_since.map(|_| now);
        }
        self.tick = now;
        self.moves.retain(|at| now - at < WINDOW);
        let (peer, anew) = self.judge(now, actions);
        if !self.holds() && self.ways.is_some_and(|ways| ways.here > 0) {
            self.look(now, actions);
        }
        self.speak_first(now, peer, own);
        let waits = match peer {
            Peer::Dead if !anew => self.judgement.waits,
            Peer::Dead if !self.proven || self.is_mute() => Some(Wait::Mute),
            Peer::Dead => self.take_over(now, own, false, actions),
            Peer::Leaving => self.take_over(now, own, true, actions),
            Peer::Deaf => self.take_over(now, own, false, actions),
            Peer::Unfit(_) if self.unfit_since.is_some_and(|since| now - since >= self.limit()) => {
                self.take_over(now, own, false, actions)
            }
            _ => self.hands_over(peer, own),
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

    /// Whether its kernel, which has answered once, has not answered while its beats came.
    fn is_mute(&self) -> bool {
        self.proven && self.unanswered >= PROBES
    }

    fn limit(&self) -> u64 {
        self.pace().saturating_mul(self.misses)
    }

    /// How the other one is, and whether that is judged anew or stands from before this gateway overslept.
    fn judge(&mut self, now: u64, actions: &mut Vec<Action>) -> (Peer, bool) {
        let Some((heard, says)) = self.heard else { return (Peer::Unheard, true) };
        let (pace, limit) = (self.pace(), self.limit());
        let silence = now - heard.max(self.judges_from);
        if self.took && silence >= limit {
            // Only one that lives takes routes. Its silence is the network's, and would move them to and fro.
            self.heard = None;
            return (Peer::Unheard, true);
        }
        let silent = |peer: Peer| matches!(peer, Peer::AgentDead | Peer::Dead);
        // The wait is over before the tick that ends the term of silence.
        let ask = Action::AskKernel { wait: Duration::from_millis(pace.saturating_mul(3) / 2) };
        let due = if self.unanswered > 0 { PROBE_AGAIN } else { PROBE };
        // A beat may come an interval late. Its kernel is asked before it counts as silent, so that the answer is there by then.
        if silence >= 2 * pace {
            actions.push(ask);
            if !self.doubted {
                self.doubted = true;
                // What EC2 has said before does not show that this gateway reaches it now.
                self.ask_ec2(now, actions);
            }
            // Packets of far ends need not wait for EC2, whose answer may take seconds. Those that are asked may be dead.
            if silence < 2 * limit && !self.is_reached() {
                actions.push(Action::AskFarEnds);
            }
        } else if self.probed.is_none_or(|at| now - at >= due) {
            self.probed = Some(now);
            actions.push(ask);
        }
        if silence < limit {
            return match self.judgement.peer {
                before if self.judges_from > heard && silent(before) => (before, false),
                _ if !says.health.is_fit() => (Peer::Unfit(says.health), true),
                // What came before this gateway was awake again may not be so any more.
                _ if says.leaving && heard > self.judges_from => (Peer::Leaving, true),
                _ if !says.health.ec2 && self.is_mute() && heard > self.judges_from => (Peer::Deaf, true),
                _ if self.no_charon_since.is_some_and(|since| now - since >= CHARON) => (Peer::NoCharon, true),
                _ => (Peer::Alive, true),
            };
        }
        // What was asked before this silence, or before this gateway overslept, may have been lost with its answer.
        let silent =
            self.silent.is_some_and(|asked| asked >= heard.max(self.judges_from) && Some(asked) > self.answered);
        match self.answered {
            Some(at) if now - at < limit => (Peer::AgentDead, true),
            _ if silent => (Peer::Dead, true),
            // Its kernel has not had the time to answer.
            _ => (self.judgement.peer, false),
        }
    }

    /// What is to be expected where this gateway hands over, and the other one takes nothing from it by its own judgement.
    fn hands_over(&self, peer: Peer, own: Health) -> Option<Wait> {
        let (Some(_), Some(says), Peer::Alive | Peer::NoCharon | Peer::Unfit(_) | Peer::Deaf) =
            (self.leaving, self.says(), peer)
        else {
            return None;
        };
        let its = says.health;
        let handing = match self.ways? {
            Ways { here: 0, .. } => return None,
            _ if !its.is_able() || its.tunnels == 0 => Handing::Unable(its),
            _ if its.tunnels < own.tunnels => Handing::Fewer { its: its.tunnels, own: own.tunnels },
            _ if self.moves.len() >= MOVES => Handing::TooMany,
            _ => Handing::Taking,
        };
        Some(Wait::Handing(handing))
    }

    /// Takes over unless something speaks against it, which is returned. What is `handed` over is taken as a whole, and at once: who says
    /// so lives, and so nothing in it could move the routes to and fro but the number of moves.
    fn take_over(&mut self, now: u64, own: Health, handed: bool, actions: &mut Vec<Action>) -> Option<Wait> {
        let fresh = |pair: &Pair| {
            let answered = pair.asked_ec2.is_none_or(|at| pair.word_of >= at) && pair.is_of_this_silence(pair.word_of);
            answered && pair.looked.is_some_and(|at| now - at <= FRESH)
        };
        let held = !handed && !self.halfway && self.moves.last().is_some_and(|last| now - last < HOLD_DOWN);
        let too_many = !self.halfway && self.moves.len() >= MOVES;
        let its = self.says().filter(|_| handed).map_or(0, |says| says.health.tunnels);
        let fewer = (1..its).contains(&own.tunnels).then_some(Wait::Fewer { own: own.tunnels, its });
        if self.is_reached()
            && !(handed && self.leaving.is_some())
            && own.is_able()
            && own.tunnels > 0
            && fewer.is_none()
        {
            self.claim(now, held || too_many);
        }
        let wait = match self.ways {
            // From one that is dead it takes what it may have to hand over soon: nobody else is there.
            _ if handed && self.leaving.is_some() => Some(Wait::Leaving),
            _ if !own.is_able() => Some(Wait::Own(own)),
            _ if self.moving.is_some() => None,
            Some(Ways { there: 0, .. }) => Some(Wait::NothingThere),
            Some(Ways { there, private, .. }) if private > 0 && own.tunnels == 0 && (handed || there == private) => {
                Some(Wait::Own(own))
            }
            _ if fewer.is_some() => fewer,
            _ if held => Some(Wait::HoldDown),
            _ if too_many => Some(Wait::TooMany),
            Some(_) if fresh(self) && now >= self.not_before => {
                self.moving = Some(own.tunnels > 0);
                actions.push(Action::TakeOver { private: own.tunnels > 0 });
                None
            }
            _ => Some(Wait::Routes),
        };
        // A member can be dead for days. EC2 is asked again only while its word would move something, or proves that it answers.
        let stuck =
            matches!(wait, Some(Wait::Own(Health { ec2: true, .. }) | Wait::HoldDown | Wait::TooMany | Wait::Leaving));
        let something = self.ways.is_none_or(|ways| ways.there > 0);
        if something && !stuck && !fresh(self) && now >= self.not_before {
            self.look(now, actions);
        }
        wait
    }

    /// Has a hub tell clients which of two living ones is to be used, where nobody has told them yet.
    fn speak_first(&mut self, now: u64, peer: Peer, own: Health) {
        let (Some(first), Some(ways), Peer::Alive, 0) = (self.first, self.ways, peer, self.generation.0) else {
            return;
        };
        let is = match (ways.here > 0, ways.there > 0) {
            (true, false) => true,
            (false, true) => false,
            _ => first,
        };
        if is && own.is_able() && own.tunnels > 0 {
            self.leads(now);
        }
    }

    /// Tells far ends that this gateway is the one to be used, as the other one is dead or hands over. Their packets need not wait for EC2:
    /// both ends' tunnels are up, so that a word too much harms nothing. Where routes are to follow it is the beginning of their move.
    fn claim(&mut self, now: u64, stays: bool) {
        let nothing = self.ways.is_some_and(|ways| ways.there == 0);
        let rests = stays || self.claimed.is_some_and(|at| now - at < HOLD_DOWN);
        if self.announced || rests && !(nothing && self.holds()) {
            return;
        }
        if !self.holds() {
            self.moves.push(now);
            self.halfway = !nothing;
        }
        self.claimed = Some(now);
        self.leads(now);
    }

    /// Whether EC2 or a far end has been heard since the last beat, so that the silence is not this gateway's own.
    fn is_reached(&self) -> bool {
        self.looked.is_some() && self.is_of_this_silence(self.word_of)
            || self.far_heard.is_some_and(|(at, ..)| self.is_of_this_silence(at))
    }

    /// Whether something then was after the last beat, if beats do not come. Who is cut off hears nobody, and what it decides by what it knew
    /// before would come true once the network is back.
    fn is_of_this_silence(&self, at: u64) -> bool {
        !self.doubted || self.heard.is_none_or(|(heard, _)| at > heard)
    }

    /// Asks EC2 for the routes, unless it has said or been asked a moment ago.
    fn look(&mut self, now: u64, actions: &mut Vec<Action>) {
        if self.looked.is_none_or(|at| now - at >= SPACING) {
            self.ask_ec2(now, actions);
        }
    }

    /// The same, whatever it has said. An answer that takes longer than the spacing is waited for: only the newest question's counts, and
    /// there would be a newer one each time.
    fn ask_ec2(&mut self, now: u64, actions: &mut Vec<Action>) {
        let answers = SPACING.max(2 * self.latency);
        if self.moving.is_none() && self.asked_ec2.is_none_or(|at| now - at >= answers) {
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
            Peer::Deaf => f.write_str(
                "alive, and nothing reaches it: by its word EC2 does not answer it, nor does its kernel answer here",
            )?,
            Peer::Leaving => f.write_str("alive, and hands over")?,
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
                write!(f, "; nothing is taken over, as this gateway is not well enough itself: {health}")
            }
            Some(Wait::Routes) => f.write_str("; EC2 is asked where the routes lead"),
            Some(Wait::HoldDown) => f.write_str("; its routes stay, as the last move is less than a minute ago"),
            Some(Wait::TooMany) => f.write_str("; its routes stay, as there have been three moves in ten minutes"),
            Some(Wait::Fewer { own, its }) => write!(
                f,
                "; nothing is taken over, as this gateway's tunnels carry packets to {own} parties, and the other one's to {its}"
            ),
            Some(Wait::Leaving) => f.write_str("; nothing moves, as this gateway hands over itself"),
            Some(Wait::Handing(handing)) => write!(f, "; this gateway hands over to it{handing}"),
        }
    }
}

impl fmt::Display for Handing {
    /// Behind "hands over to it".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Handing::Taking => Ok(()),
            Handing::Unable(health) => {
                write!(f, ", and keeps its routes, as the other one is not well enough: {health}")
            }
            Handing::Fewer { its, own } => write!(
                f,
                ", and keeps its routes, as the other one's tunnels carry packets to {its} parties, and this gateway's to {own}"
            ),
            Handing::TooMany => f.write_str(
                ", and keeps its routes, as there have been three moves in ten minutes; wait for that, and try again",
            ),
        }
    }
}
