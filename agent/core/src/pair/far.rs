//! The other end of a tunnel, and the beats that the two ends exchange inside it.
//!
//! Each says whether it is the member of its pair to be used, and which takeover of the other end's pair it knows. An end says what it has
//! to say every [`IDLE`], as all that counts is what changes: then it says it at once, and again until the other end is seen to know it. The
//! end that has started anew, or asks, is answered at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{Beat, Hearing, Refused, Says, Word};
use crate::{
    model::{ConnName, InstanceId, Place, PublicKey},
    swanctl::{self, Summary, peer_keys, place},
};

/// The time between two beats of an end that has nothing new to say, in milliseconds. For 2,000 gateways at the far ends of a hub that are
/// 400 beats a second to sign and as many to check, at 30 and 90 µs each: 5 % of a core.
pub const IDLE: u64 = 5_000;
/// What is new and not known to have been heard is said again after this time, in milliseconds, then after twice as long, and so often. A hub's
/// thousand clients answer in one moment, so that many answers are lost, and none of them reaches a hub that is dead.
const AGAIN: u64 = 100;
const TIMES: u32 = 6;
/// An answer follows the beat before no sooner than this.
const ANSWER: u64 = 20;

/// The other end of a tunnel, as the file of connections has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarEnd {
    /// The connection.
    pub name: ConnName,
    /// The place, which tells the interface.
    pub place: Place,
    /// This gateway's private address, from which beats are sent.
    pub local: Ipv4Addr,
    /// The other end's private address, where EC2 shows it: on a hub.
    pub address: Option<Ipv4Addr>,
    /// The IKE identities of this end and of the other one, as they stand in the file.
    pub ids: [String; 2],
    /// The keys that the other end may sign with.
    pub keys: Vec<PublicKey>,
    /// The networks behind the other end.
    pub networks: BTreeSet<Ipv4Net>,
}

/// The ends of the tunnels in the text of the file of connections, those with keys. `address` knows the private address of an instance.
///
/// These are only the gateways of VPCs with two of them, and the hubs where there are two, as of one alone nobody has to know which is used;
/// all of them on a `member` of a pair, which has something to say itself.
pub fn far_ends(connections: &str, member: bool, address: impl Fn(&InstanceId) -> Option<Ipv4Addr>) -> Vec<FarEnd> {
    let tree = swanctl::parse(connections).unwrap_or_default();
    let end = |(name, tree): (String, swanctl::Tree)| {
        let name = name.parse().ok().filter(|name: &ConnName| name.other_hub().is_none())?;
        let Summary { local_addrs, local_id, remote_id, children, .. } = Summary::of(&tree);
        let networks = children.values().flat_map(|child| &child.remote_ts).filter_map(|net| net.parse().ok());
        let gateway = name.gateway();
        Some(FarEnd {
            place: place(&tree)?,
            local: local_addrs.first()?.parse().ok()?,
            address: gateway.as_ref().and_then(|(_, instance)| address(instance)),
            ids: [local_id?, remote_id?],
            keys: Some(peer_keys(&tree)).filter(|keys| !keys.is_empty())?,
            networks: networks.collect(),
            name,
        })
    };
    let ends: Vec<FarEnd> = swanctl::connections(tree).into_iter().filter_map(end).collect();
    let mut places: BTreeMap<String, BTreeSet<Place>> = BTreeMap::new();
    for end in &ends {
        places.entry(end.name.party().to_owned()).or_default().insert(end.place);
    }
    ends.into_iter().filter(|end| member || places[end.name.party()].len() > 1).collect()
}

/// What counts of what an end says: whether it is to be used, and by which takeover; whether it follows the other end, and by which.
type Words = [(bool, u32); 2];

/// The exchange of beats with one far end.
#[derive(Debug)]
pub struct Exchange {
    hearing: Hearing,
    session: u64,
    sequence: u64,
    said: Option<Words>,
    heard: Option<Words>,
    /// Since when the other end says that.
    since: u64,
    sent: Option<u64>,
    due: u64,
    /// So many times what is new is said again.
    again: u32,
    /// The next beat asks for an answer.
    asks: bool,
}

impl Word {
    /// The takeover to speak of to an end that knows `known` of this pair: whether it follows this gateway, and how many takeovers. One that
    /// has heard of a later one, of which most do not know, is told of one more, or it would never follow.
    pub fn for_end(&self, known: Option<(bool, u32)>) -> u32 {
        match known {
            Some((false, known)) if self.mine && known > self.generation => known.saturating_add(1),
            _ => self.generation,
        }
    }
}

