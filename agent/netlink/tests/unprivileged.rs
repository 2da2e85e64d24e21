//! A process without capabilities. It gives root up as a whole, so this test has a program of its own.

#![allow(clippy::disallowed_methods, reason = "a test crate")]

use crosswan_core::{
    model::Place,
    system::{Routing, RoutingChange},
};
use crosswan_netlink::{Events, Netlink, Topic};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Uid, setresuid},
};

#[test]
fn without_cap_net_admin_all_can_be_seen_and_each_change_says_what_is_missing() {
    unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace, as root");
    let nobody = Uid::from_raw(65534);
    setresuid(nobody, nobody, nobody).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        Events::subscribe(Topic::Routing).unwrap();
        let netlink = Netlink::open().unwrap();
        assert_eq!(netlink.look().await.unwrap().routing, Routing::default());
        let backstop = RoutingChange::AddBackstop("10.0.0.0/8".parse().unwrap());
        for change in [RoutingChange::MakeInterface(Place::One), backstop] {
            let reason = netlink.change(&change).await.unwrap_err().chain();
            assert_eq!(reason, format!("{change}: Operation not permitted; this needs CAP_NET_ADMIN"));
        }
    });
}
