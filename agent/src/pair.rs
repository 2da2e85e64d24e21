//! The small resident loop of a pair: it sends beats, hears those of the other member, and does what [`Pair`] decides.
//!
//! It has no right but to send and receive packets and to read files. Its death moves nothing: the kernel goes on, and answers the other
//! member. Who the other member is comes from the file that a refresh writes; EC2 is asked for the routes only, each minute, so that the
//! connection is warm when a route has to move. Without a second member it only listens: who sends beats is a reason for a refresh. So is,
//! beside a pair, a route that leads nowhere.

#![allow(clippy::disallowed_methods, reason = "edge: the resident loop has a clock")]

mod asks;
mod beside;
mod far;
mod health;
mod leaving;
mod random;
mod shown;
mod socket;
mod tasks;
mod watched;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    net::UdpSocket,
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use crate::{
    files,
    handover::MakeWay,
    host::{self, notify},
    keyring,
    observe::ec2::Clients,
    paths::Paths,
};
use asks::{Asks, is_due};
use beside::Waiting;
use crosswan_core::{
    error::{Context, Error, Kind, Result},
    model::{Holder, Mode, PrivateKey},
    pair::{
        Action, Beat, Event, Health, Hearing, LENGTH, Members, Moves, Pair, Peer, Refused, Says, Taken, Unverified,
        Word,
    },
    settings::{Pairing, Tag},
};
use far::Told;
use leaving::Leaves;
use random::random;
use shown::{shown, taken};
use tasks::Back;
use watched::Watched;

/// How often files are looked at for a change, and how this gateway is.
const LOOK: Duration = Duration::from_secs(1);
/// How often EC2 is asked for the routes while nothing happens.
const WARM: Duration = Duration::from_secs(30);
/// And while routes that lead here are handed over.
const HANDING: Duration = Duration::from_secs(2);
/// charon rests for so many times as long as it took to list its SAs, which are thousands on a hub.
const CHARON_RESTS: u32 = 50;
/// But for no longer than this.
const CHARON_AGAIN: Duration = Duration::from_secs(10);
/// Longer than any answer of charon's is waited for.
const LONG: Duration = Duration::from_mins(1);
/// EC2's word counts for so long as proof that it can be reached.
const ANSWERED: Duration = Duration::from_secs(60);
/// The clients fetch their credentials once, and those last for hours.
const CLIENTS_AGE: Duration = Duration::from_mins(20);
/// After a move the routes are looked at again so late.
const READ_BACK: [u64; 3] = [1, 5, 15];
/// A member that could not make way tries again so long after.
const MAKES_WAY_AGAIN: Duration = Duration::from_mins(10);
/// What `crosswan pair` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings of the pair.
    pub pairing: Pairing,
    /// The tag of the route tables that may be written.
    pub routes_tag: Tag,
    /// Its mode: what has tunnels needs charon.
    pub mode: Mode,
    /// The files: the members, the key, and what is written for `status`.
    pub paths: Paths,
}

struct Resident {
    cfg: Config,
    start: Instant,
    /// How long this host had been up then.
    up: Duration,
    session: u64,
    back: UnboundedSender<Back>,
    /// What far ends are told.
    far: watch::Sender<Told>,
    clients: (Arc<Clients>, Instant),
    health: Health,
    /// The last look found that this gateway does not carry traffic any more, and the next one decides.
    doubted: bool,
    /// To how many parties its tunnels carry packets.
    tunnels: u16,
    /// When charon is asked for that again.
    tunnels_due: Instant,
    /// Whether each party has authenticated this gateway, which waits beside a pair.
    authenticated: bool,
    /// When EC2 answered last, and when it was asked last.
    answered: Option<Instant>,
    asked: Option<Instant>,
    /// Why EC2 could not be asked last, as it was said.
    unasked: Option<String>,
    read_back: Vec<Instant>,
    asks: Asks,
    /// When a pass was asked for last for beats of a gateway that is not known.
    stranger: Option<Instant>,
    watched: Option<Watched>,
    /// The pair that this gateway waits beside.
    waiting: Option<Waiting>,
    leaves: Leaves,
    /// Whether this member makes way at this moment without an order, and when it tried last.
    makes_way: bool,
    made_way: Option<Instant>,
}

