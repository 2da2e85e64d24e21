//! Safety rule 4: what works is replaced only by what has worked.

use super::*;

const A: u32 = 1;

/// Gateway `n` of VPC 1, launched at `n`, at an address of its own, with a key of its own.
fn of_a(n: u32) -> Gateway {
    let other = gateway(n, &["10.1.0.0/16"]);
    with_key(Gateway { vpc: vpc(A), ..other }, n as u8, None)
}

fn to_of_a(n: u32) -> ConnName {
    ConnName::to_gateway(&vpc(A), &of_a(n).instance)
}

/// A pass of the hub in which EC2 shows `shown`, and charon has the IKE_SAs `sas`: a gateway, and whether it has a child.
fn hub(before: Option<Decided>, shown: &[Gateway], sas: &[(u32, bool)]) -> Decided {
    at(1000, before, answered(shown), sas)
}

fn at(now: i64, before: Option<Decided>, answers: Answers, sas: &[(u32, bool)]) -> Decided {
    let names: Vec<(ConnName, bool)> = sas.iter().map(|(n, carries)| (to_of_a(*n), *carries)).collect();
    let sas = super::sas(&names.iter().map(|(name, carries)| (name, *carries)).collect::<Vec<_>>());
    // The clock of a pass is fixed: what was noted before is older instead.
    let places = before.as_ref().map(places).unwrap_or_default();
    let mut state = before.map(|d| d.state).unwrap_or_default();
    for peer in state.peers.values_mut() {
        let before = |at: Timestamp| Timestamp(at.0 - (now - 1000));
        peer.down_since = peer.down_since.map(before);
        peer.idle_since.values_mut().for_each(|at| *at = before(*at));
    }
    let none = Psk { secret: None, problem: Some("there is no pre-shared key for it".into()) };
    Pass { answers, state, own: own(), sas, places, psk: none.clone(), ..Pass::default() }.run()
}

/// The places that the file of connections records.
fn places(d: &Decided) -> BTreeMap<ConnName, Place> {
    let tunnels = d.tunnels.iter().filter(|(_, tunnel)| !tunnel.children.is_empty());
    tunnels.map(|(name, tunnel)| (name.clone(), tunnel.place)).collect()
}

/// The gateways to whose place the VPC's route leads, and those that are loaded beside it, with or without a child.
fn loaded(d: &Decided) -> (Vec<u32>, Vec<u32>) {
    let number = |tunnel: &Tunnel| u32::from(tunnel.remote_addr.octets()[3]);
    let places: Vec<Place> = d.routing.routes.values().map(|via| via.place).collect();
    let used = |tunnel: &&Tunnel| !tunnel.children.is_empty() && places.contains(&tunnel.place);
    let (used, beside): (Vec<_>, Vec<_>) = d.tunnels.values().partition(used);
    (used.into_iter().map(number).collect(), beside.into_iter().map(number).collect())
}

#[test]
fn a_newcomer_that_has_never_worked_takes_nothing() {
    let d = hub(None, &[of_a(1)], &[]);
    assert_eq!(loaded(&d), (vec![1], vec![]));
    // No key, no agent: only an instance with the tag and a public address.
    let bare = Gateway { tags: KeyTags::default(), ..of_a(2) };
    let mut d = hub(Some(d), &[of_a(1), bare.clone()], &[(1, true)]);
    for _ in 0..3 {
        assert_eq!(loaded(&d), (vec![1], vec![]));
        let replacing = &d.findings.replacing[0];
        assert_eq!((&replacing.old, &replacing.new), (&of_a(1).instance, &of_a(2).instance));
        d = hub(Some(d), &[of_a(1), bare.clone()], &[(1, true)]);
    }
    // With a key, but it does not answer: its tunnel is loaded at the other place, and no route leads there.
    let mut d = hub(Some(d), &[of_a(1), of_a(2)], &[(1, true)]);
    for _ in 0..3 {
        assert_eq!(loaded(&d), (vec![1], vec![2]));
        assert!(d.findings.replacing[0].why.contains("is not up yet"), "{:?}", d.findings.replacing);
        d = hub(Some(d), &[of_a(1), of_a(2)], &[(1, true)]);
    }
    let proof = &d.tunnels[&to_of_a(2)];
    assert_eq!(proof.remote_id, IkeId::Spoke(vpc(A), of_a(2).instance));
    assert_eq!(proof.auth, Auth::Key { own: key(0xff), peer: vec![key(2)] }, "no key goes with another's address");
}

