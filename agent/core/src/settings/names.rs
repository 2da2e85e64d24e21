//! The names that a source may use: settings and their TOML tables; and the nearest one to an unknown name.

use super::{
    item::Item,
    table::{Draft, SETTINGS, Setting},
};
use crate::{
    error::{Error, Result},
    model::printable,
};

impl Draft {
    /// Adds an item of a source that is at least as strong as those before it.
    pub(super) fn put(&mut self, item: Item) -> Result<()> {
        let Some(setting) = find(&item.name) else { return Err(unknown(&item)) };
        (setting.set)(self, &item)?;
        self.origins.insert(setting.name, item.origin);
        Ok(())
    }
}

/// The setting of this dotted name.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The TOML tables that hold settings, in the order of the reference.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = SETTINGS.iter().filter_map(|s| Some(s.name.split_once('.')?.0)).collect();
    sections.dedup();
    sections
}

/// A foreign name for a message: as it is if it has only characters of TOML's bare keys, otherwise escaped.
pub(super) fn show_name(name: &str) -> String {
    let bare = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if bare && (1..=64).contains(&name.len()) { name.into() } else { printable(name) }
}

/// `did you mean X?`, or all known names if none is near. All `known` names have `prefix`, which is left out of the comparison.
pub(super) fn suggest(unknown: &str, prefix: &str, known: impl Iterator<Item = &'static str>) -> String {
    let short: String = unknown.strip_prefix(prefix).unwrap_or(unknown).chars().take(64).collect();
    let likeness = |name: &str| {
        let name = name.strip_prefix(prefix).unwrap_or(name);
        let leaf = name.rsplit('.').next().unwrap_or(name);
        strsim::jaro_winkler(&short, name).max(strsim::jaro_winkler(&short, leaf))
    };
    let known: Vec<&str> = known.filter(|name| !name.is_empty()).collect();
    match known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))) {
        Some(nearest) if likeness(nearest) > 0.75 => format!("did you mean {nearest}?"),
        _ => format!("known are {}", known.join(", ")),
    }
}

/// The error for a name that is not a setting's.
fn unknown(item: &Item) -> Error {
    let sections = sections();
    if sections.contains(&item.name.as_str()) {
        // The value is not shown: `auth = "…"` may well be the pre-shared key itself.
        return Error::settings(format!(
            "{}: {n}: expected a table [{n}], found a single value",
            item.origin,
            n = item.name
        ));
    }
    let known = SETTINGS.iter().map(|s| s.name).chain(sections);
    let name = show_name(&item.name);
    Error::settings(format!("{}: {name}: unknown setting; {}", item.origin, suggest(&item.name, "", known)))
}