/// Runs until `shutdown` completes.
///
/// # Errors
/// The port is taken, or the kernel gives no random bytes.
pub async fn run(cfg: Config, shutdown: impl Future) -> Result<()> {
    let port = cfg.pairing.port;
    let failed = || Error::new(Kind::Other, format!("listen on UDP {port} (pair.port)"));
    let socket = socket::to_member(port).await.context(failed)?;
    let (back, mut results) = unbounded_channel();
    let (far, told) = watch::channel(Told::default());
    let (member, paths) = (far::Member { told, back: back.clone() }, cfg.paths.clone());
    let start = Instant::now();
    let session = u64::from_be_bytes(random()?).max(1);
    let clients = (Arc::new(Clients::default()), start);
    let mut resident = Resident {
        cfg,
        start,
        up: host::since_boot(),
        session,
        back,
        far,
        clients,
        health: Health::default(),
        doubted: false,
        tunnels: 0,
        tunnels_due: start,
        authenticated: false,
        answered: None,
        asked: None,
        unasked: None,
        read_back: Vec::new(),
        asks: Asks::new(paths.wanted.clone()),
        stranger: None,
        watched: None,
        waiting: None,
        leaves: Leaves::new(),
        makes_way: false,
        made_way: None,
    };
    resident.look().await;
    notify(&[NotifyState::Ready]);
    tokio::select! {
        _ = shutdown => {}
        () = resident.forever(&socket, &mut results) => {}
        never = far::run(port, &paths, Some(member)) => match never? {},
    }
    notify(&[NotifyState::Stopping]);
    let _ = files::remove(&resident.cfg.paths.pair_status);
    Ok(())
}

/// Hears what pairs at the far ends of this hub's tunnels say, until `shutdown` completes.
///
/// # Errors
/// The kernel gives no random bytes.
pub async fn hear(port: u16, paths: &Paths, shutdown: impl Future) -> Result<()> {
    tokio::select! {
        _ = shutdown => {}
        never = far::run(port, paths, None) => match never? {},
    }
    notify(&[NotifyState::Stopping]);
    Ok(())
}

impl Resident {
    /// Milliseconds since this host has booted, so that they mean the same to the next process.
    fn now(&self) -> u64 {
        u64::try_from((self.up + self.start.elapsed()).as_millis()).unwrap_or(u64::MAX)
    }

