//! What a difference between "is" and "should be" turns into, and what is left alone.

use std::collections::BTreeMap;

use super::*;
use crate::system::ChildSa;
use crate::{
    model::Place,
    system::{Files, Followed, Followee, Routing, Sa, Touched},
};

mod segments;

const ALLOWED: &str = "*filter\n:CROSSWAN-GUARD - [0:0]\n-A FORWARD -j CROSSWAN-GUARD\nCOMMIT\n";

/// As [`peer`], with its children at a place.
pub(super) fn peer_at(place: Place, n: u8, address: u8, cidrs: &[&str]) -> String {
    peer(n, address, cidrs).replace("local_ts", &format!("if_id_in = {place}\nlocal_ts"))
}

/// `peers` with routes: each network with the place that it is reached by.
pub(super) fn routed(peers: &[String], routes: &[(&str, Place)]) -> Configuration {
    let routes = routes.iter().map(|(net, place)| (net.parse().unwrap(), *place)).collect();
    let nets = |net: &str| [net.parse().unwrap()].into();
    let routing =
        Routing::of(&nets("10.0.0.0/16"), &nets("10.0.0.0/8"), &BTreeSet::new(), [10, 0, 0, 5].into(), &routes);
    Configuration::of(Files { routing: Some(format!("# by hand\n{routing}")), ..files(peers) }).unwrap()
}

/// A peer's connection as the template writes it.
pub(super) fn peer(n: u8, address: u8, cidrs: &[&str]) -> String {
    let children: String = cidrs
        .iter()
        .map(|c| {
            let name = crate::model::child_name(&c.parse().unwrap());
            format!("{name} {{\nlocal_ts = 10.0.0.0/8\nremote_ts = {c}\n}}\n")
        })
        .collect();
    format!(
        "crosswan-vpc-0000000{n} {{\nremote_addrs = 198.51.100.{address}\nlocal {{\nid = hub\n}}\nremote {{\nid = vpc-0000000{n}\n}}\n\
         children {{\n{children}}}\n}}\n"
    )
}

pub(super) fn files(peers: &[String]) -> Files {
    let secrets: String = (peers.iter())
        .map(|p| format!("ike-{} {{\nid-1 = hub\nsecret = 0x6b6579\n}}\n", p.split(' ').next().unwrap()))
        .collect();
    Files {
        connections: Some(format!("connections {{\n{}}}\n", peers.concat())),
        secrets: Some(format!("secrets {{\n{secrets}}}\n")),
        routing: None,
        rules: Some(ALLOWED.into()),
        pair: None,
    }
}

pub(super) fn target(peers: &[String]) -> Configuration {
    Configuration::of(files(peers)).unwrap()
}

/// A system on which `peers` were applied, with an established SA each.
pub(super) fn running(peers: &[String]) -> System {
    applied(target(peers))
}

/// A system on which `target` was applied, with an established SA each.
pub(super) fn applied(target: Configuration) -> System {
    let connections: BTreeMap<_, _> =
        target.connections.iter().map(|(n, tree)| (n.to_string(), Summary::of(tree))).collect();
    let sas = connections.iter().enumerate().map(|(i, (name, s))| Sa {
        conn: name.clone(),
        id: i as u32 + 1,
        state: "ESTABLISHED".into(),
        remote_host: joined(&s.remote_addrs),
        local_id: s.local_id.clone().unwrap_or_default(),
        children: (s.children.iter().enumerate())
            .map(|(j, (child, ts))| ChildSa {
                name: child.clone(),
                id: (i * 10 + j) as u32,
                state: "INSTALLED".into(),
                local_ts: ts.local_ts.iter().cloned().collect(),
                remote_ts: ts.remote_ts.iter().cloned().collect(),
                if_id: swanctl::place(&target.connections[&name.parse().unwrap()]).map(Place::if_id),
                ..ChildSa::default()
            })
            .collect(),
        ..Sa::default()
    });
    let charon = Charon {
        version: "5.9.8".into(),
        key_exchanges: BTreeSet::new(),
        sas: sas.collect(),
        secrets: target.secrets.keys().cloned().collect(),
        keys: BTreeSet::new(),
        connections,
    };
    System {
        files: target.files.clone(),
        rules: target.rules.clone(),
        routing: target.routing.clone(),
        believed: target,
        charon: Some(charon),
        ..System::default()
    }
}

pub(super) fn steps(target: &Configuration, current: &System) -> Vec<String> {
    plan(target, current).iter().map(Step::to_string).collect()
}

pub(super) fn two() -> [String; 2] {
    [peer(1, 11, &["10.1.0.0/16"]), peer(2, 12, &["10.2.0.0/16", "10.102.0.0/16"])]
}

