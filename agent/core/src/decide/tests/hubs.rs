//! A spoke whose settings name two hubs: both have a tunnel, and the routes themselves remember which one is in use.

use super::*;

const SPOKE: &str = "mode = \"nat-vpn\"\nprivate_net = [\"10.0.0.0/8\"]\n";

/// The hub `n` of [`gateway`], launched long ago, in VPC 7 with the others.
fn hub(n: u32) -> Gateway {
    with_key(Gateway { vpc: vpc(7), ..gateway(n, &[]) }, n as u8, None)
}

/// The connection to the hub `n` that EC2 was not asked about.
fn to(n: u32) -> ConnName {
    ConnName::to_hub(hub(n).public.unwrap(), None)
}

/// Settings that name these hubs with a key each, and `more` of `auth`.
fn by_key(hubs: &[u32]) -> String {
    let keys = hubs.iter().map(|n| format!("\"198.51.100.{n}\" = \"{}\"\n", key(*n as u8)));
    format!("{}[auth.hub_key]\n{}", named(hubs), keys.collect::<String>())
}

fn by_psk(hubs: &[u32]) -> String {
    format!("{}[auth]\nmethod = \"psk\"\n", named(hubs))
}

fn named(hubs: &[u32]) -> String {
    let hubs: Vec<_> = hubs.iter().map(|n| format!("\"198.51.100.{n}\"")).collect();
    format!("{SPOKE}hub = [{}]\n", hubs.join(", "))
}

/// The pass after `before`, whose connections and routes are in force, with the tunnels of the connections `up`.
fn after<'a>(before: Option<&Decided>, toml: &'a str, up: &[&ConnName]) -> Pass<'a> {
    let own = own();
    let Some(before) = before else { return Pass { toml, own, sas: sas(&[]), ..Pass::default() } };
    let keys = |tunnel: &Tunnel| match &tunnel.auth {
        Auth::Key { peer, .. } => peer.clone(),
        Auth::Psk(_) => Vec::new(),
    };
    Pass {
        toml,
        own,
        state: before.state.clone(),
        places: before.tunnels.iter().map(|(name, tunnel)| (name.clone(), tunnel.place)).collect(),
        loaded: before.tunnels.iter().map(|(name, tunnel)| (name.clone(), keys(tunnel))).collect(),
        routing: before.routing.clone(),
        sas: sas(&up.iter().map(|name| (*name, true)).collect::<Vec<_>>()),
        ..Pass::default()
    }
}

fn next(before: &Decided, toml: &str, up: &[&ConnName]) -> Decided {
    after(Some(before), toml, up).run()
}

/// The hub in use, and the others with a tunnel.
fn shown(d: &Decided) -> (Option<u32>, Vec<u32>) {
    let leads = d.routing.routes.values().map(|via| via.place).next();
    let number = |tunnel: &Tunnel| u32::from(tunnel.remote_addr.octets()[3]);
    let tunnels = || d.tunnels.values().filter(|tunnel| !tunnel.children.is_empty());
    let used = tunnels().filter(|tunnel| Some(tunnel.place) == leads).map(number).collect::<Vec<_>>();
    assert!(used.len() <= 1, "two tunnels at one place: {:?}", d.tunnels);
    (used.first().copied(), tunnels().filter(|tunnel| Some(tunnel.place) != leads).map(number).collect())
}

fn notes(d: &Decided) -> String {
    d.findings.notes.join("\n")
}

#[test]
fn both_have_a_tunnel_and_the_first_one_is_used_until_it_is_down_and_the_other_up() {
    for toml in [by_key(&[2, 1]), by_psk(&[2, 1])] {
        let (first, second) = (to(2), to(1));
        let d = after(None, &toml, &[]).run();
        assert_eq!(shown(&d), (Some(2), vec![1]), "the first that settings name: {toml}");
        assert!(d.findings.refused.is_empty() && d.findings.notes.is_empty(), "{:?}", d.findings);
        let d = next(&d, &toml, &[&first, &second]);
        assert_eq!(shown(&d), (Some(2), vec![1]));
        let places = (d.tunnels[&first].place, d.tunnels[&second].place);
        let none = next(&d, &toml, &[]);
        assert_eq!(shown(&none), (Some(2), vec![1]), "both are down");
        let moved = next(&none, &toml, &[&second]);
        assert_eq!(shown(&moved), (Some(1), vec![2]));
        assert_eq!(
            (moved.tunnels[&first].place, moved.tunnels[&second].place),
            places,
            "a live tunnel keeps its place"
        );
        let back = next(&moved, &toml, &[&first, &second]);
        assert_eq!((shown(&back), &back.routing), ((Some(1), vec![2]), &moved.routing), "who comes back takes nothing");
        assert_eq!(back.tunnels, d.tunnels, "only a route has moved");
        assert_eq!(shown(&next(&back, &toml, &[&first])), (Some(2), vec![1]));
        // A charon that does not answer says nothing about tunnels.
        let unasked = Pass { sas: None, loaded: BTreeMap::new(), ..after(Some(&back), &toml, &[]) }.run();
        assert_eq!(shown(&unasked), (Some(1), vec![2]));
    }
}

