//! Key rotations of a whole fleet: the real `decide` at both ends, and between them IKE as far as keys go.
//!
//! Two connections make an IKE_SA if each names the other's identity and accepts the key that the other signs with; one
//! that proves a next key is initiated by the key's holder, as `keep` does it. After every refresh each tunnel that stood
//! before must still authenticate, in both directions, with private keys that are still there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::Path,
    sync::LazyLock,
    time::Duration,
};

use crosswan_core::{
    decide::{Request, decide},
    model::{
        Answers, AskError, Auth, ConnName, Gateway, Holder, Identity, KEY_TAG, KeyTags, Keyring, OwnKeys, PrivateKey,
        PublicKey, Region, RegionView, Timestamp, Tunnel,
    },
    observed::Observed,
    settings::{Flags, Settings, Sources},
    state::State,
    swanctl::Summary,
    system::{Charon, ChildSa, Sa, System},
};
use ipnet::Ipv4Net;
use proptest::prelude::*;

/// The hub's number; the spokes have those above it.
const HUB: u32 = 0;

/// How many versions of each tag lie between what EC2 shows and what was written last.
type Lag = (usize, usize);

/// How far a pass gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    /// The connections are loaded, and that is all.
    Loaded,
    /// The next key has taken over on the disk.
    Promoted,
    /// The state is written.
    Remembered,
    /// The tags are written, too.
    Whole,
}

#[derive(Clone)]
struct Node {
    number: u32,
    me: Identity,
    ring: Keyring,
    /// What the keys sign, made once.
    own: OwnKeys,
    /// The values of the two tags, the last ones last.
    tags: Vec<(Option<String>, Option<String>)>,
    state: State,
    /// What charon has loaded.
    tunnels: BTreeMap<ConnName, Tunnel>,
    /// Whose consent the last pass found missing.
    waiting: BTreeSet<String>,
    /// It had a tunnel once.
    up: bool,
    /// How many rotations it has completed.
    changes: usize,
}

/// What a pass may know besides its own.
struct Look<'a> {
    settings: &'a Settings,
    answers: &'a Answers,
    /// charon's IKE_SAs; `None` if it does not answer.
    sas: Option<&'a [Sa]>,
}

impl Node {
    fn new(number: u32) -> Node {
        let cidr = Ipv4Net::new_assert(Ipv4Addr::from_bits(0x0a00_0000 + (number << 8)), 24);
        let me = Identity {
            instance: format!("i-{number:08x}").parse().unwrap(),
            region: region(),
            vpc: format!("vpc-{number:08x}").parse().unwrap(),
            cidrs: [cidr].into(),
            private: Ipv4Addr::from_bits(cidr.network().to_bits() + 10),
            public: Some(Ipv4Addr::from_bits(0xc612_0000 + number)),
        };
        let current = key_pair(number, 0, &me);
        let own = OwnKeys { current: current.proven(&holder(&me)).unwrap(), next: None };
        let (ring, tags) = (Keyring { current, next: None }, vec![(None, None)]);
        let (state, tunnels, waiting) = Default::default();
        Node { number, me, ring, own, tags, state, tunnels, waiting, up: false, changes: 0 }
    }

    /// Makes the next key, unless there is one.
    fn rotate(&mut self) {
        if self.ring.next.is_none() {
            let next = key_pair(self.number, self.changes as u8 + 1, &self.me);
            let me = holder(&self.me);
            self.own.next = Some((next.proven(&me).unwrap(), self.ring.current.succeeded_by(&next, &me).unwrap()));
            self.ring.next = Some(next);
        }
    }

    /// As EC2 shows it.
    fn shown(&self, lag: Lag) -> Gateway {
        let version = |lag: usize| &self.tags[self.tags.len().saturating_sub(1 + lag)];
        let Identity { instance, region, vpc, public, cidrs, .. } = self.me.clone();
        let tags = KeyTags::of(version(lag.0).0.as_deref(), version(lag.1).1.as_deref());
        Gateway {
            instance,
            region,
            account: None,
            vpc,
            public,
            address: None,
            launched: Timestamp(0),
            cidrs,
            segment: None,
            tags,
        }
    }

