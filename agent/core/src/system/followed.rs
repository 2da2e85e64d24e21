//! Which far gateways are followed by their own word: `followed.json`. `crosswan pair` writes it, a pass strikes out what no longer counts,
//! and wherever it is said how routes should be, the word of a pair at the far end goes before what the last pass has decided.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Routing;
use crate::model::{ConnName, Place, Timestamp};

/// The words that count, by the party that they are of ([`ConnName::party`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Followed(BTreeMap<String, Followee>);

/// The far gateway that a party is reached through, because it said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followee {
    /// The connection to it.
    pub connection: ConnName,
    /// The place of its tunnel.
    pub place: Place,
    /// How many takeovers the pair at the far end has had.
    pub generation: u32,
    /// The networks behind it.
    pub networks: BTreeSet<Ipv4Net>,
    /// When it was followed.
    pub at: Timestamp,
    /// A pass has moved the routes to another one since, as no packet could pass by this one: its word no longer counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overruled: bool,
}

impl fmt::Display for Followee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instance =
            self.connection.gateway().map_or(self.connection.to_string(), |(_, instance)| instance.to_string());
        write!(f, "{instance} by its word: takeover {}", self.generation)
    }
}

impl Followee {
    /// That its word no longer counts, for the end of a line.
    pub fn overruled_in_words(&self) -> &'static str {
        if self.overruled { "; a refresh has overruled that, as no packet could pass there" } else { "" }
    }
}

impl Followed {
    /// All of them, by their party; those too that no longer count.
    pub fn all(&self) -> impl Iterator<Item = (&String, &Followee)> {
        self.0.iter()
    }

    /// Whether nobody is followed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one of a party, whether it counts or not.
    pub fn of(&self, party: &str) -> Option<&Followee> {
        self.0.get(party)
    }

    /// The one of a party whose word counts.
    pub fn counting(&self, party: &str) -> Option<&Followee> {
        self.of(party).filter(|followee| !followee.overruled)
    }

    /// The one behind which a network is, by a word that counts.
    pub fn behind(&self, net: &Ipv4Net) -> Option<&Followee> {
        self.0.values().find(|followee| !followee.overruled && followee.networks.contains(net))
    }

    /// All of them whose words count, by the networks behind them.
    pub fn by_network(&self) -> BTreeMap<Ipv4Net, &Followee> {
        let counting = self.0.values().filter(|followee| !followee.overruled);
        counting.flat_map(|followee| followee.networks.iter().map(move |net| (*net, followee))).collect()
    }

    /// Takes note that a party is reached through `followee`. Returns whether that is new: an earlier word changes nothing.
    pub fn follow(&mut self, party: &str, followee: Followee) -> bool {
        let new = self.of(party).is_none_or(|known| known.generation < followee.generation);
        if new {
            self.0.insert(party.to_owned(), followee);
        }
        new
    }

    /// The routes as they should be: each network that somebody has spoken for leads to that place.
    pub fn over(&self, mut routing: Routing) -> Routing {
        for (net, followee) in self.by_network() {
            if let Some(via) = routing.routes.get_mut(&net) {
                via.place = followee.place;
            }
        }
        routing
    }

    /// The words that `routing` goes against: by party, the generation.
    pub(crate) fn against(&self, routing: &Routing) -> BTreeMap<String, u32> {
        let leads_elsewhere = |followee: &Followee| {
            let mut routes = followee.networks.iter().filter_map(|net| routing.routes.get(net));
            routes.any(|via| via.place != followee.place)
        };
        let counting = self.0.iter().filter(|(_, followee)| !followee.overruled && leads_elsewhere(followee));
        counting.map(|(party, followee)| (party.clone(), followee.generation)).collect()
    }

    /// The same without these words: by party, the generation.
    pub(crate) fn without(&self, overruled: &BTreeMap<String, u32>) -> Followed {
        let mut out = self.clone();
        for (party, followee) in &mut out.0 {
            followee.overruled |= overruled.get(party) == Some(&followee.generation);
        }
        out
    }

    /// Strikes out what no longer counts: the words of `overruled`, each a party with the generation that was overruled, and those of
    /// gateways and networks that are not among `connections`, which tell the networks of each. Returns whether anything has changed.
    pub fn settle(
        &mut self,
        overruled: &BTreeMap<String, u32>,
        networks: impl Fn(&ConnName) -> Option<BTreeSet<Ipv4Net>>,
    ) -> bool {
        let before = std::mem::replace(self, self.without(overruled));
        self.0.retain(|_, followee| {
            let Some(reached) = networks(&followee.connection) else { return false };
            followee.networks.retain(|net| reached.contains(net));
            true
        });
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Via;

    fn followee(n: u32, place: Place, generation: u32) -> Followee {
        let connection = format!("crosswan-vpc-0000000a-i-{n:08x}").parse().unwrap();
        let networks = [net("10.1.0.0/16")].into();
        Followee { connection, place, generation, networks, at: Timestamp(1), overruled: false }
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_word_moves_its_networks_alone_until_it_is_overruled_and_an_old_one_changes_nothing() {
        let mut followed = Followed::default();
        assert!(followed.follow("vpc-0000000a", followee(2, Place::Two, 3)));
        for old in [2, 3] {
            assert!(!followed.follow("vpc-0000000a", followee(1, Place::One, old)), "{old}");
        }
        let text = serde_json::to_string(&followed).unwrap();
        assert_eq!(serde_json::from_str::<Followed>(&text).unwrap(), followed, "{text}");
        let via = Via { place: Place::One, source: [10, 0, 0, 10].into(), realm: None };
        let routing =
            Routing { routes: ["10.1.0.0/16", "10.2.0.0/16"].map(|n| (net(n), via)).into(), ..Routing::default() };
        let places = |followed: &Followed| {
            Vec::from_iter(followed.over(routing.clone()).routes.into_values().map(|via| via.place))
        };
        assert_eq!(places(&followed), [Place::Two, Place::One]);

        let same = |_: &ConnName| Some([net("10.1.0.0/16")].into());
        let mut settled = followed.clone();
        let overruled = |generation| [("vpc-0000000a".to_owned(), generation)].into();
        assert!(!settled.settle(&overruled(2), same), "another word was overruled");
        assert!(settled.settle(&overruled(3), same));
        assert_eq!(places(&settled), [Place::One, Place::One]);
        assert!(!settled.follow("vpc-0000000a", followee(2, Place::Two, 3)), "the same word again");
        assert!(settled.follow("vpc-0000000a", followee(1, Place::Two, 4)), "a later one counts");

        let mut moved = followed.clone();
        assert!(moved.settle(&BTreeMap::new(), |_| Some(BTreeSet::new())), "the network is somebody else's now");
        assert_eq!(places(&moved), [Place::One, Place::One]);
        assert!(followed.settle(&BTreeMap::new(), |_| None), "the gateway is gone");
        assert!(followed.is_empty());
    }
}
