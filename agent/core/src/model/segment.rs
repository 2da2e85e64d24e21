//! Segments of the network: which VPCs may reach which, and the numbers by which routes and rules tell them apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{SegmentName, plain, printable};

/// What the tag of a VPC says: the name of its segment, or a text that is none, safe to print. A VPC without the tag is in the segment
/// `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct SegmentTag(String);

impl SegmentTag {
    /// Of the tag's value in EC2; `None` if the VPC has no such tag.
    pub fn of(value: Option<&str>) -> SegmentTag {
        let Some(value) = value else { return SegmentTag(SegmentName::default().into()) };
        SegmentTag(value.parse().map_or_else(|_| printable(value), |name: SegmentName| name.into()))
    }

    /// The segment; `None` if the value is no segment's name.
    pub fn name(&self) -> Option<SegmentName> {
        self.0.parse().ok()
    }
}

impl From<String> for SegmentTag {
    fn from(text: String) -> SegmentTag {
        SegmentTag(plain(&text))
    }
}

impl From<SegmentTag> for String {
    fn from(tag: SegmentTag) -> String {
        tag.0
    }
}

impl fmt::Display for SegmentTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The realm of a segment's routes, 1 to 65535. It depends on nothing but the name, so that no route changes when segments come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Realm(u16);

impl Realm {
    /// The realm of VPCs that are in no segment: no rule lets it pass. No name has it.
    pub const NOBODY: Realm = Realm(u16::MAX);

    /// The realm of a segment: of the SHA-256 of its name the first two bytes, without 0, which is that of all other routes.
    pub fn of(name: &SegmentName) -> Realm {
        let sum = digest(&SHA256, name.as_str().as_bytes());
        let [high, low, ..] = *sum.as_ref() else { return Realm::NOBODY };
        Realm(1 + u16::from_be_bytes([high, low]) % (u16::MAX - 1))
    }

    /// The realm with this number, as the kernel tells it; `None` for 0, and for two numbers in one.
    pub fn new(number: u32) -> Option<Realm> {
        u16::try_from(number).ok().filter(|number| *number != 0).map(Realm)
    }

    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Realm {
    /// As iptables-save prints it: `0x1a2b`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// Who may initiate to whom, as settings say: the segments by their names, each with those that it may reach. Each name in the sets is
/// a name of the map.
pub type Reach = BTreeMap<SegmentName, BTreeSet<SegmentName>>;

/// The segments of one pass, as rules need them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments {
    /// The segments that settings know.
    pub reach: Reach,
    /// The segments that only tags know: their VPCs reach each other and nobody else.
    pub strangers: BTreeSet<SegmentName>,
    /// The segment of the hub's own VPC; `None` if it is in none.
    pub hub: Option<SegmentName>,
}

/// What packets from one segment to another may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// Everything.
    Initiate,
    /// Answer what the other has initiated.
    Answer,
    /// Nothing.
    Nothing,
}

/// What packets from one segment to another may do, where `reach` is what settings say.
pub fn relation(reach: &Reach, from: &SegmentName, to: &SegmentName) -> Relation {
    let lists = |one: &SegmentName, other: &SegmentName| reach.get(one).is_some_and(|all| all.contains(other));
    match (from == to || lists(from, to), lists(to, from)) {
        (true, _) => Relation::Initiate,
        (false, true) => Relation::Answer,
        (false, false) => Relation::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SegmentName {
        text.parse().unwrap()
    }

    #[test]
    fn a_realm_belongs_to_a_name_for_ever() {
        // By `printf NAME | sha256sum`: routes of a running hub have these numbers, so they never change.
        for (text, realm) in [("default", "0x37a9"), ("prod", "0x6755"), ("dev", "0xef27"), ("shared", "0xa4d3")] {
            assert_eq!(Realm::of(&name(text)).to_string(), realm, "{text}");
        }
        let all: BTreeSet<Realm> = (0..500_000).map(|n| Realm::of(&name(&format!("s{n}")))).collect();
        assert!(!all.contains(&Realm::NOBODY) && !all.contains(&Realm(0)));
        assert!(all.len() > 65_000, "{}", all.len());
        assert_eq!((Realm::new(0), Realm::new(65_536), Realm::new(65_535)), (None, None, Some(Realm::NOBODY)));
    }

    #[test]
    fn a_tag_is_a_name_or_safe_to_print_and_reads_back() {
        for (value, shown, is_name) in [
            (None, "default", true),
            (Some("prod.eu_1-a"), "prod.eu_1-a", true),
            (Some(""), "\"\"", false),
            (Some("a b"), "\"a b\"", false),
            (Some("\u{1b}[2J\n"), "\"\\u{1b}[2J\\n\"", false),
            (Some(&"x".repeat(65)[..]), &format!("\"{}…\"", "x".repeat(64)), false),
        ] {
            let tag = SegmentTag::of(value);
            assert_eq!((tag.to_string().as_str(), tag.name().is_some()), (shown, is_name));
            let text = serde_json::to_string(&tag).unwrap();
            assert_eq!(serde_json::from_str::<SegmentTag>(&text).unwrap(), tag, "{text}");
        }
        assert_eq!(serde_json::from_str::<SegmentTag>("\"a\\u001b\"").unwrap().name(), None);
    }

    #[test]
    fn one_way_is_initiating_and_the_other_answering() {
        let reach: Reach = [(name("prod"), [name("shared")].into()), (name("shared"), [].into())].into();
        for (from, to, expected) in [
            ("prod", "shared", Relation::Initiate),
            ("shared", "prod", Relation::Answer),
            ("prod", "prod", Relation::Initiate),
            ("dev", "dev", Relation::Initiate),
            ("dev", "prod", Relation::Nothing),
            ("prod", "dev", Relation::Nothing),
        ] {
            assert_eq!(relation(&reach, &name(from), &name(to)), expected, "{from} {to}");
        }
    }
}
