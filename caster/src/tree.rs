//! A JSON document as a tree that knows where each of its values stands.
//!
//! serde_json reports a place only for its own errors; ours come later, from rules across the whole document, and need
//! the line of any key. So the text is scanned once into [`Node`]s with offsets, and everything after works on those.

mod scan;

use std::fmt;

pub use scan::{Syntax, scan};

/// A value and the byte offset at which it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub at: usize,
    pub value: Value,
}

/// A JSON value. Numbers keep their spelling: what is a whole number is for the reader to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

/// A key of an object, the offset of the key itself, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub at: usize,
    pub key: String,
    pub node: Node,
}

/// The way from the top of a document to one of its values: `apps[0].allow[1].cidr`. Empty: the document itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct KeyPath(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The path of a top-level key.
    pub fn of(key: &str) -> Self {
        KeyPath::default().key(key)
    }
    /// A path as [`fmt::Display`] writes it: `apps[0].allow`.
    pub fn parse(text: &str) -> Self {
        text.split('.').fold(KeyPath::default(), |path, part| {
            let (key, index) = part.split_once('[').unwrap_or((part, ""));
            let path = path.key(key);
            index.strip_suffix(']').and_then(|i| i.parse().ok()).map_or(path.clone(), |i| path.index(i))
        })
    }
    pub fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }
    fn with(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                // A key that is not one of ours is foreign text.
                Segment::Key(key) => write!(f, "{}{}", if i == 0 { "" } else { "." }, crate::text::plain(key))?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Node {
    /// The value of `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Object(members) => members.iter().find(|m| m.key == key).map(|m| &m.node),
            _ => None,
        }
    }
    /// The offset of what `path` names, or of the last thing on the way to it that exists: a missing key is reported
    /// where its object starts. For a key that exists, the offset of its value.
    pub fn locate(&self, path: &KeyPath) -> usize {
        let mut node = self;
        for segment in &path.0 {
            let next = match (segment, &node.value) {
                (Segment::Key(key), _) => node.get(key),
                (Segment::Index(index), Value::List(items)) => items.get(*index),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.at
    }
    /// What kind of value this is, with its article: `a text`, `a list`.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
    /// As serde_json has it, without keys that begin with `_` (comments). A number out of range becomes null; the shape
    /// check has refused it before.
    pub fn json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            // serde_json reads -0 as a float.
            Value::Number(n) => match n.parse::<i64>() {
                Ok(whole) => whole.into(),
                Err(_) => n.parse::<serde_json::Number>().map_or(Json::Null, Json::Number),
            },
            Value::Text(t) => Json::String(t.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::json).collect()),
            Value::Object(members) => {
                let mut object = serde_json::Map::new();
                for member in members.iter().filter(|m| !m.key.starts_with('_')) {
                    // Of a key that appears twice the first counts, as in `get`: the one that was checked.
                    object.entry(member.key.clone()).or_insert_with(|| member.node.json());
                }
                Json::Object(object)
            }
        }
    }
}

/// Line and column, both from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// The place of a byte offset in `text`.
pub fn place(text: &str, offset: usize) -> Place {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    // Characters: every byte that does not continue one.
    let column = before[start..].iter().filter(|b| **b & 0xc0 != 0x80).count() + 1;
    Place { line: before.iter().filter(|b| **b == b'\n').count() + 1, column }
}
