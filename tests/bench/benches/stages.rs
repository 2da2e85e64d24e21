//! The pure stages by number of peers, in 8 regions: decide, render, the swanctl parser, plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use crosswan_core::decide::{Decided, Request, decide};
use crosswan_core::model::OwnKeys;
use crosswan_core::model::PrivateKey;
use crosswan_core::model::{
    Answers, Gateway, Holder, Identity, KeyTags, ProvenKey, Region, RegionView, Secret, Timestamp,
};
use crosswan_core::observed::{Observed, Psk, Psks};
use crosswan_core::settings::{Flags, Settings, Sources};
use crosswan_core::state::State;
use crosswan_core::swanctl::{self, Summary};
use crosswan_core::{
    plan::plan,
    system::{Charon, Configuration, System},
};
use crosswan_core::{
    render::{Capabilities, render},
    system::Files,
};
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
    own: OwnKeys,
    answers: Answers,
    state: State,
}

/// The key of a gateway by its number, signed by itself; 0 is the hub's.
fn key(n: usize, holder: Holder) -> ProvenKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    PrivateKey::from_seed(&seed, holder.instance, Timestamp(0)).and_then(|key| key.proven(&holder)).unwrap()
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
        let sources =
            Sources { root: Path::new("/nonexistent"), toml: Vec::new(), env: &environment, flags: &Flags::default() };
        let settings = Settings::of(&sources, |_| Ok(None)).unwrap();
        let me = Identity {
            instance: "i-00000001".parse().unwrap(),
            region: region(0),
            vpc: "vpc-ffffffff".parse().unwrap(),
            cidrs: ["10.0.0.0/16".parse().unwrap()].into(),
            private: Ipv4Addr::new(10, 0, 0, 4),
            public: Some(Ipv4Addr::new(198, 51, 100, 100)),
        };
        let gateway = |n: usize| {
            let (instance, vpc) = (format!("i-{n:017x}").parse().unwrap(), format!("vpc-{n:017x}").parse().unwrap());
            let key = key(n + 1, Holder { vpc: &vpc, instance: &instance });
            Gateway {
                instance,
                region: region(n % REGIONS),
                account: None,
                vpc,
                public: Some(Ipv4Addr::from_bits(0xc612_0001 + n as u32)),
                address: None,
                launched: Timestamp(1_767_323_045),
                cidrs: [Ipv4Net::new_assert(Ipv4Addr::from_bits(0x0a01_0000 + ((n as u32) << 8)), 24)].into(),
                segment: None,
                tags: KeyTags::of(Some(&key.to_string()), None),
            }
        };
        let view = |index: usize| RegionView {
            gateways: (index..peers).step_by(REGIONS).map(gateway).collect(),
            ..RegionView::default()
        };
        let answers = (0..REGIONS).map(|n| (region(n).into(), Ok(view(n)))).collect();
        let own = OwnKeys { current: key(0, Holder { vpc: &me.vpc, instance: &me.instance }), next: None };
        let mut world = World { settings, me, own, answers, state: State::default() };
        world.state = world.decide().state;
        world
    }

    fn decide(&self) -> Decided {
        let psk = Psk { secret: Some(Secret::new([7; 32])), problem: None };
        let uplink = "ens5".parse().unwrap();
        let observed = Observed {
            answers: self.answers.clone(),
            state: self.state.clone(),
            psks: Psks { shared: psk, ..Psks::default() },
            own: Some(self.own),
            ..Observed::new(&self.settings, self.me.clone(), uplink, Timestamp(1_800_000_000))
        };
        decide(&self.settings, &observed, &Request::default()).unwrap()
    }

    fn files(&self) -> Files {
        render(self.settings.mode, &self.decide(), Capabilities::default()).unwrap()
    }
}

/// Disk, charon and iptables that hold exactly these files.
fn settled(files: &Files) -> System {
    let believed = Configuration::of(files.clone()).unwrap();
    let connections = believed.connections.iter().map(|(name, tree)| (name.to_string(), Summary::of(tree))).collect();
    let secrets: BTreeSet<String> = believed.secrets.keys().cloned().collect();
    let charon = Charon { connections, secrets, ..Charon::default() };
    System { files: files.clone(), rules: believed.rules.clone(), charon: Some(charon), believed, ..System::default() }
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
        let steps = plan(&Configuration::of(files).unwrap(), &current);
        assert!(steps.is_empty(), "{}", steps[0]);
    });
}

#[divan::bench(args = PEERS, max_time = 3)]
fn swanctl_parser(bencher: Bencher, peers: usize) {
    let text = World::new(peers).files().connections.unwrap();
    bencher.counter(ItemsCount::new(peers)).bench_local(|| swanctl::parse(&text).unwrap());
}