    async fn forever(&mut self, socket: &UdpSocket, results: &mut UnboundedReceiver<Back>) {
        let mut ticks = interval(self.cfg.pairing.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        let mut datagram = [0; LENGTH + 1];
        loop {
            tokio::select! {
                // What has arrived counts before the timer judges.
                biased;
                received = socket.recv_from(&mut datagram) => {
                    if let Ok((length, from)) = received {
                        self.heard(&datagram[..length], from);
                    }
                }
                Some(back) = results.recv() => self.on_back(back),
                _ = ticks.tick() => {
                    if looked.elapsed() >= LOOK || self.doubted {
                        looked = Instant::now();
                        self.look().await;
                        notify(&[NotifyState::Watchdog]);
                    }
                    let ec2 = self.ec2_answers();
                    let tunnels = if self.health.charon { self.tunnels } else { 0 };
                    let own = Health { ec2, tunnels, ..self.health };
                    self.event(Event::Tick(own));
                    self.send(socket, own);
                    if self.watched.is_none() {
                        // Alone it has nothing to do but to look.
                        ticks.reset_after(LOOK);
                    }
                }
            }
        }
    }

    /// Looks at this gateway and at the files, and at the routes when it is time for that.
    async fn look(&mut self) {
        let vici = self.cfg.mode.has_ipsec().then_some(&self.cfg.paths.vici);
        let found = health::look(vici).await;
        // What it says of itself moves routes. A link that DHCP renews, or a table that is just being written, is none of that.
        self.doubted = self.health.is_fit() && !found.is_fit() && !self.doubted;
        if !self.doubted {
            self.health = found;
        }
        match vici {
            Some(vici) => {
                // Alone it has nobody to whom that matters.
                let (now, waits) = (Instant::now(), self.waiting.is_some() && self.cfg.mode == Mode::NatVpn);
                if now >= self.tunnels_due && (waits || self.watched.is_some()) {
                    // Its answer says when again.
                    self.tunnels_due = now + LONG;
                    match self.watched {
                        Some(_) => tasks::ask_charon(vici, self.tunnels, &self.back),
                        None => tasks::ask_who_authenticated(vici, &self.back),
                    }
                }
                if self.watched.is_none() {
                    self.tunnels = 0;
                }
            }
            None => self.tunnels = 1,
        }
        let text = files::read(&self.cfg.paths.pair).ok().flatten().map(|(text, _)| text);
        self.waiting = Waiting::read(text.as_deref(), self.waiting.take());
        let members = text.as_deref().and_then(Members::parse).filter(|members| members.port == self.cfg.pairing.port);
        let key = || keyring::read(&self.cfg.paths).ok().flatten().map(|ring| ring.current);
        match (members.and_then(|members| Some((members, key()?))), &mut self.watched) {
            (None, None) => {}
            (None, watched) => {
                info!("no other gateway makes a pair with this one any more");
                *watched = None;
                let _ = files::remove(&self.cfg.paths.pair_status);
            }
            (Some((members, key)), Some(watched))
                if watched.members.me == members.me && watched.members.other.instance == members.other.instance =>
            {
                (watched.members, watched.key) = (members, key);
            }
            (Some((members, key)), _) => self.begin(members, key),
        }
        if let Some(why) = self.watched.as_ref().and_then(Watched::wants_a_pass) {
            self.asks.ask(&why);
        }
        let leaves = self.watched.is_some() && self.leaves.look(self.now(), &self.cfg.paths, &self.back);
        self.event(Event::Leaving(leaves));
        let holds = self.watched.as_ref().and_then(|watched| watched.pair.ways()).is_some_and(|ways| ways.here > 0);
        let often = if leaves && holds { HANDING } else { WARM };
        let due = self.asked.is_none_or(|at| at.elapsed() >= often)
            || self.read_back.iter().any(|at| at.elapsed() > Duration::ZERO);
        let me = self.watched.as_ref().map(|watched| &watched.members.me);
        if let (Some(me), true) = (me.or(self.waiting.as_ref().map(|waiting| &waiting.beside.me)), due) {
            self.read_back.retain(|at| *at > Instant::now());
            if self.clients.1.elapsed() > CLIENTS_AGE {
                self.clients = (Arc::new(Clients::default()), Instant::now());
            }
            self.asked = Some(Instant::now());
            tasks::look_at_routes(self.now(), &self.clients.0, me, &self.cfg.routes_tag, &self.back);
        }
        self.ask_for_place();
        self.make_way();
        self.show();
    }

    /// Whether EC2 has answered lately.
    fn ec2_answers(&self) -> bool {
        self.answered.is_some_and(|at| at.elapsed() < ANSWERED)
    }

    /// Asks a member for its place, where this gateway waits beside a pair and works. Clients come to a hub only when it is a member.
    fn ask_for_place(&mut self) {
        let ec2 = self.ec2_answers();
        let Some(waiting) = &mut self.waiting else { return };
        let authenticated = self.authenticated || self.cfg.mode != Mode::NatVpn;
        let me = waiting.beside.me.clone();
        let Some(member) = waiting.asks(Instant::now(), Health { ec2, ..self.health }.is_able() && authenticated)
        else {
            return;
        };
        if let Some(ring) = keyring::read(&self.cfg.paths).ok().flatten() {
            info!(%member, "this gateway works, and asks {member} for its place");
            tasks::ask_for_place(&self.clients.0, &me, &ring.current, member, &self.back);
        }
    }

    /// Makes way without an order: for a newcomer that works and asks for this member's place, and where EC2 has told of this instance's end
    /// for whoever waits. One that is in doubt keeps its place.
    fn make_way(&mut self) {
        let Some(watched) = self.watched.as_ref().filter(|watched| watched.pair.judgement().peer == Peer::Alive) else {
            return;
        };
        let Members { asked_by, waiting, .. } = &watched.members;
        let ends = self.leaves.ends(self.now());
        let (make_way, why) = match (asked_by, waiting.first()) {
            (_, Some(next)) if ends => (MakeWay::Next, format!("this instance ends, and {next} waits beside the pair")),
            (Some(newcomer), _) => (MakeWay::Asked, format!("{} asks for its place", newcomer.instance)),
            _ => return,
        };
        if !self.makes_way && is_due(&mut self.made_way, MAKES_WAY_AGAIN) {
            self.makes_way = true;
            warn!("this member makes way, as {why}");
            tasks::make_way(make_way, why, self.cfg.routes_tag.clone(), self.cfg.paths.clone(), &self.back);
        }
    }

    fn begin(&mut self, members: Members, key: PrivateKey) {
        let Ok(seed) = random() else { return warn!("the kernel returns no random bytes: no pair yet") };
        let (instance, address) = (&members.other.instance, members.other.address);
        info!(member = %instance, %address, "this gateway and {instance} are a pair");
        let before = files::read(&self.cfg.paths.pair_moves).ok().flatten().map(|(text, _)| text);
        let moves = Moves::read(&before.unwrap_or_default(), instance, self.now());
        let taken: Option<Taken> = files::read_json(&self.cfg.paths.pair_taken).ok().flatten();
        let taken = taken.filter(|taken| taken.from == *instance);
        let mut pair =
            Pair::new(self.now(), self.cfg.pairing.interval, self.cfg.pairing.misses).remembering(moves.clone());
        if self.cfg.mode == Mode::VpnHub {
            pair = pair.of_hubs(members.me.instance < members.other.instance);
        }
        self.watched = Some(Watched {
            members,
            since: Instant::now(),
            key,
            hearing: Hearing::new(seed),
            pair,
            moves,
            sequence: 0,
            heard: None,
            refused: BTreeMap::new(),
            forged_since: None,
            tables: BTreeMap::new(),
            nowhere: BTreeMap::new(),
            decided: None,
            ordered: Vec::new(),
            taken,
        });
    }

    fn heard(&mut self, datagram: &[u8], from: SocketAddr) {
        let now = self.now();
        let Some(watched) = self.watched.as_mut().filter(|watched| from.ip() == watched.members.other.address) else {
            // A gateway that the last pass did not see, perhaps.
            let stranger = self.watched.is_none() && Unverified::read(datagram).is_some();
            if stranger && is_due(&mut self.stranger, asks::NEWS) {
                self.asks.ask_at_once(&format!("{} sends beats, and is not known as a member of a pair", from.ip()));
            }
            return;
        };
        let Members { me, other, .. } = &watched.members;
        let holder = Holder { vpc: &me.vpc, instance: &other.instance };
        match watched.hearing.hear(now, datagram, &other.keys, &holder, &me.instance) {
            Ok(says) => {
                watched.heard = Some(Instant::now());
                watched.forged_since = None;
                self.event(Event::Beat(says));
            }
            Err(why) => {
                *watched.refused.entry(why).or_default() += 1;
                let mute = watched.heard.is_none_or(|at| at.elapsed() > Duration::from_secs(5));
                let since = (why == Refused::Forged).then(|| *watched.forged_since.get_or_insert_with(Instant::now));
                if mute && since.is_some_and(|since| since.elapsed() > Duration::from_secs(5)) {
                    let instance = other.instance.clone();
                    self.asks.ask(&format!("the beats of {instance} are signed with a key that is not known"));
                }
            }
        }
    }

    fn on_back(&mut self, back: Back) {
        match back {
            Back::Answer => self.event(Event::Answer),
            Back::Silent(asked) => self.event(Event::Silent { asked }),
            Back::Tunnels(up, took) => {
                (self.tunnels, self.tunnels_due) = (up, Instant::now() + (CHARON_RESTS * took).min(CHARON_AGAIN));
            }
            Back::Authenticated(all, took) => {
                (self.authenticated, self.tunnels_due) =
                    (all, Instant::now() + (CHARON_RESTS * took).min(CHARON_AGAIN));
            }
            Back::AskedForPlace(Ok(())) => {
                self.asks.ask_at_once("EC2 shows that this gateway asks for a member's place")
            }
            Back::AskedForPlace(Err(why)) => {
                warn!(reason = %why, "EC2 does not show that this gateway asks for a member's place: it waits until one is gone");
            }
            Back::MadeWay => self.makes_way = false,
            Back::Notices(notices) => self.leaves.told(self.now(), notices),
            Back::Far { known, follows } => self.event(Event::FarEnds { known, follows }),
            Back::Routes(asked, Ok(tables)) => {
                self.answered = Some(Instant::now());
                self.unasked = None;
                if let Some((new, table, to)) = self.waiting.as_mut().and_then(|waiting| waiting.note_nowhere(&tables))
                {
                    let why = format!("{to} of {table} leads nowhere, and the pair may be gone");
                    if new { self.asks.ask_at_once(&why) } else { self.asks.ask(&why) }
                }
                if let Some(watched) = self.watched.as_mut().filter(|watched| watched.pair.believes(asked)) {
                    watched.tables = tables;
                    let new = watched.note_nowhere();
                    let ways = watched.members.ways(&watched.tables);
                    let held = watched.members.held(&watched.tables);
                    if !watched.ordered.is_empty() && watched.ordered.iter().all(|route| held.contains(route)) {
                        // EC2 has done it and did not say so in time.
                        let routes = watched.ordered.iter().map(|(table, to)| format!("{to} of {table}")).collect();
                        self.took(routes);
                    }
                    self.event(Event::Routes { asked, ways });
                    if let Some((table, to)) = new {
                        // Whose it is, a pass decides.
                        self.asks.ask_at_once(&format!("{to} of {table} leads nowhere"));
                    }
                }
            }
            Back::Routes(_, Err(why)) => {
                // It may be asked each second.
                if self.unasked.as_ref() != Some(&why) {
                    warn!(reason = %why, "cannot ask EC2 for the routes");
                    self.unasked = Some(why);
                }
                self.clients = (Arc::new(Clients::default()), Instant::now());
            }
            Back::Moved(all) => {
                for failed in all.iter().filter_map(|one| one.as_ref().err()) {
                    warn!(reason = %failed, "a route was not taken over");
                }
                let took: Vec<_> = all.iter().flatten().cloned().collect();
                let (wanted, moved) = (all.len(), took.len());
                if !took.is_empty() {
                    self.took(took);
                }
                self.event(Event::Moved { wanted, moved });
                if moved > 0 && moved == wanted {
                    // The report of the last pass says otherwise. There are few moves, and the dead member may be back and unknown soon.
                    self.asks.ask_at_once("the routes lead here now");
                }
            }
        }
    }

    /// These routes read back as moved here.
    fn took(&mut self, routes: Vec<String>) {
        let Some(watched) = &mut self.watched else { return };
        if routes.len() == watched.ordered.len() {
            watched.ordered.clear();
        }
        let taken = taken(routes, watched);
        warn!(member = %taken.from, routes = %taken.routes.join(", "), "took over {taken}");
        // It is asked for when the other member is gone, too.
        if let Err(e) = files::write_json(&self.cfg.paths.pair_taken, &taken, 0o644) {
            warn!(reason = %e.chain(), "cannot write down what was taken over");
        }
        watched.taken = Some(taken);
        let now = Instant::now();
        self.read_back = READ_BACK.map(|after| now + Duration::from_secs(after)).into();
    }

    fn event(&mut self, event: Event) {
        let now = self.now();
        let Some(watched) = &mut self.watched else { return };
        for action in watched.pair.on(now, event) {
            match action {
                Action::AskKernel { wait } => tasks::ask_kernel(now, wait, &watched.members, &self.back),
                Action::LookAtRoutes => {
                    self.asked = Some(Instant::now());
                    tasks::look_at_routes(now, &self.clients.0, &watched.members.me, &self.cfg.routes_tag, &self.back);
                }
                Action::AskFarEnds => self.far.send_modify(|told| told.asks += 1),
                Action::TakeOver { private } => {
                    watched.decided = Some((Instant::now(), watched.heard));
                    watched.ordered = watched.members.takes(&watched.tables, private);
                    tasks::take_over(&self.clients.0, &watched.members, &watched.tables, private, &self.back);
                }
                Action::Say(judgement) => {
                    let member = &watched.members.other.instance;
                    match judgement.peer {
                        Peer::Alive => info!(%member, "{member}: {judgement}"),
                        _ => warn!(%member, "{member}: {judgement}"),
                    }
                }
                Action::StandDown => {
                    warn!("the routes that led here lead to the other member of the pair: this gateway stands by");
                }
            }
        }
        self.tell_far_ends();
        self.remember();
    }

    /// Far ends are told what has changed, at once.
    fn tell_far_ends(&self) {
        let Some(watched) = &self.watched else { return };
        let word = watched.pair.word();
        let now = Word { holds: word.holds && self.tunnels > 0, ..word };
        self.far.send_if_modified(|told| std::mem::replace(&mut told.word, now) != now);
    }

    /// Writes down the moves that count, where they have changed.
    fn remember(&mut self) {
        let Some(watched) = self.watched.as_mut().filter(|watched| watched.pair.moves() != watched.moves) else {
            return;
        };
        watched.moves = watched.pair.moves().to_vec();
        let moves = Moves { member: watched.members.other.instance.clone(), at: watched.moves.clone() };
        if let Err(e) = files::write_json(&self.cfg.paths.pair_moves, &moves, 0o600) {
            warn!(reason = %e.chain(), "cannot write down when routes were moved");
        }
    }

    fn send(&mut self, socket: &UdpSocket, own: Health) {
        let leaving = self.leaves.is_so();
        let Some(watched) = &mut self.watched else { return };
        watched.sequence += 1;
        let (holds, generation) = (watched.pair.holds(), watched.pair.generation());
        let interval = self.cfg.pairing.interval;
        let says = Says { health: own, holds, leaving, interval, generation, ..Says::default() };
        let (challenge, echo) = (watched.hearing.challenge(), watched.hearing.echo());
        let beat = Beat { says, session: self.session, sequence: watched.sequence, challenge, echo };
        let Members { me, other, port, .. } = &watched.members;
        let holder = Holder { vpc: &me.vpc, instance: &me.instance };
        if let Some(datagram) = beat.signed(&watched.key, &holder, &other.instance) {
            // One that the kernel cannot send now is as one that was lost.
            let _ = socket.try_send_to(&datagram, (other.address, *port).into());
        }
    }

    fn show(&self) {
        let Some(watched) = &self.watched else {
            let alone = || "no second gateway in this VPC".to_owned();
            return notify(&[NotifyState::Status(&self.waiting.as_ref().map_or_else(alone, Waiting::to_string))]);
        };
        let health = Health { tunnels: self.tunnels, ..self.health };
        let status = shown(watched, health, self.far.borrow().word, self.leaves.shown(self.now()));
        notify(&[NotifyState::Status(&status.to_string())]);
        if let Err(e) = files::write_json(&self.cfg.paths.pair_status, &status, 0o644) {
            warn!(reason = %e.chain(), "cannot write what status shows of the pair");
        }
    }
}
