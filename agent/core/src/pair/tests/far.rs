//! What two ends of a tunnel tell each other, and whom a far end follows.

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

use proptest::prelude::*;

use crate::{
    model::{
        PrivateKey,
        private_key::tests::{holder, key_pair},
    },
    pair::{Exchange, FarEnd, Follow, Health, IDLE, LENGTH, Refused, Says, Word, far_ends, known_by_most},
};

fn says(holds: bool, generation: u32) -> Says {
    let interval = Duration::from_secs(5);
    Says { health: Health::default(), holds, leaving: false, interval, generation, ..Says::default() }
}

/// What the other end of a member's tunnel says of it.
fn follows(known: u32) -> Says {
    Says { follows: true, known, ..says(false, 0) }
}

/// One end of the tunnel between gateway 1 and a hub: what it sends, and what it has heard.
struct Side {
    key: PrivateKey,
    end: FarEnd,
    exchange: Exchange,
}

const IDS: [&str; 2] = ["vpc-00000001/i-00000001", "198.51.100.100"];

impl Side {
    /// Process `session` of end `n`, which is 0 or 1.
    fn new(n: usize, session: u8, now: u64) -> Side {
        let end = FarEnd {
            name: "crosswan-vpc-00000001-i-00000001".parse().unwrap(),
            place: crate::model::Place::One,
            local: Ipv4Addr::LOCALHOST,
            address: None,
            ids: [IDS[n].to_owned(), IDS[1 - n].to_owned()],
            keys: vec![key_pair(2 - n as u8).public],
            networks: Default::default(),
        };
        Side { key: key_pair(n as u8 + 1), end, exchange: Exchange::new(now, [session; 32], session.into()) }
    }

    fn sends(&mut self, now: u64, says: Says) -> Option<[u8; LENGTH]> {
        let beat = self.exchange.beat(now, says)?;
        beat.signed_in_tunnel(&self.key, &self.end.ids[0], &self.end.ids[1])
    }

    fn hears(&mut self, now: u64, datagram: &[u8]) -> Result<Says, Refused> {
        self.exchange.hear(now, datagram, &self.end)
    }
}

/// Both sides live for so many milliseconds, each with its word, and a network that takes 3 ms. Returns how many each has sent, and what
/// each has heard last that counts.
fn live(sides: &mut [Side; 2], from: u64, millis: u64, words: [Says; 2]) -> ([usize; 2], [Option<Says>; 2]) {
    let (mut sent, mut heard) = ([0; 2], [None; 2]);
    let mut way: [VecDeque<(u64, [u8; LENGTH])>; 2] = Default::default();
    for now in from..from + millis {
        for n in [0, 1] {
            while let Some((_, datagram)) = way[n].pop_front_if(|(at, _)| *at <= now) {
                heard[n] = sides[n].hears(now, &datagram).ok().or(heard[n]);
            }
            if let Some(datagram) = sides[n].sends(now, words[n]) {
                sent[n] += 1;
                way[1 - n].push_back((now + 3, datagram));
            }
        }
    }
    (sent, heard)
}

#[test]
fn two_ends_know_each_other_after_two_beats_and_then_are_quiet_until_there_is_something_to_say() {
    let mut sides = [Side::new(0, 11, 0), Side::new(1, 22, 0)];
    let (sent, heard) = live(&mut sides, 0, 1000, [says(true, 0), says(false, 0)]);
    assert_eq!(heard, [Some(says(false, 0)), Some(says(true, 0))], "within a second of both starts");
    assert!(sent.iter().all(|sent| *sent <= 4), "{sent:?}");
    let (sent, _) = live(&mut sides, 1000, 60_000, [says(true, 0), says(false, 0)]);
    assert!(sent.iter().all(|sent| (11..=13).contains(sent)), "one in five seconds: {sent:?}");
    // Something new is heard at once, and said until it is known to be.
    let (sent, heard) = live(&mut sides, 61_000, 10, [says(true, 1), says(false, 0)]);
    assert_eq!((sent[0], heard[1]), (1, Some(says(true, 1))));
    let (sent, _) = live(&mut sides, 61_010, 1000, [says(true, 1), says(false, 0)]);
    assert_eq!(sent[0], 3, "it may have been lost");
    let (sent, _) = live(&mut sides, 62_010, 20_000, [says(true, 1), says(false, 0)]);
    assert!(sent[0] <= 7, "one that does not follow is not told for ever: {sent:?}");
    let (sent, _) = live(&mut sides, 90_000, 1000, [says(true, 2), follows(2)]);
    assert!(sent[0] <= 3, "the other end knows it: {sent:?}");
}