#[test]
fn a_newcomer_whose_tunnel_is_up_takes_over_and_the_loser_never_takes_back_while_it_works() {
    let d = hub(None, &[of_a(1)], &[]);
    let d = hub(Some(d), &[of_a(1), of_a(2)], &[(1, true)]);
    let d = hub(Some(d), &[of_a(1), of_a(2)], &[(1, true), (2, false)]);
    assert_eq!(loaded(&d), (vec![1], vec![2]), "to have authenticated is not enough");
    let d = hub(Some(d), &[of_a(1), of_a(2)], &[(1, true), (2, true)]);
    assert_eq!(loaded(&d), (vec![2], vec![1]));
    assert_eq!(d.tunnels[&to_of_a(1)].children, d.tunnels[&to_of_a(2)].children, "the old one stays up");
    assert!(
        d.findings.replacing.is_empty() && reasons(&d)[0].contains("stands by"),
        "{:?} {:?}",
        d.findings.replacing,
        reasons(&d)
    );
    // Stopped and started: now it is the younger one.
    let restarted = Gateway { launched: Timestamp(500), ..of_a(1) };
    let mut d = d;
    for _ in 0..3 {
        d = hub(Some(d), &[restarted.clone(), of_a(2)], &[(1, true), (2, true)]);
        assert_eq!(loaded(&d), (vec![2], vec![1]));
    }
    // One look without the tunnel is no reason; a minute without it is, if the other one works.
    let down = hub(Some(d), &[restarted.clone(), of_a(2)], &[(1, true)]);
    assert_eq!(loaded(&down), (vec![2], vec![1]));
    let nobody = at(1100, Some(down.clone()), answered(&[restarted.clone(), of_a(2)]), &[]);
    assert_eq!(loaded(&nobody), (vec![2], vec![1]), "nobody works: nothing changes");
    let back = at(1100, Some(down.clone()), answered(&[restarted.clone(), of_a(2)]), &[(1, true)]);
    assert_eq!(loaded(&back), (vec![1], vec![2]));
    // And now the other one is the loser, though it is the younger of the two by its number.
    let d = hub(Some(back), &[restarted, of_a(2)], &[(1, true), (2, true)]);
    assert_eq!(loaded(&d), (vec![1], vec![2]));
}

#[test]
fn one_that_is_gone_is_followed_at_once() {
    let d = || hub(None, &[of_a(1)], &[]);
    let region: Region = "eu-west-1".parse().unwrap();
    // EC2 says that it does not run, though its tunnel has not noticed yet.
    let stopped = [of_a(1).instance].into();
    let view = RegionView { gateways: vec![of_a(2)], stopped, ..RegionView::default() };
    let by_ec2 = at(1000, Some(d()), [(region.clone().into(), Ok(view))].into(), &[(1, true)]);
    assert_eq!(loaded(&by_ec2), (vec![2], vec![]));
    // It is missing from the answer, and its tunnel is dead.
    assert_eq!(loaded(&hub(Some(d()), &[of_a(2)], &[])), (vec![2], vec![]));
    // It is missing, and its tunnel carries: that counts as any miss, and the other one waits beside it.
    let missed = hub(Some(d()), &[of_a(2)], &[(1, true)]);
    assert_eq!(loaded(&missed), (vec![1], vec![2]));
    assert_eq!(missed.findings.kept[0].why, "not seen: poll 1 of 2");
    assert_eq!(loaded(&hub(Some(missed), &[of_a(2)], &[(1, true)])), (vec![2], vec![]));
    // Its address belongs to another instance now.
    let moved = Gateway { public: of_a(1).public, ..of_a(2) };
    let d = hub(Some(d()), &[moved], &[(1, true)]);
    assert_eq!(d.state.peers[&vpc(A)].gateway.instance, of_a(2).instance);
}

