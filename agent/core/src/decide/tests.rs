//! Each safety rule of `decide`, by name.

mod accounts;
mod across;
mod followed;
mod hubs;
mod replacement;
mod segments;
mod third;

use std::{net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;

use super::{findings::refusal, *};
use crate::{
    model::{
        AddressHolder, Answers, AskError, Auth, ElasticIp, Gateway, Identity, IkeId, Interface, KeyTags, OwnKeys,
        OwnTags, Place, PublicKey, Region, RegionView, Secret, SegmentTag, Tagged, Timestamp, printable,
        private_key::tests::key_pair,
    },
    observed::{Psk, Psks},
    plan::{Conclusion, Planned},
    settings::Settings,
    swanctl::Summary,
    system::{Charon, ChildSa, Configuration, Files, Followed, Sa, System, Table},
};

const HUB: &str = "mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\", \"us-west-2\"]\n[removal]\nspacing = \"0s\"\n";
const SPOKE: &str =
    "mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nhub = \"198.51.100.100\"\n[auth]\nmethod = \"psk\"\n";

fn settings(toml: &str) -> Settings {
    Settings::of_toml(toml)
}

fn nets(list: &[&str]) -> BTreeSet<Ipv4Net> {
    list.iter().map(|c| c.parse().unwrap()).collect()
}

fn vpc(n: u32) -> VpcId {
    format!("vpc-{n:08x}").parse().unwrap()
}

/// Gateway `n`: VPC `n`, launched at `n`, in eu-west-1.
fn gateway(n: u32, cidrs: &[&str]) -> Gateway {
    Gateway {
        instance: format!("i-{n:08x}").parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        account: None,
        vpc: vpc(n),
        public: Some(Ipv4Addr::new(198, 51, 100, n as u8)),
        address: None,
        launched: Timestamp(n.into()),
        cidrs: nets(cidrs),
        segment: None,
        tags: KeyTags::default(),
    }
}

fn me() -> Identity {
    Identity {
        instance: "i-000000ff".parse().unwrap(),
        region: "us-west-2".parse().unwrap(),
        vpc: vpc(0xff),
        cidrs: nets(&["10.0.0.0/16"]),
        private: Ipv4Addr::new(10, 0, 0, 5),
        public: Some(Ipv4Addr::new(198, 51, 100, 100)),
    }
}

/// One region's answer is `gateways`, the other's is empty.
fn answered(gateways: &[Gateway]) -> Answers {
    let view = RegionView { gateways: gateways.to_vec(), ..RegionView::default() };
    [("eu-west-1".parse().unwrap(), Ok(view)), ("us-west-2".parse().unwrap(), Ok(RegionView::default()))].into()
}

fn failed() -> Answers {
    let mut answers = answered(&[]);
    answers.insert("eu-west-1".parse().unwrap(), Err(AskError::TimedOut { after: Duration::from_secs(60) }));
    answers
}

struct Pass<'a> {
    toml: &'a str,
    answers: Answers,
    state: State,
    force: bool,
    own: Option<OwnKeys>,
    /// The places of connections that are loaded.
    places: BTreeMap<ConnName, Place>,
    /// What leads packets into tunnels now.
    routing: Routing,
    /// The far gateways that are followed by their word.
    followed: Followed,
    /// Connections that are loaded, and the peers' keys in them.
    loaded: BTreeMap<ConnName, Vec<PublicKey>>,
    /// charon's IKE_SAs; `None` if it was not asked.
    sas: Option<Vec<Sa>>,
    accept: BTreeMap<VpcId, String>,
    psk: Psk,
    /// The text of the file of members.
    members: Option<String>,
    /// What EC2 says of the own VPC's segment.
    segment: Option<std::result::Result<SegmentTag, AskError>>,
}

fn good_psk() -> Psk {
    Psk { secret: Some(Secret::new("correct horse battery")), problem: None }
}

/// charon has these IKE_SAs: the name of the connection, and whether it has a child.
fn sas(sas: &[(&ConnName, bool)]) -> Option<Vec<Sa>> {
    let sa = |(conn, carries): &(&ConnName, bool)| {
        let child = ChildSa { state: "INSTALLED".into(), ..ChildSa::default() };
        let children = carries.then_some(child).into_iter().collect();
        Sa { conn: conn.to_string(), state: "ESTABLISHED".into(), children, ..Sa::default() }
    };
    Some(sas.iter().map(sa).collect())
}

