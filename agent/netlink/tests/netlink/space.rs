//! A network namespace for one test, with nothing but a loopback that has two addresses.

use std::{collections::BTreeMap, net::Ipv4Addr, panic::resume_unwind, process::Command, thread};

use crosswan_core::{
    model::Place,
    system::{Routing, RoutingChange, Rule, Table, Via},
};
use crosswan_netlink::{Look, Netlink};
use nix::sched::{CloneFlags, unshare};

/// This host's addresses, which routes have as their source.
pub(crate) const SOURCES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 10), Ipv4Addr::new(10, 0, 0, 11)];

/// Runs a test in a namespace of its own. Threads and programs that it starts are in it, too.
pub(crate) fn space(test: impl AsyncFnOnce(Netlink) + Send + 'static) {
    let inside = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace, as root");
        ip("link set lo up");
        for source in SOURCES {
            ip(&format!("addr add {source}/32 dev lo"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Netlink::open().unwrap()).await });
    };
    thread::spawn(inside).join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Runs `ip`, and returns what it prints.
pub(crate) fn ip(args: &str) -> String {
    let out = Command::new("ip").args(args.split_whitespace()).output().expect("run ip");
    assert!(out.status.success(), "ip {args}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What a hub with two VPCs has.
pub(crate) fn routing() -> Routing {
    let rule = |priority, from: Option<&str>, to: Option<&str>, own_packets, table| Rule {
        priority,
        from: from.map(|net| net.parse().unwrap()),
        to: to.map(|net| net.parse().unwrap()),
        own_packets,
        table,
    };
    Routing {
        interfaces: Place::FAR_ENDS.into(),
        addresses: Default::default(),
        rules: [
            rule(7104, None, Some("10.0.0.0/16"), false, Table::Main),
            rule(7104, None, Some("10.0.0.0/16"), true, Table::Main),
            rule(7105, Some("10.0.0.0/8"), None, false, Table::Tunnels),
            rule(7105, None, None, true, Table::Tunnels),
        ]
        .into(),
        backstops: ["10.0.0.0/8".parse().unwrap(), "172.16.0.0/12".parse().unwrap()].into(),
        routes: BTreeMap::from([
            ("10.1.0.0/16".parse().unwrap(), Via { place: Place::One, source: SOURCES[0], realm: None }),
            ("10.2.0.0/16".parse().unwrap(), Via { place: Place::Two, source: SOURCES[0], realm: None }),
        ]),
    }
}

/// Makes every change between what is there and `want`.
pub(crate) async fn make(netlink: &Netlink, want: &Routing) {
    let now = netlink.look().await.unwrap().routing;
    all_made(netlink, &want.changes_from(&now)).await;
    assert_eq!(netlink.look().await.unwrap().routing, *want);
}

/// Makes changes, of which none may fail.
pub(crate) async fn all_made(netlink: &Netlink, changes: &[RoutingChange]) {
    let failed: Vec<String> =
        netlink.changes(changes).await.into_iter().filter_map(|made| Some(made.err()?.chain())).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The reason for which a change fails.
pub(crate) async fn refused(netlink: &Netlink, change: RoutingChange) -> String {
    netlink.change(&change).await.expect_err(&change.to_string()).chain()
}

/// A look at a space in which nothing is foreign, and of whose interfaces each has an MTU.
pub(crate) async fn look(netlink: &Netlink) -> Routing {
    let look = netlink.look().await.unwrap();
    let own = look.routing.interfaces.iter().map(|place| place.interface());
    assert!(own.chain(["lo"]).all(|name| look.mtus.contains_key(name)), "{look:?}");
    let nothing_else = Look { routing: Routing::default(), mtus: BTreeMap::new(), ..look.clone() };
    assert_eq!(nothing_else, Look::default());
    look.routing
}