#[test]
fn charon_that_was_not_asked_replaces_nobody() {
    let d = hub(None, &[of_a(1)], &[]);
    let none = Psk::default();
    let d =
        Pass { answers: answered(&[of_a(2)]), state: d.state, own: own(), psk: none.clone(), ..Pass::default() }.run();
    assert_eq!(loaded(&d), (vec![1], vec![2]));
    let d = Pass { answers: failed(), state: d.state, own: own(), psk: none.clone(), ..Pass::default() }.run();
    assert_eq!(loaded(&d), (vec![1], vec![2]), "the newcomer of the last good answer stays, too");
}

#[test]
fn of_two_that_are_new_the_one_that_can_be_reached_is_used() {
    let bare = Gateway { tags: KeyTags::default(), ..of_a(2) };
    assert_eq!(loaded(&hub(None, &[of_a(1), bare], &[])), (vec![1], vec![]));
    assert_eq!(loaded(&hub(None, &[of_a(1), of_a(2)], &[])), (vec![2], vec![1]), "the youngest, else");
    assert_eq!(loaded(&hub(None, &[of_a(1), of_a(2)], &[(1, false)])), (vec![1], vec![2]), "who has worked");
}

/// With pre-shared keys there is no announcement: whoever has the key has to show it.
#[test]
fn with_pre_shared_keys_a_newcomer_has_to_work_too() {
    let toml = HUB.replace("[removal]", "[auth]\nmethod = \"psk\"\n[removal]");
    let bare = |n| Gateway { tags: KeyTags::default(), ..of_a(n) };
    let run = |state, shown: &[Gateway], sas: &[(&ConnName, bool)]| {
        Pass { toml: &toml, answers: answered(shown), state, sas: super::sas(sas), ..Pass::default() }.run()
    };
    let (one, two) = (to_of_a(1), to_of_a(2));
    let d = run(State::default(), &[bare(1)], &[]);
    let d = run(d.state, &[bare(1), bare(2)], &[(&one, true)]);
    assert_eq!(loaded(&d), (vec![1], vec![2]));
    let d = run(d.state, &[bare(1), bare(2)], &[(&one, true), (&two, true)]);
    assert_eq!(loaded(&d), (vec![2], vec![1]));
}

/// The same at the other end: a second instance with the hub's tag. Only when it is old enough for all spokes to have a tunnel to it do
/// they move, because one that moved before would not reach the others.
#[test]
fn a_second_hub_takes_no_spoke_before_it_has_worked_and_all_know_it() {
    let toml = "mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\"]\n";
    let run = |state, shown: &[Gateway], sas: &[(&ConnName, bool)]| {
        let sas = super::sas(sas);
        Pass { toml, answers: answered(shown), state, own: own(), sas, ..Pass::default() }.run()
    };
    let name = |n| ConnName::to_hub(of_a(n).public.unwrap(), Some(&of_a(n).instance));
    let (one, two) = (name(1), name(2));
    let aged = |n, minutes: i64| Gateway { launched: Timestamp(1000 - minutes * 60), ..of_a(n) };
    let (old, new) = (aged(1, 300), aged(2, 74));
    let d = run(State::default(), &[old.clone(), new.clone()], &[]);
    assert_eq!(loaded(&d), (vec![1], vec![2]), "a spoke that knows neither goes where the others are");
    let d = run(d.state, &[old.clone(), new.clone()], &[(&one, true)]);
    assert_eq!(loaded(&d), (vec![1], vec![2]));
    assert_eq!(d.tunnels[&two].remote_id, IkeId::Hub(of_a(2).public.unwrap()));
    let d = run(d.state, &[old.clone(), new.clone()], &[(&one, true), (&two, true)]);
    assert_eq!(loaded(&d), (vec![1], vec![2]));
    assert!(d.findings.replacing[0].why.contains("takes over 75 minutes after its launch"), "{:?}", d.findings);
    let gone = run(d.state.clone(), &[new], &[(&two, true)]);
    assert_eq!(loaded(&gone), (vec![2], vec![]), "the old one is gone");
    let d = run(d.state, &[old, aged(2, 75)], &[(&one, true), (&two, true)]);
    assert_eq!(loaded(&d), (vec![2], vec![1]));
    // One in another VPC stays refused, however well it works.
    let elsewhere = with_key(Gateway { vpc: vpc(9), ..gateway(9, &[]) }, 9, None);
    let d = run(d.state, &[aged(2, 75), elsewhere], &[(&two, true), (&name(9), false)]);
    assert_eq!(loaded(&d), (vec![2], vec![]));
}