#[test]
fn who_is_not_followed_any_more_is_told_so_when_it_is_time_and_who_is_followed_at_once() {
    let left = Says { follows: false, ..follows(2) };
    for (word, at_once) in [(left, 0), (follows(2), 1)] {
        let mut sides = [Side::new(0, 11, 0), Side::new(1, 22, 0)];
        live(&mut sides, 0, 62_000, [says(true, 1), follows(1)]);
        let (sent, _) = live(&mut sides, 62_000, 100, [says(true, 1), word]);
        assert_eq!(sent[1], at_once, "{word:?}");
        let (_, heard) = live(&mut sides, 62_100, IDLE, [says(true, 1), word]);
        assert_eq!(heard[0], Some(word));
    }
}

#[test]
fn an_end_that_is_asked_answers_at_once_and_asks_nothing_in_return() {
    let words = [says(true, 1), follows(1)];
    let mut sides = [Side::new(0, 11, 0), Side::new(1, 22, 0)];
    live(&mut sides, 0, 62_000, words);
    let (sent, _) = live(&mut sides, 62_000, 100, words);
    assert_eq!(sent, [0, 0], "nothing is due");
    sides[0].exchange.ask(62_100);
    let (sent, heard) = live(&mut sides, 62_100, 100, words);
    assert_eq!((sent, heard), ([1, 1], [Some(words[1]), Some(Says { asks: true, ..words[0] })]));
    // Whoever asks without end is answered no more often than the bound on answers allows.
    let mut answers = 0;
    for now in 62_200..63_200 {
        sides[0].exchange.ask(now);
        answers += live(&mut sides, now, 1, words).0[1];
    }
    assert!(answers <= 50, "{answers} answers in a second");
}

#[test]
fn an_end_that_starts_anew_is_heard_at_once_and_nothing_recorded_counts() {
    let mut sides = [Side::new(0, 11, 0), Side::new(1, 22, 0)];
    live(&mut sides, 0, 1000, [says(true, 3), follows(3)]);
    let recorded: Vec<_> = (1..4).map(|n| sides[0].sends(10_000 * n, says(true, 3)).unwrap()).collect();
    for datagram in &recorded {
        assert_eq!(sides[1].hears(40_000, datagram), Ok(says(true, 3)));
        assert_eq!(sides[1].hears(40_000, datagram), Err(Refused::Repeated));
    }
    sides[1] = Side::new(1, 33, 50_000);
    for (n, datagram) in recorded.iter().enumerate() {
        assert_eq!(sides[1].hears(50_000 + 1000 * n as u64, datagram), Err(Refused::Unproven));
    }
    let (_, heard) = live(&mut sides, 60_000, 1000, [says(true, 3), says(false, 0)]);
    assert_eq!(heard, [Some(says(false, 0)), Some(says(true, 3))]);
}

/// What nobody has proven is no word, and it is answered all the same: only the answer brings the challenge that proves it.
#[test]
fn an_end_that_starts_anew_is_answered_at_once_and_not_when_the_next_beat_is_due() {
    for restarts in [0, 1] {
        let mut sides = [Side::new(0, 11, 0), Side::new(1, 22, 0)];
        live(&mut sides, 0, 10_000, [says(true, 3), says(false, 3)]);
        let lives = 1 - restarts;
        let words = [says(true, 3), says(false, 3)];
        let sent = (10_000..).find(|now| sides[lives].sends(*now, words[lives]).is_some()).unwrap();
        sides[restarts] = Side::new(restarts, 33, sent);
        let (_, heard) = live(&mut sides, sent + 1, 500, words);
        assert_eq!(
            heard,
            [Some(words[1]), Some(words[0])],
            "{restarts} has started anew, long before the next beat of the other one"
        );
    }
}