/// The hub's connection to gateway `n` of [`gateway`].
fn to(n: u32) -> ConnName {
    ConnName::to_gateway(&vpc(n), &gateway(n, &[]).instance)
}

/// A spoke's connection to gateway `n` of [`gateway`].
fn to_hub(n: u32) -> ConnName {
    let hub = gateway(n, &[]);
    ConnName::to_hub(hub.public.unwrap(), Some(&hub.instance))
}

impl Default for Pass<'_> {
    fn default() -> Self {
        Pass {
            toml: HUB,
            answers: Answers::new(),
            state: State::default(),
            force: false,
            own: None,
            places: BTreeMap::new(),
            routing: Routing::default(),
            followed: Followed::default(),
            loaded: BTreeMap::new(),
            sas: None,
            accept: BTreeMap::new(),
            psk: good_psk(),
            members: None,
            segment: None,
        }
    }
}

impl Pass<'_> {
    fn run(self) -> Decided {
        self.try_run(&me()).unwrap()
    }
    fn try_run(self, me: &Identity) -> Result<Decided> {
        let charon = Charon {
            connections: self.loaded.keys().map(|name| (name.to_string(), Summary::default())).collect(),
            sas: self.sas.clone().unwrap_or_default(),
            ..Charon::default()
        };
        let asked = self.sas.is_some() || !self.loaded.is_empty();
        let system = System {
            charon: asked.then_some(charon),
            peer_keys: self.loaded.clone(),
            places: self.places,
            routing: self.routing,
            followed: self.followed,
            files: Files { pair: self.members, ..Files::default() },
            ..System::default()
        };
        let psks = Psks { shared: self.psk.clone(), ..Psks::default() };
        let (answers, state, own, segment) = (self.answers, self.state, self.own, self.segment);
        let observed = Observed { answers, state, own, psks, system, segment, ..observed(me) };
        let request = Request { force: self.force, accept: self.accept, ..Request::default() };
        decide(&settings(self.toml), &observed, &request)
    }
}

/// Nothing but this gateway, at second 1000.
pub(super) fn observed(me: &Identity) -> Observed {
    Observed::new(&settings(HUB), me.clone(), "ens5".parse().unwrap(), Timestamp(1000))
}

fn pass(gateways: &[Gateway]) -> Decided {
    Pass { answers: answered(gateways), ..Pass::default() }.run()
}

fn after(before: Decided, answers: Answers) -> Decided {
    Pass { answers, state: before.state, ..Pass::default() }.run()
}

fn peers(decision: &Decided) -> Vec<&VpcId> {
    decision.tunnels.values().filter_map(|t| t.vpc.as_ref()).collect()
}

fn reasons(decision: &Decided) -> Vec<String> {
    decision.findings.refused.iter().map(|r| r.to_string()).collect()
}

#[test]
fn a_hub_has_a_tunnel_per_vpc_and_a_child_per_cidr() {
    let d = pass(&[gateway(1, &["10.1.0.0/16", "10.101.0.0/16"]), gateway(2, &["10.2.0.0/16"])]);
    assert_eq!(peers(&d), [&vpc(1), &vpc(2)]);
    let tunnel = &d.tunnels[&to(1)];
    assert_eq!(tunnel.children.keys().collect::<Vec<_>>(), ["c-10-1-0-0-16", "c-10-101-0-0-16"]);
    let child = &tunnel.children["c-10-101-0-0-16"];
    assert_eq!((child.local.clone(), child.remote.clone()), (nets(&["10.0.0.0/8"]), nets(&["10.101.0.0/16"])));
    assert_eq!(tunnel.local_id, IkeId::Hub(Ipv4Addr::new(198, 51, 100, 100)));
    assert_eq!(tunnel.remote_id, IkeId::Spoke(vpc(1), gateway(1, &[]).instance));
    assert!(d.nat.masquerade.is_none());
    let routes: Vec<_> = d.routing.routes.iter().map(|(net, via)| format!("{net} {via}")).collect();
    let through = |net| format!("{net} dev cw1 src 10.0.0.5");
    assert_eq!(routes, ["10.1.0.0/16", "10.2.0.0/16", "10.101.0.0/16"].map(through));
}

