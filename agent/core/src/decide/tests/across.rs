//! The way across to the other hub of a pair, for VPCs that no tunnel of this hub reaches.

use super::*;
use crate::{
    model::InstanceId,
    pair::{Me, Members, Other},
};

fn other() -> InstanceId {
    "i-000000fe".parse().unwrap()
}

/// This hub and the other one, by the file of the last pass.
fn pair() -> Members {
    let me = me();
    let (vpc, region) = (me.vpc, me.region);
    let (interface, subnet) = ("eni-000000ff".parse().unwrap(), "subnet-000000ff".parse().unwrap());
    let address = Ipv4Addr::new(10, 0, 1, 5);
    Members {
        me: Me { instance: me.instance, interface, subnet, vpc, region, address: me.private },
        other: Other {
            instance: other(),
            interface: "eni-000000fe".parse().unwrap(),
            address,
            keys: vec![key_pair(0xfe).public],
        },
        port: 4795,
        destinations: nets(&["10.0.0.0/8"]),
        waiting: Vec::new(),
        asked_by: None,
    }
}

/// A pass of a hub that knows VPCs 1 and 2, whose tunnels, and the one across, carry packets if they are among `up`.
fn hub(state: State, members: Option<Members>, up: &[&ConnName]) -> Decided {
    let client = |n: u32| with_key(gateway(n, &[&format!("10.{n}.0.0/16")]), n as u8, None);
    let sas = super::sas(&up.iter().map(|name| (*name, true)).collect::<Vec<_>>());
    let (answers, members) = (answered(&[client(1), client(2)]), members.map(|members| members.text()));
    Pass { answers, state, own: own(), sas, members, ..Pass::default() }.run()
}

fn ways(d: &Decided) -> Vec<String> {
    d.routing.routes.iter().map(|(net, via)| format!("{net} {}", via.place.interface())).collect()
}

fn minute_later(d: &Decided) -> State {
    let mut state = d.state.clone();
    for peer in state.peers.values_mut() {
        peer.down_since = peer.down_since.map(|at| Timestamp(at.0 - 60));
    }
    state
}

#[test]
fn a_vpc_whose_tunnel_has_been_down_for_a_minute_is_reached_by_the_other_hub_until_it_is_up() {
    let across = ConnName::across(&other());
    let own = ["10.1.0.0/16 cw1", "10.2.0.0/16 cw1"];
    let by_other = ["10.1.0.0/16 cw1", "10.2.0.0/16 cw3"];
    let all = hub(State::default(), Some(pair()), &[&to(1), &to(2), &across]);
    let down = hub(all.state.clone(), Some(pair()), &[&to(1), &across]);
    assert_eq!(
        (ways(&all), ways(&down)),
        (own.map(String::from).into(), own.map(String::from).into()),
        "a rekey, a boot"
    );
    let relayed = hub(minute_later(&down), Some(pair()), &[&to(1), &across]);
    assert_eq!(ways(&relayed), by_other);
    assert_eq!(ways(&hub(relayed.state.clone(), Some(pair()), &[&to(1), &across])), by_other, "as long as it is down");
    let back = hub(minute_later(&down), Some(pair()), &[&to(1), &to(2), &across]);
    assert_eq!(ways(&back), own, "its own tunnel carries");
    assert_eq!(ways(&hub(minute_later(&down), Some(pair()), &[&to(1)])), own, "nothing comes across");
    assert_eq!(ways(&hub(minute_later(&down), None, &[&to(1), &across])), own, "there is no other hub");
}

#[test]
fn two_hubs_have_a_tunnel_of_their_own_between_their_private_addresses() {
    let d = hub(State::default(), Some(pair()), &[]);
    let tunnel = &d.tunnels[&ConnName::across(&other())];
    assert_eq!((tunnel.remote_addr, tunnel.place), (pair().other.address, Place::Across));
    let ids = [&tunnel.local_id, &tunnel.remote_id].map(IkeId::to_string);
    assert_eq!(ids, ["member-vpc-000000ff/i-000000ff", "member-vpc-000000ff/i-000000fe"]);
    assert!(matches!(&tunnel.auth, Auth::Key { peer, .. } if *peer == pair().other.keys));
    assert!(d.nat.across && d.routing.interfaces == Place::ALL.into());
    // Neither without the other one, nor without a key.
    let alone = hub(State::default(), None, &[]);
    assert!(!alone.nat.across && alone.routing.interfaces == Place::FAR_ENDS.into() && alone.tunnels.len() == 2);
    let (members, toml) = (Some(pair().text()), format!("{HUB}[auth]\nmethod = \"psk\"\n"));
    let psk = Pass { toml: &toml, members, ..Pass::default() }.run();
    assert!(!psk.nat.across && psk.tunnels.is_empty());
}
