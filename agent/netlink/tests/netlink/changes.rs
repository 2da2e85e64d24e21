//! Every change, made, seen and taken back.

use crosswan_core::{
    model::{Place, Realm},
    system::{Routing, RoutingChange, Via},
};

use crate::space::{SOURCES, all_made, ip, look, make, refused, routing, space};

#[test]
fn what_is_made_is_seen_as_it_was_wanted_and_what_is_removed_is_gone() {
    space(async |netlink| {
        assert_eq!(look(&netlink).await, Routing::default());
        make(&netlink, &routing()).await;
        assert_eq!(look(&netlink).await, routing());
        make(&netlink, &Routing::default()).await;
        assert_eq!(look(&netlink).await, Routing::default());
        assert_eq!(ip("rule").lines().count(), 3, "only the kernel's rules are left");
        assert_eq!(ip("-brief link").lines().count(), 1, "only the loopback is left");
    });
}

#[test]
fn the_kernel_holds_exactly_what_the_text_of_the_routing_says() {
    space(async |netlink| {
        make(&netlink, &routing()).await;
        let links = ip("-details link show type xfrm");
        let expected =
            ["cw1@NONE: <NOARP,UP,LOWER_UP>", "xfrm if_id 0x1", "cw2@NONE: <NOARP,UP,LOWER_UP>", "xfrm if_id 0x2"];
        assert!(expected.iter().all(|text| links.contains(text)), "{links}");
        let own = |text: String| {
            let lines = text.lines().filter(|line| line.contains("proto 205"));
            lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            own(ip("-N rule")),
            [
                "7104: from all to 10.0.0.0/16 lookup 254 proto 205",
                "7104: from all to 10.0.0.0/16 iif lo lookup 254 proto 205",
                "7105: from all iif lo lookup 7105 proto 205",
                "7105: from 10.0.0.0/8 lookup 7105 proto 205",
            ]
        );
        assert_eq!(
            own(ip("route show table 7105")),
            [
                "unreachable 10.0.0.0/8 proto 205 metric 9999",
                "10.1.0.0/16 dev cw1 proto 205 scope link src 10.0.0.10",
                "10.2.0.0/16 dev cw2 proto 205 scope link src 10.0.0.10",
                "unreachable 172.16.0.0/12 proto 205 metric 9999",
            ]
        );
    });
}

#[test]
fn realms_come_and_go_and_addresses_stay_as_their_end_would_take_the_routes() {
    space(async |netlink| {
        make(&netlink, &routing()).await;
        let mut with = Routing { addresses: Place::FAR_ENDS.into(), ..routing() };
        for (net, number) in [("10.1.0.0/16", 0x1a2b), ("10.2.0.0/16", 7)] {
            with.routes.get_mut(&net.parse().unwrap()).unwrap().realm = Realm::new(number);
        }
        make(&netlink, &with).await;
        let shown = ip("route show table 7105");
        assert!(shown.contains("src 10.0.0.10 realm 6699") && shown.contains("src 10.0.0.10 realm 7"), "{shown}");
        assert!(ip("-4 -brief addr show dev cw2").contains("127.71.5.2/32"));
        for line in with.to_string().lines().filter(|line| !line.starts_with("rule") && !line.starts_with("link add")) {
            ip(line);
        }
        assert_eq!(look(&netlink).await, with, "ip reads the text as it was meant");
        let now = look(&netlink).await;
        all_made(&netlink, &routing().changes_from(&now)).await;
        assert_eq!(look(&netlink).await, Routing { addresses: Place::FAR_ENDS.into(), ..routing() });
        // What has a realm that is none of a segment's is somebody else's, and is replaced as any other with the own number.
        ip("route replace 10.1.0.0/16 dev cw1 src 10.0.0.10 realm 3/7 table 7105 proto 205");
        let found = netlink.look().await.unwrap();
        assert_eq!(found.foreign_routes, ["10.1.0.0/16 dev cw1 proto 205"]);
        all_made(&netlink, &with.changes_from(&found.routing)).await;
        assert_eq!(look(&netlink).await, with);
        ip("addr del 127.71.5.1/32 dev cw1");
        let net = "10.1.0.0/16".parse().unwrap();
        assert!(!look(&netlink).await.routes.contains_key(&net), "the kernel takes the routes away");
    });
}

#[test]
fn what_ip_makes_of_the_text_of_the_routing_is_seen_as_that_routing() {
    space(async |netlink| {
        for line in routing().to_string().lines() {
            ip(line);
        }
        assert_eq!(look(&netlink).await, routing());
        make(&netlink, &Routing::default()).await;
        assert_eq!(ip("rule").lines().count(), 3);
    });
}

