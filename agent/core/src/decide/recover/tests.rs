//! Who is recovered, to which region, and who is not.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use super::*;
use crate::{
    decide::tests::observed,
    model::{AskError, PublicKey, RegionView},
    swanctl::ChildSummary,
    system::{Charon, System},
};

fn me() -> Identity {
    Identity {
        instance: "i-000000ff".parse().unwrap(),
        region: "us-west-2".parse().unwrap(),
        vpc: "vpc-000000ff".parse().unwrap(),
        cidrs: ["10.0.0.0/16".parse().unwrap()].into(),
        private: Ipv4Addr::new(10, 0, 0, 5),
        public: Some(Ipv4Addr::new(198, 51, 100, 100)),
    }
}

/// A loaded connection to VPC `n`, with one CIDR.
fn loaded(n: u8, local_id: &str) -> (String, Summary) {
    let ts = |cidr: String| [cidr].into();
    let child = ChildSummary {
        local_ts: ts("10.0.0.0/8".into()),
        remote_ts: ts(format!("10.{n}.0.0/16")),
        mode: "tunnel".into(),
    };
    let summary = Summary {
        local_addrs: ["10.0.0.5".into()].into(),
        remote_addrs: [format!("198.51.100.{n}")].into(),
        local_id: Some(local_id.into()),
        remote_id: Some(format!("vpc-{n:08x}/i-{n:08x}")),
        local_auth: "psk".into(),
        remote_auth: "psk".into(),
        children: [(format!("c-10-{n}-0-0-16"), child)].into(),
    };
    (format!("crosswan-vpc-{n:08x}-i-{n:08x}"), summary)
}

/// [`super::recover`] for a gateway that has looked at charon.
fn recover(
    state: State,
    answers: &Answers,
    me: &Identity,
    charon: &Charon,
    pinned: &BTreeMap<ConnName, Vec<PublicKey>>,
) -> State {
    let system = System { charon: Some(charon.clone()), peer_keys: pinned.clone(), ..System::default() };
    super::recover(&Observed { state, system, ..observed(me) }, answers)
}

fn charon(connections: impl IntoIterator<Item = (String, Summary)>) -> Charon {
    Charon { connections: connections.into_iter().collect(), ..Charon::default() }
}

fn shows(n: u8) -> RegionView {
    let (name, summary) = loaded(n, "198.51.100.100");
    let gateway = of_vpc(&name.parse().unwrap(), &summary, &region("eu-west-1"), &me(), &[]);
    RegionView { gateways: vec![Gateway { launched: Timestamp(7), ..gateway.unwrap() }], ..RegionView::default() }
}

fn region(name: &str) -> Scope {
    name.parse().unwrap()
}

fn answers(list: &[(&str, Option<RegionView>)]) -> Answers {
    list.iter()
        .map(|(name, view)| (region(name), view.clone().ok_or(AskError::TimedOut { after: Duration::from_secs(60) })))
        .collect()
}

/// Recovered VPCs by their number, with their regions.
fn peers(state: &State) -> BTreeMap<&str, &str> {
    state.peers.values().map(|p| (p.gateway.vpc.as_str(), p.gateway.region.as_str())).collect()
}

#[test]
fn what_nobody_else_knows_belongs_to_the_region_that_is_silent() {
    let charon = charon([
        loaded(1, "198.51.100.100"),
        loaded(2, "198.51.100.100"),
        // Of the hub this one's image was taken from.
        loaded(3, "198.51.100.99"),
        // Somebody else's connection, and a spoke's.
        ("foreign".into(), loaded(4, "198.51.100.100").1),
        ("crosswan-hub-198-51-100-5".into(), loaded(5, "198.51.100.100").1),
    ]);
    let silent = answers(&[("eu-west-1", None), ("us-west-2", Some(shows(2)))]);
    let state = recover(State::default(), &silent, &me(), &charon, &BTreeMap::new());
    let known = [("vpc-00000001", "eu-west-1"), ("vpc-00000002", "eu-west-1")];
    assert_eq!(peers(&state), known.into());
    let gateway = &state.peers.values().next().unwrap().gateway;
    assert_eq!(gateway.public, Some(Ipv4Addr::new(198, 51, 100, 1)));
    assert_eq!(gateway.cidrs, ["10.1.0.0/16".parse().unwrap()].into());

    // The guess follows what is still silent; once the peer is shown, there is nothing to guess.
    let moved = answers(&[("eu-west-1", Some(RegionView::default())), ("us-west-2", None)]);
    assert_eq!(peers(&recover(state.clone(), &moved, &me(), &charon, &BTreeMap::new()))["vpc-00000001"], "us-west-2");
    let shown = answers(&[("eu-west-1", Some(shows(1))), ("us-west-2", None)]);
    assert_eq!(peers(&recover(state, &shown, &me(), &charon, &BTreeMap::new()))["vpc-00000001"], "eu-west-1");
}

#[test]
fn without_silence_it_is_a_peer_like_any_other_and_leaves_after_its_polls() {
    let charon = charon([loaded(1, "198.51.100.100")]);
    let well = answers(&[("eu-west-1", Some(RegionView::default())), ("us-west-2", Some(RegionView::default()))]);
    let state = recover(State::default(), &well, &me(), &charon, &BTreeMap::new());
    assert_eq!(peers(&state), [("vpc-00000001", "eu-west-1")].into());
    let missed = state.peers.into_iter().map(|(vpc, peer)| (vpc, Peer { misses: 1, ..peer })).collect();
    let missed = State { peers: missed, ..State::default() };
    assert_eq!(recover(missed.clone(), &well, &me(), &charon, &BTreeMap::new()), missed, "the count goes on");
    assert_eq!(recover(State::default(), &well, &me(), &Charon::default(), &BTreeMap::new()), State::default());
}

/// The keys that the connections were loaded with, each that gateway's: a stranger in its VPC is not taken for it.
#[test]
fn the_keys_come_back_with_the_gateways() {
    let charon = charon([loaded(1, "198.51.100.100")]);
    let key = PublicKey::new([7; 32]);
    let name: ConnName = loaded(1, "").0.parse().unwrap();
    let pinned = [(name, vec![key])].into();
    let stranger = RegionView {
        gateways: vec![Gateway { instance: "i-0000aaaa".parse().unwrap(), ..shows(1).gateways.remove(0) }],
        ..RegionView::default()
    };
    let state = recover(State::default(), &answers(&[("eu-west-1", Some(stranger))]), &me(), &charon, &pinned);
    let peer = state.peers.values().next().unwrap();
    assert_eq!((peer.gateway.instance.as_str(), &peer.keys[..]), ("i-00000001", &[key][..]));
    assert_eq!(peer.gateway.region, region("eu-west-1").region);
}

/// One that waits beside the gateway in use has no child.
#[test]
fn a_gateway_that_only_waits_is_not_taken_for_the_one_in_use() {
    let (name, summary) = loaded(1, "198.51.100.100");
    let waiting = Summary { children: BTreeMap::new(), ..summary };
    let charon = charon([(name.replace("i-00000001", "i-00000002"), waiting), loaded(1, "198.51.100.100")]);
    let state = recover(State::default(), &answers(&[("eu-west-1", None)]), &me(), &charon, &BTreeMap::new());
    assert_eq!(state.peers.values().next().unwrap().gateway.instance.as_str(), "i-00000001");
}