#[test]
fn a_spoke_has_one_tunnel_with_a_child_per_own_cidr_and_its_vpc_stays_in_the_main_table() {
    let mut spoke = me();
    spoke.cidrs = nets(&["10.1.0.0/16", "10.101.0.0/16", "100.64.0.0/16"]);
    let d = Pass { toml: SPOKE, ..Pass::default() }.try_run(&spoke).unwrap();
    let tunnel = &d.tunnels[&ConnName::to_hub(Ipv4Addr::new(198, 51, 100, 100), None)];
    assert_eq!(tunnel.children.keys().collect::<Vec<_>>(), ["c-10-1-0-0-16", "c-10-101-0-0-16"]);
    assert_eq!(tunnel.children["c-10-1-0-0-16"].remote, nets(&["10.0.0.0/8"]));
    let main = d.routing.rules.iter().filter(|rule| rule.table == Table::Main);
    assert_eq!(main.filter_map(|rule| rule.to).collect::<BTreeSet<_>>(), spoke.cidrs);
    assert_eq!(d.nat.masquerade.as_ref().map(Interface::as_str), Some("ens5"));
    let outside =
        "vpc-000000ff (us-west-2) 100.64.0.0/16: this VPC's own CIDR is outside the private network: not tunnelled";
    assert_eq!(reasons(&d), [outside]);
}

#[test]
fn a_nat_hub_has_nat_and_nothing_else() {
    let toml = "mode = \"nat-hub\"\nprivate_net = [\"10.0.0.0/8\"]\n";
    let d = Pass { toml, ..Pass::default() }.run();
    assert!(d.tunnels.is_empty() && d.routing.is_empty());
    assert!(!d.nat.tunnels && d.nat.masquerade.is_some());
}

#[test]
fn rule_1_a_failed_answer_changes_nothing_in_its_region() {
    let before = pass(&[gateway(1, &["10.1.0.0/16"])]);
    let tunnels = before.tunnels.clone();
    let mut d = before;
    for _ in 0..5 {
        d = after(d, failed());
        assert_eq!(d.tunnels, tunnels);
        assert_eq!(d.findings.kept[0].why, "eu-west-1 could not be asked: timed out after 60s");
        assert_eq!(d.state.peers[&vpc(1)].misses, 0);
    }
    assert_eq!(d.state.regions.values().filter(|r| r.at == Timestamp(1000)).count(), 2, "the last good answer stays");
}

#[test]
fn rule_2_a_peer_leaves_after_the_set_number_of_successful_polls_without_it() {
    let both = [gateway(1, &["10.1.0.0/16"]), gateway(2, &["10.2.0.0/16"])];
    let one = &both[..1];
    let first = after(pass(&both), answered(one));
    assert_eq!(peers(&first), [&vpc(1), &vpc(2)]);
    assert_eq!(first.findings.kept[0].why, "not seen: poll 1 of 2");
    // A failed poll in between is no poll; a sighting starts the count anew.
    let failed = after(first.clone(), failed());
    assert_eq!(failed.state.peers[&vpc(2)].misses, 1);
    let seen = after(first.clone(), answered(&both));
    assert_eq!(seen.state.peers[&vpc(2)].misses, 0);
    let gone = after(failed, answered(one));
    assert_eq!(peers(&gone), [&vpc(1)]);
    assert_eq!(gone.removed, [vpc(2)].into());
    assert!(!gone.state.peers.contains_key(&vpc(2)));
}

#[test]
fn rule_2_polls_close_together_count_once() {
    let toml = HUB.replace("0s", "10min");
    let both = [gateway(1, &["10.1.0.0/16"]), gateway(2, &["10.2.0.0/16"])];
    let run = |state: State, seconds: i64| {
        let mut state = state;
        state.peers.values_mut().for_each(|p| p.missed_at = p.missed_at.map(|at| Timestamp(at.0 + seconds)));
        Pass { toml: &toml, answers: answered(&both[..1]), state, ..Pass::default() }.run()
    };
    let mut d = run(pass(&both).state, 0);
    for _ in 0..5 {
        d = run(d.state, -119);
        assert_eq!((peers(&d).len(), d.findings.kept[0].why.as_str()), (2, "not seen: poll 1 of 2"));
    }
    assert_eq!(peers(&run(d.state.clone(), -5)), [&vpc(1)], "ten minutes after the first");
    assert_eq!(peers(&run(d.state, 90_000)), [&vpc(1)], "a clock set back by a day does not stop the count");
}