#[test]
fn nothing_to_do_is_an_empty_plan() {
    assert_eq!(steps(&target(&two()), &running(&two())), [""; 0]);
}

/// By the key, not by the address: that may be the same.
#[test]
fn an_sa_made_with_a_key_that_was_replaced_is_ended() {
    let keyed = |keys: &[u8]| {
        let keys: Vec<String> = keys.iter().map(|n| format!("0s{}", PublicKey::new([*n; 32]))).collect();
        let line = if keys.is_empty() { String::new() } else { format!("pubkeys = {}\n", keys.join(",")) };
        peer(1, 11, &["10.1.0.0/16"]).replace("id = vpc-", &format!("{line}id = vpc-"))
    };
    let current = |keys: &[u8]| {
        let current = running(&[keyed(keys), two()[1].clone()]);
        let keys = |(name, conn): (&ConnName, &Tree)| (name.clone(), swanctl::peer_keys(conn));
        let peer_keys = current.believed.connections.iter().map(keys).filter(|(_, keys)| !keys.is_empty()).collect();
        System { peer_keys, ..current }
    };
    let ended = |current: &System, keys: &[u8]| {
        let steps = steps(&target(&[keyed(keys), two()[1].clone()]), current);
        let load = steps.iter().position(|step| step.starts_with("load connection crosswan-vpc-00000001 "));
        let end = steps.iter().position(|step| step.starts_with("end "));
        assert!(end.is_none_or(|end| load.is_some_and(|load| load < end)), "{steps:#?}");
        end.map(|end| steps[end].clone())
    };
    let end = Some("end every IKE_SA of crosswan-vpc-00000001 (the peer's key was replaced)".to_owned());
    assert_eq!(ended(&current(&[1]), &[3]), end);
    // A rotation is not that, nor the way from a pre-shared key to a key of one's own.
    for (before, after) in [(&[1][..], &[1][..]), (&[1], &[1, 2]), (&[1, 2], &[2]), (&[], &[1])] {
        assert_eq!(ended(&current(before), after), None, "{before:?} => {after:?}");
    }
    // A pass that was cut off has not written the file: what that says is what SAs were made with.
    let cut_off = System { believed: Configuration::default(), doubt: Some("cut off".into()), ..current(&[1]) };
    assert_eq!(ended(&cut_off, &[3]), end);
}

#[test]
fn a_first_pass_puts_the_rules_first_and_the_files_last() {
    let current = System { charon: Some(Charon::default()), ..System::default() };
    assert_eq!(
        steps(&target(&two()[..1]), &current),
        [
            "restore filter CROSSWAN-GUARD (was absent)",
            "load secret ike-crosswan-vpc-00000001 (new)",
            "load connection crosswan-vpc-00000001 (new: 198.51.100.11 for 10.1.0.0/16)",
            "write crosswan-secrets.conf (new)",
            "write crosswan.conf (new)",
            "write iptables.rules (new)",
        ]
    );
}

#[test]
fn a_new_peer_is_one_load_and_touches_no_other() {
    assert_eq!(
        steps(&target(&two()), &running(&two()[..1])),
        [
            "load secret ike-crosswan-vpc-00000002 (new)",
            "load connection crosswan-vpc-00000002 (new: 198.51.100.12 for 10.2.0.0/16, 10.102.0.0/16)",
            "write crosswan-secrets.conf (changed)",
            "write crosswan.conf (changed)",
        ]
    );
}

#[test]
fn removal_is_revocation() {
    assert_eq!(
        steps(&target(&two()[..1]), &running(&two())),
        [
            "unload connection crosswan-vpc-00000002",
            "unload secret ike-crosswan-vpc-00000002",
            "end every IKE_SA of crosswan-vpc-00000002 (the peer is gone)",
            "write crosswan-secrets.conf (changed)",
            "write crosswan.conf (changed)",
        ]
    );
}

#[test]
fn a_peer_with_a_new_address_is_loaded_and_its_old_sa_ended() {
    let moved = [peer(1, 77, &["10.1.0.0/16"]), two()[1].clone()];
    assert_eq!(
        steps(&target(&moved), &running(&two())),
        [
            "load connection crosswan-vpc-00000001 (address 198.51.100.11 => 198.51.100.77)",
            "end IKE_SA crosswan-vpc-00000001 #1 (the peer has a new address)",
            "write crosswan.conf (changed)",
        ]
    );
}

