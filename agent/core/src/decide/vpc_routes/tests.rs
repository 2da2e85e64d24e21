//! Each rule about the own VPC's routes, by name.

use std::net::Ipv4Addr;

use super::*;
use crate::{
    model::{
        AskError, Auth, Holder, Identity, IkeId, KeyTags, Member, Neighbour, OwnTags, Place, RegionView, Secret,
        Selectors, Timestamp, VpcRoute, private_key::tests::key_pair,
    },
    pair::PairStatus,
    state::Met,
    system::ChildSa,
};

const HUB: &str = "mode = 'vpn-hub'\nprivate_net = ['10.0.0.0/8']\nregions = ['us-west-2']";
const NAT: &str = "mode = 'nat-hub'\nprivate_net = ['10.0.0.0/8']";
const CLIENT: &str = "mode = 'nat-vpn'\nprivate_net = ['10.0.0.0/8']\nregions = ['us-west-2']";
const ME: &str = "i-000000ff";

fn table() -> RouteTableId {
    "rtb-00000001".parse().unwrap()
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn to(target: RouteTarget) -> VpcRoute {
    VpcRoute { target, blackhole: false }
}

fn instance(id: &str) -> VpcRoute {
    to(RouteTarget::Interface { interface: Some("eni-0000000a".parse().unwrap()), instance: Some(id.parse().unwrap()) })
}

fn here() -> VpcRoute {
    to(RouteTarget::Interface { interface: Some("eni-000000ff".parse().unwrap()), instance: None })
}

fn igw() -> VpcRoute {
    to(RouteTarget::InternetGateway("igw-00000001".into()))
}

fn peering() -> VpcRoute {
    to(RouteTarget::Other("pcx-00000001".into()))
}

fn gone(route: VpcRoute) -> VpcRoute {
    VpcRoute { blackhole: true, ..route }
}

/// This gateway was launched at 100.
fn observed(settings: &Settings, routes: &[(&str, VpcRoute)]) -> Observed {
    let me = Identity {
        instance: ME.parse().unwrap(),
        region: "us-west-2".parse().unwrap(),
        vpc: "vpc-000000ff".parse().unwrap(),
        cidrs: [net("10.1.0.0/16")].into(),
        private: "10.1.0.10".parse().unwrap(),
        public: Some("198.51.100.7".parse().unwrap()),
    };
    let mut observed = Observed::new(settings, me, "ens5".parse().unwrap(), Timestamp(1000));
    let interface = Some(OwnInterface {
        id: "eni-000000ff".parse().unwrap(),
        subnet: "subnet-000000ff".parse().unwrap(),
        launched: Timestamp(100),
    });
    observed.tags = Some(Ok(OwnTags { interface, ..OwnTags::default() }));
    let routes = routes.iter().map(|(to, route)| (net(to), route.clone())).collect();
    let neighbour = |(id, running, launched, same_mode): (&str, bool, i64, bool)| {
        (id.parse().unwrap(), Neighbour { running, launched: Timestamp(launched), same_mode })
    };
    let neighbours = [
        ("i-0000001d", true, 50, true),
        ("i-0000002e", true, 200, true),
        ("i-0000003f", false, 200, true),
        ("i-00000040", true, 50, false),
    ];
    observed.vpc = Some(Ok(OwnVpc {
        tables: [(table(), RouteTable { own: false, zones: BTreeSet::new(), routes })].into(),
        neighbours: neighbours.map(neighbour).into(),
        ..OwnVpc::default()
    }));
    observed
}

/// What becomes of each route, in words.
fn all(toml: &str, routes: &[(&str, VpcRoute)], change: impl FnOnce(&mut Observed)) -> Vec<String> {
    let settings = Settings::of_toml(toml);
    let mut observed = observed(&settings, routes);
    change(&mut observed);
    let routes = vpc_routes(&settings, &observed, None);
    let take =
        routes.take.iter().map(|take| format!("{take} ({:?}{})", take.needs, if take.exists { "" } else { ", new" }));
    take.chain(routes.are.iter().map(|((_, to), is)| format!("{to} {is:?}"))).collect()
}

fn of(toml: &str, routes: &[(&str, VpcRoute)]) -> Vec<String> {
    all(toml, routes, |_| {})
}

#[test]
fn each_mode_takes_its_own_destinations_where_there_is_no_route() {
    let lead = |to: &str| format!("lead {to} of rtb-00000001 to this gateway: there was none");
    let (private, default) = (lead("10.0.0.0/8"), lead("0.0.0.0/0"));
    assert_eq!(of(HUB, &[]), [format!("{private} (SomeTunnel, new)")]);
    assert_eq!(of(NAT, &[]), [format!("{default} (Rules, new)")]);
    assert_eq!(of(CLIENT, &[]), [format!("{default} (Rules, new)"), format!("{private} (Tunnel, new)")]);
    let masquerades_not = format!("{CLIENT}\nmasquerade = false");
    assert_eq!(of(&masquerades_not, &[]), [format!("{private} (Tunnel, new)")]);
}

#[test]
fn a_public_subnet_s_table_keeps_its_internet_gateway_and_gets_the_private_network() {
    let words = of(CLIENT, &[("0.0.0.0/0", igw())]);
    assert!(words.len() == 1 && words[0].starts_with("lead 10.0.0.0/8 "), "{words:?}");
    for route in [igw(), gone(igw())] {
        assert!(of(NAT, &[("0.0.0.0/0", route)]).is_empty());
    }
    // The own subnet's table is public even while it has no default route, or another: a loop would end all this gateway's own traffic.
    let own = |observed: &mut Observed| {
        let Some(Ok(vpc)) = &mut observed.vpc else { panic!("no VPC") };
        vpc.tables.values_mut().for_each(|table| table.own = true);
    };
    for routes in [&[][..], &[("0.0.0.0/0", gone(peering()))]] {
        assert!(all(NAT, routes, own).is_empty());
        assert_eq!(all(CLIENT, routes, own).len(), 1, "the private network");
    }
    // A VPC may be as large as the private network: its own route cannot be replaced, and need not.
    assert!(of(HUB, &[("10.0.0.0/8", to(RouteTarget::Local))]).is_empty());
}

#[test]
fn what_leads_here_stays_whichever_id_ec2_shows() {
    assert_eq!(of(NAT, &[("0.0.0.0/0", here())]), ["0.0.0.0/0 Here"]);
    assert_eq!(of(NAT, &[("0.0.0.0/0", instance(ME))]), ["0.0.0.0/0 Here"]);
}

#[test]
fn a_living_foreign_target_is_left_and_a_dead_one_replaced() {
    for foreign in [peering(), instance("i-00000040"), instance("i-00000099")] {
        let words = of(HUB, &[("10.0.0.0/8", foreign.clone())]);
        assert!(words[0].contains("Left(") && words[0].contains("not crosswan's"), "{words:?}");
        let words = of(&format!("{HUB}\nroutes.overrule = true"), &[("10.0.0.0/8", foreign.clone())]);
        assert!(words[0].ends_with("which routes.overrule gives up (EveryTunnel)"), "{words:?}");
        let words = of(HUB, &[("10.0.0.0/8", gone(foreign))]);
        assert!(words[0].ends_with("where nothing is any more (SomeTunnel)"), "{words:?}");
    }
}

/// The older neighbour as the second member: with a key, signed for that instance.
fn member(signed_for: &str) -> Member {
    let (vpc, id) = ("vpc-000000ff".parse().unwrap(), signed_for.parse().unwrap());
    let key = key_pair(1).proven(&Holder { vpc: &vpc, instance: &id }).unwrap().to_string();
    let (address, interface) = ([10, 1, 0, 6].into(), "eni-0000000a".parse().unwrap());
    Member { address, interface, zone: None, launched: Timestamp(50), tags: KeyTags::of(Some(&key), None) }
}

fn with_members(members: &[(&str, Member)]) -> impl FnOnce(&mut Observed) {
    let members = members.iter().map(|(id, member)| (id.parse().unwrap(), member.clone())).collect();
    move |observed| observed.vpc.as_mut().unwrap().as_mut().unwrap().members = Some(members)
}

#[test]
fn a_route_stays_with_the_other_member_of_the_pair_as_long_as_that_lives() {
    let (paired, alone) = (CLIENT, format!("{CLIENT}\npair.enabled = false"));
    let older = "i-0000001d";
    let routes = [("0.0.0.0/0", instance(older)), ("10.0.0.0/8", instance(older))];
    let words = |toml: &str, signed_for: &str| all(toml, &routes, with_members(&[(older, member(signed_for))]));
    let took = |words: &[String], to: &str| words.iter().any(|line| line.starts_with(&format!("lead {to} ")));
    let found = words(paired, older);
    assert_eq!(found.len(), 2);
    assert!(
        found.iter().all(|line| line.ends_with("Member(\"leads to i-0000001d, the other member of the pair\")")),
        "{found:?}"
    );
    assert!(took(&all(&alone, &routes, |_| {}), "0.0.0.0/0"), "without the setting all is as it was");
    assert!(took(&words(paired, ME), "0.0.0.0/0"), "a key that is another's makes no member");
    let three = [(older, member(older)), ("i-0000002e", member("i-0000002e"))];
    assert!(!took(&all(paired, &routes, with_members(&three)), "0.0.0.0/0"), "the others are a pair");
    let dead = [("0.0.0.0/0", gone(instance(older)))];
    assert!(took(&all(paired, &dead, with_members(&[(older, member(older))])), "0.0.0.0/0"));
}

/// Any gateway with a key could be a member: one of an older version, or one without `crosswan pair`, is replaced as ever.
#[test]
fn an_older_gateway_that_is_never_heard_loses_its_routes_to_the_newer_one_and_one_that_was_heard_keeps_them() {
    let older = "i-0000001d";
    let settings = Settings::of_toml(CLIENT);
    let pass = |id: &str, met: Option<Met>, heard: Option<PairStatus>| {
        let mut observed = observed(&settings, &[("0.0.0.0/0", instance(id)), ("10.0.0.0/8", instance(id))]);
        with_members(&[(id, member(id))])(&mut observed);
        (observed.state.met, observed.heard) = (met, heard);
        let met = super::super::met::met(&observed, super::super::pair::members(&settings, &observed).ok().as_ref());
        (vpc_routes(&settings, &observed, None), met)
    };
    let status = |heard_ms: Option<u64>, of: &str| -> Option<PairStatus> {
        let status = serde_json::json!({
            "at": 999, "member": of, "address": "10.1.0.6", "state": "unheard", "judgement": "", "heard_ms": heard_ms,
            "its_health": null, "own_health": "well", "role": "standby", "routes_here": 0, "routes_there": 2, "refused": {}, "taken": null
        });
        Some(serde_json::from_value(status).unwrap())
    };
    let since = |since: i64, heard: bool| Some(Met { member: older.parse().unwrap(), since: Timestamp(since), heard });
    // The first pass that finds it, and those that follow soon: it may be heard yet.
    for met in [None, since(1000, false), since(881, false), since(1001, false)] {
        let (routes, now) = pass(older, met.clone(), None);
        assert!(routes.take.is_empty() && routes.left.len() == 2, "{met:?}: {routes:?}");
        assert!(routes.left[0].contains("0.0.0.0/0 of rtb-00000001 leads to i-0000001d"), "{:?}", routes.left);
        assert!(now.is_some_and(|now| !now.heard && now.since.0 <= 1000), "the wait has an end");
    }
    // Nobody hears it, whether `crosswan pair` runs here or not; and what another one is heard of is nothing of its.
    for heard in [None, status(None, older), status(Some(5), "i-0000004a")] {
        let (routes, now) = pass(older, since(880, false), heard);
        assert_eq!((routes.take.len(), routes.left.len()), (2, 0), "{routes:?}");
        assert_eq!(now, since(880, false), "a pass that follows takes them, too");
        assert!(
            routes.take.iter().all(|take| take.needs == Needs::Tunnel),
            "what works there has to work here: {routes:?}"
        );
    }
    // Once it was heard, nothing but EC2 ends that: neither its silence nor that of this gateway's own processes.
    for (met, heard) in
        [(since(10, false), status(Some(5), older)), (since(10, true), None), (since(10, true), status(None, older))]
    {
        let (routes, now) = pass(older, met, heard);
        assert!(routes.take.is_empty() && routes.left.is_empty(), "{routes:?}");
        assert_eq!(now, since(10, true));
    }
    // Whose newer one has the routes waits for nothing.
    let (routes, _) = pass("i-0000002e", None, None);
    assert!(routes.take.is_empty() && routes.left.is_empty(), "{routes:?}");
}

#[test]
fn a_route_to_nowhere_is_left_to_the_member_in_its_zone_while_that_boots_and_never_for_long() {
    let (paired, alone) = (NAT, format!("{NAT}\npair.enabled = false"));
    let (a, b): (crate::model::Zone, crate::model::Zone) =
        ("us-west-2a".parse().unwrap(), "us-west-2b".parse().unwrap());
    // The other one was launched 20 s ago, in zone b, and has not announced its key.
    let booting =
        Member { zone: Some(b.clone()), launched: Timestamp(980), tags: KeyTags::default(), ..member("i-0000004a") };
    let words = |toml: &str,
                 zone: &crate::model::Zone,
                 routes: &[(&str, VpcRoute)],
                 other: &Member,
                 more: &dyn Fn(&mut Observed)| {
        all(toml, routes, |observed| {
            with_members(&[("i-0000004a", other.clone())])(observed);
            let vpc = observed.vpc.as_mut().unwrap().as_mut().unwrap();
            vpc.zone = Some(a.clone());
            vpc.tables.values_mut().for_each(|table| table.zones = [zone.clone()].into());
            if toml.contains("pair") {
                vpc.members = None;
            }
            more(observed);
        })
        .remove(0)
    };
    let plain: &dyn Fn(&mut Observed) = &|_| {};
    let left = words(paired, &b, &[], &booting, plain);
    let why = "it belongs to i-0000004a, the member in us-west-2b, which was launched 20 s ago";
    assert_eq!(left, format!("0.0.0.0/0 Waits(\"{why}\")"));
    assert!(words(paired, &b, &[("0.0.0.0/0", gone(peering()))], &booting, plain).contains("Waits"));
    let took = |words: String| words.starts_with("lead 0.0.0.0/0 ");
    assert!(took(words(paired, &a, &[], &booting, plain)), "its own zone's");
    assert!(took(words(&alone, &b, &[], &booting, plain)), "without the setting all is as it was");
    assert!(
        took(words(paired, &b, &[], &Member { launched: Timestamp(880), ..booting.clone() }, plain)),
        "it does not come"
    );
    assert!(
        took(words(paired, &b, &[("0.0.0.0/0", instance("i-0000001d"))], &booting, plain)),
        "what works is no new route"
    );
    let led_here = |observed: &mut Observed| {
        let held = HeldRoute { here: true, changed: 0 };
        observed.state.routes = [(table(), [(Ipv4Net::default(), held)].into())].into();
    };
    assert!(took(words(paired, &b, &[], &booting, &led_here)), "what led here goes back");
    // One that is there for long has the time of a pass, and a pair exists: it is not waited for.
    let there = Member { launched: Timestamp(100), ..member("i-0000004a") };
    assert!(took(words(paired, &b, &[], &Member { zone: Some(b.clone()), ..there }, plain)));
}

/// Two nat-vpn in two zones: what is a zone's is all that its member takes, the private network as well as the default.
#[test]
fn of_two_nat_vpn_in_two_zones_each_takes_the_tables_of_its_own_and_leaves_those_that_work() {
    let settings = Settings::of_toml(CLIENT);
    let other = "i-0000004a";
    let zone = |name: &str| -> crate::model::Zone { format!("us-west-2{name}").parse().unwrap() };
    let tables: [RouteTableId; 2] = ["rtb-0000000a", "rtb-0000000b"].map(|id| id.parse().unwrap());
    // The own zone is a. What is in the tables of zones a and b, how long the other one has run, and whether it is heard.
    let pass = |routes: [&[(&str, VpcRoute)]; 2], launched: i64, heard: Option<&str>| {
        let mut observed = observed(&settings, &[]);
        let member = Member { zone: Some(zone("b")), launched: Timestamp(launched), ..member(other) };
        with_members(&[(other, member)])(&mut observed);
        let vpc = observed.vpc.as_mut().unwrap().as_mut().unwrap();
        vpc.zone = Some(zone("a"));
        let neighbour = Neighbour { running: heard != Some("stopped"), launched: Timestamp(launched), same_mode: true };
        vpc.neighbours.insert(other.parse().unwrap(), neighbour);
        let table = |name: &str, routes: &[(&str, VpcRoute)]| {
            let routes = routes.iter().map(|(to, route)| (net(to), route.clone())).collect();
            RouteTable { own: false, zones: [zone(name)].into(), routes }
        };
        vpc.tables = tables.iter().cloned().zip([table("a", routes[0]), table("b", routes[1])]).collect();
        observed.heard = heard.map(|state| {
            serde_json::from_value(serde_json::json!({
                "at": 999, "member": other, "address": "10.1.0.6", "state": state.replace("stopped", "dead"), "judgement": "", "heard_ms": 5,
                "its_health": "well", "own_health": "well", "role": "shared", "routes_here": 0, "routes_there": 0, "refused": {}, "taken": null
            }))
            .unwrap()
        });
        let routes = vpc_routes(&settings, &observed, None);
        let of = |table: &RouteTableId| {
            let takes =
                routes.take.iter().filter(|take| take.table == *table).map(|take| (take.to.to_string(), take.needs));
            let is = routes.are.iter().filter(|((of, _), _)| of == table).map(|(_, is)| is.clone());
            (takes.collect::<Vec<_>>(), is.collect::<Vec<_>>())
        };
        (of(&tables[0]), of(&tables[1]), routes.left.len())
    };
    let both = [("0.0.0.0/0".to_owned(), Needs::Rules), ("10.0.0.0/8".to_owned(), Needs::Tunnel)];
    let all = |route: VpcRoute| [("0.0.0.0/0", route.clone()), ("10.0.0.0/8", route)];
    let (mine, theirs) = (all(here()), all(instance(other)));
    // At launch: both routes of the own zone's table, and none of the other's, which boots, or lives.
    for (launched, heard) in [(980, None), (100, Some("alive"))] {
        let (a, b, left) = pass([&[], &[]], launched, heard);
        assert_eq!((a.0, left), (both.to_vec(), 2));
        assert!(b.0.is_empty() && b.1.iter().all(|is| matches!(is, RouteIs::Waits(_))), "{b:?}");
    }
    // Each has its own: nothing moves, also while the other one's tunnels are down.
    for state in ["alive", "no-charon", "agent-dead", "dead"] {
        let (a, b, left) = pass([&mine, &theirs], 100, Some(state));
        assert!(a.0.is_empty() && b.0.is_empty() && left == 0, "{state}: {a:?} {b:?}");
    }
    // After its death all lead here, and nobody gives anything back when it returns.
    let (a, b, left) = pass([&mine, &mine], 980, Some("alive"));
    assert!(a.0.is_empty() && b.0.is_empty() && left == 0 && b.1 == [RouteIs::Here, RouteIs::Here], "{a:?} {b:?}");
    // What led to one that EC2 shows as stopped is taken by a pass, too.
    let (_, b, _) = pass([&mine, &theirs], 100, Some("stopped"));
    assert_eq!(b.0, both.to_vec());
    // One that has led nowhere for long is not left to a zone for ever.
    let (_, b, left) = pass([&mine, &[]], 100, Some("dead"));
    assert_eq!((b.0, left), (both.to_vec(), 0));
}

#[test]
fn of_two_gateways_of_a_mode_the_newer_one_has_the_route() {
    let route = |id: &str| of(HUB, &[("10.0.0.0/8", instance(id))])[0].clone();
    assert!(route("i-0000001d").ends_with("which is older (EveryTunnel)"), "{}", route("i-0000001d"));
    assert!(route("i-0000002e").contains("Left(\"leads to i-0000002e, a newer gateway"), "{}", route("i-0000002e"));
    let nat = |toml| of(toml, &[("0.0.0.0/0", instance("i-0000001d"))])[0].clone();
    assert!(nat(CLIENT).ends_with("which is older (Tunnel)"), "a dead newcomer takes nothing: {}", nat(CLIENT));
    assert!(nat(NAT).ends_with("which is older (Rules)"), "{}", nat(NAT));
    assert!(route("i-0000003f").ends_with("which does not run (SomeTunnel)"), "{}", route("i-0000003f"));
}

#[test]
fn what_is_not_known_takes_nothing_from_a_gateway_that_works() {
    let older = [("10.0.0.0/8", instance("i-0000001d"))];
    let silent = |observed: &mut Observed| {
        let why = AskError::TimedOut { after: std::time::Duration::from_secs(1) };
        observed.answers = [("us-west-2".parse().unwrap(), Err(why))].into();
    };
    assert_eq!(all(HUB, &older, silent), ["10.0.0.0/8 Waits(\"us-west-2 did not answer\")"]);
    assert!(all(HUB, &[], silent)[0].starts_with("lead "), "nobody has it");
    let answered = |observed: &mut Observed| {
        observed.answers = [("us-west-2".parse().unwrap(), Ok(RegionView::default()))].into();
    };
    assert!(all(HUB, &older, answered)[0].starts_with("lead "));
    let stopped = |observed: &mut Observed| observed.stopped.push("the policy drop stops NAT".into());
    assert_eq!(all(NAT, &[], stopped), ["0.0.0.0/0 Waits(\"this host stops packets\")"]);
    for unknown in [
        |observed: &mut Observed| observed.vpc = None,
        |observed: &mut Observed| observed.vpc = Some(Err(AskError::NoCredentialSource)),
        |observed: &mut Observed| observed.tags = Some(Ok(OwnTags::default())),
    ] {
        assert!(all(HUB, &older, unknown).is_empty());
    }
}

#[test]
fn a_route_that_led_here_is_put_back_and_each_change_counted_once() {
    let settings = Settings::of_toml(NAT);
    let mut held = BTreeMap::new();
    let mut pass = |route: Option<VpcRoute>| {
        let routes: Vec<_> = route.map(|route| ("0.0.0.0/0", route)).into_iter().collect();
        let mut observed = observed(&settings, &routes);
        observed.state.routes = std::mem::take(&mut held);
        let routes = vpc_routes(&settings, &observed, None);
        held = routes.held.clone();
        routes.take.first().map(ToString::to_string).unwrap_or_default()
    };
    assert_eq!(pass(Some(here())), "");
    for _ in 0..2 {
        // Not carried out in the first pass: that is no second change.
        assert!(
            pass(Some(peering())).ends_with("it leads to pcx-00000001; it has been changed once since it led here")
        );
    }
    assert_eq!(pass(Some(here())), "");
    assert!(pass(None).ends_with("it is gone; it has been changed 2 times since it led here"));
    assert_eq!(pass(Some(here())), "");
    // A newer gateway is not somebody who takes it away: with it the memory ends.
    assert_eq!(pass(Some(instance("i-0000002e"))), "");
    assert_eq!(pass(Some(peering())), "");
}

#[test]
fn what_is_remembered_ends_with_the_table_s_tag() {
    let settings = Settings::of_toml(NAT);
    let mut seen = observed(&settings, &[]);
    let held = HeldRoute { here: true, changed: 1 };
    seen.state.routes = [("rtb-00000009".parse().unwrap(), [(Ipv4Net::default(), held)].into())].into();
    assert!(vpc_routes(&settings, &seen, None).held.is_empty());
    seen.vpc = Some(Err(AskError::NoCredentialSource));
    assert_eq!(vpc_routes(&settings, &seen, None).held, seen.state.routes, "not because EC2 does not answer");
}

fn tunnel(name: &str) -> (ConnName, Tunnel) {
    let address = Ipv4Addr::new(198, 51, 100, 1);
    let children = [("c".to_owned(), Selectors { local: BTreeSet::new(), remote: BTreeSet::new() })].into();
    let tunnel = Tunnel {
        vpc: None,
        local_addr: address,
        remote_addr: address,
        local_id: IkeId::Hub(address),
        remote_id: IkeId::Hub(address),
        place: Place::One,
        children,
        auth: Auth::Psk(Secret::new(b"x".to_vec())),
    };
    (name.parse().unwrap(), tunnel)
}

fn sa(conn: &str, state: &str, child: &str) -> Sa {
    let child = ChildSa { name: "c".into(), state: child.into(), ..ChildSa::default() };
    Sa { conn: conn.into(), state: state.into(), children: vec![child], ..Sa::default() }
}

#[test]
fn a_tunnel_counts_once_its_child_carries_packets() {
    let [a, b, b2] =
        ["crosswan-vpc-0000000a-i-0000000a", "crosswan-vpc-0000000b-i-0000000b", "crosswan-vpc-0000000b-i-000000b2"];
    let up = |name: &str| sa(name, "ESTABLISHED", "INSTALLED");
    let none = BTreeMap::new();
    assert_eq!(Needs::SomeTunnel.missing(&none, &[]), None, "a hub without a client waits for nobody");
    assert!(Needs::Tunnel.missing(&none, &[]).is_some(), "a client needs its hub");
    let all = [tunnel(a), tunnel(b), tunnel(b2)].into();
    for not in [sa(a, "CONNECTING", "INSTALLED"), sa(a, "ESTABLISHED", "CREATED"), up("others")] {
        for needs in [Needs::SomeTunnel, Needs::Tunnel, Needs::EveryTunnel] {
            assert!(needs.missing(&all, std::slice::from_ref(&not)).is_some(), "{needs:?} {not:?}");
        }
    }
    assert_eq!(Needs::Tunnel.missing(&all, &[up(a)]), None);
    let missing = Needs::EveryTunnel.missing(&all, &[up(a)]).unwrap();
    assert!(missing.contains("vpc-0000000b"), "{missing}");
    assert_eq!(Needs::EveryTunnel.missing(&all, &[up(a), up(b2)]), None, "one of a VPC's two gateways will do");
}