/// The proof of a next key belongs to the peer and to the key; without it nothing is promoted.
#[test]
fn the_next_key_is_used_when_every_peer_has_accepted_it() {
    let holder = me();
    let holder = crate::model::Holder { vpc: &holder.vpc, instance: &holder.instance };
    let (current, next) = (key_pair(0xff), key_pair(0xfe));
    let next_keys = (next.proven(&holder).unwrap(), current.succeeded_by(&next, &holder).unwrap());
    let rotating = Some(OwnKeys { next: Some(next_keys), ..own().unwrap() });
    let fleet = [announcing(1, &[1]), announcing(2, &[2])];
    let id = IkeId::Hub(me().public.unwrap()).next(next.public);
    let run = |state, proved: &[(u32, bool)]| {
        let sa = |(n, initiator): &(u32, bool)| Sa {
            conn: to(*n).own_next().to_string(),
            state: "ESTABLISHED".into(),
            local_id: id.to_string(),
            initiator: *initiator,
            ..Sa::default()
        };
        let sas = Some(proved.iter().map(sa).collect());
        Pass { answers: answered(&fleet), state, own: rotating, sas, ..Pass::default() }.run()
    };
    let d = run(State::default(), &[]);
    let presence = d.presence.as_ref().unwrap();
    assert_eq!((presence.sign, presence.promote, presence.waiting.len()), (current.public, false, 2));
    assert_eq!(presence.announce.next, Some(next_keys.1));
    let proof = &d.tunnels[&to(1).own_next()];
    assert_eq!((&proof.local_id, proof.children.len()), (&id, 0));
    assert_eq!(proof.auth, Auth::Key { own: next.public, peer: vec![key(1)] });
    // An IKE_SA that the peer has initiated proves nothing: it may be about to refuse the key.
    let d = run(d.state, &[(1, true), (2, false)]);
    assert_eq!(d.presence.as_ref().unwrap().waiting, ["vpc-00000002".to_owned()].into());
    // What was proved is remembered.
    let d = run(d.state, &[(2, true)]);
    let presence = d.presence.as_ref().unwrap();
    assert!(presence.promote && presence.sign == next.public && presence.announce.key.key == next.public);
    assert!(d.tunnels.keys().all(|name| !name.is_own_proof()), "no proof is left");
}

