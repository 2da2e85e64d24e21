//! The content of a packet: values, lists and sections by name.

use std::{borrow::Cow, fmt, str::FromStr};

/// A message, or a section of one. It keeps the order in which its entries were written.
///
/// VICI's values have no type: they are bytes. Text is read leniently, with U+FFFD in place of bytes that are not
/// UTF-8, because one peer's odd identity must not hide the other peers' SAs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message(pub(crate) Vec<(String, Value)>);

/// One entry of a [`Message`].
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A single value.
    Bytes(Vec<u8>),
    /// A list of values.
    List(Vec<Vec<u8>>),
    /// Entries of its own.
    Section(Message),
}

impl Message {
    /// A message without entries.
    pub fn new() -> Message {
        Message::default()
    }

    /// Adds a single value at the end.
    pub fn with(mut self, key: &str, value: impl AsRef<[u8]>) -> Message {
        self.push(key, Value::Bytes(value.as_ref().to_vec()));
        self
    }

    /// Adds a list at the end.
    pub fn with_list(mut self, key: &str, items: impl IntoIterator<Item: AsRef<[u8]>>) -> Message {
        self.push(key, Value::List(items.into_iter().map(|item| item.as_ref().to_vec()).collect()));
        self
    }

    /// Adds a section at the end.
    pub fn with_section(mut self, key: &str, section: Message) -> Message {
        self.push(key, Value::Section(section));
        self
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, key: &str, value: Value) {
        self.0.push((key.to_owned(), value));
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries in their order. The protocol allows each name once, but nothing here depends on that.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The entry of this name; of several, the last one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The single value of this name, as text.
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        match self.get(key)? {
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes)),
            Value::List(_) | Value::Section(_) => None,
        }
    }

    /// The single value of this name as a number, if it is one.
    pub fn number<N: FromStr>(&self, key: &str) -> Option<N> {
        self.text(key)?.parse().ok()
    }

    /// The items of the list of this name, as text; none if there is no such list.
    pub fn list(&self, key: &str) -> impl Iterator<Item = Cow<'_, str>> {
        let items = match self.get(key) {
            Some(Value::List(items)) => items.as_slice(),
            _ => &[],
        };
        items.iter().map(|item| String::from_utf8_lossy(item))
    }

    /// The section of this name.
    pub fn section(&self, key: &str) -> Option<&Message> {
        match self.get(key)? {
            Value::Section(section) => Some(section),
            Value::Bytes(_) | Value::List(_) => None,
        }
    }

    /// Every section with its name, in their order.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Message)> {
        self.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name, section)),
            Value::Bytes(_) | Value::List(_) => None,
        })
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Shows only the length of values: a message may carry a secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bytes(bytes) => write!(f, "({} bytes)", bytes.len()),
            Value::List(items) => write!(f, "[{} items]", items.len()),
            Value::Section(section) => section.fmt(f),
        }
    }
}
