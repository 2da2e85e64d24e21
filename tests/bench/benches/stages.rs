//! The pure stages by number of peers, in 8 regions: decide, render, the swanctl parser, plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use crosswan::decide::{Decision, KeyAnswer, Seen, decide};
use crosswan::model::{Answers, Gateway, Identity, KeyTag, PublicKey, Region, RegionView, Secret, Timestamp, VpcId};
use crosswan::plan::{Charon, Current, Target, plan};
use crosswan::render::{Capabilities, Files, render};
use crosswan::settings::{Flags, Settings};
use crosswan::state::State;
use crosswan::swanctl::{self, Summary};
use crosswan::trust::OwnKeys;
use divan::Bencher;
use divan::counter::ItemsCount;
use ipnet::Ipv4Net;

const PEERS: [usize; 5] = [10, 100, 1000, 5000, 10_000];
const REGIONS: usize = 8;

fn main() {
    divan::main();
}

/// What a hub sees that has so many peers, and had them before.
struct World {
    settings: Settings,
    me: Identity,
    answers: Answers,
    state: State,
}

/// Gateway `n`'s key; 0 is the hub's.
fn key(n: usize) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
    PublicKey::new(bytes)
}

impl World {
    fn new(peers: usize) -> World {
        let region = |n: usize| format!("xx-bench-{}", n + 1).parse::<Region>().unwrap();
        let regions: Vec<String> = (0..REGIONS).map(|n| region(n).to_string()).collect();
        let environment = [
            ("CROSSWAN_MODE", "vpn-hub".to_owned()),
            ("CROSSWAN_PRIVATE_NET", "10.0.0.0/8".to_owned()),
            ("CROSSWAN_REGIONS", regions.join(",")),
        ];
        let environment: BTreeMap<String, String> = environment.map(|(key, value)| (key.to_owned(), value)).into();
        let settings = Settings::load(Path::new("/nonexistent"), &environment, &Flags::default()).unwrap();
        let me = Identity {
            instance: "i-00000001".parse().unwrap(),
            region: region(0),
            vpc: "vpc-ffffffff".parse().unwrap(),
            cidrs: ["10.0.0.0/16".parse().unwrap()].into(),
            private: Ipv4Addr::new(10, 0, 0, 4),
            public: Some(Ipv4Addr::new(198, 51, 100, 100)),
        };
        let gateway = |n: usize| Gateway {
            instance: format!("i-{n:017x}").parse().unwrap(),
            region: region(n % REGIONS),
            vpc: format!("vpc-{n:017x}").parse().unwrap(),
            private: Ipv4Addr::from_bits(0x0a01_000a + ((n as u32) << 8)),
            public: Some(Ipv4Addr::from_bits(0xc612_0001 + n as u32)),
            launched: Timestamp(1_767_323_045),
            cidrs: [Ipv4Net::new_assert(Ipv4Addr::from_bits(0x0a01_0000 + ((n as u32) << 8)), 24)].into(),
            key: KeyTag::of(Some(&key(n + 1).to_string())),
        };
        let view = |index: usize| RegionView {
            gateways: (index..peers).step_by(REGIONS).map(gateway).collect(),
            unusable: Vec::new(),
        };
        let answers = (0..REGIONS).map(|n| (region(n), Ok(view(n)))).collect();
        let mut world = World { settings, me, answers, state: State::default() };
        world.state = world.decide().state;
        world
    }

    fn decide(&self) -> Decision {
        let uplink = "ens5".parse().unwrap();
        let keys = |_: &VpcId| KeyAnswer { key: Some(Secret::new([7; 32])), problem: None };
        let (me, answers, state) = (&self.me, &self.answers, &self.state);
        let seen = Seen {
            me,
            answers,
            state,
            now: Timestamp(1_800_000_000),
            uplink: &uplink,
            keys: &keys,
            own: Some(OwnKeys { current: key(0), next: None }),
            hub_in_use: None,
            pinned: &BTreeMap::new(),
            accept: &BTreeSet::new(),
        };
        decide(&self.settings, &seen, false).unwrap()
    }

    fn files(&self) -> Files {
        render(self.settings.mode, &self.decide(), Capabilities::default()).unwrap()
    }
}

/// Disk, charon and iptables that hold exactly these files.
fn settled(files: &Files) -> Current {
    let believed = Target::of(files.clone()).unwrap();
    let connections = believed.connections.iter().map(|(name, tree)| (name.to_string(), Summary::of(tree))).collect();
    let secrets: BTreeSet<String> = believed.secrets.keys().cloned().collect();
    let charon = Charon { connections, secrets, ..Charon::default() };
    Current {
        files: files.clone(),
        rules: believed.rules.clone(),
        charon: Some(charon),
        believed,
        ..Current::default()
    }
}

#[divan::bench(args = PEERS, max_time = 3)]
fn stage_1_decide(bencher: Bencher, peers: usize) {
    let world = World::new(peers);
    bencher.counter(ItemsCount::new(peers)).bench_local(|| world.decide());
}

#[divan::bench(args = PEERS, max_time = 3)]
fn stage_2_render(bencher: Bencher, peers: usize) {
    let world = World::new(peers);
    let decision = world.decide();
    let render = || render(world.settings.mode, &decision, Capabilities::default()).unwrap();
    bencher.counter(ItemsCount::new(peers)).bench_local(render);
}

#[divan::bench(args = PEERS, max_time = 3)]
fn stage_3_plan(bencher: Bencher, peers: usize) {
    let files = World::new(peers).files();
    let current = settled(&files);
    bencher.counter(ItemsCount::new(peers)).with_inputs(|| files.clone()).bench_local_values(|files| {
        let steps = plan(&Target::of(files).unwrap(), &current);
        assert!(steps.is_empty(), "{}", steps[0]);
    });
}

#[divan::bench(args = PEERS, max_time = 3)]
fn swanctl_parser(bencher: Bencher, peers: usize) {
    let text = World::new(peers).files().connections.unwrap();
    bencher.counter(ItemsCount::new(peers)).bench_local(|| swanctl::parse(&text).unwrap());
}
