//! Which segment may reach which.

use std::collections::BTreeMap;

use super::{
    parse::{self, Parsed, Raw},
    values::Segmentation,
};
use crate::model::{Reach, Realm, SegmentName, printable};

/// A table of lists, or `prod=shared, dev`: one entry for each segment to reach.
pub(super) fn reach(raw: &Raw) -> Parsed<Reach> {
    match raw {
        Raw::Table(table) => {
            let entry = |(name, to): (&String, &Raw)| {
                let of = |found: String| format!("for {} {found}", printable(name));
                Ok((named(name)?, parse::set(to).map_err(of)?))
            };
            table.iter().map(entry).collect()
        }
        Raw::Word(_) => {
            let mut reach = Reach::new();
            for (name, to) in parse::list(raw, pair)? {
                reach.entry(name).or_default().extend(to);
            }
            // An empty variable is more often a mistake than a network in which nobody reaches anybody.
            if reach.is_empty() { Err("none (name at least one segment, such as default)".into()) } else { Ok(reach) }
        }
        _ => Err(raw.found()),
    }
}

fn pair(raw: &Raw) -> Parsed<(SegmentName, Option<SegmentName>)> {
    let text: String = parse::word(raw)?;
    match text.split_once('=') {
        Some((name, to)) => Ok((named(name)?, Some(named(to)?))),
        None => Ok((named(&text)?, None)),
    }
}

fn named(text: &str) -> Parsed<SegmentName> {
    text.parse().map_err(|_| format!("the name {}, which is not of 1 to 64 letters, digits, . _ -", printable(text)))
}

/// With every segment as a key. The error is what is wrong with them.
pub(super) fn checked(mut reach: Reach, tag: String) -> Parsed<Segmentation> {
    let named: Vec<SegmentName> = reach.values().flatten().cloned().chain([SegmentName::default()]).collect();
    for name in named {
        reach.entry(name).or_default();
    }
    let mut realms: BTreeMap<Realm, &SegmentName> = BTreeMap::new();
    for name in reach.keys() {
        let realm = Realm::of(name);
        if let Some(other) = realms.insert(realm, name) {
            return Err(format!("{other} and {name}, which both have realm {realm}: rename one of them"));
        }
    }
    Ok(Segmentation { tag, reach })
}