/// Lab: a spoke that sent to the hub's old address took the hub's DPD for a sign of life, and showed its tunnel as up.
#[test]
fn a_hub_with_a_new_identity_ends_the_sas_made_with_the_old_one() {
    let named = |id: &str| [two()[0].replace("id = hub", &format!("id = {id}"))];
    let (before, after) = (named("198.51.100.100"), named("198.51.100.200"));
    assert_eq!(
        steps(&target(&after), &running(&before)),
        [
            "load connection crosswan-vpc-00000001 (local id 198.51.100.100 => 198.51.100.200)",
            "end IKE_SA crosswan-vpc-00000001 #1 (this gateway has a new identity)",
            "write crosswan.conf (changed)",
        ]
    );
    assert_eq!(steps(&target(&before), &running(&before)), [""; 0]);
    // One that is still being set up has no identity yet.
    let mut young = running(&before);
    let sas = &mut young.charon.as_mut().unwrap().sas;
    (sas[0].state, sas[0].local_id) = ("CONNECTING".into(), String::new());
    assert_eq!(steps(&target(&before), &young), [""; 0]);
}

#[test]
fn a_cidr_that_comes_or_goes_is_a_child_and_disturbs_no_other_child() {
    let grown = [peer(1, 11, &["10.1.0.0/16", "10.101.0.0/16"]), peer(2, 12, &["10.2.0.0/16"])];
    assert_eq!(
        steps(&target(&grown), &running(&two())),
        [
            "load connection crosswan-vpc-00000001 (with c-10-101-0-0-16)",
            "load connection crosswan-vpc-00000002 (without c-10-102-0-0-16)",
            "end CHILD_SA crosswan-vpc-00000002/c-10-102-0-0-16 #10 (no longer configured)",
            "write crosswan.conf (changed)",
        ]
    );
}

#[test]
fn changed_selectors_are_renewed_over_the_live_sa() {
    let wider = two().map(|p| p.replace("local_ts = 10.0.0.0/8", "local_ts = 10.0.0.0/8,172.16.0.0/12"));
    let steps = steps(&target(&wider[..1]), &running(&two()[..1]));
    assert_eq!(steps[1], "renew crosswan-vpc-00000001/c-10-1-0-0-16 (selectors changed)");
}

#[test]
fn after_a_pass_that_was_cut_off_everything_is_loaded_and_stale_selectors_renewed() {
    let mut current = running(&two()[..1]);
    current.believed = Configuration::default();
    current.doubt = Some("cut off".into());
    assert_eq!(
        steps(&target(&two()[..1]), &current),
        [
            "load secret ike-crosswan-vpc-00000001 (not known to be as on disk)",
            "load connection crosswan-vpc-00000001 (not known to be as on disk)",
        ]
    );
    current.charon.as_mut().unwrap().sas[0].children[0].local_ts = vec!["10.0.0.0/9".into()];
    let steps = steps(&target(&two()[..1]), &current);
    assert_eq!(steps[2], "renew crosswan-vpc-00000001/c-10-1-0-0-16 (selectors changed)");
}

#[test]
fn in_doubt_is_only_what_was_being_loaded() {
    let moved = [peer(1, 11, &["10.1.0.0/16"]), peer(2, 13, &["10.2.0.0/16"])];
    let mut current = running(&two());
    let mut under_way = plan(&target(&moved), &current);
    let secret = target(&moved).secrets.into_iter().next_back().unwrap();
    under_way.push(Step::LoadSecret { id: secret.0, secret: secret.1, why: "changed" });
    let touched = touched(&under_way);
    let marker = touched.marker();
    assert_eq!(Touched::parse(&marker), Some(touched.clone()), "{marker}");
    assert_eq!(Touched::parse("an apply is under way, or was cut off\n"), None, "all of it");

    // The files are as they were, and charon looks like it: only the marker tells.
    current.believed = touched.still_believed(current.believed);
    current.doubt = Some("cut off".into());
    assert_eq!(current.believed.files, Files::default(), "half of it must not pass for the files");
    assert_eq!(
        steps(&target(&two()), &current),
        [
            "load secret ike-crosswan-vpc-00000002 (not known to be as on disk)",
            "load connection crosswan-vpc-00000002 (not known to be as on disk)",
        ]
    );
}

#[test]
fn what_charon_lost_is_loaded_again() {
    let mut current = running(&two()[..1]);
    current.charon = Some(Charon { version: "5.9.8".into(), ..Charon::default() });
    assert_eq!(
        steps(&target(&two()[..1]), &current),
        [
            "load secret ike-crosswan-vpc-00000001 (new)",
            "load connection crosswan-vpc-00000001 (new: 198.51.100.11 for 10.1.0.0/16)",
        ]
    );
}