#[test]
fn rule_2_more_than_the_set_share_never_leaves_at_once() {
    let all: Vec<_> = (1..=6).map(|n| gateway(n, &[&format!("10.{n}.0.0/16")])).collect();
    let half = after(after(pass(&all), answered(&all[..3])), answered(&all[..3]));
    assert_eq!((half.held.clone(), half.removed.len()), (None, 3), "exactly half may leave");
    let held = after(after(pass(&all), answered(&all[..2])), answered(&all[..2]));
    assert_eq!(held.held, Some(Held { would_remove: 4, of: 6, hold_above: 50 }));
    assert_eq!((held.tunnels.len(), held.removed.len()), (6, 0));
    let forced = Pass { answers: answered(&all[..2]), state: held.state, force: true, ..Pass::default() }.run();
    assert_eq!((forced.tunnels.len(), forced.removed.len()), (2, 4));
}

/// Surely gone: the tunnel is dead, or EC2 says that the instance or the VPC is. An answer that merely lacks them, as after a
/// tag has changed, takes no tunnel that works.
#[test]
fn rule_2_a_small_fleet_is_cleaned_up_of_what_is_surely_gone() {
    for (fleet, left) in [(1, 0), (2, 0), (3, 1)] {
        let all: Vec<_> = (1..=fleet).map(|n| gateway(n, &[&format!("10.{n}.0.0/16")])).collect();
        let names: Vec<ConnName> = (1..=fleet).map(to).collect();
        let alive = || sas(&names.iter().map(|name| (name, true)).collect::<Vec<_>>());
        let ids = || all[left..].iter().map(|g| g.instance.clone()).collect();
        let vpcs = || all[left..].iter().map(|g| g.vpc.clone()).collect();
        for (stopped, deleted, sas, goes) in [
            (BTreeSet::new(), BTreeSet::new(), sas(&[]), true),
            (ids(), BTreeSet::new(), alive(), true),
            (BTreeSet::new(), vpcs(), alive(), true),
            (BTreeSet::new(), BTreeSet::new(), alive(), false),
            (BTreeSet::new(), BTreeSet::new(), None, false),
        ] {
            let view = RegionView { gateways: all[..left].to_vec(), stopped, deleted, ..RegionView::default() };
            let answers: Answers = [("eu-west-1".parse().unwrap(), Ok(view))].into();
            let mut d = pass(&all);
            for _ in 0..2 {
                let (answers, sas) = (answers.clone(), sas.clone());
                d = Pass { answers, sas, state: d.state, ..Pass::default() }.run();
            }
            let expected = if goes { left } else { fleet as usize };
            assert_eq!(
                (d.tunnels.len(), d.held.is_none()),
                (expected, goes),
                "{left} of {fleet} are left: {:?}",
                d.findings.kept
            );
        }
    }
}

/// Neither the polls alone nor EC2's word about the VPCs ends a hold.
#[test]
fn rule_2_a_hold_ends_when_the_polls_and_ec2_have_confirmed_it() {
    let toml = format!("{HUB}confirmed_after = 5\n");
    let all: Vec<_> = (1..=4).map(|n| gateway(n, &[&format!("10.{n}.0.0/16")])).collect();
    // Three are more than may leave in spite of the hold.
    let gone = |deleted: bool| {
        let deleted = (2..=4).filter(|_| deleted).map(vpc).collect();
        let view = RegionView { gateways: all[..1].to_vec(), deleted, ..RegionView::default() };
        [("eu-west-1".parse().unwrap(), Ok(view))].into()
    };
    let mut d = pass(&all);
    for (deleted, tunnels) in [(true, 4), (true, 4), (true, 4), (true, 4), (false, 4), (true, 1)] {
        d = Pass { toml: &toml, answers: gone(deleted), state: d.state, ..Pass::default() }.run();
        assert_eq!(d.tunnels.len(), tunnels, "{:?}", d.state.peers[&vpc(1)]);
    }
}