/// A VPC has two places. A third gateway shows that it works without one, and gets that of the one that is gone or has been down.
#[test]
fn a_third_gateway_waits_without_a_place_until_one_of_the_two_that_have_theirs_is_gone_or_down() {
    let all = || [of_a(1), of_a(2), of_a(3)];
    let place = |d: &Decided, n| d.tunnels.get(&to_of_a(n)).filter(|t| !t.children.is_empty()).map(|t| t.place);
    let (one, two) = (Some(Place::One), Some(Place::Two));
    let waits = || {
        let d = hub(None, &[of_a(1)], &[]);
        let d = hub(Some(d), &all()[..2], &[(1, true)]);
        let d = hub(Some(d), &all()[..2], &[(1, true), (2, true)]);
        assert_eq!((place(&d, 1), place(&d, 2)), (one, two));
        let mut d = hub(Some(d), &all(), &[(1, true), (2, true)]);
        for _ in 0..3 {
            assert_eq!([1, 2, 3].map(|n| place(&d, n)), [one, two, None]);
            assert_eq!(d.tunnels[&to_of_a(3)].children.len(), 0, "it can show that it works");
            d = hub(Some(d), &all(), &[(1, true), (2, true), (3, false)]);
        }
        assert!(d.findings.replacing[0].why.contains("it has authenticated, and gets a tunnel when"));
        d
    };
    // Gone: the newcomer has its place, and then the route.
    let d = hub(Some(waits()), &all()[1..], &[(1, true), (2, true), (3, false)]);
    assert_eq!([2, 3].map(|n| place(&d, n)), [two, one]);
    assert_eq!(loaded(&d).0, [2], "it has a place, and the route is still another's");
    let d = hub(Some(d), &all()[1..], &[(2, true), (3, true)]);
    assert_eq!(loaded(&d).0, [3]);
    // It is back, and is told from the one that has the other tunnel.
    let [back, again] = [&[][..], &[(1, false)]].map(|first| {
        let mut reasons = reasons(&hub(Some(d.clone()), &all(), &[&[(2, true), (3, true)], first].concat()));
        reasons.sort();
        reasons
    });
    let stands_by = |n| {
        let (one, used) = (of_a(n).instance, of_a(3).instance);
        format!("{} (eu-west-1): {one} stands by: {used} in the same VPC is in use", vpc(A))
    };
    assert_eq!(
        back,
        [format!("{}; it is loaded without a tunnel, and has not authenticated yet", stands_by(1)), stands_by(2)]
    );
    assert!(again[0].contains("; it has authenticated, and gets a tunnel when"), "{again:?}");

    // A restart of its charon costs nobody its place, and a minute without a tunnel does, if the newcomer has authenticated.
    let down =
        |d: Decided, now, third: &[(u32, bool)]| at(now, Some(d), answered(&all()), &[&[(2, true)], third].concat());
    let d = down(waits(), 1000, &[(3, false)]);
    assert_eq!([1, 2, 3].map(|n| place(&d, n)), [one, two, None]);
    let back = hub(Some(d.clone()), &all(), &[(1, true), (2, true), (3, false)]);
    let again = down(back, 1100, &[(3, false)]);
    assert_eq!([1, 2, 3].map(|n| place(&again, n)), [one, two, None], "it was up meanwhile");
    assert_eq!([1, 2, 3].map(|n| place(&down(d.clone(), 1100, &[]), n)), [one, two, None], "nobody else works");
    assert_eq!([1, 2, 3].map(|n| place(&down(d.clone(), 1100, &[(3, false)]), n)), [None, two, one]);
}

/// The heir of one that has made way has its place as soon as it has shown that it works, and not before.
#[test]
fn one_that_has_made_way_keeps_its_place_until_its_heir_has_authenticated() {
    let place = |d: &Decided, n| d.tunnels.get(&to_of_a(n)).filter(|t| !t.children.is_empty()).map(|t| t.place);
    let signed_by = |key: u8, heir: &str| {
        let one = of_a(1);
        let holder = crate::model::Holder { vpc: &one.vpc, instance: &one.instance };
        let left = key_pair(key).makes_way(heir.parse().unwrap(), &holder).unwrap().to_string();
        let tags = one.tags.clone().with_claims(Some(&left), None);
        [Gateway { tags, ..one }, of_a(2), of_a(3)]
    };
    let left = |heir| signed_by(1, heir);
    let d = hub(None, &[of_a(2)], &[]);
    let d = hub(Some(d), &[of_a(1), of_a(2)], &[(2, true)]);
    let d = hub(Some(d), &[of_a(1), of_a(2)], &[(1, true), (2, true)]);
    assert_eq!(loaded(&d).0, [2]);
    let before = [1, 2].map(|n| place(&d, n));
    let of = |gateways: &[Gateway], third: &[(u32, bool)]| {
        let d = hub(Some(d.clone()), gateways, &[&[(1, true), (2, true)], third].concat());
        [1, 2, 3].map(|n| place(&d, n))
    };
    let stays = [before[0], before[1], None];
    assert_eq!(of(&[of_a(1), of_a(2), of_a(3)], &[(3, false)]), stays, "nobody has made way");
    assert_eq!(of(&left("i-00000003"), &[]), stays, "the heir has shown nothing");
    assert_eq!(of(&left("i-00000009"), &[(3, false)]), stays, "the heir is gone");
    assert_eq!(of(&left("i-00000001"), &[(3, false)]), stays);
    assert_eq!(of(&signed_by(3, "i-00000003"), &[(3, false)]), stays, "its heir says so, and not itself");
    assert_eq!(of(&left("i-00000003"), &[(3, false)]), [None, before[1], before[0]]);
}

