//! Which datagrams count.

use std::time::Duration;

use crate::{
    model::{
        Holder, InstanceId, PrivateKey, VpcId,
        private_key::tests::{holder, key_pair},
    },
    pair::{Beat, Health, Hearing, LENGTH, Refused, Says, Unverified},
};

const WELL: Health = Health { forwards: true, uplink: true, charon: true, ec2: true, tunnels: 1 };
const SAYS: Says = Says {
    health: WELL,
    holds: true,
    leaving: false,
    interval: Duration::from_millis(100),
    generation: 7,
    follows: false,
    known: 0,
    asks: false,
};

/// A member's process: what it sends, and what it has heard.
struct Member {
    vpc: VpcId,
    instance: InstanceId,
    key: PrivateKey,
    session: u64,
    sequence: u64,
    hearing: Hearing,
}

impl Member {
    /// Process `session` of member `n`. Both members are in one VPC.
    fn new(n: u8, session: u64) -> Member {
        let seed = [u8::try_from(session).unwrap(); 32];
        let hearing = Hearing::new(seed);
        Member { vpc: holder(9).0, instance: holder(n.into()).1, key: key_pair(n), session, sequence: 0, hearing }
    }

    fn beat(&mut self, to: &InstanceId) -> [u8; LENGTH] {
        self.sequence += 1;
        let (challenge, echo) = (self.hearing.challenge(), self.hearing.echo());
        let beat = Beat { says: SAYS, session: self.session, sequence: self.sequence, challenge, echo };
        beat.signed(&self.key, &Holder { vpc: &self.vpc, instance: &self.instance }, to).unwrap()
    }

    fn hears(&mut self, from: &Member, datagram: &[u8]) -> Result<Says, Refused> {
        self.hears_at(0, from, datagram)
    }

    fn hears_at(&mut self, now: u64, from: &Member, datagram: &[u8]) -> Result<Says, Refused> {
        let holder = Holder { vpc: &self.vpc, instance: &from.instance };
        self.hearing.hear(now, datagram, &[from.key.public], &holder, &self.instance)
    }
}

/// Both send a beat, one after the other, and hear it. Returns what each made of it.
fn exchange(a: &mut Member, b: &mut Member) -> [Result<Says, Refused>; 2] {
    let from_a = a.beat(&b.instance);
    let by_b = b.hears(a, &from_a);
    let from_b = b.beat(&a.instance);
    [by_b, a.hears(b, &from_b)]
}

fn pair() -> [Member; 2] {
    let [mut a, mut b] = [Member::new(1, 11), Member::new(2, 22)];
    assert_eq!(
        exchange(&mut a, &mut b),
        [Err(Refused::Unproven), Ok(SAYS)],
        "b knows the challenge of a, and not yet the reverse"
    );
    assert_eq!(exchange(&mut a, &mut b), [Ok(SAYS), Ok(SAYS)]);
    [a, b]
}

#[test]
fn a_beat_says_what_was_put_into_it_and_every_bit_is_signed() {
    let [mut a, mut b] = pair();
    for health in
        [WELL, Health::default(), Health { charon: false, ..WELL }, Health { tunnels: 0x090a, ..Health::default() }]
    {
        let interval = Duration::from_millis(1500);
        let says = Says {
            health,
            holds: false,
            leaving: true,
            interval,
            generation: 0x0102_0304,
            follows: true,
            known: 0x0506_0708,
            asks: true,
        };
        let beat = Beat { says, session: 7, sequence: 8, challenge: 9, echo: 10 };
        let datagram = beat.signed(&a.key, &Holder { vpc: &a.vpc, instance: &a.instance }, &b.instance).unwrap();
        assert_eq!(Unverified::read(&datagram).unwrap().beat, beat);
    }
    let good = a.beat(&b.instance);
    for bit in 0..LENGTH * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        // In a window of its own, or the bound on signatures would refuse it.
        let heard = b.hears_at(bit as u64 * 1000, &a, &bad);
        assert!(
            matches!(heard, Err(Refused::Forged | Refused::Unreadable | Refused::Repeated)),
            "bit {bit}: {heard:?}"
        );
    }
    for bad in [&good[..LENGTH - 1], &[&good[..], &[0]].concat(), &[]] {
        assert_eq!(b.hears(&a, bad), Err(Refused::Unreadable));
    }
    assert_eq!(b.hears(&a, &good), Ok(SAYS), "the attempts have not kept the real one out");
}

