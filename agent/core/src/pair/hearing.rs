//! Which datagrams count as beats of the other member.
//!
//! A session counts once one of its beats brings back the challenge that was sent last, and another challenge is sent from then on: so no
//! recorded beat of an earlier session ever counts again. Within a session each beat has a higher number than the one before. Neither
//! needs a clock or a file, and a member that starts anew is heard again after two beats of each.
//!
//! What costs nothing is looked at first, and the signatures that are checked in a second are bounded, so that a flood costs less than a
//! hundredth of a processor. It may keep beats from being heard: then the other member's kernel is asked, and nothing moves.

use std::fmt;

use ring::digest::{SHA256, digest};

use super::{Says, Unverified};
use crate::model::{Holder, InstanceId, PublicKey};

/// The signatures that are checked in a second: of the session that counts, and of all others together.
const CHECKS: [u32; 2] = [60, 20];
const SECOND: u64 = 1000;

/// Why a datagram is no beat that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// It is of another size, kind or version.
    Unreadable,
    /// Its number has been heard in this session, or a higher one.
    Repeated,
    /// Too many signatures have been checked in this second.
    TooMany,
    /// Its signature is not by the member's key for this receiver.
    Forged,
    /// It came out of a tunnel, and not from the gateway at its other end.
    Stranger,
    /// By charon no packet can pass through that tunnel.
    NoTunnel,
    /// It is of another session and does not bring back the challenge: recorded earlier, or the first beats of a member that has started.
    Unproven,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Unreadable => "unreadable",
            Refused::Repeated => "repeated",
            Refused::TooMany => "too many",
            Refused::Forged => "forged",
            Refused::Stranger => "not sent by the gateway at its other end",
            Refused::NoTunnel => "charon shows no tunnel there that carries packets",
            Refused::Unproven => "of no session that is proven",
        })
    }
}

/// What has been heard of one member.
#[derive(Debug)]
pub struct Hearing {
    seed: [u8; 32],
    /// How many sessions have counted.
    accepted: u64,
    /// The session that counts and the number of its last beat.
    session: Option<(u64, u64)>,
    /// The challenge of the last beat with a good signature.
    echo: u64,
    /// The second in which signatures are counted, and how many were checked in it.
    window: (u64, [u32; 2]),
}

impl Hearing {
    /// Nothing has been heard yet. `seed` is random, and nobody else knows it.
    pub fn new(seed: [u8; 32]) -> Hearing {
        Hearing { seed, accepted: 0, session: None, echo: 0, window: (0, [0; 2]) }
    }

    /// The challenge that own beats carry now.
    pub fn challenge(&self) -> u64 {
        let digest = digest(&SHA256, &[&self.seed[..], &self.accepted.to_be_bytes()].concat());
        let first = digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        // 0 says that nothing has been heard.
        first.max(1)
    }

    /// The challenge of the other member that own beats bring back; 0 if none has been heard.
    pub fn echo(&self) -> u64 {
        self.echo
    }

    /// Looks at a datagram that came from the address of the member `from`, who may sign with `keys`; `to` is the own instance. Returns what
    /// the member says, if the beat counts.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn hear(
        &mut self,
        now: u64,
        datagram: &[u8],
        keys: &[PublicKey],
        from: &Holder<'_>,
        to: &InstanceId,
    ) -> Result<Says, Refused> {
        self.hear_signed(now, datagram, |unverified| unverified.is_by(keys, from, to)).map(|(says, _)| says)
    }

    /// The same for what came out of a tunnel, whose other end `from` may sign with `keys`; `to` is this end. Also returns whether the
    /// session counts only since this beat.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn hear_in_tunnel(
        &mut self,
        now: u64,
        datagram: &[u8],
        keys: &[PublicKey],
        from: &str,
        to: &str,
    ) -> Result<(Says, bool), Refused> {
        self.hear_signed(now, datagram, |unverified| unverified.is_by_end(keys, from, to))
    }

    fn hear_signed(
        &mut self,
        now: u64,
        datagram: &[u8],
        is_signed: impl FnOnce(&Unverified<'_>) -> bool,
    ) -> Result<(Says, bool), Refused> {
        let unverified = Unverified::read(datagram).ok_or(Refused::Unreadable)?;
        let beat = unverified.beat;
        let last = self.session.filter(|(session, _)| *session == beat.session).map(|(_, last)| last);
        if last.is_some_and(|last| beat.sequence <= last) {
            return Err(Refused::Repeated);
        }
        if self.window.0 != now / SECOND {
            self.window = (now / SECOND, [0; 2]);
        }
        let kind = usize::from(last.is_none());
        self.window.1[kind] += 1;
        if self.window.1[kind] > CHECKS[kind] {
            return Err(Refused::TooMany);
        }
        if !is_signed(&unverified) {
            return Err(Refused::Forged);
        }
        self.echo = beat.challenge;
        if last.is_none() {
            if beat.echo != self.challenge() {
                return Err(Refused::Unproven);
            }
            self.accepted += 1;
        }
        self.session = Some((beat.session, beat.sequence));
        Ok((beat.says, last.is_none()))
    }
}
