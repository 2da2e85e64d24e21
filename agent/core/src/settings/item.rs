//! An item: a setting's name, its raw value, and where it was set.

use toml::de::DeValue;

use super::parse::{Parsed, Raw};
use crate::error::{Error, Result};

/// One setting of one source.
#[derive(Debug)]
pub(super) struct Item {
    /// The dotted name, which may not be a setting's.
    pub name: String,
    pub raw: Raw,
    /// Where it was set: `file:line`, the environment variable or the flag.
    pub origin: String,
    /// The source's own name for the setting, if it is not `name`.
    pub alias: Option<&'static str>,
}

impl Item {
    pub(super) fn at(origin: impl Into<String>, name: &str, text: &str) -> Self {
        Item { name: name.into(), raw: Raw::Word(text.into()), origin: origin.into(), alias: None }
    }

    /// A default of the table, which is in TOML.
    pub(super) fn default(name: &str, toml: &str) -> Result<Self> {
        let value =
            DeValue::parse(toml).map_err(|e| Error::settings(format!("the default of {name}: {}", e.message())))?;
        Ok(Item { raw: raw(value.get_ref()), ..Item::at("its default", name, "") })
    }

    /// The typed value, or an error with one line that says what is wrong with it.
    pub(super) fn read<T>(&self, accepts: &str, parse: impl FnOnce(&Raw) -> Parsed<T>) -> Result<T> {
        parse(&self.raw).map_err(|found| {
            Error::settings(format!(
                "{}: {}: expected {accepts}, found {found}",
                self.origin,
                self.alias.unwrap_or(&self.name)
            ))
        })
    }
}

pub(super) fn raw(value: &DeValue) -> Raw {
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