/// A gateway keeps its place as long as it has a tunnel: by its live CHILD_SA, else by the file of connections.
#[test]
fn places_come_from_live_tunnels_then_from_the_file_and_a_newcomer_takes_the_free_one() {
    let none = Psk { secret: None, problem: Some("there is no pre-shared key for it".into()) };
    let run = |places: &[(u32, Place)], live: Option<(u32, Place)>| {
        let places = places.iter().map(|(n, place)| (to_of_a(*n), *place)).collect();
        let mut sas = super::sas(&[(&to_of_a(1), true)]).unwrap();
        if let Some((n, place)) = live {
            (sas[0].conn, sas[0].children[0].if_id) = (to_of_a(n).to_string(), Some(place.if_id()));
        }
        let sas = Some(sas);
        Pass { answers: answered(&[of_a(1)]), own: own(), psk: none.clone(), sas, places, ..Pass::default() }.run()
    };
    let place = |d: &Decided| d.tunnels[&to_of_a(1)].place;
    assert_eq!(place(&run(&[], None)), Place::One);
    assert_eq!(place(&run(&[(1, Place::Two)], None)), Place::Two);
    assert_eq!(place(&run(&[(1, Place::Two)], Some((1, Place::One)))), Place::One, "a live tunnel is the truth");
    assert_eq!(place(&run(&[(9, Place::One)], None)), Place::Two, "another gateway of the VPC is on its way out");
    assert_eq!(place(&run(&[(8, Place::Two), (9, Place::One)], None)), Place::One);
}

/// A route moves only to a tunnel that carries everything the one in use carries.
#[test]
fn a_newcomer_with_half_of_the_children_takes_nothing() {
    let two = |n| Gateway { cidrs: nets(&["10.1.0.0/16", "10.101.0.0/16"]), ..of_a(n) };
    let none = Psk { secret: None, problem: Some("there is no pre-shared key for it".into()) };
    let run = |before: Option<Decided>, up: &[(u32, &[&str])]| {
        let sa = |(n, children): &(u32, &[&str])| Sa {
            conn: to_of_a(*n).to_string(),
            state: "ESTABLISHED".into(),
            children: (children.iter())
                .map(|name| ChildSa { name: (*name).into(), state: "INSTALLED".into(), ..ChildSa::default() })
                .collect(),
            ..Sa::default()
        };
        let (sas, places) = (Some(up.iter().map(sa).collect()), before.as_ref().map(places).unwrap_or_default());
        let shown = if before.is_some() { vec![two(1), two(2)] } else { vec![two(1)] };
        let state = before.map(|d| d.state).unwrap_or_default();
        Pass { answers: answered(&shown), state, own: own(), psk: none.clone(), sas, places, ..Pass::default() }.run()
    };
    let (a, b) = ("c-10-1-0-0-16", "c-10-101-0-0-16");
    let d = run(Some(run(None, &[])), &[(1, &[a, b])]);
    let d = run(Some(d), &[(1, &[a, b]), (2, &[b])]);
    assert_eq!(loaded(&d).0, [1]);
    let d = run(Some(d), &[(1, &[a, b]), (2, &[a, b])]);
    assert_eq!(loaded(&d).0, [2]);
}
