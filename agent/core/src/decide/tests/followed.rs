//! Safety rule 4 where a pair has said which of its members is to be used.

use super::*;
use crate::system::Followee;

/// Gateway `n` of VPC 1, launched at `n`: 2 is the newer one, and is in use at first.
fn of_a(n: u32) -> Gateway {
    with_key(Gateway { vpc: vpc(1), ..gateway(n, &["10.1.0.0/16"]) }, n as u8, None)
}

fn to_of_a(n: u32) -> ConnName {
    ConnName::to_gateway(&vpc(1), &of_a(n).instance)
}

fn place(n: u32) -> Place {
    Place::with_if_id(n).unwrap()
}

/// The word by which gateway `n` is followed.
fn word(n: u32) -> Followed {
    let mut followed = Followed::default();
    let networks = nets(&["10.1.0.0/16"]);
    let word = Followee {
        connection: to_of_a(n),
        place: place(n),
        generation: 4,
        networks,
        at: Timestamp(900),
        overruled: false,
    };
    assert!(followed.follow(vpc(1).as_str(), word));
    followed
}

/// The pass after `state`, in which EC2 shows `shown`, the tunnels of `up` carry, and the kernel's route leads to gateway `routed`.
fn hub(state: State, followed: Followed, routed: u32, shown: &[u32], up: &[u32]) -> Decided {
    let shown: Vec<Gateway> = shown.iter().map(|n| of_a(*n)).collect();
    let names: Vec<ConnName> = [1, 2].map(to_of_a).into();
    let sas = super::sas(&up.iter().map(|n| (&names[*n as usize - 1], true)).collect::<Vec<_>>());
    let routes = [("10.1.0.0/16".parse().unwrap(), place(routed))].into();
    let routing = Routing::of(&nets(&["10.0.0.0/16"]), &nets(&["10.0.0.0/8"]), &nets(&[]), me().private, &routes);
    let places = names.iter().cloned().zip(Place::FAR_ENDS).collect();
    let psk = Psk { secret: None, problem: Some("there is no pre-shared key for it".into()) };
    Pass { answers: answered(&shown), state, own: own(), sas, places, routing, followed, psk, ..Pass::default() }.run()
}

fn in_use(d: &Decided) -> u32 {
    let used = &d.state.peers[&vpc(1)].gateway.instance;
    let n = [1, 2].into_iter().find(|n| of_a(*n).instance == *used).unwrap();
    let via = d.routing.routes[&"10.1.0.0/16".parse().unwrap()];
    assert_eq!(via.place, place(n), "the route leads to the one in use");
    n
}

/// The newer one is in use, as without a pair.
fn before() -> State {
    let d = hub(State::default(), Followed::default(), 2, &[1, 2], &[1, 2]);
    assert_eq!((in_use(&d), &d.overruled), (2, &BTreeMap::new()));
    d.state
}

#[test]
fn the_one_that_is_followed_is_in_use_before_and_after_the_routes_lead_to_it_and_a_newer_one_takes_nothing_back() {
    for routed in [1, 2] {
        let d = hub(before(), word(1), routed, &[1, 2], &[1, 2]);
        assert_eq!((in_use(&d), &d.overruled), (1, &BTreeMap::new()));
        assert_eq!(d.state.peers[&vpc(1)].lost, [of_a(2).instance]);
        // Nor where the word is lost, as it is when the hub boots.
        let d = hub(d.state, Followed::default(), 1, &[1, 2], &[1, 2]);
        assert_eq!(in_use(&d), 1);
    }
    // The word alone is lost before a pass has seen it: the kernel's route tells.
    let d = hub(before(), Followed::default(), 1, &[1, 2], &[1, 2]);
    assert_eq!((in_use(&d), &d.state.peers[&vpc(1)].lost[..]), (1, &[of_a(2).instance][..]));
}

#[test]
fn a_word_is_overruled_when_its_tunnel_has_been_down_for_a_minute_and_the_other_one_carries_and_no_sooner() {
    let d = hub(before(), word(1), 1, &[1, 2], &[2]);
    assert_eq!(
        (in_use(&d), &d.overruled),
        (1, &BTreeMap::new()),
        "a rekey, a restart of charon, a look that came too early"
    );
    let minute_ago = |mut state: State| {
        let peer = state.peers.get_mut(&vpc(1)).unwrap();
        peer.down_since = peer.down_since.map(|at| Timestamp(at.0 - 60));
        state
    };
    let nobody = hub(minute_ago(d.state.clone()), word(1), 1, &[1, 2], &[]);
    assert_eq!((in_use(&nobody), &nobody.overruled), (1, &BTreeMap::new()), "none carries");
    let d = hub(minute_ago(d.state), word(1), 1, &[1, 2], &[2]);
    assert_eq!((in_use(&d), &d.overruled), (2, &[(vpc(1).to_string(), 4)].into()));
    // Once that is written, the word counts no more.
    let mut struck = word(1);
    assert!(struck.settle(&d.overruled, |_| Some(nets(&["10.1.0.0/16"]))));
    let d = hub(d.state, struck, 2, &[1, 2], &[1, 2]);
    assert_eq!((in_use(&d), &d.overruled), (2, &BTreeMap::new()));
}

#[test]
fn the_word_of_one_that_is_gone_is_overruled_at_once() {
    let d = hub(before(), word(1), 1, &[2], &[2]);
    assert_eq!((in_use(&d), &d.overruled), (2, &[(vpc(1).to_string(), 4)].into()));
}
