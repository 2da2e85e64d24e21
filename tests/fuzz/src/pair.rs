//! What a member of a pair hears on its UDP port, and what it makes of it.
//!
//! Each byte of the input does one thing: the other member sends a beat or starts anew, so does the listener, an earlier datagram is played
//! again, or foreign bytes arrive; a fuzzer cannot sign. Whatever arrives, nothing counts but what the other member sent since the listener
//! started, each once and in order.

use std::time::Duration;

use crosswan_core::{
    model::{Holder, PrivateKey},
    pair::{Beat, Event, Health, Hearing, LENGTH, Pair, Says, Ways},
};

use crate::{fake, oracle};

const INTERVAL: Duration = Duration::from_millis(100);

/// What happens; `rest` is the input that is left.
struct Scene<'a> {
    rest: &'a [u8],
    now: u64,
    processes: u8,
    key: PrivateKey,
    /// All that the other member has sent.
    sent: Vec<[u8; LENGTH]>,
    sequence: u64,
    session: u64,
    its: Hearing,
    own: Hearing,
    pair: Pair,
    /// The first of `sent` that may count for the listener's process.
    next: usize,
}

impl Scene<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn hearing(&mut self) -> Hearing {
        self.processes = self.processes.wrapping_add(1);
        Hearing::new([self.processes; 32])
    }

    fn send(&mut self, flags: u8) {
        self.sequence += 1;
        let is = |bit: u8| flags & (1 << bit) != 0;
        let health =
            Health { forwards: !is(0), uplink: !is(1), charon: !is(2), ec2: !is(3), tunnels: u16::from(!is(5)) };
        let says = Says { health, holds: is(4), leaving: is(6), interval: INTERVAL, generation: 0, ..Says::default() };
        let (challenge, echo) = (self.its.challenge(), self.its.echo());
        let beat = Beat { says, session: self.session, sequence: self.sequence, challenge, echo };
        let [from, to] = [fake::gateway(1), fake::gateway(2)];
        self.sent.push(beat.signed(&self.key, &from.holder(), &to.instance).unwrap());
    }

    /// Answers with an own beat, which the other member hears.
    fn answer(&mut self, sequence: u64) {
        let [from, to] = [fake::gateway(1), fake::gateway(2)];
        let key = fake::key_pair(2, &to.instance);
        let says = Says { interval: INTERVAL, ..Says::default() };
        let (challenge, echo) = (self.own.challenge(), self.own.echo());
        let beat = Beat { says, session: u64::from(self.processes), sequence, challenge, echo };
        let holder = Holder { vpc: &from.vpc, instance: &to.instance };
        let datagram = beat.signed(&key, &holder, &from.instance).unwrap();
        let _ = self.its.hear(self.now, &datagram, &[key.public], &holder, &from.instance);
    }

    fn hear(&mut self, datagram: &[u8]) {
        let [from, to] = [fake::gateway(1), fake::gateway(2)];
        let Ok(says) = self.own.hear(self.now, datagram, &[self.key.public], &from.holder(), &to.instance) else {
            return;
        };
        let at =
            self.sent.iter().position(|sent| sent == datagram).expect("a beat counts that its sender has not sent");
        assert!(at >= self.next, "a beat counts that was sent before the listener started, or that has counted");
        self.next = at + 1;
        self.pair.on(self.now, Event::Beat(says));
    }
}

pub fn target(data: &[u8]) {
    let key = fake::key_pair(1, &fake::gateway(1).instance);
    let (its, own) = (Hearing::new([254; 32]), Hearing::new([255; 32]));
    let pair = Pair::new(0, INTERVAL, 4);
    let mut scene = Scene {
        rest: data,
        now: 0,
        processes: 0,
        key,
        sent: Vec::new(),
        sequence: 0,
        session: 1,
        its,
        own,
        pair,
        next: 0,
    };
    for step in 1_u64.. {
        let Some(what) = scene.byte() else { break };
        scene.now += 10 * u64::from(what >> 4);
        match what & 7 {
            0 | 1 => {
                let flags = if what & 8 == 0 { 0 } else { scene.byte().unwrap_or_default() };
                scene.send(flags);
                if what & 1 == 0 {
                    let last = *scene.sent.last().unwrap();
                    scene.hear(&last);
                    scene.answer(step);
                }
            }
            2 => {
                let (n, flips) = (scene.byte().unwrap_or_default(), scene.byte().unwrap_or_default());
                if let Some(sent) = scene.sent.get(usize::from(n)).copied() {
                    let mut datagram = sent;
                    datagram[usize::from(flips) % LENGTH] ^= flips & u8::from(what & 8 != 0).wrapping_neg();
                    scene.hear(&datagram);
                }
            }
            3 => {
                let (foreign, rest) = scene.rest.split_at(scene.rest.len().min(LENGTH));
                scene.rest = rest;
                scene.hear(foreign);
            }
            4 => {
                (scene.its, scene.sequence, scene.session) = (scene.hearing(), 0, step << 8);
            }
            5 => {
                scene.own = scene.hearing();
                scene.next = scene.sent.len();
                scene.pair = Pair::new(scene.now, INTERVAL, 4);
            }
            6 if what & 8 == 0 => drop(scene.pair.on(scene.now, Event::Answer)),
            6 => drop(scene.pair.on(scene.now, Event::Silent { asked: scene.now })),
            _ => {
                let ways = Ways { here: usize::from(what & 8 != 0), there: 1, private: 0 };
                let (now, well) =
                    (scene.now, Health { forwards: true, uplink: true, charon: true, ec2: true, tunnels: 1 });
                scene.pair.on(now, Event::Routes { asked: now, ways });
                scene.pair.on(now, Event::Leaving(what >> 4 == 1));
                scene.pair.on(now, Event::Tick(well));
            }
        }
        oracle::line(scene.pair.judgement().to_string());
    }
}