#[test]
fn rule_2_an_empty_answer_and_a_region_no_longer_listed_are_held_too() {
    let all: Vec<_> = (1..=3).map(|n| gateway(n, &[&format!("10.{n}.0.0/16")])).collect();
    let empty = after(after(pass(&all), answered(&[])), answered(&[]));
    assert_eq!((empty.tunnels.len(), empty.held.is_some()), (3, true));
    let mut answers = answered(&[]);
    answers.remove(&"eu-west-1".parse().unwrap());
    let unlisted = after(pass(&all), answers);
    assert_eq!(unlisted.findings.kept[0].why, "its region is no longer listed: poll 1 of 2");
}

#[test]
fn a_peer_that_ec2_describes_oddly_keeps_its_tunnel() {
    let both = [gateway(1, &["10.1.0.0/16"]), gateway(2, &["10.2.0.0/16"])];
    let odd = refusal(&both[1], Some(&vpc(2)), "its VPC has no CIDR".into());
    let view = RegionView { gateways: vec![both[0].clone()], unusable: vec![odd], ..RegionView::default() };
    let mut d = pass(&both);
    for _ in 0..5 {
        d = after(d, [("eu-west-1".parse().unwrap(), Ok(view.clone()))].into());
        assert_eq!(peers(&d), [&vpc(1), &vpc(2)]);
        assert_eq!(d.findings.kept[0].why, "its VPC has no CIDR");
    }
}

#[test]
fn rule_3_the_peer_with_a_tunnel_keeps_its_cidr_and_the_newcomer_is_refused() {
    // The newcomer was launched earlier and sorts first: only the tunnel decides.
    let holder = gateway(9, &["10.9.0.0/16"]);
    let newcomer = gateway(1, &["10.9.128.0/17", "10.1.0.0/16"]);
    let d = after(pass(std::slice::from_ref(&holder)), answered(&[newcomer, holder]));
    assert_eq!(peers(&d), [&vpc(1), &vpc(9)]);
    assert_eq!(d.state.peers[&vpc(1)].gateway.cidrs, nets(&["10.1.0.0/16"]));
    assert_eq!(
        reasons(&d),
        ["vpc-00000001 (eu-west-1) 10.9.128.0/17: overlaps 10.9.0.0/16 of vpc-00000009, which already holds it"]
    );
}

#[test]
fn rule_3_a_holder_that_is_only_standing_still_holds() {
    let holder = gateway(9, &["10.9.0.0/16"]);
    let newcomer = gateway(1, &["10.9.0.0/16"]);
    let others: Vec<_> = (2..5).map(|n| gateway(n, &[&format!("10.{n}.0.0/16")])).collect();
    let before = pass(&[vec![holder], others.clone()].concat());
    let now = [vec![newcomer], others].concat();
    let missed = after(before, answered(&now));
    assert!(peers(&missed).contains(&&vpc(9)) && !peers(&missed).contains(&&vpc(1)));
    let gone = after(missed, answered(&now));
    assert!(!peers(&gone).contains(&&vpc(9)) && peers(&gone).contains(&&vpc(1)), "then it is the newcomer's");
}

#[test]
fn rule_3_outside_or_overlapping_our_own_is_refused_and_harms_no_other() {
    let d = pass(&[
        gateway(1, &["10.1.0.0/16"]),
        gateway(2, &["192.168.0.0/16"]),
        gateway(3, &["10.0.128.0/24"]),
        gateway(4, &["10.0.0.0/8"]),
    ]);
    assert_eq!(peers(&d), [&vpc(1)]);
    let texts = reasons(&d);
    for text in [
        "vpc-00000002 (eu-west-1) 192.168.0.0/16: outside the private network",
        "vpc-00000003 (eu-west-1) 10.0.128.0/24: overlaps 10.0.0.0/16 of the hub's own VPC",
    ] {
        assert!(texts.contains(&text.to_owned()), "{texts:?}");
    }
    assert_eq!(texts.len(), 3);
}

#[test]
fn the_own_vpc_is_known_by_its_id_whatever_its_cidrs_say() {
    let own = Gateway { vpc: vpc(0xff), ..gateway(1, &["10.77.0.0/16"]) };
    let d = pass(&[own]);
    assert!(d.tunnels.is_empty() && d.findings.refused.is_empty());
}

