use proptest::prelude::*;

use super::*;

const HUB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

fn peer(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, n)
}

fn inbound(spi: u32, bytes: u64) -> KernelSa {
    KernelSa { from: peer(1), to: HUB, spi, count: Count { bytes, packets: bytes / 100 } }
}

fn with(traffic: &Traffic, peer: Ipv4Addr) -> (Count, Count) {
    traffic.by_address().get(&peer).copied().unwrap_or_default()
}

fn received(traffic: &Traffic) -> u64 {
    with(traffic, peer(1)).0.bytes
}

#[test]
fn a_rekeyed_sa_counts_once_with_all_that_it_has_carried() {
    let mut traffic = Traffic::default();
    traffic.look(Timestamp(1), vec![inbound(1, 500)], &[]);
    assert_eq!(received(&traffic), 500);
    // Both are there, then the old one goes, with a packet that no look has seen.
    traffic.look(Timestamp(2), vec![inbound(1, 600), inbound(2, 100)], &[]);
    assert_eq!(received(&traffic), 700);
    traffic.look(Timestamp(3), vec![inbound(2, 100)], &[inbound(1, 700)]);
    assert_eq!(received(&traffic), 800);
    assert_eq!(with(&traffic, peer(1)).0.packets, 8);
    assert_eq!(with(&traffic, peer(1)).1, Count::default());
    // One that comes and goes between two looks, and one that ends while the list is made.
    traffic.look(Timestamp(4), vec![inbound(2, 100)], &[inbound(3, 50), inbound(2, 100)]);
    assert_eq!(received(&traffic), 850);
    traffic.look(Timestamp(5), vec![], &[]);
    assert_eq!((received(&traffic), traffic.at), (850, Timestamp(5)));
}

#[test]
fn a_lost_word_of_an_end_and_an_spi_that_comes_again_take_nothing_away() {
    let mut traffic = Traffic::default();
    traffic.look(Timestamp(1), vec![inbound(1, 500)], &[]);
    traffic.look(Timestamp(2), vec![], &[]);
    assert_eq!(received(&traffic), 500);
    traffic.look(Timestamp(3), vec![inbound(1, 20)], &[]);
    traffic.look(Timestamp(4), vec![inbound(1, 10)], &[]);
    assert_eq!(received(&traffic), 530);
    // Its end is not heard, but that of the next one with its SPI is.
    traffic.look(Timestamp(5), vec![], &[inbound(1, 5)]);
    assert_eq!(received(&traffic), 535);
}

/// What happens in the kernel.
#[derive(Debug, Clone)]
enum Event {
    Made {
        peer: u8,
        out: bool,
    },
    Carried {
        which: usize,
        packets: u64,
    },
    /// Whether the watcher hears of it.
    Ended {
        which: usize,
        heard: bool,
    },
    /// Whether an SA that ended since the look before is still in the list.
    Looked {
        stale: bool,
    },
    /// The watcher is started again from its file; it hears nothing of what ended meanwhile.
    Restarted,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1..4u8, any::<bool>()).prop_map(|(peer, out)| Event::Made { peer, out }),
        4 => (0..8usize, 1..50u64).prop_map(|(which, packets)| Event::Carried { which, packets }),
        2 => (0..8usize, prop::bool::weighted(0.8)).prop_map(|(which, heard)| Event::Ended { which, heard }),
        3 => any::<bool>().prop_map(|stale| Event::Looked { stale }),
        1 => Just(Event::Restarted),
    ]
}

fn sum(traffic: &Traffic) -> [u64; 6] {
    let counts = (1..4).flat_map(|n| <[Count; 2]>::from(with(traffic, peer(n))));
    counts.map(|count| count.packets).collect::<Vec<_>>().try_into().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn a_counter_never_decreases_and_misses_only_what_ended_unheard_since_a_look(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut traffic = Traffic::default();
        let (mut live, mut heard, mut unheard) = (Vec::<KernelSa>::new(), Vec::<KernelSa>::new(), Vec::new());
        let (mut truth, mut missed, mut before) = (0, 0, [0; 6]);
        let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
        for (spi, event) in (1..).zip(events) {
            match event {
                Event::Made { peer: n, out } => {
                    let (from, to) = if out { (HUB, peer(n)) } else { (peer(n), HUB) };
                    live.push(KernelSa { from, to, spi, count: Count::default() });
                }
                Event::Carried { which, packets } => {
                    let Some(sa) = live.get_mut(which) else { continue };
                    sa.count.add(Count { bytes: packets * 84, packets });
                    truth += packets;
                }
                Event::Ended { which, heard: is_heard } if which < live.len() => {
                    let sa = live.remove(which);
                    if is_heard { heard.push(sa) } else { unheard.push(sa) }
                }
                Event::Ended { .. } => {}
                Event::Looked { stale } => {
                    let mut listed = live.clone();
                    listed.extend(heard.iter().filter(|_| stale));
                    traffic.look(Timestamp(0), listed, &heard);
                    heard.clear();
                    missed += unheard.drain(..).map(|sa| sa.count.packets - seen.get(&sa.spi).unwrap_or(&0)).sum::<u64>();
                    seen = live.iter().map(|sa| (sa.spi, sa.count.packets)).collect();
                    let now = sum(&traffic);
                    prop_assert!(now.iter().zip(before).all(|(now, before)| *now >= before), "{before:?} {now:?}");
                    prop_assert_eq!(now.iter().sum::<u64>(), truth - missed);
                    before = now;
                }
                Event::Restarted => {
                    let file = serde_json::to_string(&traffic).unwrap();
                    traffic = serde_json::from_str(&file).unwrap();
                    unheard.append(&mut heard);
                }
            }
        }
    }
}
