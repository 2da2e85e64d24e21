//! Documents to test with: the three of 2014 as they were, and changes to them.

use cloudcaster::{
    document::{Document, Options, parse},
    problem::{Level, Problem},
};
use serde_json::Value;

/// The documents of 2014, byte for byte.
pub const HUB: &str = include_str!("documents/hub.json");
pub const CLIENT: &str = include_str!("documents/client.json");
pub const EXAMPLE: &str = include_str!("documents/example.json");

/// A document of 2014 as a value, to be changed.
pub fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Reads what must be free of errors.
pub fn read(text: &str) -> Document {
    let (document, problems) = parse("doc.json", text.to_owned(), Options::default());
    document.unwrap_or_else(|| panic!("{}", lines(&problems)))
}

/// `document` with a value at a JSON pointer. The pointer's parent must exist.
pub fn with(document: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = document.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = changed.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
    match parent {
        Value::Object(members) => _ = members.insert(key.to_owned(), value),
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => panic!("{pointer}: {other}"),
    }
    changed
}

/// `document` without the value at a JSON pointer.
pub fn without(document: &Value, pointer: &str) -> Value {
    let mut changed = document.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    changed.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    changed
}

/// The errors of a document, without its name and places: `PATH: what`.
pub fn errors(document: &Value) -> Vec<String> {
    of_level(document, Level::Error)
}

pub fn warnings(document: &Value) -> Vec<String> {
    of_level(document, Level::Warning)
}

fn of_level(document: &Value, level: Level) -> Vec<String> {
    let (_, problems) = parse("doc.json", document.to_string(), Options::default());
    problems.iter().filter(|p| p.level == level).map(|p| format!("{}: {}", p.path, p.what)).collect()
}

pub fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("{p}\n")).collect()
}