#[test]
fn an_unusable_key_refuses_a_newcomer_and_keeps_the_key_in_use() {
    let problem = || Some("/etc/crosswan/psk.d/vpc-00000001: shorter than 16 bytes".to_owned());
    let none = Psk { secret: None, problem: problem() };
    let d = Pass { answers: answered(&[gateway(1, &["10.1.0.0/16"])]), psk: none.clone(), ..Pass::default() }.run();
    assert!(d.tunnels.is_empty());
    assert_eq!(
        reasons(&d),
        [
            "vpc-00000001 (eu-west-1): this gateway has no key of its own yet, and /etc/crosswan/psk.d/vpc-00000001: shorter than 16 bytes"
        ]
    );
    let old = Psk { secret: Some(Secret::new("the one in use")), problem: problem() };
    let d = Pass { answers: answered(&[gateway(1, &["10.1.0.0/16"])]), psk: old, ..Pass::default() }.run();
    assert_eq!(d.tunnels.len(), 1);
    assert!(d.findings.kept[0].why.ends_with("shorter than 16 bytes; the pre-shared key in use stays"));
}

#[test]
fn a_hub_without_an_elastic_ip_says_so() {
    let error = Pass::default().try_run(&Identity { public: None, ..me() }).unwrap_err();
    assert!(error.to_string().contains("no public address"), "{error}");
}

/// A hub's address is its identity: a tunnel under the one that EC2 has assigned would break when it takes its own.
#[test]
fn a_gateway_that_awaits_its_address_makes_no_tunnel_and_keeps_those_there_are() {
    let toml = format!("{HUB}[address]\ntag = \"crosswan-address=hub\"\n");
    let tunnels = |addresses, files: Files, loaded: &[ConnName]| {
        let connections = loaded.iter().map(|name| (name.to_string(), Summary::default())).collect();
        let charon = Some(Charon { connections, ..Charon::default() });
        let system = System { charon, believed: Configuration::of(files).unwrap(), ..System::default() };
        let psks = Psks { shared: good_psk(), ..Psks::default() };
        let answers = answered(&[gateway(1, &["10.1.0.0/16"])]);
        let observed = Observed { answers, psks, system, addresses: Some(addresses), ..observed(&me()) };
        let decided = decide(&settings(&toml), &observed, &Request::default()).unwrap();
        assert_eq!(decided.routing.routes.len(), decided.tunnels.len(), "routes follow");
        assert_eq!(decided.state.peers.len(), 1, "what is known of peers is remembered");
        decided.tunnels.len()
    };
    let file = Files {
        connections: Some(format!("connections {{\n {} {{\n  version = 2\n }}\n}}\n", to(1))),
        ..Files::default()
    };
    for awaited in [Ok(vec![]), Err(AskError::NoCredentialSource)] {
        assert_eq!(tunnels(awaited.clone(), Files::default(), &[]), 0);
        assert_eq!(tunnels(awaited.clone(), Files::default(), &[to(1)]), 1);
        assert_eq!(tunnels(awaited, file.clone(), &[]), 1, "charon has just started");
    }
}

/// Whoever finds its key connects to the address that EC2 shows beside it.
#[test]
fn a_key_is_announced_once_the_address_is_the_right_one() {
    let settings = settings(&format!("{HUB}[address]\nallocation = \"eipalloc-00000001\"\n"));
    let announces = |holder: &str| {
        let holder = AddressHolder {
            association: "eipassoc-00000001".parse().unwrap(),
            instance: holder.parse().ok(),
            private: None,
            stopped: false,
        };
        let (allocation, address) = ("eipalloc-00000001".parse().unwrap(), me().public.unwrap());
        let addresses = Some(Ok(vec![ElasticIp { allocation, address, holder: Some(holder) }]));
        let tags = Some(Ok(OwnTags::default()));
        let observed = Observed { own: own(), tags, addresses, ..observed(&me()) };
        let decided = decide(&settings, &observed, &Request::default()).unwrap();
        assert_eq!(decided.announce.len(), 1, "it is not in its tag");
        let planned = Planned::of(&settings, &observed, &decided).unwrap();
        planned.conclusions.iter().any(|one| matches!(one, Conclusion::AnnounceKey { .. }))
    };
    assert!(announces("i-000000ff"));
    assert!(!announces("i-00000001"));
}

