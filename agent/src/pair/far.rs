//! What the pairs at the far ends of tunnels say, and what this gateway says to them: whom it follows, and as a member of a pair its own word.
//!
//! It has no right to move a route. It writes who is followed to a file, and `crosswan watch` moves the routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::Ipv4Addr,
    path::Path,
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::{
    net::UdpSocket,
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};

use super::{
    asks::Asks,
    random::random,
    socket::{Received, TTL, receive, to_tunnels},
    tasks::Back,
};
use crate::{
    files::{self, Stamp},
    followed,
    host::{self, notify},
    keyring,
    paths::Paths,
};
use crosswan_core::{
    error::{Error, Result},
    model::{ConnName, InstanceId, Place, PrivateKey},
    pair::{
        Beside, Exchange, FarEnd, Follow, Health, IDLE, LENGTH, Members, Refused, Says, Word, far_ends, known_by_most,
    },
    state::State,
    system::{ChildSa, Followee, Sa},
};
use crosswan_vici::Vici;

/// The own timer, which finds the beats that are due.
const TICK: Duration = Duration::from_millis(50);
/// How often files and interfaces are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The datagrams that are read in one [`TICK`]; what is above waits in the kernel or is lost there, so that a flood costs a bounded share of
/// a processor.
const DATAGRAMS: u32 = 500;
/// The beats that are signed, at 30 µs each, before others have their turn.
const BATCH: u32 = 50;
/// How long charon has for each look at whether a tunnel carries packets. The word came through it, so no answer is none against it.
const CHARON: Duration = Duration::from_millis(500);
/// So many ends are asked at once.
const ASKED: usize = 8;
/// What is wrong with an end's datagrams is said again after so long.
const SAID: Duration = Duration::from_mins(10);

/// A member of a pair, as the far ends are told of it.
#[derive(Debug)]
pub(super) struct Member {
    /// What it has to say.
    pub told: watch::Receiver<Told>,
    /// Who is told how many takeovers most far ends know.
    pub back: UnboundedSender<Back>,
}

/// What the task that watches the other member has for far ends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// This member's word.
    pub word: Word,
    /// How often some of them were to be asked.
    pub asks: usize,
}

#[derive(Debug)]
struct End {
    end: FarEnd,
    exchange: Exchange,
    /// Where it is reached: as EC2 shows it, else as its first good beat did.
    address: Option<Ipv4Addr>,
    /// charon is being asked about its tunnel.
    asked: bool,
}

struct Socket {
    socket: UdpSocket,
    /// What it is bound to.
    bound: (u32, Ipv4Addr),
}

/// Whether the tunnel of a connection carries packets, whose gateway spoke of this generation.
type Carries = (ConnName, u32, bool);

struct Far {
    port: u16,
    paths: Paths,
    start: Instant,
    session: u64,
    member: Option<Member>,
    /// A far end has been heard since it was counted of how many takeovers they know.
    heard_more: bool,
    /// How often ends were asked.
    asks_made: usize,
    ends: BTreeMap<ConnName, End>,
    /// The ends by their places and addresses.
    at: BTreeMap<(Place, Ipv4Addr), ConnName>,
    follows: BTreeMap<String, Follow<ConnName>>,
    sockets: [Option<Socket>; 2],
    key: Option<PrivateKey>,
    read: Option<[[Stamp; 2]; 4]>,
    /// This gateway was a member of a pair, and has made way. An end that hears that makes a pass, which gives its heir the tunnel.
    left: bool,
    asks: Asks,
    carries: UnboundedSender<Carries>,
    /// What was said last of datagrams that do not count: of whom, and why.
    said: BTreeMap<(String, Refused), Instant>,
}

/// Speaks with the far ends, on behalf of a `member` or as a hub, for which it also tells systemd how it is.
///
/// # Errors
/// The kernel gives no random bytes.
pub(super) async fn run(port: u16, paths: &Paths, member: Option<Member>) -> Result<Infallible> {
    let session = u64::from_be_bytes(random()?).max(1);
    let (carries, mut results) = unbounded_channel();
    let words = followed::read(paths);
    let follow =
        |(party, word): (&String, &Followee)| (party.clone(), Follow::known(word.connection.clone(), word.generation));
    let mut far = Far {
        port,
        paths: paths.clone(),
        start: Instant::now(),
        session,
        member,
        heard_more: false,
        asks_made: 0,
        ends: BTreeMap::new(),
        at: BTreeMap::new(),
        follows: words.all().map(follow).collect(),
        sockets: [None, None],
        key: None,
        read: None,
        left: false,
        asks: Asks::new(paths.wanted.clone()),
        carries,
        said: BTreeMap::new(),
    };
    far.look();
    if far.member.is_none() {
        notify(&[NotifyState::Ready]);
    }
    Ok(far.forever(&mut results).await)
}

