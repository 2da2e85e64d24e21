//! A beat: one UDP datagram of fixed size from one member to the other, or between the two ends of a tunnel.
//!
//! | bytes | hold |
//! |---|---|
//! | 0..4 | `cwb`, and the version: 3 |
//! | 4..6 | flags: [`Health`], whether the sender is the one to be used, whether it hands over, whether its own route leads to the receiver, and whether it asks for an answer; unknown ones mean nothing |
//! | 6..8 | the sender's interval, in milliseconds |
//! | 8..16 | the sender's session: a random number of its process |
//! | 16..24 | the number of the beat in that session, from 1 |
//! | 24..32 | a challenge: a random number that proves to the sender, once it comes back, that the answer is not an old one |
//! | 32..40 | the challenge that the sender has heard last from the receiver; 0 before that |
//! | 40..44 | the generation: how many takeovers the sender's pair has had, as far as it knows |
//! | 44..48 | the same of the receiver's pair, between the ends of a tunnel |
//! | 48..50 | to how many parties the sender's tunnels carry packets |
//! | 50..114 | the sender's Ed25519 signature of all this, its instance and VPC, and the receiver's instance; inside a tunnel of this and the
//!   IKE identities of both ends |
//!
//! Numbers are big-endian. The signed text is one of `model::signature`, so nothing else that a key signs can be taken for a beat.

use std::time::Duration;

use super::Health;
use crate::model::{Holder, InstanceId, PrivateKey, PublicKey, Signature, signature};

/// The bytes of a beat with its signature.
pub const LENGTH: usize = BODY + 64;
const BODY: usize = 50;
/// What a beat begins with: three letters and the version.
const MAGIC: [u8; 4] = [b'c', b'w', b'b', 3];

const FORWARDS: u16 = 1;
const UPLINK: u16 = 1 << 1;
const CHARON: u16 = 1 << 2;
const EC2: u16 = 1 << 3;
const HOLDS: u16 = 1 << 4;
const LEAVING: u16 = 1 << 5;
const FOLLOWS: u16 = 1 << 6;
const ASKS: u16 = 1 << 7;

/// What a member tells about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Says {
    /// How it is.
    pub health: Health,
    /// Whether it is the one to be used, of its pair: routes lead to it, or it takes over.
    pub holds: bool,
    /// Whether it hands over: the other member is to take its routes.
    pub leaving: bool,
    /// The time between its beats, 1 to 65,535 ms.
    pub interval: Duration,
    /// How many takeovers its pair has had, as far as it knows.
    pub generation: u32,
    /// Whether its own route leads to the receiver, at the other end of a tunnel.
    pub follows: bool,
    /// How many takeovers the receiver's pair has had, as far as it knows, at the other end of a tunnel.
    pub known: u32,
    /// Whether the receiver is to answer at once, at the other end of a tunnel.
    pub asks: bool,
}

/// A beat without its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// What the sender tells about itself.
    pub says: Says,
    /// A number of the sender's process.
    pub session: u64,
    /// The number of the beat in its session.
    pub sequence: u64,
    /// What the receiver is to send back.
    pub challenge: u64,
    /// What the receiver has sent as its challenge, as far as the sender knows.
    pub echo: u64,
}

impl Beat {
    /// The datagram from the holder of `key` to the instance `to`; `None` if the key's text cannot be read.
    pub fn signed(&self, key: &PrivateKey, from: &Holder<'_>, to: &InstanceId) -> Option<[u8; LENGTH]> {
        let mut datagram = [0; LENGTH];
        datagram[..BODY].copy_from_slice(&self.body());
        let signature = key.sign(&signature::beat(&datagram[..BODY], from, to))?;
        datagram[BODY..].copy_from_slice(signature.bytes());
        Some(datagram)
    }