impl Exchange {
    /// At `now` nothing was said or heard. `seed` is random and nobody else knows it; `session` is the number of this process. The first
    /// beat is due within [`IDLE`]/10, at a time that `seed` tells, so that not all are sent at once.
    pub fn new(now: u64, seed: [u8; 32], session: u64) -> Exchange {
        let due = now + u64::from(seed[0]) * IDLE / 10 / 256;
        let hearing = Hearing::new(seed);
        Exchange {
            hearing,
            session,
            sequence: 0,
            said: None,
            heard: None,
            since: now,
            sent: None,
            due,
            again: 0,
            asks: false,
        }
    }

    /// The beat that is due at `now`, if one is; `says` is what this end has to say then.
    pub fn beat(&mut self, now: u64, says: Says) -> Option<Beat> {
        let word = words(&says);
        // Who is not followed any more is told so when it is time. A thousand clients would tell it to a hub that is dead, again and again.
        if self.said.is_some_and(|said| said[0] != word[0] || said != word && says.follows) {
            (self.due, self.again) = (now, TIMES);
        }
        if now < self.due {
            return None;
        }
        // The other end knows it, and nothing is known here of its own pair that it does not know itself.
        if self.heard.is_some_and(|[(_, own), (_, known)]| known >= says.generation && own >= says.known) {
            self.again = 0;
        }
        self.due = now + if self.again > 0 { AGAIN << (TIMES - self.again) } else { IDLE };
        self.again = self.again.saturating_sub(1);
        self.sequence += 1;
        (self.said, self.sent) = (Some(word), Some(now));
        let (challenge, echo) = (self.hearing.challenge(), self.hearing.echo());
        let says = Says { asks: std::mem::take(&mut self.asks), ..says };
        Some(Beat { says, session: self.session, sequence: self.sequence, challenge, echo })
    }

    /// Asks the other end at `now` for its word, though nothing is new: whoever answers is reached.
    pub fn ask(&mut self, now: u64) {
        (self.asks, self.due) = (true, now);
    }

    /// Whether the other end follows this one, and how many takeovers of this end's pair it knows; `None` if it was not heard yet.
    pub fn known(&self) -> Option<(bool, u32)> {
        self.heard.map(|[_, known]| known)
    }

    /// The same, if it has said so for [`IDLE`]. Until then it may know a takeover of which this gateway is about to hear from the other member.
    pub fn known_for_long(&self, now: u64) -> Option<(bool, u32)> {
        self.known().filter(|_| now.saturating_sub(self.since) >= IDLE)
    }

    /// What a datagram that came from the address of `end` says, if it counts. One that is new, asks for that, or is of a process that has just
    /// started, is answered at once.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn hear(&mut self, now: u64, datagram: &[u8], end: &FarEnd) -> Result<Says, Refused> {
        let [own, other] = &end.ids;
        let heard = self.hearing.hear_in_tunnel(now, datagram, &end.keys, other, own);
        let answer = match &heard {
            Ok((says, first)) => {
                let word = words(says);
                let new = self.heard.replace(word) != Some(word);
                if new {
                    self.since = now;
                }
                new || *first || says.asks
            }
            Err(why) => *why == Refused::Unproven,
        };
        if answer {
            self.due = self.due.min(self.sent.map_or(now, |sent| now.max(sent + ANSWER)));
        }
        heard.map(|(says, _)| says)
    }
}

/// Of how many takeovers more than half of all parties know, each of which says its number and whether it follows this gateway; and whether
/// most of those that say that number follow it. So a few of them that lie, or whom nobody else has heard, neither move anything nor keep the
/// others from hearing of the next one.
pub fn known_by_most(mut said: Vec<(u32, bool)>) -> (u32, bool) {
    said.sort_unstable();
    // With an even number this is the lower one of the two in the middle.
    let known = said.get(said.len().saturating_sub(1) / 2).map_or(0, |(known, _)| *known);
    let most = |follows| said.iter().filter(|word| **word == (known, follows)).count();
    (known, most(true) > most(false))
}

fn words(says: &Says) -> Words {
    [(says.holds, says.generation), (says.follows, says.known)]
}
