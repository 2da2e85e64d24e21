//! Turns TOML files, environment and flags into items.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    item::{Item, raw},
    names::{sections, show_name, suggest},
    table::SETTINGS,
};
use crate::{
    error::{Error, Result},
    model::printable,
};

/// Everything that may hold a setting, except the 2014 files.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The folder that the files are below, for messages: `/` in production.
    pub root: &'a Path,
    /// The TOML files, weakest first.
    pub toml: Vec<TomlFile>,
    /// The whole environment. Only `CROSSWAN_*` counts, except `CROSSWAN_ROOT`, `CROSSWAN_LOG*` and `CROSSWAN_LAB_*`.
    pub env: &'a BTreeMap<String, String>,
    /// The flags of the command line, the strongest source.
    pub flags: &'a Flags,
}

/// A TOML file as it was read.
#[derive(Debug, Clone)]
pub struct TomlFile {
    /// Where it was read, for messages.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

/// A file of the 2014 tool as it was read.
#[derive(Debug, Clone)]
pub struct LegacyFile {
    /// Where it was read, for messages.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
    /// Whether others than its owner may read or change it.
    pub open: bool,
}

/// The absolute `path`, below `root`.
pub fn below(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    root.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
}

/// A path for a message: as it is, or escaped if it has characters that a log line may not have.
pub fn show(path: &Path) -> String {
    match path.to_str() {
        Some(s) if s.chars().all(|c| c.is_ascii_graphic() || c == ' ') => s.into(),
        _ => printable(&path.to_string_lossy()),
    }
}

/// The settings of the command line as they were typed, each in the form of its environment variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--mode`
    pub mode: Option<String>,
    /// `--private-net`
    pub private_net: Option<String>,
    /// `--hub`
    pub hub: Option<String>,
    /// `--regions`
    pub regions: Option<String>,
}

impl Flags {
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        [
            ("--mode", "mode", &self.mode),
            ("--private-net", "private_net", &self.private_net),
            ("--hub", "hub", &self.hub),
            ("--regions", "regions", &self.regions),
        ]
        .into_iter()
        .filter_map(|(flag, name, text)| Some(Item::at(flag, name, text.as_deref()?)))
    }
}

/// Turns `CROSSWAN_*` into items, in the variables' order.
pub(super) fn environment(env: &BTreeMap<String, String>) -> Result<Vec<Item>> {
    let counts = |name: &str| {
        let Some(rest) = name.strip_prefix("CROSSWAN_") else { return false };
        rest != "ROOT" && !rest.starts_with("LOG") && !rest.starts_with("LAB_")
    };
    env.iter()
        .filter(|(name, _)| counts(name))
        .map(|(name, text)| match SETTINGS.iter().find(|s| s.env == name) {
            Some(setting) => Ok(Item::at(name, setting.name, text)),
            None => {
                let known = suggest(name, "CROSSWAN_", SETTINGS.iter().map(|s| s.env));
                Err(Error::settings(format!("environment: {}: unknown variable; {known}", show_name(name))))
            }
        })
        .collect()
}

/// Turns one TOML document into items, in the order of the text.
pub(super) fn toml(path: &Path, text: &str) -> Result<Vec<Item>> {
    let path = show(path);
    let document = DeTable::parse(text).map_err(|e| {
        let start = e.span().map_or(0, |s| s.start);
        let (line, column) = line_column(text, start);
        // A curly quote or an unbreakable space looks like the plain character on most screens.
        let odd = text.get(start..).and_then(|rest| rest.chars().next()).filter(|c| !c.is_ascii());
        let odd = odd.map(|c| format!(" (there is the character {})", printable(&c.to_string()))).unwrap_or_default();
        // The parser's message quotes nothing of the file, which may have a pre-shared key in the wrong place.
        let message = e.message().replace(char::is_control, " ");
        Error::settings(format!("{path}:{line}:{column}: expected TOML, found: {message}{odd}"))
    })?;
    let sections = sections();
    let mut found = Vec::new();
    for (key, value) in document.get_ref() {
        match value.get_ref() {
            DeValue::Table(section) if sections.contains(&key.get_ref().as_ref()) => {
                let dotted = |inner: &str| format!("{}.{inner}", key.get_ref());
                found.extend(section.iter().map(|(k, v)| (k.span().start, dotted(k.get_ref()), v.get_ref())));
            }
            other => found.push((key.span().start, key.get_ref().to_string(), other)),
        }
    }
    found.sort_by_key(|(start, ..)| *start);
    let item = |(start, name, value): (usize, String, &DeValue)| Item {
        name,
        raw: raw(value),
        origin: format!("{path}:{}", line_column(text, start).0),
        alias: None,
    };
    Ok(found.into_iter().map(item).collect())
}

/// The line and the column of a byte offset, both counted from 1; the column is in characters.
fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
}