#[test]
fn foreign_connections_secrets_and_sas_are_never_touched() {
    let mut current = running(&two()[..1]);
    let charon = current.charon.as_mut().unwrap();
    charon.connections.insert("office".into(), Summary::default());
    charon.connections.insert("crosswan".into(), Summary::default());
    charon.secrets.extend(["ike-office".into(), "office".into(), "crosswan-vpc-00000009".into()]);
    charon.sas.push(Sa { conn: "office".into(), ..Sa::default() });
    assert_eq!(steps(&target(&two()[..1]), &current), [""; 0]);
}

#[test]
fn without_charon_only_the_rules_are_planned() {
    let current = System::default();
    assert_eq!(
        steps(&target(&two()), &current),
        ["restore filter CROSSWAN-GUARD (was absent)", "write iptables.rules (new)"]
    );
}

#[test]
fn a_secret_never_shows() {
    for step in plan(&target(&two()), &System { charon: Some(Charon::default()), ..System::default() }) {
        let shown = format!("{step} {step:?}");
        if !matches!(step, Step::WriteFile { .. }) {
            assert!(!shown.contains("6b6579") && !shown.contains("\"key\""), "{shown}");
        }
        assert!(!step.to_string().contains("6b6579"), "{step}");
    }
}

#[test]
fn wrong_permissions_are_put_right() {
    let current = System { wrong_mode: [ManagedFile::Secrets].into(), ..running(&two()) };
    assert_eq!(steps(&target(&two()), &current), ["write crosswan-secrets.conf (permissions were wrong)"]);
}

#[test]
fn what_charon_holds_is_shown_escaped() {
    let mut current = running(&two());
    let charon = current.charon.as_mut().unwrap();
    charon.sas[0].children[0].name = "c\u{1b}[2J".into();
    charon.connections.get_mut("crosswan-vpc-00000002").unwrap().remote_addrs = ["a\nstep".into()].into();
    let steps = steps(&target(&two()), &current);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(steps[0].contains(r"(address a\nstep => "), "{steps:?}");
    assert!(steps[1].contains(r"/c\u{1b}[2J #"), "{steps:?}");
}

#[test]
fn a_step_is_its_peers_or_everyones() {
    let current = System { charon: Some(Charon::default()), ..System::default() };
    let peers = |target: &Configuration, current: &System| -> Vec<Option<String>> {
        plan(target, current).iter().map(|step| step.peer().map(|name| name.to_string())).collect()
    };
    let one = || Some("crosswan-vpc-00000001".to_owned());
    assert_eq!(peers(&target(&two()[..1]), &current), [None, one(), one(), None, None, None]);
    assert_eq!(peers(&target(&[]), &running(&two()[..1])), [one(), one(), one(), None, None]);
}

const NETS: [&str; 2] = ["10.1.0.0/16", "10.2.0.0/16"];

#[test]
fn a_replacement_is_one_moved_route_and_nothing_else() {
    let both = [peer_at(Place::One, 1, 11, &NETS[..1]), peer_at(Place::Two, 2, 12, &NETS[..1])];
    let current = applied(routed(&both, &[(NETS[0], Place::One)]));
    let moved = routed(&both, &[(NETS[0], Place::Two)]);
    assert_eq!(steps(&moved, &current), ["route 10.1.0.0/16 dev cw2 src 10.0.0.5", "write routing.batch (changed)"]);
    let owner = plan(&moved, &current)[0].peer().unwrap();
    assert_eq!(owner.as_str(), "crosswan-vpc-00000002", "a route belongs to the connection that it leads to");
}

#[test]
fn a_network_is_routed_after_its_connection_is_loaded_and_removed_after_its_tunnel_has_ended() {
    let peers = [peer_at(Place::One, 1, 11, &NETS[..1]), peer_at(Place::One, 2, 12, &NETS[1..])];
    let one = || routed(&peers[..1], &[(NETS[0], Place::One)]);
    let two = || routed(&peers, &NETS.map(|net| (net, Place::One)));
    let order = |steps: &[String], first: &str, then: &str| {
        let at = |text: &str| {
            steps.iter().position(|step| step.contains(text)).unwrap_or_else(|| panic!("{text}: {steps:#?}"))
        };
        assert!(at(first) < at(then), "{steps:#?}");
    };
    order(&steps(&two(), &applied(one())), "load connection crosswan-vpc-00000002", "route 10.2.0.0/16");
    order(
        &steps(&one(), &applied(two())),
        "end every IKE_SA of crosswan-vpc-00000002",
        "remove the route to 10.2.0.0/16",
    );
    let first = steps(&one(), &System { charon: Some(Charon::default()), ..System::default() });
    for (before, after) in [
        ("restore filter", "make interface cw1"),
        ("make interface cw2", "load connection"),
        ("route 10.1.0.0/16", "add rule"),
    ] {
        order(&first, before, after);
    }
}