impl Far {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn forever(&mut self, results: &mut UnboundedReceiver<Carries>) -> Infallible {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looked, mut left) = (Instant::now(), DATAGRAMS);
        let [mut one, mut two] = [[0; LENGTH + 1]; 2];
        loop {
            let of = |place: usize| self.sockets[place].as_ref().map(|socket| &socket.socket);
            let (received, place) = tokio::select! {
                // What has arrived counts before anything is said again.
                biased;
                Some((name, generation, carries)) = results.recv() => {
                    self.follow(&name, generation, carries).await;
                    continue;
                }
                told = news(&mut self.member) => {
                    self.ask(told.asks);
                    self.send_all().await;
                    continue;
                }
                received = receive(of(0), &mut one), if left > 0 => ((received, &one), Place::One),
                received = receive(of(1), &mut two), if left > 0 => ((received, &two), Place::Two),
                _ = ticks.tick() => {
                    left = DATAGRAMS;
                    self.learn();
                    if looked.elapsed() >= LOOK {
                        looked = Instant::now();
                        self.look();
                        if self.member.is_none() {
                            notify(&[NotifyState::Watchdog]);
                        }
                    }
                    self.send_all().await;
                    if self.ends.is_empty() {
                        ticks.reset_after(LOOK);
                    }
                    continue;
                }
            };
            left -= 1;
            let (Received { length, from, ttl }, datagram) = received;
            let datagram = datagram[..length].to_vec();
            self.heard(place, from, ttl, &datagram);
        }
    }

    /// Looks at the files and the interfaces.
    fn look(&mut self) {
        let read = [&self.paths.connections, &self.paths.key, &self.paths.state, &self.paths.pair];
        let now = read.map(|path| files::stamps(path));
        if self.read != Some(now) {
            self.read = Some(now);
            self.key = keyring::read(&self.paths).ok().flatten().map(|ring| ring.current);
            self.read_ends();
        }
        let local = self.ends.values().next().map(|end| end.end.local);
        for (place, open) in Place::FAR_ENDS.into_iter().zip(&mut self.sockets) {
            let index = nix::net::if_::if_nametoindex(place.interface()).ok();
            let wanted = index.zip(local);
            if open.as_ref().map(|open| open.bound) != wanted {
                // One that cannot be opened, as the interface has just gone or has no right name, is tried again a second later.
                *open = wanted.and_then(|bound| {
                    let opened = to_tunnels(place, bound.1, self.port);
                    let failed = |e: &std::io::Error| debug!(reason = %e, "cannot hear {}", place.interface());
                    Some(Socket { socket: opened.inspect_err(failed).ok()?, bound })
                });
            }
        }
    }

    fn read_ends(&mut self) {
        let text = |path: &Path| files::read(path).ok().flatten().map(|(text, _)| text).unwrap_or_default();
        // One that is alone, or waits beside a pair and always has, has nothing to say of itself, and a client's gateway only answers.
        let pair = text(&self.paths.pair);
        self.left = Beside::parse(&pair).is_some_and(|beside| beside.made_way.is_some());
        let speaks = self.left || self.member.is_some() && Members::parse(&pair).is_some();
        let text = text(&self.paths.connections);
        let addresses = addresses(&self.paths.state);
        let all = far_ends(&text, speaks, |instance| addresses.get(instance).copied());
        let names: BTreeSet<ConnName> = all.iter().map(|end| end.name.clone()).collect();
        self.ends.retain(|name, _| names.contains(name));
        for end in all {
            let known = self.ends.remove(&end.name).filter(|known| known.end.ids == end.ids);
            let (exchange, learnt, asked) = match known {
                Some(known) => (known.exchange, known.address, known.asked),
                None => {
                    let Ok(seed) = random() else { continue };
                    (Exchange::new(self.now(), seed, self.session), None, false)
                }
            };
            let address = end.address.or(learnt);
            self.ends.insert(end.name.clone(), End { end, exchange, address, asked });
        }
        let at = |end: &End| Some(((end.end.place, end.address?), end.end.name.clone()));
        self.at = self.ends.values().filter_map(at).collect();
    }

    /// Asks some ends that were heard for their word, if the member has asked for that again; each time others, as some may be dead.
    fn ask(&mut self, asks: usize) {
        if asks == std::mem::replace(&mut self.asks_made, asks) {
            return;
        }
        let now = self.now();
        let mut heard: Vec<_> = self.ends.values_mut().filter(|end| end.exchange.known().is_some()).collect();
        let ends = heard.len();
        heard.rotate_left((asks * ASKED).checked_rem(ends).unwrap_or_default());
        heard.into_iter().take(ASKED).for_each(|end| end.exchange.ask(now));
    }

    /// Sends each beat that is due. After some of them the beats of the member, in the same task, have their turn.
    async fn send_all(&mut self) {
        let now = self.now();
        let Some(key) = &self.key else { return };
        let mut sent = 0;
        for end in self.ends.values_mut() {
            let says = says(now, self.member.as_ref(), self.left, &self.follows, end);
            sent += u32::from(send(end, now, says, key, &self.sockets, self.port));
            if sent == BATCH {
                sent = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Tells the member how many takeovers most far ends know and whether these follow it, of those that were heard: one word for each party,
    /// whatever its gateways.
    fn learn(&mut self) {
        let Some(member) = &self.member else { return };
        if !std::mem::take(&mut self.heard_more) {
            return;
        }
        let mut parties: BTreeMap<&str, (u32, bool)> = BTreeMap::new();
        for (name, end) in &self.ends {
            if let Some((follows, known)) = end.exchange.known() {
                let most = parties.entry(name.party()).or_default();
                *most = (known, follows).max(*most);
            }
        }
        if !parties.is_empty() {
            let (known, follows) = known_by_most(parties.into_values().collect());
            let _ = member.back.send(Back::Far { known, follows });
        }
    }

    /// Sends the beat that is due to this end, if one is.
    fn answer(&mut self, name: &ConnName) {
        let now = self.now();
        if let (Some(key), Some(end)) = (&self.key, self.ends.get_mut(name)) {
            let says = says(now, self.member.as_ref(), self.left, &self.follows, end);
            send(end, now, says, key, &self.sockets, self.port);
        }
    }

    fn heard(&mut self, place: Place, from: Ipv4Addr, ttl: i32, datagram: &[u8]) {
        let now = self.now();
        // A member knows its few hubs by their first good beat.
        let unknown = |end: &&End| end.end.place == place && end.address.is_none();
        let name = || self.at.get(&(place, from)).or_else(|| self.ends.values().find(unknown).map(|end| &end.end.name));
        let name = (ttl == TTL).then(name).flatten().cloned();
        let Some(End { end, exchange, address, asked }) = name.and_then(|name| self.ends.get_mut(&name)) else {
            return self.refused(place.interface(), Refused::Stranger);
        };
        let heard = exchange.hear(now, datagram, end);
        let name = end.name.clone();
        if address.is_none() && matches!(heard, Ok(_) | Err(Refused::Unproven)) {
            *address = Some(from);
            self.at.insert((place, from), name.clone());
        }
        match heard {
            Ok(says) => {
                self.heard_more = true;
                if says.leaving {
                    // Its heir may have yet to show that it works.
                    self.asks.ask_until_heeded(&format!("the gateway of {name} has made way for another one"));
                }
                let follow = self.follows.entry(name.party().to_owned()).or_default();
                if follow.is_news(&says) && !std::mem::replace(asked, true) {
                    ask_charon(&self.paths.vici, end, says.generation, &self.carries);
                }
            }
            // Each process's first beats.
            Err(Refused::Unproven) => {}
            Err(why) => self.refused(name.as_str(), why),
        }
        self.answer(&name);
    }

    /// Says that datagrams do not count, but not of each one.
    fn refused(&mut self, of: &str, why: Refused) {
        let now = Instant::now();
        self.said.retain(|_, at| now - *at < SAID);
        if self.said.insert((of.to_owned(), why), now).is_none() {
            warn!("a datagram from the tunnel {of} does not count: {why}");
        }
    }

    /// Follows the gateway of this connection, if its tunnel carries packets.
    async fn follow(&mut self, name: &ConnName, generation: u32, carries: bool) {
        let Some(End { end, asked, .. }) = self.ends.get_mut(name) else { return };
        *asked = false;
        let party = name.party();
        let follow = self.follows.entry(party.to_owned()).or_default();
        if generation <= follow.generation() {
            return;
        }
        if !carries {
            return self.refused(name.as_str(), Refused::NoTunnel);
        }
        let (place, networks) = (end.place, end.networks.clone());
        let word =
            Followee { connection: name.clone(), place, generation, networks, at: host::now(), overruled: false };
        match followed::change(&self.paths, |followed| followed.follow(party, word)) {
            Ok(_) => {
                follow.follow(name.clone(), generation);
                info!(connection = %name, generation, "{party} is reached by {name} from now on, as its pair says: takeover {generation}");
            }
            Err(e) => warn!(reason = %e.chain(), "{name} has taken over and cannot be followed"),
        }
        // It repeats its word until it is answered.
        self.send_all().await;
    }
}

/// What this gateway says to the end of this connection: a member its own word, one that has `left` that it has, and everybody whom it
/// follows.
fn says(now: u64, member: Option<&Member>, left: bool, follows: &BTreeMap<String, Follow<ConnName>>, to: &End) -> Says {
    let (name, word) = (&to.end.name, member.map_or_else(Word::default, |member| member.told.borrow().word));
    let (holds, generation) = (word.holds, word.for_end(to.exchange.known_for_long(now)));
    let (follows, known) =
        follows.get(name.party()).map_or((false, 0), |follow| (follow.followed() == Some(name), follow.generation()));
    let interval = Duration::from_millis(IDLE);
    Says { health: Health::default(), holds, leaving: left, interval, generation, follows, known, asks: false }
}

/// Sends the beat that is due to an end, through the interface of its place. Returns whether there was one.
fn send(to: &mut End, now: u64, says: Says, key: &PrivateKey, sockets: &[Option<Socket>; 2], port: u16) -> bool {
    let Some(socket) = &sockets[usize::from(to.end.place == Place::Two)] else { return false };
    let Some(address) = to.address else { return false };
    let Some(beat) = to.exchange.beat(now, says) else { return false };
    let [own, other] = &to.end.ids;
    if let Some(datagram) = beat.signed_in_tunnel(key, own, other) {
        // One that the kernel cannot send now is as one that was lost.
        let _ = socket.socket.try_send_to(&datagram, (address, port).into());
    }
    true
}

/// Returns what the member has for far ends once that is new; never on a hub.
async fn news(member: &mut Option<Member>) -> Told {
    if let Some(Member { told, .. }) = member
        && told.changed().await.is_ok()
    {
        return *told.borrow_and_update();
    }
    std::future::pending().await
}

/// The private addresses of gateways, as EC2 showed them.
fn addresses(state: &Path) -> BTreeMap<InstanceId, Ipv4Addr> {
    let state: State =
        files::read_json(state).inspect_err(|e: &Error| debug!(reason = %e.chain())).ok().flatten().unwrap_or_default();
    let shown = state.regions.values().flat_map(|last| &last.view.gateways);
    let all = state.peers.values().map(|peer| &peer.gateway).chain(shown);
    all.filter_map(|gateway| Some((gateway.instance.clone(), gateway.address?))).collect()
}

/// Asks charon whether the tunnel of `end` carries packets.
fn ask_charon(vici: &Path, end: &FarEnd, generation: u32, results: &UnboundedSender<Carries>) {
    let (vici, name, place, results) = (vici.to_owned(), end.name.clone(), end.place, results.clone());
    tokio::spawn(async move {
        let up = |child: &ChildSa| child.is_up() && child.place() == Some(place);
        let carries = |sas: &[Sa]| {
            sas.iter().any(|sa| sa.conn == name.as_str() && sa.is_authenticated() && sa.children.iter().any(up))
        };
        let asked = async { Vici::connect(&vici, CHARON).await?.all_sas(carries).await };
        let is = asked.await.ok().is_none_or(|sas| carries(&sas));
        let _ = results.send((name, generation, is));
    });
}
