//! The document's format as one table: which keys there are, what they may hold, and what they become in AWS.
//!
//! Everything that must know the format reads this table: the shape check, `explain`, `schema`, and the tables of
//! docs/cloudcaster.md. The types in `document` are the other half; a test keeps the two equal.

mod apps;
mod explain;
mod format;
mod json;
mod keys;
mod markdown;
mod shape;

pub use explain::{Explained, explain, explain_all};
pub use format::Format;
pub use json::json_schema;
pub use keys::DOCUMENT;
pub use markdown::tables;
pub use shape::shape;

/// An object of the document and its keys.
pub struct Object {
    /// How a heading or an error calls it, such as `one of apps`.
    pub name: &'static str,
    pub help: &'static str,
    pub keys: &'static [Key],
}

/// One key.
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
    /// What it means, in one or two sentences.
    pub help: &'static str,
    /// What it becomes in AWS, or what changed since 2014. May be empty.
    pub maps: &'static str,
}

const fn key(name: &'static str, kind: Kind, need: Need, help: &'static str, maps: &'static str) -> Key {
    Key { name, kind, need, help, maps }
}

/// Whether a key must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Required,
    Optional,
    /// Optional, and not known to the tool of 2014.
    New,
    /// A secret of 2014 that nothing reads: accepted, reported and never printed.
    Ignored,
}

/// What a value may be.
pub enum Kind {
    Text(Format),
    /// A text that is never printed.
    Secret,
    /// A whole number within these bounds.
    Whole(i64, i64),
    Bool,
    /// Takes effect by being present, whatever its value (the rule of 2014).
    Present,
    List(&'static Kind),
    Object(&'static Object),
}

impl Kind {
    /// As a table shows it: `list of CIDRs`.
    pub fn label(&self) -> String {
        match self {
            Kind::Text(format) => format.label().to_owned(),
            Kind::Secret => "text, secret".to_owned(),
            Kind::Whole(i64::MIN, _) => "whole number".to_owned(),
            Kind::Whole(low, high) => format!("whole number, {low} to {high}"),
            Kind::Bool => "true or false".to_owned(),
            Kind::Present => "presence".to_owned(),
            Kind::List(kind) => format!("list of {}", kind.label()),
            Kind::Object(object) => object.name.to_owned(),
        }
    }
    /// The object below this kind, through lists.
    pub fn object(&self) -> Option<&'static Object> {
        match self {
            Kind::Object(object) => Some(object),
            Kind::List(kind) => kind.object(),
            _ => None,
        }
    }
}

/// Every key with its path, `apps[].allow[].cidr`, in the order of the table.
pub fn all_keys() -> Vec<(String, &'static Key)> {
    fn below(object: &'static Object, prefix: &str, out: &mut Vec<(String, &'static Key)>) {
        for key in object.keys {
            let path = format!("{prefix}{}", key.name);
            let list = matches!(key.kind, Kind::List(_));
            out.push((path.clone(), key));
            if let Some(object) = key.kind.object() {
                below(object, &format!("{path}{}.", if list { "[]" } else { "" }), out);
            }
        }
    }
    let mut out = Vec::new();
    below(&DOCUMENT, "", &mut out);
    out
}
