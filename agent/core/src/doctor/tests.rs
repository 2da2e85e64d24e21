mod harms;
mod why;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    checks::{NOT_AS_PLANNED, SETTINGS, UNASKED, WORST_FIRST},
    *,
};
use crate::{
    error::Kind,
    forwarding::{Knob, Obstacles, Problem},
    iptables::Rules,
    model::{
        AclEntry, AddressHolder, AskError, ElasticIp, FarEnd, Holder, Identity, Keyring, Mode, NetworkAcl,
        OwnInterface, OwnKeys, OwnTags, OwnVpc, Packets, Place, RouteTable, RouteTarget, SecurityGroups, Timestamp,
        VpcRoute, Way, private_key::tests::key_pair,
    },
    pair::PairStatus,
    report::{Report, TunnelReport},
    settings::Settings,
    state::{HeldRoute, State as Remembered},
    swanctl::Summary,
    system::{Charon, ChildSa, Conntrack, Followed, Followee, Routing, Sa, Via},
};

const PEER: &str = "crosswan-vpc-00000001-i-00000001";
const SETTINGS_FILE: &str = "mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\"]\naddress.tag = \"crosswan-address=hub\"\naccounts = [{ role_arn = \"arn:aws:iam::111122223333:role/discover\", name = \"payments\" }]\n";

fn me() -> Identity {
    serde_json::from_value(serde_json::json!({
        "instance": "i-0000ffff", "region": "eu-west-1", "vpc": "vpc-0000ffff", "cidrs": ["10.0.0.0/16"],
        "private": "10.0.0.5", "public": "198.51.100.1"
    }))
    .unwrap()
}

fn report() -> Report {
    serde_json::from_value(serde_json::json!({
        "at": 1000, "version": env!("CARGO_PKG_VERSION"), "mode": "vpn-hub", "me": me(), "outcome": "unchanged", "regions": {},
        "tunnels": {PEER: {
            "vpc": "vpc-00000001", "remote": "198.51.100.2", "remote_cidrs": ["10.1.0.0/16"], "local_cidrs": ["10.0.0.0/8"],
            "segment": {"segment": "shared"}
        }},
        "segments": {"own": {"segment": "shared"}, "reach": {"shared": []}},
        "refused": [], "kept": [], "removed": [], "held": null, "steps": [], "waiting_for": null, "unasked": [],
        "problems": [], "notes": []
    }))
    .unwrap()
}

fn charon() -> Charon {
    let child = serde_json::from_value::<Vec<String>>(serde_json::json!(["c-10-1-0-0-16"])).unwrap().remove(0);
    let selectors =
        crate::swanctl::ChildSummary { local_ts: BTreeSet::new(), remote_ts: BTreeSet::new(), mode: "tunnel".into() };
    let summary = Summary { children: [(child.clone(), selectors)].into(), ..Summary::default() };
    let child = ChildSa {
        name: child,
        state: "INSTALLED".into(),
        bytes_in: 5,
        bytes_out: 7,
        installed: Some(600),
        ..ChildSa::default()
    };
    let sa = Sa { conn: PEER.into(), state: "ESTABLISHED".into(), children: vec![child], ..Sa::default() };
    Charon {
        version: "5.9.8".into(),
        key_exchanges: ["CURVE_25519", "ECP_384"].map(str::to_owned).into(),
        connections: [(PEER.to_owned(), summary)].into(),
        keys: [key_pair(1).public.charon_id()].into(),
        sas: vec![sa],
        ..Charon::default()
    }
}