/// The version before this one had policies and no interfaces.
#[test]
fn live_tunnels_get_their_interface_before_the_guard_asks_for_it_and_lose_the_old_one_last() {
    let old = Configuration { rules: iptables::Rules::default(), ..routed(&[peer(1, 11, &NETS[..1])], &[]) };
    let current = System { routing: Routing::default(), ..applied(old) };
    let wanted = routed(&[peer_at(Place::One, 1, 11, &NETS[..1])], &[(NETS[0], Place::One)]);
    let steps = steps(&wanted, &current);
    let order = [
        "make interface cw1",
        "load connection",
        "renew",
        "route 10.1.0.0/16",
        "restore filter",
        "add rule",
        "end CHILD_SA",
        "write",
    ];
    let at = order.map(|text| {
        steps.iter().position(|step| step.starts_with(text)).unwrap_or_else(|| panic!("{text}: {steps:#?}"))
    });
    assert!(at.is_sorted(), "{steps:#?}");
    assert!(steps[at[2]].ends_with("(it gets an interface)"), "{steps:#?}");

    // One whose new CHILD_SA is up already only loses the old one.
    let mut half = applied(wanted.clone());
    let mut without = half.charon.as_ref().unwrap().sas[0].children[0].clone();
    (without.id, without.if_id) = (99, None);
    half.charon.as_mut().unwrap().sas[0].children.push(without);
    let left = super::tests::steps(&wanted, &half);
    assert_eq!(left, ["end CHILD_SA crosswan-vpc-00000001/c-10-1-0-0-16 #99 (its interface was another one)"]);
}

#[test]
fn a_mode_without_tunnels_gives_up_its_interfaces_without_charon() {
    let before = routed(&[], &[(NETS[0], Place::One)]);
    let current = System { routing: before.routing.clone(), files: before.files.clone(), ..System::default() };
    let steps = steps(&Configuration::default(), &current);
    assert!(steps.starts_with(&["remove rule pref 7104 to 10.0.0.0/16 lookup main".to_owned()]), "{steps:#?}");
    assert!(
        steps.ends_with(&["delete interface cw2", "remove routing.batch", "remove iptables.rules"].map(str::to_owned)),
        "{steps:#?}"
    );
}

/// The word by which the peer `n`, at the second place, is followed.
fn word(n: u8) -> Followed {
    let mut followed = Followed::default();
    let connection = format!("crosswan-vpc-0000000{n}").parse().unwrap();
    let (networks, at) = (["10.1.0.0/16".parse().unwrap()].into(), crate::model::Timestamp(1));
    let word = Followee { connection, place: Place::Two, generation: 1, networks, at, overruled: false };
    assert!(followed.follow("party", word));
    followed
}

#[test]
fn a_word_that_comes_in_the_middle_of_a_pass_goes_before_what_was_decided() {
    let peers = [peer_at(Place::One, 1, 1, &["10.1.0.0/16"]), peer_at(Place::Two, 2, 2, &["10.1.0.0/16"])];
    let at = |place| routed(&peers, &[("10.1.0.0/16", place)]);
    let shown = |steps: Vec<Step>| steps.iter().map(Step::to_string).collect::<Vec<_>>();
    let decided = at(Place::One);
    let before = System { followed: word(2), ..applied(at(Place::One)) };
    assert_eq!(shown(plan(&decided, &before)), ["route 10.1.0.0/16 dev cw2 src 10.0.0.5"], "it is to be followed");
    let moved = System { routing: at(Place::Two).routing, ..applied(at(Place::One)) };
    let after = System { followed: word(2), ..System { routing: at(Place::Two).routing, ..applied(at(Place::One)) } };
    assert_eq!(shown(plan(&decided, &after)), [] as [String; 0], "a pass that reads back finds nothing left to do");
    assert_eq!(
        shown(plan(&decided, &moved)),
        ["route 10.1.0.0/16 dev cw1 src 10.0.0.5"],
        "without it, it is a difference"
    );
    // Of a gateway that the pass removes, or whose network is somebody else's, it does not count.
    let gone = routed(&peers[..1], &[("10.1.0.0/16", Place::One)]);
    let still = plan(&gone, &System { followed: word(2), ..applied(at(Place::One)) });
    assert!(!shown(still).iter().any(|step| step.starts_with("route ")));
    let others = plan(&decided, &System { followed: word(3), ..applied(at(Place::One)) });
    assert_eq!(shown(others), [] as [String; 0]);
}