#[test]
fn a_change_that_is_made_twice_is_made_once() {
    space(async |netlink| {
        let changes = routing().changes_from(&Routing::default());
        all_made(&netlink, &changes).await;
        let before = [ip("rule"), ip("route show table 7105"), ip("link")];
        all_made(&netlink, &changes).await;
        assert_eq!([ip("rule"), ip("route show table 7105"), ip("link")], before);
        let back = Routing::default().changes_from(&routing());
        all_made(&netlink, &back).await;
        all_made(&netlink, &back).await;
        assert_eq!(look(&netlink).await, Routing::default());
    });
}

#[test]
fn an_interface_that_is_down_is_missing_in_the_look_and_is_set_up_again() {
    space(async |netlink| {
        make(&netlink, &routing()).await;
        ip("link set cw1 down");
        let down = look(&netlink).await;
        assert_eq!(down.interfaces, [Place::Two].into());
        assert_eq!(
            down.routes.len(),
            1,
            "the kernel removes the routes of an interface that is down: {:?}",
            down.routes
        );
        make(&netlink, &routing()).await;
        ip("link add other type dummy");
        ip("link set cw2 down");
        let changes = routing().changes_from(&look(&netlink).await);
        let shown: Vec<String> = changes.iter().map(RoutingChange::to_string).collect();
        assert_eq!(shown, ["make interface cw2", "route 10.2.0.0/16 dev cw2 src 10.0.0.10"]);
    });
}

#[test]
fn a_deleted_interface_takes_its_routes_along_and_leaves_the_backstops() {
    space(async |netlink| {
        make(&netlink, &routing()).await;
        ip("link del cw1");
        let left = look(&netlink).await;
        let changes = routing().changes_from(&left);
        let shown: Vec<String> = changes.iter().map(RoutingChange::to_string).collect();
        assert_eq!(shown, ["make interface cw1", "route 10.1.0.0/16 dev cw1 src 10.0.0.10"]);
        make(&netlink, &routing()).await;
    });
}

#[test]
fn removing_a_rule_leaves_those_that_have_all_it_has_and_more() {
    space(async |netlink| {
        let all = routing().rules;
        // In this order: the kernel would delete the first of them.
        let (general, special) = {
            let mut to: Vec<_> = all.iter().filter(|rule| rule.to.is_some()).copied().collect();
            to.sort_by_key(|rule| rule.own_packets);
            (to[0], to[1])
        };
        all_made(&netlink, &[RoutingChange::AddRule(special), RoutingChange::AddRule(general)]).await;
        all_made(&netlink, &[RoutingChange::RemoveRule(general)]).await;
        assert_eq!(look(&netlink).await.rules, [special].into());
        all_made(&netlink, &[RoutingChange::AddRule(general), RoutingChange::RemoveRule(special)]).await;
        assert_eq!(look(&netlink).await.rules, [general].into());
        // One of the same priority to another network is not mistaken for it.
        ip(&format!("rule add {general} protocol 205").replace("to 10.0.0.0/16", "to 10.5.0.0/16"));
        all_made(&netlink, &[RoutingChange::RemoveRule(general)]).await;
        let left = look(&netlink).await.rules;
        assert_eq!(left.iter().map(|rule| rule.to.unwrap().to_string()).collect::<Vec<_>>(), ["10.5.0.0/16"]);
    });
}

#[test]
fn a_refusal_names_the_change_and_the_kernels_reason_and_stops_nothing_else() {
    space(async |netlink| {
        let via = |source: &str| Via { place: Place::One, source: source.parse().unwrap(), realm: None };
        let net = "10.1.0.0/16".parse().unwrap();
        let missing = refused(&netlink, RoutingChange::SetRoute(net, via("10.0.0.10"))).await;
        assert_eq!(missing, "route 10.1.0.0/16 dev cw1 src 10.0.0.10: there is no interface cw1");
        let good = RoutingChange::SetRoute("10.3.0.0/16".parse().unwrap(), via("10.0.0.10"));
        let bad = RoutingChange::SetRoute(net, via("192.0.2.1"));
        let made = netlink.changes(&[RoutingChange::MakeInterface(Place::One), bad, good, bad]).await;
        let failed: Vec<Option<String>> = made.into_iter().map(|made| Some(made.err()?.chain())).collect();
        let reason =
            Some("route 10.1.0.0/16 dev cw1 src 192.0.2.1: Invalid argument (Invalid prefsrc address)".to_owned());
        assert_eq!(failed, [None, reason.clone(), None, reason]);
        assert_eq!(look(&netlink).await.routes.len(), 1);
        assert!(SOURCES.contains(&look(&netlink).await.routes.values().next().unwrap().source));
    });
}