#[test]
fn a_spoke_finds_one_hub_by_tag_and_stays_with_it() {
    let toml = "mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\", \"us-west-2\"]\n\
                hub_tag = { key = \"service\", value = \"vpn-hub\" }\n[removal]\nspacing = \"0s\"\n";
    let hubs = [gateway(5, &[]), gateway(3, &[])];
    let first = Pass { toml, answers: answered(&hubs[..1]), ..Pass::default() }.run();
    let both = Pass { toml, answers: answered(&hubs), state: first.state, ..Pass::default() }.run();
    assert_eq!(both.tunnels.keys().collect::<Vec<_>>(), [&to_hub(5)]);
    assert_eq!(
        reasons(&both),
        ["vpc-00000003 (eu-west-1): the hub in vpc-00000005 already carries the private network"]
    );
    // Its VPC is gone: after two polls the other hub is used.
    let gone = |state| Pass { toml, answers: answered(&hubs[1..]), state, sas: sas(&[]), ..Pass::default() }.run();
    let missed = gone(both.state);
    assert_eq!(missed.tunnels.keys().collect::<Vec<_>>(), [&to_hub(5)]);
    assert_eq!(gone(missed.state).tunnels.keys().collect::<Vec<_>>(), [&to_hub(3)]);
}

/// Its own guard would stop the IKE packets to such a hub, and the tunnel would never come up.
#[test]
fn a_hub_whose_address_lies_inside_the_private_network_is_refused() {
    let toml = "mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\", \"198.51.100.0/25\"]\nregions = [\"eu-west-1\"]\n";
    let d = Pass { toml, answers: answered(&[gateway(5, &[]), gateway(200, &[])]), ..Pass::default() }.run();
    assert_eq!(d.tunnels.keys().collect::<Vec<_>>(), [&to_hub(200)]);
    assert!(reasons(&d)[0].contains("its public address 198.51.100.5 lies inside private_net"), "{:?}", reasons(&d));
}