    /// The datagram from the end `from` of a tunnel, which has `key`, to its other end.
    pub fn signed_in_tunnel(&self, key: &PrivateKey, from: &str, to: &str) -> Option<[u8; LENGTH]> {
        let mut datagram = [0; LENGTH];
        datagram[..BODY].copy_from_slice(&self.body());
        let signature = key.sign(&signature::beat_in_tunnel(&datagram[..BODY], from, to))?;
        datagram[BODY..].copy_from_slice(signature.bytes());
        Some(datagram)
    }

    fn body(&self) -> [u8; BODY] {
        let Says { health, holds, leaving, interval, generation, follows, known, asks } = self.says;
        let flag = |is: bool, flag: u16| if is { flag } else { 0 };
        let flags = flag(health.forwards, FORWARDS)
            | flag(health.uplink, UPLINK)
            | flag(health.charon, CHARON)
            | flag(health.ec2, EC2)
            | flag(holds, HOLDS)
            | flag(leaving, LEAVING)
            | flag(follows, FOLLOWS)
            | flag(asks, ASKS);
        let interval = u16::try_from(interval.as_millis()).unwrap_or(u16::MAX);
        let mut body = [0; BODY];
        body[..4].copy_from_slice(&MAGIC);
        body[4..6].copy_from_slice(&flags.to_be_bytes());
        body[6..8].copy_from_slice(&interval.to_be_bytes());
        for (at, number) in [self.session, self.sequence, self.challenge, self.echo].into_iter().enumerate() {
            body[8 + 8 * at..16 + 8 * at].copy_from_slice(&number.to_be_bytes());
        }
        body[40..44].copy_from_slice(&generation.to_be_bytes());
        body[44..48].copy_from_slice(&known.to_be_bytes());
        body[48..].copy_from_slice(&health.tunnels.to_be_bytes());
        body
    }
}

/// A datagram that has the form of a beat, and that anybody may have sent.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// What it says.
    pub beat: Beat,
    body: &'a [u8],
    signature: Signature,
}

impl<'a> Unverified<'a> {
    /// Reads a datagram. `None` if it is of another size, kind or version, or has an interval of 0.
    pub fn read(datagram: &'a [u8]) -> Option<Self> {
        let datagram: &[u8; LENGTH] = datagram.try_into().ok()?;
        let (body, signature) = datagram.split_at(BODY);
        let short = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let number = |at: usize| Some(u64::from_be_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let (flags, interval) = (short(4), short(6));
        if body[..4] != MAGIC || interval == 0 {
            return None;
        }
        let is = |flag: u16| flags & flag != 0;
        let (forwards, uplink, charon, ec2) = (is(FORWARDS), is(UPLINK), is(CHARON), is(EC2));
        let health = Health { forwards, uplink, charon, ec2, tunnels: short(48) };
        let takeovers = |at: usize| Some(u32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let (generation, known) = (takeovers(40)?, takeovers(44)?);
        let interval = Duration::from_millis(interval.into());
        let (holds, leaving, follows, asks) = (is(HOLDS), is(LEAVING), is(FOLLOWS), is(ASKS));
        let says = Says { health, holds, leaving, interval, generation, follows, known, asks };
        let (session, sequence) = (number(8)?, number(16)?);
        let beat = Beat { says, session, sequence, challenge: number(24)?, echo: number(32)? };
        Some(Unverified { beat, body, signature: Signature::new(signature.try_into().ok()?) })
    }

    /// Whether the member `from`, who has one of these keys, has signed it for the instance `to`. It takes about 100 µs a key.
    pub fn is_by(&self, keys: &[PublicKey], from: &Holder<'_>, to: &InstanceId) -> bool {
        let text = signature::beat(self.body, from, to);
        keys.iter().any(|key| self.signature.is_by(key, &text))
    }

    /// Whether the end `from` of a tunnel, which has one of these keys, has signed it for the end `to`.
    pub fn is_by_end(&self, keys: &[PublicKey], from: &str, to: &str) -> bool {
        let text = signature::beat_in_tunnel(self.body, from, to);
        keys.iter().any(|key| self.signature.is_by(key, &text))
    }
}
