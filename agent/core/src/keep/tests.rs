mod properties;

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::{
    swanctl::{ChildSummary, Summary},
    system::{ChildSa, Sa},
};

const INTERVAL: u64 = 15_000;
const CONN: &str = "crosswan-vpc-0aaa1111";
const SPOKE: Pace = Pace { mode: Mode::NatVpn, interval: Duration::from_millis(INTERVAL) };
const HUB: Pace = Pace { mode: Mode::VpnHub, interval: Duration::from_millis(INTERVAL) };

fn conn(children: &[(&str, &str)]) -> Summary {
    let child = |mode: &str| ChildSummary { local_ts: BTreeSet::new(), remote_ts: BTreeSet::new(), mode: mode.into() };
    Summary {
        children: children.iter().map(|(name, mode)| ((*name).into(), child(mode))).collect(),
        ..Summary::default()
    }
}

/// An IKE_SA of `CONN` with CHILD_SAs (name, id, state).
fn sa(id: u32, state: &str, children: &[(&str, u32, &str)]) -> Sa {
    let child = |&(name, id, state): &(&str, u32, &str)| ChildSa {
        name: name.into(),
        id,
        state: state.into(),
        ..ChildSa::default()
    };
    Sa { conn: CONN.into(), id, state: state.into(), children: children.iter().map(child).collect(), ..Sa::default() }
}

/// `CONN` loaded with tunnels `a` and `b` in a charon that has been up for an hour.
fn view(sas: &[Sa]) -> View {
    let conns = [(CONN.to_owned(), conn(&[("a", "tunnel"), ("b", "tunnel")]))].into();
    View { uptime: Duration::from_secs(3600), conns, sas: sas.to_vec(), ..View::default() }
}

/// Looks at the same thing at each of these times; what was done, as `time action`.
fn looks(times: &[u64], view: &View, pace: Pace) -> Vec<String> {
    let mut memory = Memory::default();
    let look =
        |&t: &u64| decide(t, view, &mut memory, pace).into_iter().map(move |a| format!("{t} {a}")).collect::<Vec<_>>();
    times.iter().flat_map(look).collect()
}