#[test]
fn a_few_far_ends_that_lie_are_told_what_they_want_and_the_others_what_is_so() {
    for (known, most) in
        [(&[][..], 0), (&[7], 7), (&[3, u32::MAX], 3), (&[4, 4, u32::MAX], 4), (&[9, 9, 4, 4], 4), (&[0, 5, 5], 5)]
    {
        for follows in [false, true] {
            let said = known.iter().map(|known| (*known, follows)).collect();
            assert_eq!(known_by_most(said), (most, follows && !known.is_empty()), "{known:?}");
        }
    }
    let said =
        |own: usize, its: usize| [vec![(4, true); own], vec![(4, false); its], vec![(3, true), (9, true)]].concat();
    assert_eq!(
        [(2, 1), (1, 1), (1, 2)].map(|(own, its)| known_by_most(said(own, its))),
        [(4, true), (4, false), (4, false)]
    );
    let word = Word { holds: true, mine: true, generation: 4 };
    for (known, said) in [
        (None, 4),
        (Some((false, 0)), 4),
        (Some((false, 4)), 4),
        (Some((false, 9)), 10),
        (Some((true, 9)), 4),
        (Some((false, u32::MAX)), u32::MAX),
    ] {
        assert_eq!(word.for_end(known), said, "{known:?}");
    }
    let other = Word { mine: false, ..word };
    assert_eq!(other.for_end(Some((false, 9))), 4, "two would tell it more and more in turn");
}

#[test]
fn a_beat_counts_for_the_two_ends_of_one_tunnel_and_only_inside_one() {
    let mut sides = [Side::new(0, 11, 0), Side::new(1, 22, 0)];
    live(&mut sides, 0, 1000, [says(true, 0), says(false, 0)]);
    let beat = sides[0].exchange.beat(20_000, says(true, 9)).unwrap();
    let ids = ["vpc-00000001/i-00000001", "vpc-00000001/i-00000002", "198.51.100.100", "198.51.100.101"];
    for from in ids {
        for to in ids.into_iter().filter(|to| [from, to] != IDS) {
            let datagram = beat.signed_in_tunnel(&sides[0].key, from, to).unwrap();
            assert_eq!(sides[1].hears(20_000 + u64::from(datagram[50]) * 1000, &datagram), Err(Refused::Forged));
        }
    }
    let (vpc, instance) = holder(1);
    let member = crate::model::Holder { vpc: &vpc, instance: &instance };
    let to_member = beat.signed(&sides[0].key, &member, &holder(2).1).unwrap();
    assert_eq!(sides[1].hears(400_000, &to_member), Err(Refused::Forged), "one for the other member");
    let other_key = beat.signed_in_tunnel(&key_pair(3), IDS[0], IDS[1]).unwrap();
    assert_eq!(sides[1].hears(500_000, &other_key), Err(Refused::Forged));
    let good = beat.signed_in_tunnel(&sides[0].key, IDS[0], IDS[1]).unwrap();
    for bit in 0..LENGTH * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(sides[1].hears(600_000 + 1000 * bit as u64, &bad).is_err(), "bit {bit}");
    }
    assert_eq!(sides[1].hears(9_000_000, &good), Ok(says(true, 9)));
}

#[test]
fn the_ends_are_those_of_the_file_that_have_keys_and_on_a_hub_those_of_vpcs_with_two() {
    let key = |n| format!("0s{}", key_pair(n).public);
    let connection = |name: &str, id: &str, place: u32, keys: &str| {
        format!(
            "{name} {{\nlocal_addrs = 10.0.0.10\nremote_addrs = 198.51.100.1\nlocal {{\nid = 198.51.100.100\n}}\nremote {{\nid = {id}\n{keys}\n}}\n\
             children {{\nnet {{\nlocal_ts = 10.0.0.0/8\nremote_ts = 10.1.0.0/16\nif_id_in = {place}\n}}\n}}\n}}\n"
        )
    };
    let of = |vpc: u32, n: u32, place: u32, keys: &str| {
        let (vpc, instance) = (holder(vpc).0, holder(n).1);
        connection(&format!("crosswan-{vpc}-{instance}"), &format!("{vpc}/{instance}"), place, keys)
    };
    let keys = |n| format!("pubkeys = {}", key(n));
    let text = format!(
        "connections {{\n{}{}{}{}{}}}\n",
        of(1, 1, 1, &keys(1)),
        of(1, 2, 2, &keys(2)),
        of(3, 3, 1, &keys(3)),
        of(4, 4, 1, &keys(4)),
        of(4, 5, 2, "auth = psk")
    );
    let ends = far_ends(&text, false, |instance| (*instance == holder(1).1).then_some([10, 1, 0, 4].into()));
    let shown: Vec<_> = ends.iter().map(|end| (end.name.as_str(), end.address, end.place.if_id())).collect();
    let [one, two] = [1, 2].map(|n| format!("crosswan-{}-{}", holder(1).0, holder(n).1));
    assert_eq!(shown, [(one.as_str(), Some([10, 1, 0, 4].into()), 1), (two.as_str(), None, 2)]);
    assert_eq!(far_ends(&text, true, |_| None).len(), 4, "a member of a pair has something to say to each");
    let end = &ends[1];
    assert_eq!((&end.keys, end.local), (&vec![key_pair(2).public], [10, 0, 0, 10].into()));
    assert_eq!(end.ids, ["198.51.100.100".to_owned(), format!("{}/{}", holder(1).0, holder(2).1)]);
    assert_eq!(end.networks, ["10.1.0.0/16".parse().unwrap()].into());
    let hub = connection("crosswan-hub-198-51-100-100", "198.51.100.100", 1, &keys(9));
    let only = format!("connections {{\n{hub}}}\n");
    assert_eq!(
        [false, true].map(|member| far_ends(&only, member, |_| None).len()),
        [0, 1],
        "nobody else could be used"
    );
    let other = connection("crosswan-hub-198-51-100-101", "198.51.100.101", 2, &keys(8));
    assert_eq!(far_ends(&format!("connections {{\n{hub}{other}}}\n"), false, |_| None).len(), 2);
    assert!(far_ends("connections {", true, |_| None).is_empty());
}