#[test]
fn a_beat_counts_for_one_sender_and_one_receiver_of_one_vpc() {
    let [mut a, mut b] = pair();
    let third = Member::new(3, 33);
    let to_third = a.beat(&third.instance);
    assert_eq!(b.hears(&a, &to_third), Err(Refused::Forged), "sent to another member");
    let mut elsewhere = Member { vpc: holder(8).0, session: a.session, ..Member::new(1, 11) };
    elsewhere.sequence = 100;
    let from_elsewhere = elsewhere.beat(&b.instance);
    assert_eq!(b.hears(&a, &from_elsewhere), Err(Refused::Forged), "signed for another VPC");
    let own = b.beat(&a.instance);
    assert_eq!(b.hears(&a, &own), Err(Refused::Forged), "reflected");
    let mut stranger = Member { instance: a.instance.clone(), session: a.session, sequence: 100, ..Member::new(3, 33) };
    let forged = stranger.beat(&b.instance);
    assert_eq!(b.hears(&a, &forged), Err(Refused::Forged), "signed by another key");
}

#[test]
fn nothing_that_was_recorded_counts_again_whoever_has_started_anew_since() {
    let [mut a, mut b] = pair();
    let mut recorded: Vec<_> = (0..5).map(|_| a.beat(&b.instance)).collect();
    for beat in &recorded {
        assert_eq!(b.hears(&a, beat), Ok(SAYS));
    }
    for beat in &recorded {
        assert_eq!(b.hears(&a, beat), Err(Refused::Repeated));
    }
    // The sender starts anew: its first beat is none that counts, and then it is heard again.
    let mut a = Member::new(1, 44);
    assert_eq!(exchange(&mut a, &mut b), [Err(Refused::Unproven), Ok(SAYS)]);
    assert_eq!(exchange(&mut a, &mut b), [Ok(SAYS), Ok(SAYS)]);
    // What its former process has sent, and never arrived, does not count either.
    let mut former = Member { sequence: 100, ..Member::new(1, 11) };
    former.hearing = Hearing::new([11; 32]);
    recorded.push(former.beat(&b.instance));
    for beat in &recorded {
        assert_eq!(b.hears(&a, beat), Err(Refused::Unproven));
    }
    assert_eq!(exchange(&mut a, &mut b), [Ok(SAYS), Ok(SAYS)], "replays keep no real beat out");
    // The receiver starts anew, and everything ever sent is played to it.
    recorded.extend((0..5).map(|_| a.beat(&b.instance)));
    let mut b = Member::new(2, 55);
    for (second, beat) in recorded.iter().enumerate() {
        assert_eq!(b.hears_at(second as u64 * 1000, &a, beat), Err(Refused::Unproven));
    }
    // That leaves it with an old challenge to bring back, until the next real beat.
    let _ = exchange(&mut a, &mut b);
    assert_eq!(exchange(&mut a, &mut b), [Ok(SAYS), Ok(SAYS)]);
}

#[test]
fn a_flood_of_strangers_costs_a_bounded_number_of_signatures_and_does_not_keep_beats_out() {
    let [mut a, mut b] = pair();
    let forged: Vec<_> =
        (0..1000_u64).map(|n| Member { session: 1000 + n, ..Member::new(1, 11) }.beat_of(3, &b.instance)).collect();
    let refused: Vec<_> = forged.iter().map(|beat| b.hears(&a, beat).unwrap_err()).collect();
    let checked = refused.iter().filter(|why| **why == Refused::Forged).count();
    assert!(
        (1..=20).contains(&checked) && refused.iter().filter(|why| **why == Refused::TooMany).count() == 1000 - checked
    );
    assert_eq!(exchange(&mut a, &mut b)[0], Ok(SAYS), "in the same second");
}

impl Member {
    /// A beat signed by key pair `n` instead of its own.
    fn beat_of(mut self, n: u8, to: &InstanceId) -> [u8; LENGTH] {
        self.key = key_pair(n);
        self.beat(to)
    }
}

#[test]
fn no_other_statement_of_a_key_is_a_beat() {
    let [a, b] = pair();
    let from = Holder { vpc: &a.vpc, instance: &a.instance };
    let proven = a.key.proven(&from).unwrap();
    let beat =
        Beat { says: SAYS, session: 1, sequence: 1, challenge: 1, echo: 1 }.signed(&a.key, &from, &b.instance).unwrap();
    let mut bad = beat;
    bad[LENGTH - 64..].copy_from_slice(proven.proof.bytes());
    assert!(Unverified::read(&beat).unwrap().is_by(&[a.key.public], &from, &b.instance));
    assert!(!Unverified::read(&bad).unwrap().is_by(&[a.key.public], &from, &b.instance));
    assert!(!Unverified::read(&beat).unwrap().is_by(&[], &from, &b.instance), "a member without a key");
}