    /// One pass, in the order of `refresh`.
    fn refresh(&mut self, look: &Look, cut: Cut) {
        let charon = look.sas.map(|sas| Charon {
            connections: self.tunnels.keys().map(|name| (name.to_string(), Summary::default())).collect(),
            sas: sas.to_vec(),
            ..Charon::default()
        });
        let peer_keys = self.tunnels.iter().map(|(name, tunnel)| (name.clone(), accepted(tunnel).to_vec())).collect();
        let uplink = "ens5".parse().unwrap();
        let observed = Observed {
            answers: look.answers.clone(),
            state: self.state.clone(),
            own: Some(self.own),
            system: System { charon, peer_keys, ..System::default() },
            ..Observed::new(look.settings, self.me.clone(), uplink, Timestamp(1_000_000))
        };
        let decision = decide(look.settings, &observed, &Request::default()).unwrap();
        let presence = decision.presence.unwrap();
        self.tunnels = decision.tunnels;
        self.waiting = presence.waiting;
        if cut >= Cut::Promoted && presence.promote {
            self.ring = Keyring { current: self.ring.next.take().unwrap(), next: None };
            self.own = OwnKeys { current: self.own.next.unwrap().0, next: None };
            self.changes += 1;
        }
        if cut >= Cut::Remembered {
            self.state = decision.state;
        }
        if cut == Cut::Whole {
            let (mut key, mut next) = self.tags.last().unwrap().clone();
            let news = presence.announce.missing_from(key.as_deref(), next.as_deref());
            for (tag, value) in &news {
                *if *tag == KEY_TAG { &mut key } else { &mut next } = Some(value.clone());
            }
            self.tags.extend((!news.is_empty()).then_some((key, next)));
        }
    }

    fn has(&self, key: &PublicKey) -> bool {
        self.ring.keys().any(|pair| pair.public == *key)
    }
}

/// Key pair `generation` of a gateway, always the same.
fn key_pair(number: u32, generation: u8, me: &Identity) -> PrivateKey {
    let mut seed = [generation; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_seed(&seed, &me.instance, Timestamp(0)).unwrap()
}

fn holder(me: &Identity) -> Holder<'_> {
    Holder { vpc: &me.vpc, instance: &me.instance }
}

fn signs_with(tunnel: &Tunnel) -> PublicKey {
    match &tunnel.auth {
        Auth::Key { own, .. } => *own,
        Auth::Psk(_) => unreachable!("there is no pre-shared key"),
    }
}

fn accepted(tunnel: &Tunnel) -> &[PublicKey] {
    match &tunnel.auth {
        Auth::Key { peer, .. } => peer,
        Auth::Psk(_) => unreachable!("there is no pre-shared key"),
    }
}

/// Both ends would authenticate each other.
fn agree(a: &Tunnel, b: &Tunnel) -> bool {
    let one_way = |a: &Tunnel, b: &Tunnel| a.local_id == b.remote_id && accepted(b).contains(&signs_with(a));
    one_way(a, b) && one_way(b, a)
}

/// The connections of one end to another.
type Conns<'a> = Vec<(&'a ConnName, &'a Tunnel)>;

/// The IKE_SAs between two ends, as the first of them lists them.
fn sas(mine: &Conns, theirs: &Conns) -> Vec<Sa> {
    let pairs = mine.iter().flat_map(|a| theirs.iter().map(move |b| (a, b)));
    let agreed = pairs.filter(|((_, a), (_, b))| a.children.is_empty() == b.children.is_empty() && agree(a, b));
    let sa = |((name, tunnel), _): (&(&ConnName, &Tunnel), _)| Sa {
        conn: name.to_string(),
        state: "ESTABLISHED".into(),
        local_id: tunnel.local_id.to_string(),
        initiator: name.is_own_proof(),
        children: tunnel.children.keys().map(|_| ChildSa { state: "INSTALLED".into(), ..ChildSa::default() }).collect(),
        ..Sa::default()
    };
    agreed.map(sa).collect()
}

fn region() -> Region {
    "eu-west-1".parse().unwrap()
}