/// What happens to two members and a far end: a takeover by one of them, a word that arrives or is lost, one of long ago, a restart of a
/// member, which learns the generation from the other one, or a restart of the far end, which has its file.
#[derive(Debug, Clone)]
enum Scene {
    Takes(usize),
    Word(usize),
    Old(usize),
    Restart(usize),
}

proptest! {
    #[test]
    fn who_is_followed_is_always_the_last_to_take_over_of_those_that_were_heard_and_never_goes_back(
        scenes in prop::collection::vec(
            prop_oneof![
                1 => (0..2_usize).prop_map(Scene::Takes),
                4 => (0..2_usize).prop_map(Scene::Word),
                2 => (0..1000_usize).prop_map(Scene::Old),
                1 => (0..2_usize).prop_map(Scene::Restart),
            ],
            0..200,
        ),
    ) {
        // Whether each holds the routes, and the generation that it knows.
        let mut members = [(true, 0_u32), (false, 0)];
        let (mut follow, mut words) = (Follow::default(), Vec::new());
        let (mut moves, mut takeovers, mut last_heard) = (0, 0, None);
        for scene in scenes {
            let (before, generation) = (follow.followed().copied(), follow.generation());
            let word = match scene {
                Scene::Takes(member) => {
                    // It has heard the other one until that died, and the far end.
                    let known = members[0].1.max(members[1].1).max(follow.generation());
                    members[member] = (true, known + 1);
                    members[1 - member].0 = false;
                    takeovers += 1;
                    None
                }
                Scene::Word(member) => Some((member, members[member])),
                Scene::Old(n) => words.get(n % words.len().max(1)).copied(),
                Scene::Restart(member) => {
                    members[member].1 = members[1 - member].1.max(follow.generation());
                    None
                }
            };
            let Some((member, (holds, its))) = word else { continue };
            words.push((member, (holds, its)));
            if follow.is_news(&says(holds, its)) {
                prop_assert!(follow.follow(member, its));
                last_heard = Some(member);
            }
            prop_assert!(follow.generation() >= generation, "it never goes back");
            prop_assert_eq!(follow.followed().copied(), last_heard);
            moves += usize::from(before != follow.followed().copied());
            let same = follow.generation();
            prop_assert!(!follow.follow(1 - member, same), "nobody else in the same generation");
        }
        prop_assert!(moves <= takeovers, "{} moves for {} takeovers", moves, takeovers);
    }
}

#[test]
fn an_end_that_has_just_heard_of_a_later_takeover_is_not_outbid() {
    // The heir has told it before this gateway could hear of it.
    let mut sides = [Side::new(0, 11, 0), Side::new(1, 22, 0)];
    live(&mut sides, 0, 10_000, [says(true, 2), follows(2)]);
    assert_eq!(sides[0].exchange.known_for_long(10_000), Some((true, 2)));
    let other = Says { follows: false, ..follows(3) };
    live(&mut sides, 10_000, IDLE, [says(true, 2), other]);
    assert_eq!((sides[0].exchange.known(), sides[0].exchange.known_for_long(10_000 + IDLE)), (Some((false, 3)), None));
    assert_eq!(sides[0].exchange.known_for_long(10_000 + 2 * IDLE), Some((false, 3)));
}
