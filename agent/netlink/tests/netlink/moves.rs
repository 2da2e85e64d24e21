//! Routes that move, and many of them.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crosswan_core::{
    model::Place,
    system::{Routing, RoutingChange, Via},
};
use ipnet::Ipv4Net;

use crate::space::{SOURCES, all_made, look, make, routing, space};

const PLACES: [Place; 2] = Place::FAR_ENDS;

/// Looks up the route to `10.1.2.3` again and again, and counts how often it had which source. A UDP socket that is connected has looked
/// up its route, and has the address of the one that it found.
fn look_up(end: &AtomicBool) -> [usize; 2] {
    let mut seen = [0; 2];
    while !end.load(Ordering::Relaxed) {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("10.1.2.3:9").expect("there is a route at any time");
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { unreachable!("bound to IPv4") };
        seen[SOURCES.iter().position(|source| source == address.ip()).unwrap()] += 1;
    }
    seen
}

#[test]
fn a_route_moves_without_a_moment_in_which_there_is_none() {
    space(async |netlink| {
        make(&netlink, &routing()).await;
        let end = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let end = end.clone();
            move || look_up(&end)
        });
        let start = Instant::now();
        for n in 0..500 {
            let via = Via { place: PLACES[n % 2], source: SOURCES[n % 2], realm: None };
            all_made(&netlink, &[RoutingChange::SetRoute("10.1.0.0/16".parse().unwrap(), via)]).await;
        }
        let took = start.elapsed();
        end.store(true, Ordering::Relaxed);
        let seen = reader.join().expect("no look-up failed");
        println!("500 moves took {took:?}, {seen:?} look-ups meanwhile");
        assert!(seen[0] > 100 && seen[1] > 100, "both routes were looked up: {seen:?}");
    });
}

#[test]
fn five_thousand_routes_are_made_read_moved_and_removed() {
    space(async |netlink| {
        let net = |n: u32| Ipv4Net::new(Ipv4Addr::from(0x0a10_0000 + n * 256), 24).unwrap();
        let routes = |moved: bool| {
            let place = |n: u32| if moved || n.is_multiple_of(2) { Place::Two } else { Place::One };
            (0..5_000).map(|n| (net(n), Via { place: place(n), source: SOURCES[0], realm: None })).collect()
        };
        let want = Routing { routes: routes(false), ..routing() };
        let mut start = Instant::now();
        let mut lap = move || std::mem::replace(&mut start, Instant::now()).elapsed();

        let changes = want.changes_from(&Routing::default());
        lap();
        all_made(&netlink, &changes).await;
        let made = lap();
        let seen = look(&netlink).await;
        let read = lap();
        assert_eq!(seen, want);

        lap();
        all_made(
            &netlink,
            &[RoutingChange::SetRoute(net(1), Via { place: Place::Two, source: SOURCES[0], realm: None })],
        )
        .await;
        let one = lap();
        let all = Routing { routes: routes(true), ..routing() };
        let changes = all.changes_from(&look(&netlink).await);
        assert_eq!(changes.len(), 2_499);
        lap();
        all_made(&netlink, &changes).await;
        let moved = lap();
        assert_eq!(look(&netlink).await, all);
        lap();
        all_made(&netlink, &Routing::default().changes_from(&all)).await;
        let removed = lap();
        assert_eq!(look(&netlink).await, Routing::default());
        println!(
            "5,000 routes: made in {made:?}, read in {read:?}, one moved in {one:?}, 2,499 in {moved:?}, removed in {removed:?}"
        );
        assert!(made + read + moved + removed < Duration::from_secs(20));
    });
}
