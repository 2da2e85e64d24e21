//! The chains of segments: one for each segment that packets may come from.

use std::collections::BTreeSet;

use crate::model::{Realm, Relation, SegmentName, Segments};

/// The chain of the packets from one segment, as the template writes it. Realms are in hex, as iptables-save prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub name: SegmentName,
    pub realm: String,
    /// The realms to which everything may go.
    pub initiates: Vec<String>,
    /// The realms to which answers may go.
    pub answers: Vec<String>,
}

/// The chains of the segments that settings know, and of the hub's own. The segments that only tags know need none.
pub(super) fn chains(segments: &Segments) -> Vec<Chain> {
    let names: BTreeSet<&SegmentName> = segments.reach.keys().chain(&segments.hub).collect();
    let chain = |from: &&SegmentName| {
        let to = |wanted: Relation| {
            let fits = names.iter().filter(|to| segments.relation(from, to) == wanted);
            fits.flat_map(|to| realms(segments, to)).collect()
        };
        Chain {
            name: (*from).clone(),
            realm: hex(from),
            initiates: to(Relation::Initiate),
            answers: to(Relation::Answer),
        }
    };
    names.iter().map(chain).collect()
}

/// Of the segments without a chain the realms of source and destination in one.
pub(super) fn among_themselves(segments: &Segments) -> Vec<String> {
    let strangers = segments.strangers.iter().filter(|name| Some(*name) != segments.hub.as_ref());
    let twice = |name: &SegmentName| u32::from(Realm::of(name).number()) * 0x10001;
    strangers.map(|name| format!("{:x}", twice(name))).collect()
}

pub(super) fn hex(name: &SegmentName) -> String {
    format!("{:x}", Realm::of(name).number())
}

/// The realms of a segment: the hub's own VPC has 0.
fn realms(segments: &Segments, name: &SegmentName) -> impl Iterator<Item = String> {
    let own = (segments.hub.as_ref() == Some(name)).then(|| "0".to_owned());
    [hex(name)].into_iter().chain(own)
}