fn settings(mode: &str) -> Settings {
    let environment = [("MODE", mode), ("PRIVATE_NET", "10.0.0.0/8"), ("REGIONS", "eu-west-1")];
    let environment = environment.map(|(name, value)| (format!("CROSSWAN_{name}"), value.to_owned())).into();
    let sources =
        Sources { root: Path::new("/nonexistent"), toml: Vec::new(), env: &environment, flags: &Flags::default() };
    Settings::of(&sources, |_| Ok(None)).unwrap()
}

/// A hub and its spokes.
#[derive(Clone)]
struct Fleet {
    hub: Node,
    spokes: Vec<Node>,
    settings: [Settings; 2],
}

impl Fleet {
    /// So many spokes, all with their tunnel.
    fn new(spokes: u32) -> Fleet {
        let settings = ["vpn-hub", "nat-vpn"].map(settings);
        let mut fleet = Fleet { hub: Node::new(HUB), spokes: (1..=spokes).map(Node::new).collect(), settings };
        // Each announces its key; the hub finds the spokes'; they find the hub's.
        fleet.refresh_spokes(|_| true);
        fleet.refresh_hub();
        fleet.refresh_spokes(|_| true);
        assert!(fleet.spokes.iter().all(|spoke| spoke.up), "not every spoke came up");
        fleet
    }

    /// The hub's connections, by spoke.
    fn of_hub(&self) -> BTreeMap<&str, Conns<'_>> {
        let mut by_spoke: BTreeMap<&str, Conns> = BTreeMap::new();
        for (name, tunnel) in &self.hub.tunnels {
            by_spoke.entry(name.party()).or_default().push((name, tunnel));
        }
        by_spoke
    }

    fn refresh_hub(&mut self) {
        self.refresh_hub_as(|_| Some((0, 0)), true, Cut::Whole);
    }

    /// With what EC2 shows of each spoke (`None`: it does not answer), and whether charon does.
    fn refresh_hub_as(&mut self, lag: impl Fn(usize) -> Option<Lag>, charon: bool, cut: Cut) {
        let gateways: Option<Vec<Gateway>> =
            self.spokes.iter().enumerate().map(|(n, spoke)| lag(n).map(|lag| spoke.shown(lag))).collect();
        let conns = self.of_hub();
        let with = |spoke: &Node| {
            let mine = conns.get(spoke.me.vpc.as_str());
            mine.map_or_else(Vec::new, |mine| sas(mine, &spoke.tunnels.iter().collect()))
        };
        let found: Vec<Sa> = self.spokes.iter().flat_map(with).collect();
        let sas = charon.then_some(&found[..]);
        let answers = answer(gateways);
        self.hub.refresh(&Look { settings: &self.settings[0], answers: &answers, sas }, cut);
        self.check(|_| true);
    }

    fn refresh_spokes(&mut self, which: impl Fn(usize) -> bool) {
        let hub = self.hub.shown((0, 0));
        let answers = answer(Some(vec![hub]));
        self.refresh_spokes_as(&which, &answers, true, Cut::Whole);
    }

    fn refresh_spokes_as(&mut self, which: &impl Fn(usize) -> bool, answers: &Answers, charon: bool, cut: Cut) {
        let mut spokes = std::mem::take(&mut self.spokes);
        let conns = self.of_hub();
        for (_, spoke) in spokes.iter_mut().enumerate().filter(|(n, _)| which(*n)) {
            let theirs = conns.get(spoke.me.vpc.as_str());
            let found = theirs.map_or_else(Vec::new, |theirs| sas(&spoke.tunnels.iter().collect(), theirs));
            let sas = charon.then_some(&found[..]);
            spoke.refresh(&Look { settings: &self.settings[1], answers, sas }, cut);
        }
        self.spokes = spokes;
        self.check(which);
    }

    /// No tunnel that stood is gone, and each authenticates at both ends with keys that are there.
    fn check(&mut self, which: impl Fn(usize) -> bool) {
        let mut spokes = std::mem::take(&mut self.spokes);
        let (hub, conns) = (&self.hub, self.of_hub());
        for (_, spoke) in spokes.iter_mut().enumerate().filter(|(n, _)| which(*n)) {
            let carrying = |conns: &Conns| -> Option<Tunnel> {
                let mut found = conns.iter().filter(|(_, tunnel)| !tunnel.children.is_empty());
                let first = found.next().map(|(_, tunnel)| (*tunnel).clone());
                assert!(found.next().is_none(), "two tunnels to one peer");
                first
            };
            let mine = carrying(&spoke.tunnels.iter().collect());
            let theirs = conns.get(spoke.me.vpc.as_str()).and_then(carrying);
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => {
                    assert!(agree(&mine, &theirs), "{}: {mine:?} and {theirs:?}", spoke.me.vpc);
                    assert!(spoke.has(&signs_with(&mine)) && hub.has(&signs_with(&theirs)), "a private key is gone");
                    spoke.up = true;
                }
                _ => assert!(!spoke.up, "the tunnel of {} is gone", spoke.me.vpc),
            }
        }
        self.spokes = spokes;
    }

    /// How many spokes have completed as many rotations, and are known to the hub by their new key alone.
    fn changed(&self, changes: usize) -> usize {
        let changed = |spoke: &&Node| spoke.changes == changes && knows(&self.hub, spoke);
        self.spokes.iter().filter(changed).count()
    }

    /// How many spokes know the hub by the key alone that it signs with.
    fn follow(&self) -> usize {
        self.spokes.iter().filter(|spoke| knows(spoke, &self.hub)).count()
    }
}