#[test]
fn each_hub_has_to_prove_its_own_keys() {
    let d = after(None, &by_key(&[1, 2]), &[]).run();
    let by = |n: u8| Auth::Key { own: key(0xff), peer: vec![key(n)] };
    assert_eq!([1_u8, 2].map(|n| d.tunnels[&to(n.into())].auth.clone()), [1, 2].map(by));
    let (one, two) = (d.tunnels[&to(1)].remote_id.clone(), d.tunnels[&to(2)].remote_id.clone());
    assert_eq!((one, two), (IkeId::Hub(hub(1).public.unwrap()), IkeId::Hub(hub(2).public.unwrap())));
    let psk = after(None, &by_psk(&[1, 2]), &[]).run();
    assert!(psk.tunnels.len() == 2 && psk.tunnels.values().all(|tunnel| matches!(tunnel.auth, Auth::Psk(_))));
}

#[test]
fn a_second_hub_in_the_settings_touches_nothing_of_the_first() {
    for (one, two) in
        [(by_key(&[1]), by_key(&[1, 2])), (by_key(&[1]), by_key(&[2, 1])), (by_psk(&[1]), by_psk(&[2, 1]))]
    {
        let d = next(&after(None, &one, &[]).run(), &one, &[&to(1)]);
        assert_eq!(shown(&d), (Some(1), vec![]));
        assert!(notes(&d).contains("settings name one hub, at 198.51.100.1"), "{:?}", d.findings);
        let both = next(&d, &two, &[&to(1)]);
        assert_eq!(shown(&both), (Some(1), vec![2]), "{two}");
        assert_eq!((&both.tunnels[&to(1)], &both.routing), (&d.tunnels[&to(1)], &d.routing));
        let up = next(&both, &two, &[&to(1), &to(2)]);
        assert_eq!(shown(&up), (Some(1), vec![2]));
        let drained = next(&up, &one, &[&to(1), &to(2)]);
        assert_eq!((&drained.tunnels, &drained.routing), (&up.tunnels, &up.routing), "others may still use it");
        let again = next(&drained, &one, &[&to(1), &to(2)]);
        assert_eq!((&again.tunnels, &again.routing), (&d.tunnels, &d.routing));
    }
}

#[test]
fn a_hub_that_leaves_the_settings_carries_until_another_does() {
    for (one, two) in [(by_key(&[1]), by_key(&[1, 2])), (by_psk(&[1]), by_psk(&[1, 2]))] {
        let used = next(&after(None, &two, &[]).run(), &two, &[&to(2)]);
        assert_eq!(shown(&used), (Some(2), vec![1]));
        let kept = next(&used, &one, &[&to(2)]);
        assert_eq!((shown(&kept), &kept.tunnels, &kept.routing), ((Some(2), vec![1]), &used.tunnels, &used.routing));
        assert!(
            notes(&kept).contains("the tunnel to 198.51.100.2, which settings no longer name"),
            "{:?}",
            kept.findings
        );
        let forced = Pass { force: true, ..after(Some(&kept), &one, &[&to(2)]) }.run();
        assert_eq!(shown(&forced), (Some(1), vec![]));
        assert_eq!(shown(&next(&kept, &one, &[])), (Some(1), vec![]), "it carries nothing");
        let moved = next(&kept, &one, &[&to(1), &to(2)]);
        assert_eq!((shown(&moved), &moved.tunnels), ((Some(1), vec![2]), &kept.tunnels), "only a route has moved");
        assert!(notes(&moved).contains("stays until the next refresh"), "{:?}", moved.findings);
        let gone = next(&moved, &one, &[&to(1), &to(2)]);
        assert_eq!((shown(&gone), notes(&gone).contains("no longer")), ((Some(1), vec![]), false));
        assert_eq!((&gone.tunnels[&to(1)], &gone.routing), (&kept.tunnels[&to(1)], &moved.routing));
        let forced = Pass { force: true, ..after(Some(&kept), &one, &[&to(1), &to(2)]) }.run();
        assert_eq!(shown(&forced), (Some(1), vec![]));
        // Both are replaced: of the new ones the first is brought up beside it.
        let other = if two.contains("psk") { by_psk(&[3, 4]) } else { by_key(&[3, 4]) };
        let d = next(&used, &other, &[&to(2)]);
        assert_eq!(shown(&d), (Some(2), vec![3]));
        let d = next(&d, &other, &[&to(2), &to(3)]);
        assert_eq!(shown(&d), (Some(3), vec![2]));
        let d = next(&d, &other, &[&to(2), &to(3)]);
        assert_eq!(shown(&d), (Some(3), vec![4]));
        // The one that leaves stands by, and the new one has to wait for its place.
        let last = if other.contains("psk") { by_psk(&[5, 3]) } else { by_key(&[5, 3]) };
        let d = next(&d, &last, &[&to(3), &to(4)]);
        assert_eq!(shown(&d), (Some(3), vec![4]));
        let d = next(&d, &last, &[&to(3), &to(4)]);
        assert_eq!(shown(&d), (Some(3), vec![5]));
    }
}

