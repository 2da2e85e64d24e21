//! The kernel's events.

use std::time::Duration;

use crosswan_core::system::{Routing, RoutingChange};
use crosswan_netlink::{Events, Topic};
use tokio::time::timeout;

use crate::space::{all_made, ip, make, routing, space};

/// Whether there is an event within a short time.
async fn is_told(events: &mut Events) -> bool {
    timeout(Duration::from_millis(200), events.next()).await.is_ok_and(|told| told.map(|()| true).unwrap())
}

#[test]
fn every_change_of_interfaces_routes_and_rules_is_told_whoever_makes_it() {
    space(async |netlink| {
        let mut events = Events::subscribe(Topic::Routing).unwrap();
        assert!(!is_told(&mut events).await, "nothing has happened");
        make(&netlink, &routing()).await;
        assert!(is_told(&mut events).await);
        assert!(!is_told(&mut events).await, "one look sees all of it");
        netlink.look().await.unwrap();
        assert!(!is_told(&mut events).await, "looking changes nothing");
        for change in [
            "link set cw1 down",
            "link set cw1 up",
            "route del 10.2.0.0/16 table 7105",
            "rule del pref 7105 iif lo",
            "link del cw1",
        ] {
            ip(change);
            assert!(is_told(&mut events).await, "{change}");
        }
    });
}

#[test]
fn a_storm_of_events_that_overflows_the_socket_is_one_event() {
    space(async |netlink| {
        let mut events = Events::subscribe(Topic::Routing).unwrap();
        all_made(&netlink, &routing().changes_from(&Routing::default())).await;
        let via = *routing().routes.values().next().unwrap();
        let route = |n: u32| format!("10.{}.{}.0/24", 16 + n / 256, n % 256).parse().unwrap();
        let many: Vec<_> = (0..4_000).map(|n| RoutingChange::SetRoute(route(n), via)).collect();
        all_made(&netlink, &many).await;
        assert!(is_told(&mut events).await);
        assert!(!is_told(&mut events).await);
        ip("link set cw1 down");
        assert!(is_told(&mut events).await, "the subscription lives on");
    });
}