/// By the key that it signs with, and no other.
fn knows(node: &Node, peer: &Node) -> bool {
    node.state.peers[&peer.me.vpc].keys == [peer.ring.current.public]
}

fn answer(gateways: Option<Vec<Gateway>>) -> Answers {
    let view = |gateways| RegionView { gateways, ..RegionView::default() };
    [(region().into(), gateways.map(view).ok_or(AskError::TimedOut { after: Duration::from_secs(60) }))].into()
}

/// Spokes that take no part: as many as once fitted into a tag, where they made all others wait.
const STUCK: usize = 21;

/// 5,000 spokes with their tunnels.
static FLEET: LazyLock<Fleet> = LazyLock::new(|| Fleet::new(5_000));

#[test]
fn five_thousand_spokes_rotate_at_once_within_three_refreshes_of_the_hub_and_stuck_ones_starve_nobody() {
    let mut fleet = FLEET.clone();
    fleet.spokes.iter_mut().for_each(Node::rotate);
    // The stuck ones come first in every order. They announce their next key and then do nothing more.
    fleet.refresh_spokes(|_| true);
    let mut refreshes = 0;
    while fleet.changed(1) < fleet.spokes.len() - STUCK {
        assert!(refreshes < 3, "{} have changed after three refreshes of the hub", fleet.changed(1));
        fleet.refresh_hub();
        refreshes += 1;
        fleet.refresh_spokes(|n| n >= STUCK);
    }
    assert!(fleet.spokes[..STUCK].iter().all(|spoke| spoke.changes == 0), "they are stuck");
    fleet.refresh_spokes(|n| n < STUCK);
    fleet.refresh_hub();
    assert_eq!(fleet.changed(1), fleet.spokes.len(), "the stuck ones go on when they can");
}

#[test]
fn the_hub_of_five_thousand_spokes_rotates_within_three_refreshes_of_the_slowest() {
    let mut fleet = FLEET.clone();
    fleet.hub.rotate();
    // Some refresh while the others are still on their way.
    let slow = |n: usize| n.is_multiple_of(10);
    let mut refreshes = 0;
    while (fleet.hub.changes, fleet.follow()) != (1, fleet.spokes.len()) {
        assert!(refreshes < 3, "{} follow after three refreshes of the slowest", fleet.follow());
        fleet.refresh_hub();
        fleet.refresh_spokes(|n| !slow(n));
        fleet.refresh_hub();
        fleet.refresh_spokes(slow);
        refreshes += 1;
    }
}