#[test]
fn what_ec2_shows_of_two_named_hubs_is_elected_and_the_other_one_stands_beside_it() {
    let toml = by_key(&[1, 2]).replace("hub =", "regions = [\"eu-west-1\"]\nhub =");
    let run = |before: Option<&Decided>, hubs: &[Gateway], up: &[&ConnName]| {
        Pass { answers: answered(hubs), ..after(before, &toml, up) }.run()
    };
    let name = |n| ConnName::to_hub(hub(n).public.unwrap(), Some(&hub(n).instance));
    let d = run(None, &[hub(1), hub(2), hub(3)], &[]);
    assert_eq!((d.tunnels.contains_key(&name(1)), d.tunnels.contains_key(&name(2)), d.tunnels.len()), (true, true, 2));
    assert!(d.tunnels.iter().all(|(_, tunnel)| !tunnel.children.is_empty() && tunnel.vpc == Some(vpc(7))));
    // It shows one of them, in an account of which settings know nothing for instance.
    let d = run(None, &[hub(2)], &[]);
    assert_eq!(shown(&d), (Some(1), vec![2]), "the settings' order");
    assert_eq!(d.tunnels.keys().collect::<Vec<_>>(), [&to(1), &name(2)]);
    let d = run(Some(&d), &[hub(2)], &[&to(1), &name(2)]);
    let one = run(Some(&d), &[hub(2)], &[&to(1)]);
    assert_eq!(shown(&one), (Some(1), vec![2]));
    // It shows both again: the one in use stays, though only the other one was remembered.
    let both = run(Some(&d), &[hub(1), hub(2)], &[&to(1), &name(2)]);
    assert_eq!((shown(&both), &both.routing), ((Some(1), vec![2]), &d.routing));
    assert_eq!(both.state.peers[&vpc(7)].gateway.instance, hub(1).instance);
    let moved = run(Some(&d), &[hub(2)], &[&name(2)]);
    assert_eq!(shown(&moved), (Some(2), vec![1]));
    // EC2 does not answer any more, and neither does the spoke's memory.
    let lost = Pass { answers: failed(), state: State::default(), ..after(Some(&moved), &toml, &[&name(2)]) }.run();
    assert_eq!((shown(&lost), lost.tunnels.contains_key(&name(2))), ((Some(2), vec![1]), true));
    // One that EC2 shows in another VPC is refused, as one that is found by its tag.
    let elsewhere = Gateway { vpc: vpc(9), ..hub(2) };
    let d = run(None, &[hub(1), elsewhere], &[]);
    assert_eq!(shown(&d), (Some(1), vec![]));
    assert!(reasons(&d)[0].contains("already carries the private network"), "{:?}", reasons(&d));
}

#[test]
fn a_next_key_waits_for_both_hubs() {
    let holder = me();
    let holder = crate::model::Holder { vpc: &holder.vpc, instance: &holder.instance };
    let toml = by_key(&[1, 2]);
    let pair = |n: u8| key_pair(n);
    let ring = OwnKeys {
        current: pair(0xff).proven(&holder).unwrap(),
        next: Some((pair(0xfe).proven(&holder).unwrap(), pair(0xff).succeeded_by(&pair(0xfe), &holder).unwrap())),
    };
    let d = Pass { own: Some(ring), ..after(None, &toml, &[]) }.run();
    let waiting = &d.presence.as_ref().unwrap().waiting;
    assert_eq!(waiting.iter().collect::<Vec<_>>(), ["the hub at 198.51.100.1", "the hub at 198.51.100.2"]);
    assert!([1, 2].iter().all(|n| d.tunnels.contains_key(&to(*n).own_next())), "{:?}", d.tunnels.keys());
}
