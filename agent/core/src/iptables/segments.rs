//! The chains of segments: one for each segment that packets may come from.

use std::collections::BTreeSet;

use crate::model::{Realm, Relation, SegmentName, Segments, relation};

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

/// What the rules of segments need.
#[derive(Debug)]
pub(super) struct Chains {
    /// A chain for each segment that settings know, and for the hub's own. The segments that only tags know need none.
    pub each: Vec<Chain>,
    /// Of the segments without a chain the realms of source and destination in one.
    pub among_themselves: Vec<String>,
    /// The realm of the hub's own segment.
    pub hub: Option<String>,
}

impl Chains {
    pub(super) fn of(segments: &Segments) -> Chains {
        let names: BTreeSet<&SegmentName> = segments.reach.keys().chain(&segments.hub).collect();
        let chain = |from: &&SegmentName| {
            let to = |wanted: Relation| {
                let fits = names.iter().filter(|to| relation(&segments.reach, from, to) == wanted);
                fits.flat_map(|to| realms(segments, to)).collect()
            };
            Chain {
                name: (*from).clone(),
                realm: hex(from),
                initiates: to(Relation::Initiate),
                answers: to(Relation::Answer),
            }
        };
        let strangers = segments.strangers.iter().filter(|name| Some(*name) != segments.hub.as_ref());
        let twice = |name: &SegmentName| u32::from(Realm::of(name).number()) * 0x10001;
        Chains {
            each: names.iter().map(chain).collect(),
            among_themselves: strangers.map(|name| format!("{:x}", twice(name))).collect(),
            hub: segments.hub.as_ref().map(hex),
        }
    }
}

fn hex(name: &SegmentName) -> String {
    format!("{:x}", Realm::of(name).number())
}

/// The realms of a segment: the hub's own VPC has 0.
fn realms(segments: &Segments, name: &SegmentName) -> impl Iterator<Item = String> {
    let own = (segments.hub.as_ref() == Some(name)).then(|| "0".to_owned());
    [hex(name)].into_iter().chain(own)
}