/// A hub on which everything is well.
fn well() -> Examined {
    let me = me();
    let mut current = key_pair(1);
    current.instance = me.instance.clone();
    let ring = Keyring { current, next: None };
    let keys = OwnKeys::of(&ring, Mode::NatVpn, &Holder { vpc: &me.vpc, instance: &me.instance }).unwrap();
    let interface = OwnInterface {
        id: "eni-000000ff".parse().unwrap(),
        subnet: "subnet-000000ff".parse().unwrap(),
        launched: Timestamp(7),
    };
    let target = RouteTarget::Interface { interface: Some(interface.id.clone()), instance: None };
    let route = ("10.0.0.0/8".parse().unwrap(), VpcRoute { target, blackhole: false });
    let table = "rtb-00000001".parse().unwrap();
    let tags = OwnTags {
        key: Some(keys.current.to_string()),
        source_dest_check: Some(false),
        interface: Some(interface),
        ..OwnTags::default()
    };
    Examined {
        now: Timestamp(1060),
        imds_time: Some(Timestamp(1061)),
        root: true,
        settings: Ok(Settings::of_toml(SETTINGS_FILE)),
        me: Ok(me),
        elsewhere: None,
        uplink: Ok("ens5".parse().unwrap()),
        own: Some(Ok(tags)),
        vpc: Some(Ok(OwnVpc {
            tables: [(table, RouteTable { own: false, zones: BTreeSet::new(), routes: [route].into() })].into(),
            ..OwnVpc::default()
        })),
        addresses: Some(Ok(vec![elastic_ip("i-0000ffff")])),
        around: Some(around()),
        state: Remembered::default(),
        allowed: ["create-tags", "describe-vpcs", "create-route", "associate-address"]
            .map(|action| (action, Ok(())))
            .into(),
        accounts: [("111122223333/eu-west-1".parse().unwrap(), Ok(2))].into(),
        sysctls: Ok(Vec::new()),
        conntrack: Some(Conntrack { entries: 10, max: 1000, dropped: 0, raced: 3 }),
        driver: Some(
            "NIC statistics:\n     pps_allowance_exceeded: 0\n     conntrack_allowance_available: 136812\n".into(),
        ),
        rules: Ok(Rules::default()),
        wanted_rules: Ok(Some(Rules::default())),
        foreign: Some(Ok(Obstacles::default())),
        routing: Ok(Lead { mtus: [("ens5".to_owned(), 9001)].into(), ..Lead::default() }),
        wanted_routing: Ok(Some(Routing::default())),
        charon: Ok(charon()),
        paths: BTreeMap::new(),
        unreached: Ok(None),
        keyring: Ok(Some(ring)),
        followed: Followed::default(),
        hears: Ok(true),
        pair: Ok(Some(("i-00000009".parse().unwrap(), Some(paired("alive"))))),
        report: Ok(Some(report())),
        failed: Ok(None),
    }
}

/// What `crosswan pair` shows of a member in this state.
fn paired(state: &str) -> PairStatus {
    let status = serde_json::json!({
        "at": 1060, "member": "i-00000009", "address": "10.0.0.9", "state": state, "judgement": state, "own_health": "well",
        "role": "standby", "refused": {},
    });
    serde_json::from_value(status).unwrap()
}

/// The one that settings ask for.
fn elastic_ip(holder: &str) -> ElasticIp {
    ElasticIp {
        allocation: "eipalloc-00000001".parse().unwrap(),
        address: me().public.unwrap(),
        holder: Some(AddressHolder {
            association: "eipassoc-00000001".parse().unwrap(),
            instance: holder.parse().ok(),
            private: Some(me().private),
            stopped: false,
        }),
    }
}

/// Around it everything is open. Its own subnet has another table than that of the hosts.
fn around() -> Surroundings {
    let all = Packets { protocol: None, range: None };
    let everywhere = "0.0.0.0/0".parse().unwrap();
    let [inward, outward] = [Way::In, Way::Out].map(|way| (way, all, FarEnd::Net(everywhere)));
    let entry = |way| AclEntry { number: 100, way, packets: all, net: everywhere, allows: true };
    let subnet = |net: &str, table: &str| Subnet {
        net: net.parse().unwrap(),
        table: table.parse().unwrap(),
        tagged: true,
        routes: [(
            "10.0.0.0/8".parse().unwrap(),
            VpcRoute {
                target: RouteTarget::Interface { interface: Some("eni-000000ff".parse().unwrap()), instance: None },
                blackhole: false,
            },
        )]
        .into(),
    };
    let subnets = [
        ("subnet-000000ff".parse().unwrap(), subnet("10.0.0.0/24", "rtb-00000002")),
        ("subnet-00000001".parse().unwrap(), subnet("10.0.1.0/24", "rtb-00000001")),
    ];
    Surroundings {
        groups: Ok(SecurityGroups { ids: vec!["sg-1".into()], rules: vec![inward, outward] }),
        acl: Ok(NetworkAcl { id: "acl-1".into(), entries: vec![entry(Way::In), entry(Way::Out)] }),
        subnets: Ok(subnets.into()),
    }
}