#[test]
fn foreign_text_is_cut_and_escaped() {
    assert_eq!(printable("a\u{1b}[2J\n\"é"), r#""a\u{1b}[2J\n\"\u{e9}""#);
    assert_eq!(printable(&"x".repeat(65)), format!("\"{}…\"", "x".repeat(64)));
}

fn key(n: u8) -> PublicKey {
    key_pair(n).public
}

fn own() -> Option<OwnKeys> {
    let me = me();
    let me = crate::model::Holder { vpc: &me.vpc, instance: &me.instance };
    Some(OwnKeys { current: key_pair(0xff).proven(&me).unwrap(), next: None })
}

/// This gateway, announcing key pair `key`, and `next` to follow it.
fn with_key(gateway: Gateway, key: u8, next: Option<u8>) -> Gateway {
    let (key, holder) = (key_pair(key), gateway.holder());
    let next = next.map_or(Tagged::Absent, |n| Tagged::Read(key.succeeded_by(&key_pair(n), &holder).unwrap()));
    let tags = KeyTags { key: Tagged::Read(key.proven(&holder).unwrap()), next, ..KeyTags::default() };
    Gateway { tags, ..gateway }
}

/// Gateway `n` of [`gateway`], announcing these keys.
fn announcing(n: u32, keys: &[u8]) -> Gateway {
    let gateway = gateway(n, &[&format!("10.{n}.0.0/16")]);
    match keys {
        [] => gateway,
        [key, next @ ..] => with_key(gateway, *key, next.first().copied()),
    }
}

fn auth_of(d: &Decided, n: u32) -> &Auth {
    &d.tunnels[&to(n)].auth
}

#[test]
fn a_mixed_fleet_is_served_each_by_what_it_has_and_no_key_goes_back_to_a_pre_shared_one() {
    let pass =
        |gateways: &[Gateway], state| Pass { answers: answered(gateways), state, own: own(), ..Pass::default() }.run();
    let by_key = |n: u8| Auth::Key { own: key(0xff), peer: vec![key(n)] };
    let d = pass(&[announcing(1, &[1]), announcing(2, &[])], State::default());
    assert_eq!(auth_of(&d, 1), &by_key(1));
    assert!(matches!(auth_of(&d, 2), Auth::Psk(_)));
    assert_eq!(d.presence.as_ref().unwrap().announce.key, own().unwrap().current);

    // The second moves to a key; the first one's tag is gone.
    let d = pass(&[announcing(1, &[]), announcing(2, &[2])], d.state);
    assert_eq!((auth_of(&d, 1), auth_of(&d, 2)), (&by_key(1), &by_key(2)));
    assert!(d.findings.kept[0].why.contains("announces no key"), "{:?}", d.findings.kept);
    let d = pass(&[announcing(1, &[1]), announcing(2, &[3])], d.state);
    assert_eq!(auth_of(&d, 2), &by_key(2), "a key out of nowhere is refused");
    let command = format!("--accept-key vpc-00000002={}", key(3).fingerprint());
    assert!(reasons(&d)[0].contains(&command), "{:?}", reasons(&d));
}

#[test]
fn a_spoke_finds_its_hubs_key_by_tag_or_is_told_it() {
    let by_tag = "mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\"]\n";
    let named = |key: u8| format!("{by_tag}hub = \"198.51.100.1\"\n[auth]\nhub_key = \"{}\"\n", self::key(key));
    let by_address = format!("{by_tag}hub = \"198.51.100.1\"\n");
    let run = |toml: &str, gateways: &[Gateway], psk: &Psk| {
        Pass { toml, answers: answered(gateways), own: own(), psk: psk.clone(), ..Pass::default() }.run()
    };
    let hub = announcing(1, &[1]);
    let none = Psk { secret: None, problem: Some("there is no pre-shared key for it".into()) };
    let (name, nameless) = (to_hub(1), ConnName::to_hub(Ipv4Addr::new(198, 51, 100, 1), None));
    let by_key = |n: u8| Auth::Key { own: key(0xff), peer: vec![key(n)] };
    for toml in [by_tag, &by_address] {
        assert_eq!(run(toml, std::slice::from_ref(&hub), &none).tunnels[&name].auth, by_key(1), "{toml}");
    }
    let d = run(&named(7), std::slice::from_ref(&hub), &none);
    assert_eq!(d.tunnels[&name].auth, by_key(7));
    assert!(reasons(&d)[0].contains(&key(1).fingerprint()) && reasons(&d)[0].contains(&key(7).fingerprint()));
    assert_eq!(run(&named(7), &[], &none).tunnels[&nameless].auth, by_key(7), "whatever EC2 shows");

    // The state is lost and EC2 does not answer: what is loaded stays. Once it answers, what it says counts.
    for (answers, tunnels) in [(failed(), 1), (answered(&[]), 0)] {
        let loaded = [(name.clone(), vec![key(1)])].into();
        let d = Pass { toml: by_tag, answers, own: own(), loaded, psk: none.clone(), ..Pass::default() }.run();
        assert_eq!(d.tunnels.len(), tunnels);
        assert!(d.tunnels.values().all(|tunnel| tunnel.auth == by_key(1)));
    }

    let d = run(by_tag, &[announcing(1, &[])], &none);
    assert!(d.tunnels.is_empty());
    let why =
        "vpc-000000ff (us-west-2): its hub announces no key (tag crosswan-key), and there is no pre-shared key for it";
    assert_eq!(reasons(&d), [why]);
    assert!(matches!(run(by_tag, &[announcing(1, &[])], &good_psk()).tunnels[&name].auth, Auth::Psk(_)));
}

/// At a fleet's first boot nobody is refused for being first.
#[test]
fn the_key_of_a_gateway_launched_moments_ago_is_awaited() {
    let none = Psk { secret: None, problem: Some("there is no pre-shared key for it".into()) };
    let launched = |at: i64| Gateway { launched: Timestamp(at), ..announcing(1, &[]) };
    let run = |toml: &str, at: i64, own: Option<OwnKeys>, psk: &Psk| {
        Pass { toml, answers: answered(&[launched(at)]), own, psk: psk.clone(), ..Pass::default() }.run()
    };
    let by_tag = "mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\"]\n";
    for toml in [HUB, by_tag] {
        let d = run(toml, 990, own(), &none);
        assert_eq!(d.findings.awaited, ["the key of i-00000001 in vpc-00000001, launched 10 s ago"]);
        assert!(d.findings.refused.is_empty() && d.tunnels.is_empty(), "{:?}", reasons(&d));
        // Old, without a key of our own, or with a pre-shared one: there is nothing to wait for.
        for d in [run(toml, 100, own(), &none), run(toml, 990, None, &none), run(toml, 990, own(), &good_psk())] {
            assert!(
                d.findings.awaited.is_empty() && d.findings.refused.is_empty() != d.tunnels.is_empty(),
                "{:?}",
                reasons(&d)
            );
        }
    }
}
