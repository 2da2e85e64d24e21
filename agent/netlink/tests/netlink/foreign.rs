//! What others have made is left alone, and named.

use std::{sync::mpsc, thread};

use crosswan_core::{
    model::Place,
    system::{Routing, RoutingChange, Via},
};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

use crate::space::{SOURCES, all_made, ip, make, refused, routing, space};

#[test]
fn foreign_interfaces_that_crosswans_could_be_mistaken_for_are_named_and_left_alone() {
    space(async |netlink| {
        ip("link add cw9 type dummy");
        ip("link add cw1 type xfrm if_id 7");
        ip("link add tun7 type xfrm if_id 2");
        ip("link add eth0 type dummy");
        let look = netlink.look().await.unwrap();
        assert_eq!(look.routing, Routing::default());
        let named =
            ["cw9, a dummy interface", "cw1, an xfrm interface with if_id 7", "tun7, an xfrm interface with if_id 2"];
        assert_eq!(look.foreign_interfaces, named);

        let reason = refused(&netlink, RoutingChange::MakeInterface(Place::One)).await;
        assert_eq!(reason, "make interface cw1: cw1, an xfrm interface with if_id 7, is in the way; delete it");
        let reason = refused(&netlink, RoutingChange::MakeInterface(Place::Two)).await;
        assert_eq!(reason, "make interface cw2: tun7, an xfrm interface with if_id 2, is in the way; delete it");
        let via = Via { place: Place::One, source: SOURCES[0], realm: None };
        let reason = refused(&netlink, RoutingChange::SetRoute("10.1.0.0/16".parse().unwrap(), via)).await;
        assert_eq!(reason, "route 10.1.0.0/16 dev cw1 src 10.0.0.10: there is no interface cw1");

        let before = ip("link");
        all_made(&netlink, &Place::FAR_ENDS.map(RoutingChange::DeleteInterface)).await;
        assert_eq!(ip("link"), before);
    });
}

#[test]
fn an_interface_that_belongs_to_another_network_namespace_is_foreign() {
    space(async |netlink| {
        let here = gettid();
        let ((ready, is_ready), (end, at_end)) = (mpsc::channel(), mpsc::channel::<()>());
        // The other namespace lives as long as this thread.
        let other = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link add cw1 type xfrm if_id 1");
            ip(&format!("link set cw1 netns {here}"));
            ready.send(()).unwrap();
            let _ = at_end.recv();
        });
        is_ready.recv().unwrap();
        ip("link set cw1 up");
        let look = netlink.look().await.unwrap();
        assert_eq!(look.routing.interfaces, [].into());
        assert_eq!(look.foreign_interfaces, ["cw1, an xfrm interface with if_id 1 of another network namespace"]);
        let reason = refused(&netlink, RoutingChange::MakeInterface(Place::One)).await;
        assert!(reason.ends_with("of another network namespace, is in the way; delete it"), "{reason}");
        drop(end);
        other.join().unwrap();
    });
}

#[test]
fn foreign_rules_that_come_first_are_named_and_left_alone() {
    space(async |netlink| {
        for rule in [
            "pref 100 from 10.2.0.0/16 lookup 200",
            "pref 101 not fwmark 0x7 iif eth0 lookup main",
            "pref 102 ipproto udp dport 53 prohibit",
            "pref 7000 to 10.0.0.0/8 fwmark 0x1 lookup 7105 protocol 205",
            "pref 7105 iif lo lookup 7105 protocol static",
            "pref 7105 to 10.7.0.0/16 blackhole",
            "pref 7106 lookup 300",
        ] {
            ip(&format!("rule add {rule}"));
        }
        let before = ip("-N rule");
        assert_eq!(netlink.look().await.unwrap().foreign_rules, [""; 0], "nothing comes before what is not there");
        make(&netlink, &routing()).await;
        let named = [
            "pref 100 from 10.2.0.0/16 lookup 200",
            "pref 101 not iif eth0 fwmark 0x7 lookup main",
            "pref 102 (and other conditions) prohibit",
            "pref 7000 to 10.0.0.0/8 fwmark 0x1 lookup 7105",
            "pref 7105 iif lo lookup 7105",
            "pref 7105 to 10.7.0.0/16 blackhole",
        ];
        assert_eq!(netlink.look().await.unwrap().foreign_rules, named);
        all_made(&netlink, &Routing::default().changes_from(&routing())).await;
        assert_eq!(ip("-N rule"), before);
    });
}