#[test]
fn while_the_hub_waits_for_stuck_spokes_the_others_rotate_and_every_tunnel_stays() {
    let mut fleet = Fleet::new(200);
    fleet.hub.rotate();
    fleet.spokes[STUCK..].iter_mut().for_each(Node::rotate);
    for _ in 0..3 {
        fleet.refresh_spokes(|n| n >= STUCK);
        fleet.refresh_hub();
    }
    assert_eq!(fleet.changed(1), fleet.spokes.len() - STUCK);
    let stuck: BTreeSet<String> = fleet.spokes[..STUCK].iter().map(|spoke| spoke.me.vpc.to_string()).collect();
    assert_eq!((fleet.hub.changes, &fleet.hub.waiting), (0, &stuck), "the hub names whom it waits for");
    for _ in 0..2 {
        fleet.refresh_spokes(|_| true);
        fleet.refresh_hub();
    }
    fleet.refresh_spokes(|_| true);
    assert_eq!((fleet.hub.changes, fleet.follow()), (1, fleet.spokes.len()));
}

/// What may happen to a fleet.
#[derive(Debug, Clone)]
struct Event {
    /// The hub, or a spoke.
    node: usize,
    rotate: bool,
    /// Two bits a tag: how old each of them is that the node is shown.
    lags: u64,
    ec2: bool,
    charon: bool,
    cut: Cut,
}

const FEW: u32 = 5;

static SMALL: LazyLock<Fleet> = LazyLock::new(|| Fleet::new(FEW));

#[test]
fn a_next_key_that_was_loaded_stays_accepted_when_the_pass_was_killed_before_it_remembered() {
    let mut fleet = SMALL.clone();
    fleet.spokes[0].rotate();
    fleet.refresh_spokes(|n| n == 0);
    fleet.refresh_hub_as(|_| Some((0, 0)), true, Cut::Loaded);
    fleet.refresh_spokes(|n| n == 0);
    assert_eq!(fleet.spokes[0].changes, 1, "the hub's charon has shown its consent");
    // The state says nothing of the next key, and EC2 does not answer.
    fleet.refresh_hub_as(|_| None, true, Cut::Whole);
    fleet.refresh_hub();
    assert!(knows(&fleet.hub, &fleet.spokes[0]));
}

prop_compose! {
    fn event()(node in 0..=FEW as usize, rotate in proptest::bool::weighted(0.2), lags in any::<u64>(),
               fresh in any::<bool>(), ec2 in proptest::bool::weighted(0.9), charon in proptest::bool::weighted(0.9),
               cut in prop_oneof![5 => Just(Cut::Whole), 1 => Just(Cut::Loaded), 1 => Just(Cut::Promoted),
                                  1 => Just(Cut::Remembered)]) -> Event {
        Event { node, rotate, lags: if fresh { 0 } else { lags }, ec2, charon, cut }
    }
}

impl Fleet {
    fn happen(&mut self, event: &Event) {
        let bits = |n: usize| (event.lags >> n & 3) as usize;
        let lag = |n: usize| event.ec2.then(|| (bits(4 * n), bits(4 * n + 2)));
        match event.node.checked_sub(1) {
            None => {
                if event.rotate {
                    self.hub.rotate();
                }
                self.refresh_hub_as(lag, event.charon, event.cut);
            }
            Some(spoke) => {
                if event.rotate {
                    self.spokes[spoke].rotate();
                }
                let answers = answer(lag(0).map(|lag| vec![self.hub.shown(lag)]));
                self.refresh_spokes_as(&|n| n == spoke, &answers, event.charon, event.cut);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// EC2 shows each tag as it was up to three versions ago, later reads earlier ones among them; regions and charon do not
    /// answer; passes are cut off anywhere; rotations begin at any time at both ends.
    #[test]
    fn no_order_of_passes_and_reads_breaks_a_tunnel_and_every_rotation_ends(
        events in proptest::collection::vec(event(), 0..60)
    ) {
        let mut fleet = SMALL.clone();
        events.iter().for_each(|event| fleet.happen(event));
        for _ in 0..3 {
            fleet.refresh_spokes(|_| true);
            fleet.refresh_hub();
        }
        fleet.refresh_spokes(|_| true);
        let nodes = fleet.spokes.iter().chain([&fleet.hub]);
        prop_assert!(nodes.clone().all(|node| node.ring.next.is_none()), "a rotation has not ended");
        prop_assert_eq!(fleet.follow(), fleet.spokes.len());
        prop_assert!(fleet.spokes.iter().all(|spoke| knows(&fleet.hub, spoke)));
    }
}
