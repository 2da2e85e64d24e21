//! What tunnels have carried, as counters that outlive each SA. Pure: `crosswan watch` looks, and passes the time in.
//!
//! The kernel counts for each SA, and says once more what an SA has carried when it ends. The sum of both never decreases. If that last
//! word is missed, only what the SA has carried since the look before is missing from the sum ([`Traffic::missed`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// An ESP SA of the kernel, which has one direction: an inbound and an outbound one are a CHILD_SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelSa {
    /// The outer source address.
    pub from: Ipv4Addr,
    /// The outer destination address, with which the SPI is the SA's name.
    pub to: Ipv4Addr,
    /// The SPI.
    pub spi: u32,
    /// What it has carried.
    pub count: Count,
}

/// What was carried: the packets inside of ESP, and their bytes with the inner IP header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// The sum of all looks. It is written to a file after each, so that the next `crosswan watch` goes on from there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// When the kernel was asked last.
    pub at: Timestamp,
    /// How often the kernel had more to say about ended SAs than there was room for.
    pub missed: u64,
    /// What ended SAs have carried, by their outer addresses.
    ended: Vec<(Ipv4Addr, Ipv4Addr, Count)>,
    /// The SAs at the last look.
    live: Vec<KernelSa>,
}

impl KernelSa {
    fn name(&self) -> (Ipv4Addr, u32) {
        (self.to, self.spi)
    }
}

impl Count {
    fn add(&mut self, other: Count) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.packets = self.packets.saturating_add(other.packets);
    }

    /// Whether this can be a later count of the SA that has counted `before`.
    fn follows(&self, before: Count) -> bool {
        self.bytes >= before.bytes && self.packets >= before.packets
    }
}

impl Traffic {
    /// Takes one look into account: the SAs that the kernel has listed, and those that have ended since the look before, with their last
    /// counts. What ended while the list was made may be in both.
    pub fn look(&mut self, now: Timestamp, listed: Vec<KernelSa>, ended: &[KernelSa]) {
        self.at = now;
        let gone: BTreeSet<_> = ended.iter().map(KernelSa::name).collect();
        let listed: BTreeMap<_, _> =
            listed.into_iter().map(|sa| (sa.name(), sa)).filter(|(name, _)| !gone.contains(name)).collect();
        let mut last: BTreeMap<_, Vec<Count>> = BTreeMap::new();
        ended.iter().for_each(|sa| last.entry(sa.name()).or_default().push(sa.count));
        // An SA of which neither source has a later count has ended unheard, or another one has its SPI now.
        let unheard = |sa: &KernelSa| {
            let lives = listed.get(&sa.name()).is_some_and(|now| now.count.follows(sa.count));
            !lives && !last.get(&sa.name()).is_some_and(|all| all.iter().any(|end| end.follows(sa.count)))
        };
        let mut sums: BTreeMap<_, Count> = self.ended.iter().map(|&(from, to, count)| ((from, to), count)).collect();
        for sa in self.live.iter().filter(|sa| unheard(sa)).chain(ended) {
            sums.entry((sa.from, sa.to)).or_default().add(sa.count);
        }
        self.ended = sums.into_iter().map(|((from, to), count)| (from, to, count)).collect();
        self.live = listed.into_values().collect();
    }

    /// What came from each address and what went to it. A peer that is missing has had no tunnel.
    pub fn by_address(&self) -> BTreeMap<Ipv4Addr, (Count, Count)> {
        let mut all: BTreeMap<Ipv4Addr, (Count, Count)> = BTreeMap::new();
        let live = self.live.iter().map(|sa| (sa.from, sa.to, sa.count));
        for (from, to, count) in self.ended.iter().copied().chain(live) {
            all.entry(from).or_default().0.add(count);
            all.entry(to).or_default().1.add(count);
        }
        all
    }
}

#[cfg(test)]
mod tests;
