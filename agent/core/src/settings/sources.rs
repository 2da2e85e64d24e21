//! TOML files, environment and flags to items: a setting's name, its raw value, and where it stood.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    names::{find, sections, show_name, suggest},
    parse::{Parsed, Raw},
    table::{Draft, SETTINGS},
    wrong,
};
use crate::{
    error::{Error, Result},
    model::printable,
};

/// Everything that may hold a setting but the 2014 files.
#[derive(Debug)]
pub struct Sources<'a> {
    /// Where the files lie, for messages: `/` in production.
    pub root: &'a Path,
    /// The TOML files, weakest first.
    pub toml: Vec<TomlFile>,
    /// The whole environment. Only `CROSSWAN_*` counts, without `CROSSWAN_ROOT`, `CROSSWAN_LOG*` and `CROSSWAN_LAB_*`.
    pub env: &'a BTreeMap<String, String>,
    pub flags: &'a Flags,
}

/// A TOML file as it was read.
#[derive(Debug, Clone)]
pub struct TomlFile {
    pub path: PathBuf,
    pub text: String,
}

/// A file of the 2014 tool as it was read.
#[derive(Debug, Clone)]
pub struct LegacyFile {
    pub path: PathBuf,
    pub text: String,
    /// Others than its owner may read or change it.
    pub open: bool,
}

/// `path` below `root`.
pub fn below(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    root.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
}

/// A path for a message: as it is, or escaped if it holds what a log line may not.
pub fn show(path: &Path) -> String {
    match path.to_str() {
        Some(s) if s.chars().all(|c| c.is_ascii_graphic() || c == ' ') => s.into(),
        _ => printable(&path.to_string_lossy()),
    }
}

/// One setting of one source.
#[derive(Debug)]
pub(super) struct Item {
    /// The dotted name, not yet known to be a setting's.
    pub name: String,
    pub raw: Raw,
    /// `file:line`, the environment variable or the flag.
    pub place: String,
    /// What the source calls the setting, if not `name`.
    pub alias: Option<&'static str>,
}

impl Item {
    fn at(place: impl Into<String>, name: &str, text: &str) -> Self {
        Item { name: name.into(), raw: Raw::Word(text.into()), place: place.into(), alias: None }
    }

    /// A default of the table, in TOML.
    pub(super) fn default(name: &str, toml: &str) -> Result<Self> {
        let value = DeValue::parse(toml).map_err(|e| wrong(format!("the default of {name}: {}", e.message())))?;
        Ok(Item { raw: raw(value.get_ref()), ..Item::at("its default", name, "") })
    }

    /// The typed value, or the one line that says what is wrong with it.
    pub(super) fn read<T>(&self, accepts: &str, parse: impl FnOnce(&Raw) -> Parsed<T>) -> Result<T> {
        parse(&self.raw).map_err(|found| {
            wrong(format!("{}: {}: expected {accepts}, found {found}", self.place, self.alias.unwrap_or(&self.name)))
        })
    }

    /// Puts the value into `draft`, whose values are of weaker sources or of this one.
    pub(super) fn put(self, draft: &mut Draft) -> Result<()> {
        let Some(setting) = find(&self.name) else { return Err(self.unknown()) };
        (setting.set)(draft, &self)?;
        draft.places.insert(setting.name, self.place);
        Ok(())
    }

    /// The error of a name that is no setting's.
    fn unknown(&self) -> Error {
        let sections = sections();
        if sections.contains(&self.name.as_str()) {
            // Not shown: `auth = "…"` may well be the key itself.
            return wrong(format!("{}: {n}: expected a table [{n}], found a single value", self.place, n = self.name));
        }
        let known = SETTINGS.iter().map(|s| s.name).chain(sections);
        let name = show_name(&self.name);
        wrong(format!("{}: {name}: unknown key; {}", self.place, suggest(&self.name, "", known)))
    }
}

/// What the command line may set, as typed: each in the form of the environment variable of the same name.
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

/// `CROSSWAN_*` to items, in the variables' order.
pub(super) fn environment(env: &BTreeMap<String, String>) -> Result<Vec<Item>> {
    let ours = |name: &str| {
        let Some(rest) = name.strip_prefix("CROSSWAN_") else { return false };
        rest != "ROOT" && !rest.starts_with("LOG") && !rest.starts_with("LAB_")
    };
    env.iter()
        .filter(|(name, _)| ours(name))
        .map(|(name, text)| match SETTINGS.iter().find(|s| s.env == name) {
            Some(setting) => Ok(Item::at(name, setting.name, text)),
            None => {
                let known = suggest(name, "CROSSWAN_", SETTINGS.iter().map(|s| s.env));
                Err(wrong(format!("environment: {}: unknown variable; {known}", show_name(name))))
            }
        })
        .collect()
}

/// One TOML document to items, in the order of the text.
pub(super) fn toml(path: &Path, text: &str) -> Result<Vec<Item>> {
    let path = show(path);
    let document = DeTable::parse(text).map_err(|e| {
        let start = e.span().map_or(0, |s| s.start);
        let (line, column) = line_column(text, start);
        // A curly quote or an unbreakable space looks like the plain character on most screens.
        let odd = text.get(start..).and_then(|rest| rest.chars().next()).filter(|c| !c.is_ascii());
        let odd = odd.map(|c| format!(" (there is the character {})", printable(&c.to_string()))).unwrap_or_default();
        // The parser's words quote nothing of the file; it may hold a key in the wrong place.
        let message = e.message().replace(char::is_control, " ");
        wrong(format!("{path}:{line}:{column}: expected TOML, found: {message}{odd}"))
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
        place: format!("{path}:{}", line_column(text, start).0),
        alias: None,
    };
    Ok(found.into_iter().map(item).collect())
}

fn raw(value: &DeValue) -> Raw {
    match value {
        DeValue::String(s) => Raw::Text(s.to_string()),
        DeValue::Integer(n) => Raw::Number(n.to_string()),
        DeValue::Float(n) => Raw::Number(n.to_string()),
        DeValue::Boolean(b) => Raw::Bool(*b),
        DeValue::Datetime(_) => Raw::Date,
        DeValue::Array(list) => Raw::List(list.iter().map(|v| raw(v.get_ref())).collect()),
        DeValue::Table(table) => {
            Raw::Table(table.iter().map(|(k, v)| (k.get_ref().to_string(), raw(v.get_ref()))).collect())
        }
    }
}

/// Both from 1; the column in characters.
fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
}