#[test]
fn foreign_routes_in_the_table_are_named_and_neither_replaced_nor_removed() {
    space(async |netlink| {
        ip("link add eth0 type dummy");
        ip("link set eth0 up");
        let want = routing();
        all_made(&netlink, &[RoutingChange::MakeInterface(Place::One), RoutingChange::MakeInterface(Place::Two)]).await;
        for route in [
            "10.1.0.0/16 dev eth0 proto static",
            "10.8.0.0/16 via 10.9.0.1 dev eth0 onlink metric 5 proto static",
            "blackhole 10.9.0.0/16 proto 205",
            "prohibit 172.16.0.0/12 metric 9999",
            "unreachable 10.77.0.0/16 proto static",
        ] {
            ip(&format!("route add {route} table 7105"));
        }
        let before = ip("route show table 7105");
        let named = [
            "10.1.0.0/16 dev eth0 proto 4",
            "10.8.0.0/16 via 10.9.0.1 dev eth0 metric 5 proto 4",
            "blackhole 10.9.0.0/16 proto 205",
            "unreachable 10.77.0.0/16 proto 4",
            "prohibit 172.16.0.0/12 metric 9999 proto 3",
        ];
        assert_eq!(netlink.look().await.unwrap().foreign_routes, named);

        let via = want.routes.values().next().copied().unwrap();
        let reason = refused(&netlink, RoutingChange::SetRoute("10.1.0.0/16".parse().unwrap(), via)).await;
        let expected = "route 10.1.0.0/16 dev cw1 src 10.0.0.10: the foreign route 10.1.0.0/16 dev eth0 proto 4 is in the way; delete it";
        assert_eq!(reason, expected);
        let reason = refused(&netlink, RoutingChange::AddBackstop("172.16.0.0/12".parse().unwrap())).await;
        assert!(
            reason.ends_with("the foreign route prohibit 172.16.0.0/12 metric 9999 proto 3 is in the way; delete it"),
            "{reason}"
        );
        for net in ["10.1.0.0/16", "10.8.0.0/16", "172.16.0.0/12"] {
            let net = net.parse().unwrap();
            all_made(&netlink, &[RoutingChange::RemoveRoute(net), RoutingChange::RemoveBackstop(net)]).await;
        }
        assert_eq!(ip("route show table 7105"), before);
        // One with crosswan's own number is its own to replace.
        let odd = RoutingChange::SetRoute("10.9.0.0/16".parse().unwrap(), via);
        all_made(&netlink, &[odd]).await;
        let routes = netlink.look().await.unwrap().routing.routes;
        assert_eq!(routes.len(), 1);
        // Also where the right one is there already, behind others.
        let place = ip("route show table 7105 10.9.0.0/16");
        ip("route prepend blackhole 10.9.0.0/16 proto 205 table 7105");
        ip("route prepend 10.9.0.0/16 dev cw2 src 10.0.0.11 proto 205 table 7105");
        all_made(&netlink, &[odd]).await;
        assert_eq!(netlink.look().await.unwrap().routing.routes, routes);
        assert_eq!(ip("route show table 7105 10.9.0.0/16"), place);
        ip("route prepend blackhole 10.9.0.0/16 proto static table 7105");
        assert!(
            refused(&netlink, odd)
                .await
                .ends_with("the foreign route blackhole 10.9.0.0/16 proto 4 is in the way; delete it")
        );
    });
}

#[test]
fn routes_of_other_tables_are_neither_seen_nor_touched() {
    space(async |netlink| {
        make(&netlink, &routing()).await;
        ip("route add 10.1.0.0/16 dev cw1 src 10.0.0.10 proto 205 table 200");
        ip("route add 10.5.0.0/16 dev cw1 src 10.0.0.10 proto 205");
        let before = ip("route show table all");
        assert_eq!(crate::space::look(&netlink).await, routing());
        all_made(&netlink, &[RoutingChange::RemoveRoute("10.5.0.0/16".parse().unwrap())]).await;
        assert_eq!(ip("route show table all"), before);
    });
}