fn initiations(times: &[u64], view: &View, pace: Pace) -> Vec<u64> {
    let done = looks(times, view, pace);
    done.iter()
        .filter(|d| d.contains("initiate") && d.contains(" b "))
        .map(|d| d.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn one_look_proves_nothing_missing() {
    assert!(looks(&[0], &view(&[]), SPOKE).is_empty());
    assert!(looks(&[0, 499], &view(&[]), SPOKE).is_empty());
    assert_eq!(
        looks(&[0, 500], &view(&[]), SPOKE),
        ["500 initiate crosswan-vpc-0aaa1111 a (attempt 1)", "500 initiate crosswan-vpc-0aaa1111 b (attempt 1)"]
    );
    let mut memory = Memory::default();
    decide(0, &view(&[]), &mut memory, SPOKE);
    assert!(memory.unsure());
    decide(1, &view(&[]), &mut memory, SPOKE);
    assert!(!memory.unsure());
}

#[test]
fn the_spoke_initiates_what_is_missing_and_only_that() {
    let up = [("a", 1, "INSTALLED"), ("b", 2, "INSTALLED")];
    let busy = Sa { child_pending: true, ..sa(1, "ESTABLISHED", &[("a", 1, "INSTALLED")]) };
    let half = sa(1, "ESTABLISHED", &[("a", 1, "INSTALLED")]);
    let cases: [(&str, &[Sa], &str); 14] = [
        ("nothing there", &[], "a b"),
        ("all up", &[sa(1, "ESTABLISHED", &up)], ""),
        ("one up", std::slice::from_ref(&half), "b"),
        ("childless", &[sa(1, "ESTABLISHED", &[])], "a b"),
        ("connecting", &[sa(1, "CONNECTING", &[])], ""),
        ("just made", &[sa(1, "CREATED", &[])], ""),
        ("a second one connecting", &[half.clone(), sa(2, "CONNECTING", &[])], ""),
        ("child exchange under way", &[busy], ""),
        ("installing", &[sa(1, "ESTABLISHED", &[("a", 1, "INSTALLED"), ("b", 2, "INSTALLING")])], ""),
        ("rekeying", &[sa(1, "ESTABLISHED", &[("a", 1, "REKEYING"), ("b", 2, "REKEYING")])], ""),
        ("IKE_SA rekeying", &[sa(1, "REKEYING", &up)], ""),
        ("IKE_SA on its way out", &[sa(1, "DELETING", &up)], "a b"),
        ("child on its way out", &[sa(1, "ESTABLISHED", &[("a", 1, "INSTALLED"), ("b", 2, "DELETING")])], "b"),
        ("another's SA", &[Sa { conn: "crosswan-vpc-0bbb2222".into(), ..sa(1, "ESTABLISHED", &up) }], "a b"),
    ];
    for (what, sas, expected) in cases {
        let mut memory = Memory::default();
        decide(0, &view(sas), &mut memory, SPOKE);
        let done: Vec<Action> = decide(1_000, &view(sas), &mut memory, SPOKE);
        let children: Vec<&str> = done.iter().map(|a| a.child().unwrap_or("(an IKE_SA)")).collect();
        assert_eq!(children.join(" "), expected, "{what}: {done:?}");
    }
}

#[test]
fn foreign_connections_shunts_and_other_modes_are_not_ours() {
    let tunnel = || conn(&[("a", "tunnel")]);
    let mut v = view(&[]);
    v.conns = [
        ("office".into(), tunnel()),
        ("crosswan".into(), tunnel()),
        ("crosswan-own".into(), tunnel()),
        ("Crosswan-vpc-0aaa1111".into(), tunnel()),
        (CONN.into(), conn(&[("p", "pass"), ("d", "drop")])),
    ]
    .into();
    assert!(looks(&[0, 1_000, 100_000], &v, SPOKE).is_empty());
}

#[test]
fn attempts_back_off_to_five_minutes() {
    let every_second: Vec<u64> = (0..1_200).map(|s| s * 1_000).collect();
    let at = initiations(&every_second, &view(&[]), SPOKE);
    let gaps: Vec<u64> = at.windows(2).map(|w| (w[1] - w[0]) / 1_000).collect();
    assert_eq!((at[0], gaps), (1_000, vec![15, 30, 60, 120, 240, 300, 300]));
}

#[test]
fn success_and_a_changed_file_reset_the_back_off() {
    let mut memory = Memory::default();
    let (down, up) = (view(&[]), view(&[sa(1, "ESTABLISHED", &[("a", 1, "INSTALLED"), ("b", 2, "INSTALLED")])]));
    let at = |t, v: &View, m: &mut Memory| decide(t, v, m, SPOKE).len();
    assert_eq!([at(0, &down, &mut memory), at(1_000, &down, &mut memory), at(2_000, &down, &mut memory)], [0, 2, 0]);
    memory.forget_failures();
    assert_eq!([at(3_000, &down, &mut memory), at(4_000, &down, &mut memory)], [2, 0]);
    assert_eq!(at(5_000, &up, &mut memory), 0);
    assert_eq!([at(6_000, &down, &mut memory), at(7_000, &down, &mut memory)], [0, 2]);
}

#[test]
fn the_hub_is_patient_unless_its_charon_has_just_started() {
    let every_second: Vec<u64> = (0..60).map(|s| s * 1_000).collect();
    assert_eq!(initiations(&every_second, &view(&[]), HUB), [30_000, 45_000]);
    let young = View { uptime: Duration::from_secs(29), ..view(&[]) };
    assert_eq!(initiations(&every_second[..3], &young, HUB), [1_000]);
    let grown = View { uptime: Duration::from_secs(30), ..view(&[]) };
    assert!(initiations(&every_second[..30], &grown, HUB).is_empty());
}

#[test]
fn a_childless_ike_sa_is_given_up_after_three_attempts() {
    let every_second: Vec<u64> = (0..70).map(|s| s * 1_000).collect();
    let done = looks(&every_second, &view(&[sa(9, "ESTABLISHED", &[])]), SPOKE);
    let ends: Vec<&String> = done.iter().filter(|d| d.contains("end ")).collect();
    assert_eq!(ends[0], "61000 end IKE_SA 9 of crosswan-vpc-0aaa1111: no child after 3 attempts");
    assert_eq!(done.iter().filter(|d| d.contains("initiate") && d.contains(" a ")).count(), 3);
    let late = looks(&[0, 1_000, 16_000, 46_000, 200_000], &view(&[sa(9, "ESTABLISHED", &[])]), SPOKE);
    assert_eq!(
        late.iter().filter(|d| d.starts_with("200000")).count(),
        1,
        "nothing is initiated on what is ended: {late:?}"
    );
    // Attempts that brought up one child, or made an IKE_SA of their own, do not count against it.
    let half = sa(9, "ESTABLISHED", &[("a", 1, "INSTALLED")]);
    assert!(!looks(&every_second, &view(&[half]), SPOKE).iter().any(|d| d.contains("end ")));
    let mut memory = Memory::default();
    for t in 0..60 {
        decide(t * 1_000, &view(&[]), &mut memory, SPOKE);
    }
    let fresh = decide(60_000, &view(&[sa(9, "ESTABLISHED", &[])]), &mut memory, SPOKE);
    assert!(!fresh.iter().any(|a| matches!(a, Action::TerminateIke { .. })), "{fresh:?}");
}

#[test]
fn a_childless_ike_sa_is_given_its_attempts_anew_after_a_child_and_no_end_while_it_moves() {
    let childless = || sa(9, "ESTABLISHED", &[]);
    let pending = Sa { child_pending: true, ..childless() };
    let cases = [
        ("still childless", childless(), 1),
        ("a child meanwhile", sa(9, "ESTABLISHED", &[("a", 1, "INSTALLED")]), 0),
        ("an exchange under way", pending, 0),
        ("on its way out", sa(9, "DELETING", &[]), 0),
    ];
    for (what, last, ends) in cases {
        let mut memory = Memory::default();
        let done: Vec<Action> = [0, 1_000, 16_000, 46_000]
            .into_iter()
            .flat_map(|t| decide(t, &view(&[childless()]), &mut memory, SPOKE))
            .collect();
        assert_eq!(done.len(), 6, "three times both children: {done:?}");
        let ended = |actions: Vec<Action>| actions.iter().filter(|a| matches!(a, Action::TerminateIke { .. })).count();
        assert_eq!(ended(decide(90_000, &view(std::slice::from_ref(&last)), &mut memory, SPOKE)), ends, "{what}");
        let after = usize::from(last.children.is_empty());
        assert_eq!(ended(decide(95_000, &view(&[childless()]), &mut memory, SPOKE)), after, "{what}, then childless");
    }
}

#[test]
fn a_duplicate_ike_sa_goes_after_an_interval_from_the_spoke_and_three_from_the_hub() {
    let both = [("a", 1, "INSTALLED"), ("b", 2, "INSTALLED")];
    let newer = [("a", 3, "INSTALLED"), ("b", 4, "INSTALLED")];
    let v = view(&[sa(1, "ESTABLISHED", &both), sa(2, "ESTABLISHED", &newer)]);
    let end = "end IKE_SA 1 of crosswan-vpc-0aaa1111: duplicate of 2";
    assert_eq!(looks(&[0, INTERVAL - 1, INTERVAL], &v, SPOKE), [format!("{INTERVAL} {end}")]);
    assert_eq!(looks(&[0, INTERVAL, 3 * INTERVAL - 1, 3 * INTERVAL], &v, HUB), [format!("{} {end}", 3 * INTERVAL)]);
}

#[test]
fn of_two_ike_sas_the_one_that_carries_stays() {
    let a = |id| [("a", id, "INSTALLED"), ("b", id + 1, "INSTALLED")];
    let cases: [(&str, [Sa; 2], &[u32]); 6] = [
        ("newer children on the older", [sa(1, "ESTABLISHED", &a(5)), sa(2, "ESTABLISHED", &a(3))], &[2]),
        ("the newer is childless", [sa(1, "ESTABLISHED", &a(1)), sa(2, "ESTABLISHED", &[])], &[2]),
        ("both childless", [sa(1, "ESTABLISHED", &[]), sa(2, "ESTABLISHED", &[])], &[1]),
        (
            "each carries something of its own",
            [sa(1, "ESTABLISHED", &[("a", 1, "INSTALLED")]), sa(2, "ESTABLISHED", &[("b", 2, "INSTALLED")])],
            &[],
        ),
        ("one is being rekeyed", [sa(1, "REKEYED", &a(1)), sa(2, "ESTABLISHED", &a(3))], &[]),
        ("one is on its way out", [sa(1, "DELETING", &a(1)), sa(2, "ESTABLISHED", &a(3))], &[]),
    ];
    for (what, sas, ended) in cases {
        let mut memory = Memory::default();
        decide(0, &view(&sas), &mut memory, SPOKE);
        let done = decide(INTERVAL, &view(&sas), &mut memory, SPOKE);
        let ids: Vec<u32> = done
            .iter()
            .filter_map(|a| if let Action::TerminateIke { id, .. } = a { Some(*id) } else { None })
            .collect();
        assert_eq!(ids, ended, "{what}: {done:?}");
    }
}

#[test]
fn of_two_child_sas_the_newer_stays_but_not_during_a_rekey() {
    let two = |old, new| view(&[sa(1, "ESTABLISHED", &[("a", 4, old), ("a", 7, new), ("b", 5, "INSTALLED")])]);
    let v = two("INSTALLED", "INSTALLED");
    assert_eq!(
        looks(&[0, INTERVAL - 1, INTERVAL], &v, SPOKE),
        ["15000 end CHILD_SA 4 of crosswan-vpc-0aaa1111 a: duplicate of 7"]
    );
    assert!(looks(&[0, 3 * INTERVAL - 1], &v, HUB).is_empty());
    for (old, new) in [("REKEYED", "INSTALLED"), ("REKEYING", "INSTALLED"), ("INSTALLED", "INSTALLING")] {
        assert!(looks(&[0, INTERVAL, 9 * INTERVAL], &two(old, new), SPOKE).is_empty(), "{old} {new}");
    }
}

#[test]
fn a_duplicate_that_went_away_meanwhile_starts_anew() {
    let up = |id, child| sa(id, "ESTABLISHED", &[("a", child, "INSTALLED"), ("b", child + 1, "INSTALLED")]);
    let (one, two) = (view(&[up(1, 1)]), view(&[up(1, 1), up(2, 3)]));
    let mut memory = Memory::default();
    for (t, v, ends) in [(0, &two, 0), (INTERVAL / 2, &one, 0), (INTERVAL, &two, 0), (2 * INTERVAL, &two, 1)] {
        assert_eq!(decide(t, v, &mut memory, SPOKE).len(), ends, "at {t}");
    }
}

#[test]
fn a_look_initiates_256_at_most_the_least_tried_first() {
    let name = |n: usize| format!("crosswan-vpc-{n:08x}");
    let mut v = view(&[]);
    v.conns = (0..300).map(|n| (name(n), conn(&[("a", "tunnel")]))).collect();
    let mut memory = Memory::default();
    decide(0, &v, &mut memory, SPOKE);
    let first = decide(1_000, &v, &mut memory, SPOKE);
    assert_eq!(first.len(), 256);
    assert!(memory.unsure(), "there is more: do not wait a whole interval");
    let second = decide(2_000, &v, &mut memory, SPOKE);
    assert_eq!(second.len(), 44, "the others, and nobody twice");
    assert!(!memory.unsure());
    v.conns.insert(name(999), conn(&[("a", "tunnel")]));
    decide(30_000, &v, &mut memory, SPOKE);
    let third = decide(60_000, &v, &mut memory, SPOKE);
    assert!(third[0].conn() == name(999), "the newcomer waits behind nobody: {:?}", third[0]);
}

#[test]
fn a_pass_is_wanted_for_what_stays_missing_less_and_less_often() {
    let mut memory = Memory::default();
    let (down, up) = (view(&[]), view(&[sa(1, "ESTABLISHED", &[("a", 1, "INSTALLED"), ("b", 2, "INSTALLED")])]));
    let mut wanted = Vec::new();
    for s in 0..10_000 {
        decide(s * 1_000, &down, &mut memory, SPOKE);
        wanted.extend(memory.take_wanted(s * 1_000, 120_000).map(|(conn, missing)| (conn, missing / 1_000)));
    }
    assert_eq!(wanted, [120, 240, 480, 960, 1_920].map(|s| (CONN.to_owned(), s)), "once for both children");
    // Up again ends it; the next time starts from the beginning.
    decide(10_000_000, &up, &mut memory, SPOKE);
    decide(10_001_000, &down, &mut memory, SPOKE);
    assert_eq!(memory.take_wanted(10_120_000, 120_000), None);
    assert_eq!(memory.take_wanted(10_121_000, 120_000), Some((CONN.to_owned(), 120_000)));
}

#[test]
fn coming_and_going_is_told_once() {
    let mut memory = Memory::default();
    let (down, up) = (view(&[]), view(&[sa(1, "ESTABLISHED", &[("a", 1, "INSTALLED"), ("b", 2, "INSTALLED")])]));
    let mut reported = Vec::new();
    for (t, v) in [(0, &up), (1_000, &down), (2_000, &down), (4_500, &up), (5_000, &up)] {
        decide(t, v, &mut memory, SPOKE);
        reported.extend(
            memory
                .take_transitions()
                .into_iter()
                .filter(|c| c.child == "a")
                .map(|c| format!("{t} {c}, {}", c.attempts)),
        );
    }
    assert_eq!(
        reported,
        [
            "1000 crosswan-vpc-0aaa1111 a is down, 0",
            "4500 crosswan-vpc-0aaa1111 a is up, 3.5 s after it was seen missing, 1"
        ]
    );
    assert_eq!(memory.to_string(), "2 of 2 tunnels up");
    decide(6_000, &View::default(), &mut memory, SPOKE);
    assert!(memory.take_transitions().is_empty(), "what is no longer configured is not down");
    assert_eq!(memory.to_string(), "0 of 0 tunnels up");
}

const VPC: &str = "crosswan-vpc-0aaa1111-i-0bbb2222";

/// A charon that has been up for an hour and has these connections without children loaded.
fn proofs(names: &[&str], sas: &[(&str, bool)]) -> View {
    let conns = names.iter().map(|name| ((*name).to_owned(), Summary::default())).collect();
    let sa = |(n, (conn, initiator)): (usize, &(&str, bool))| Sa {
        conn: (*conn).into(),
        id: n as u32 + 1,
        state: "ESTABLISHED".into(),
        initiator: *initiator,
        ..Sa::default()
    };
    View { uptime: Duration::from_secs(3600), conns, sas: sas.iter().enumerate().map(sa).collect(), ..View::default() }
}

/// The spoke shows that it works, as with any tunnel, and the hub waits; the proof of a next key is its holder's.
#[test]
fn who_makes_a_proof() {
    let hub = "crosswan-hub-198-51-100-1-i-0bbb2222";
    let (own, peer) = (format!("{VPC}-own-next"), format!("{VPC}-peer-next"));
    for (name, pace, first) in [
        (hub, SPOKE, Some(500)),
        (VPC, HUB, Some(30_000)),
        (&own, HUB, Some(500)),
        (&own, SPOKE, Some(500)),
        (&peer, HUB, None),
        (&peer, SPOKE, None),
    ] {
        let made = looks(&[0, 499, 500, 29_999, 30_000], &proofs(&[name], &[]), pace);
        let expected = first.map(|at| format!("{at} initiate {name} without a child (attempt 1)"));
        assert_eq!(made.first(), expected.as_ref(), "{name}");
        assert_eq!(looks(&[0, 500, 30_000], &proofs(&[name], &[(name, true)]), pace), [""; 0], "{name} stands");
    }
    // An IKE_SA that the peer has initiated is no consent to the own key, and is left alone.
    let stands = proofs(&[&own], &[(&own, false)]);
    assert_eq!(looks(&[0, 500], &stands, HUB), [format!("500 initiate {own} without a child (attempt 1)")]);
    assert_eq!(looks(&[0, 500, 1_000, 15_500], &proofs(&[hub], &[]), SPOKE).len(), 2, "with a pause that doubles");
}

/// Of two hubs whose tunnels both were down, the one in use may be the other: only a pass can tell, and move the routes.
#[test]
fn a_pass_is_wanted_for_a_hub_that_comes_back_while_the_other_is_down() {
    let hubs = ["crosswan-hub-198-51-100-1", "crosswan-hub-198-51-100-2"];
    let view = |up: &[usize]| {
        let sa =
            |n: &usize| Sa { conn: hubs[*n].into(), ..sa(*n as u32, "ESTABLISHED", &[("a", *n as u32, "INSTALLED")]) };
        let conns = hubs.map(|hub| (hub.to_owned(), conn(&[("a", "tunnel")]))).into();
        View { conns, ..super::tests::view(&up.iter().map(sa).collect::<Vec<_>>()) }
    };
    let mut memory = Memory::default();
    let mut wanted = |up: &[usize]| {
        decide(0, &view(up), &mut memory, SPOKE);
        memory.take_proven()
    };
    assert_eq!(wanted(&[0, 1]).as_deref(), Some(hubs[0]), "both at once are one pass");
    for (up, proven) in [
        (&[0, 1][..], None),
        (&[1], None),
        (&[0, 1], None),
        (&[1], None),
        (&[], None),
        (&[1], Some(hubs[1])),
        (&[1], None),
        (&[0, 1], None),
        (&[], None),
        (&[0, 1], None),
    ] {
        assert_eq!(wanted(up).as_deref(), proven, "{up:?}");
    }
}

/// A pass is wanted once for each gateway that has authenticated, and for a next key when every peer has accepted it.
#[test]
fn a_pass_is_wanted_for_what_was_proved() {
    let (own, other) = (format!("{VPC}-own-next"), "crosswan-vpc-0aaa3333-i-0bbb4444-own-next");
    let wanted = |memory: &mut Memory, view: &View| {
        decide(0, view, memory, HUB);
        memory.take_proven()
    };
    let mut memory = Memory::default();
    assert_eq!(wanted(&mut memory, &proofs(&[VPC, &own, other], &[])), None);
    let some = [(VPC, false), (own.as_str(), true)];
    assert_eq!(wanted(&mut memory, &proofs(&[VPC, &own, other], &some)).as_deref(), Some(VPC));
    assert_eq!(wanted(&mut memory, &proofs(&[VPC, &own, other], &some)), None, "once, and not for half of the peers");
    let all = [some[0], some[1], (other, true)];
    assert!(wanted(&mut memory, &proofs(&[VPC, &own, other], &all)).is_some_and(|conn| conn.ends_with("-own-next")));
    assert_eq!(wanted(&mut memory, &proofs(&[VPC, &own, other], &all)), None);
    // The peer's own matter.
    let peer = format!("{VPC}-peer-next");
    assert_eq!(wanted(&mut memory, &proofs(&[&peer], &[(&peer, false)])), None);
    // An IKE_SA without a child is no lost tunnel: nothing is missing for it.
    assert!(memory.to_string().starts_with("0 of 0"), "{memory}");
}

/// The hub leaves a missing peer to the peer for half a minute, and has done so: the peer's back-off may be minutes by now.
#[test]
fn a_replaced_gateway_is_initiated_at_once_when_the_one_before_it_was_missing_for_long() {
    let loaded = |instance: &str| {
        let conns = [(format!("crosswan-vpc-0aaa1111-i-{instance}"), conn(&[("a", "tunnel")]))].into();
        View { conns, ..view(&[]) }
    };
    let mut memory = Memory::default();
    let mut look = |at, view: &View| -> Vec<String> {
        decide(at, view, &mut memory, HUB).iter().map(|action| format!("{at} {action}")).collect()
    };
    assert!(look(0, &loaded("0bbb2222")).is_empty());
    assert_eq!(look(30_000, &loaded("0bbb2222")), ["30000 initiate crosswan-vpc-0aaa1111-i-0bbb2222 a (attempt 1)"]);
    assert_eq!(look(40_000, &loaded("0ccc3333")), ["40000 initiate crosswan-vpc-0aaa1111-i-0ccc3333 a (attempt 1)"]);
    // One that comes without such a history is the peer's to initiate.
    let other =
        View { conns: [("crosswan-vpc-0ddd4444-i-0eee5555".to_owned(), conn(&[("a", "tunnel")]))].into(), ..view(&[]) };
    assert_eq!(look(41_000, &other), [""; 0]);
}

/// A second gateway of a VPC takes over in a pass, which `keep` asks for when its tunnel has come up.
#[test]
fn a_pass_is_wanted_once_a_second_gateways_tunnel_is_up() {
    let (first, second) = ("crosswan-vpc-0aaa1111-i-0bbb2222", "crosswan-vpc-0aaa1111-i-0ccc3333");
    let other = "crosswan-vpc-0ddd4444-i-0eee5555";
    let mut memory = Memory::default();
    let mut look = |loaded: &[&str], up: &[&str]| {
        let conns = loaded.iter().map(|name| ((*name).to_owned(), conn(&[("a", "tunnel")]))).collect();
        let sas = up.iter().map(|conn| Sa { conn: (*conn).into(), ..sa(1, "ESTABLISHED", &[("a", 1, "INSTALLED")]) });
        decide(0, &View { conns, sas: sas.collect(), ..view(&[]) }, &mut memory, HUB);
        memory.take_proven()
    };
    // The one in use was up before the other came, which is up at the first look that sees it.
    assert_eq!(look(&[first, other], &[first, other]), None);
    assert_eq!(look(&[first, second, other], &[first, second, other]).as_deref(), Some(second));
    assert_eq!(look(&[other], &[other]), None, "both are gone");
    let mut wanted = |up: &[&str]| look(&[first, second, other], up);
    assert_eq!(wanted(&[other]), None, "the only gateway of its VPC");
    assert_eq!(wanted(&[first, other]).as_deref(), Some(first), "it may have been the newcomer");
    assert_eq!(wanted(&[first, second, other]).as_deref(), Some(second));
    assert_eq!(wanted(&[first, other]), None);
    assert_eq!(wanted(&[first, second, other]), None, "once");
}

#[test]
fn a_hub_does_not_leave_a_peer_that_has_just_knocked_to_it() {
    let expected = View { expected: [CONN.to_owned()].into(), ..view(&[]) };
    assert_eq!(initiations(&[0, 1_000], &expected, HUB), [0], "at the first look, and then at its pace");
    assert!(initiations(&[0, 1_000], &view(&[]), HUB).is_empty());
    assert!(
        initiations(&[0, 1_000], &View { expected: ["crosswan-vpc-0bbb2222".into()].into(), ..view(&[]) }, HUB)
            .is_empty()
    );
}

#[test]
fn of_two_hubs_one_begins_the_tunnel_between_them_and_both_begin_none_at_once() {
    let name = "crosswan-across-i-0aaa1111";
    let mut view = View { conns: [(name.to_owned(), conn(&[("b", "tunnel")]))].into(), ..view(&[]) };
    let mut times = |ids: [&str; 2]| {
        let summary = view.conns.get_mut(name).unwrap();
        [summary.local_id, summary.remote_id] = ids.map(|id| Some(id.to_owned()));
        initiations(&[0, 500, 29_999, 30_000], &view, HUB)
    };
    assert_eq!(times(["member-vpc-1/i-1", "member-vpc-1/i-2"])[0], 500);
    assert_eq!(times(["member-vpc-1/i-2", "member-vpc-1/i-1"]), [30_000]);
}