/// A problem with its remedy after the semicolon.
fn problem(line: &str) -> Problem {
    let (found, remedy) = line.split_once("; ").unwrap();
    Problem { found: found.into(), remedy: remedy.into() }
}

fn in_state(diagnosis: &Diagnosis, state: State) -> Vec<&str> {
    diagnosis.checks.iter().filter(|check| check.state == state).map(|check| check.id.as_str()).collect()
}

#[test]
fn all_checks_pass_where_all_is_well() {
    let diagnosis = diagnose(&well());
    assert_eq!(diagnosis.exit_code, 0, "{diagnosis}");
    assert_eq!(in_state(&diagnosis, State::Ok).len(), diagnosis.checks.len(), "{diagnosis}");
    assert!(diagnosis.to_string().ends_with(" ok, 0 warnings, 0 failed, 0 not looked at"), "{diagnosis}");
    let peer = diagnosis.checks.last().unwrap();
    assert_eq!(
        (peer.id.as_str(), peer.found.as_str()),
        ("peer-vpc-00000001", "up to 198.51.100.2, 1 network, 5 B in, 7 B out")
    );
}

#[test]
fn a_peers_second_gateway_is_named_with_its_state() {
    const BESIDE: &str = "crosswan-vpc-00000001-i-00000002";
    let second = |up: bool| {
        let mut x = well();
        let report = x.report.as_mut().unwrap().as_mut().unwrap();
        let used = report.tunnels[PEER].clone();
        let second = TunnelReport { remote: [198, 51, 100, 3].into(), stands_by: true, ..used };
        report.tunnels.insert(BESIDE.into(), second);
        let charon = x.charon.as_mut().unwrap();
        let its = Sa { conn: BESIDE.into(), ..charon.sas[0].clone() };
        charon.sas.extend(up.then_some(its));
        let peer = diagnose(&x).checks.into_iter().find(|check| check.id == "peer-vpc-00000001").unwrap();
        (peer.state, peer.found)
    };
    let line = |state: &str| format!("up to 198.51.100.2, 1 network, 5 B in, 7 B out; 198.51.100.3 stands by, {state}");
    assert_eq!([true, false].map(second), ["up", "DOWN"].map(|state| (State::Ok, line(state))));
}

#[test]
fn a_check_needs_only_checks_before_it_and_each_has_an_id_of_its_own() {
    let mut before = BTreeSet::new();
    for check in CHECKS {
        assert!(check.needs.iter().all(|needed| before.contains(needed)), "{}", check.id);
        assert!(before.insert(check.id), "twice: {}", check.id);
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-<>".contains(&b);
        assert!(check.id.bytes().all(allowed), "{}", check.id);
        assert!(WORST_FIRST.contains(&check.code), "{}", check.id);
    }
    let kinds = [Kind::Settings, Kind::Observe, Kind::Apply].map(Kind::exit_code);
    assert_eq!([SETTINGS, UNASKED, NOT_AS_PLANNED], kinds);
}

#[test]
fn what_a_mode_does_not_have_is_no_failure() {
    let mut x = well();
    x.settings = Ok(Settings::of_toml("mode = \"nat-hub\"\nprivate_net = [\"10.0.0.0/8\"]\n"));
    x.own = Some(Err(AskError::NoCredentials { why: "none".into() }));
    (x.charon, x.keyring, x.wanted_routing) = (Err("no socket".into()), Ok(None), Ok(None));
    (x.pair, x.allowed) = (Ok(None), BTreeMap::new());
    let diagnosis = diagnose(&x);
    assert_eq!(diagnosis.exit_code, 0, "{diagnosis}");
    let absent = [
        "role",
        "ec2",
        "iam-<action>",
        "account-<name>",
        "source-dest-check",
        "elastic-ip",
        "subnet-unrouted",
        "security-group-ike",
        "security-group-private",
        "nacl",
        "charon",
        "algorithms",
        "swanctl-include",
        "interfaces-and-routes",
        "key-file",
        "key-loaded",
        "key-tag",
        "segments",
        "peer-path",
        "peer-<vpc>",
    ];
    assert_eq!(in_state(&diagnosis, State::NotLookedAt), absent, "{diagnosis}");

    // It has a key, which its role did not let it announce: that matters once there is another one, or where settings ask for a pair.
    x.own = Some(Ok(OwnTags { source_dest_check: Some(false), ..OwnTags::default() }));
    x.keyring = well().keyring;
    let told = |x: &Examined| in_state(&diagnose(x), State::Failure).contains(&"key-tag");
    assert!(!told(&x), "{}", diagnose(&x));
    x.pair = Ok(Some(("i-00000009".parse().unwrap(), Some(paired("alive")))));
    assert!(told(&x), "{}", diagnose(&x));
    x.pair = Ok(None);
    x.settings = Ok(Settings::of_toml("mode = 'nat-hub'\nprivate_net = ['10.0.0.0/8']\npair.enabled = true"));
    assert!(told(&x), "{}", diagnose(&x));

    let mut x = well();
    let psk = format!("{SETTINGS_FILE}\n[auth]\nmethod = \"psk\"\n");
    (x.settings, x.keyring) = (Ok(Settings::of_toml(&psk)), Ok(None));
    let diagnosis = diagnose(&x);
    assert_eq!(in_state(&diagnosis, State::NotLookedAt), ["key-file", "key-loaded", "key-tag"], "{diagnosis}");
}

#[test]
fn the_exit_code_is_that_of_the_worst() {
    let mut x = well();
    x.conntrack.as_mut().unwrap().dropped = 1;
    assert_eq!(diagnose(&x).exit_code, 6);
    x.own = Some(Err(AskError::TimedOut { after: std::time::Duration::from_secs(1) }));
    assert_eq!(diagnose(&x).exit_code, 3);
    x.sysctls = Ok(vec![(Knob::IpForward, problem("off; on"))]);
    assert_eq!(diagnose(&x).exit_code, 7);
    x.charon.as_mut().unwrap().sas.clear();
    assert_eq!(diagnose(&x).exit_code, 8);
    x.wanted_routing = Ok(Some(Routing::parse("link set cw1 up\n")));
    assert_eq!(diagnose(&x).exit_code, 9);
    x.settings = Err("wrong".into());
    assert_eq!(diagnose(&x).exit_code, 2);
}

#[test]
fn foreign_text_is_shown_plainly() {
    let mut x = well();
    x.own = Some(Ok(OwnTags {
        key: Some("\u{1b}[2J\n\u{202e}".into()),
        source_dest_check: Some(false),
        ..OwnTags::default()
    }));
    x.settings = Err("\u{7f}\r\n: \u{1b}".into());
    x.report.as_mut().unwrap().as_mut().unwrap().version = "\u{1b}[31m".into();
    let diagnosis = diagnose(&x);
    let text = diagnosis.to_string() + &serde_json::to_string(&diagnosis).unwrap();
    assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{text:?}");
    assert_eq!(diagnosis.to_string().lines().count(), diagnosis.checks.len() + 1);
}

#[test]
fn a_cause_is_named_through_what_hangs_on_it() {
    let mut x = well();
    (x.me, x.own) = (Err("no answer".into()), None);
    let diagnosis = diagnose(&x);
    for id in ["role", "ec2", "source-dest-check", "public-address", "last-refresh", "key-tag", "peer-vpc-00000001"] {
        let check = diagnosis.checks.iter().find(|check| check.id == id).unwrap();
        assert_eq!((check.state, check.because.as_deref()), (State::NotLookedAt, Some("imds")), "{id}");
    }
}
