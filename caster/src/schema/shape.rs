//! Checks a tree against the table of keys: every value there, known, of its kind and format. All problems at once.

use std::collections::BTreeSet;

use super::{Key, Kind, Need, Object};
use crate::{
    problem::{Level, Source},
    text,
    tree::{KeyPath, Member, Node, Value},
};

/// Puts into `source` what does not fit the table. With `allow_unknown` an unknown key is a warning, as 2014 let it pass.
/// Returns whether the types can take the document: unknown keys and keys that stand twice do not hinder that.
pub fn shape(source: &mut Source, allow_unknown: bool) -> bool {
    let root = source.root.clone();
    let unknown = if allow_unknown { Level::Warning } else { Level::Error };
    let mut check = Check { source, unknown, typed: true };
    check.object(&super::DOCUMENT, &root, &KeyPath::default());
    check.typed
}

struct Check<'a> {
    source: &'a mut Source,
    unknown: Level,
    typed: bool,
}

impl Check<'_> {
    fn error(&mut self, at: usize, path: &KeyPath, what: String) {
        self.typed = false;
        self.source.put(Level::Error, path, at, what);
    }

    fn object(&mut self, object: &Object, node: &Node, path: &KeyPath) {
        let Value::Object(members) = &node.value else {
            return self.error(node.at, path, format!("expected an object, found {}", found(node)));
        };
        let meant = self.known(object, members, path);
        for key in object.keys {
            let path = path.key(key.name);
            match node.get(key.name) {
                Some(value) => self.key(key, value, &path),
                None if key.need == Need::Required && !meant.contains(&key.name) => {
                    self.error(node.at, &path, format!("missing: expected {}", expected(&key.kind)));
                }
                None => {}
            }
        }
    }

    /// Keys twice, and keys that nobody knows; the keys that were probably meant by those.
    fn known(&mut self, object: &Object, members: &[Member], path: &KeyPath) -> Vec<&'static str> {
        let (mut seen, mut meant): (BTreeSet<&str>, Vec<&'static str>) = (BTreeSet::new(), Vec::new());
        // A key that is already there was not meant.
        let there: BTreeSet<&str> = members.iter().map(|m| m.key.as_str()).collect();
        let absent: Vec<&'static str> = object.keys.iter().map(|k| k.name).filter(|k| !there.contains(k)).collect();
        for Member { at, key, .. } in members.iter().filter(|m| !m.key.starts_with('_')) {
            if !seen.insert(key) {
                let what = "this key appears twice in its object; remove one".to_owned();
                self.source.put(Level::Error, &path.key(key), *at, what);
                continue;
            }
            if object.keys.iter().all(|k| k.name != key) {
                let hint = match text::nearest(key, absent.iter().copied()) {
                    Some(near) => {
                        if self.unknown == Level::Error {
                            meant.push(near);
                            // The one that is meant may be a required one, which is missing then.
                            self.typed = false;
                        }
                        format!("; did you mean {near}?")
                    }
                    None => {
                        format!("; the keys of {} are {}", object.name, text::list(object.keys.iter().map(|k| k.name)))
                    }
                };
                self.source.put(self.unknown, &path.key(key), *at, format!("unknown key{hint}"));
            }
        }
        meant
    }

    fn key(&mut self, key: &Key, node: &Node, path: &KeyPath) {
        if key.need == Need::Ignored {
            return self.source.warn(path, "ignored, and not needed: gateways make their own keys. Remove it from the document, and stop using it anywhere");
        }
        self.value(&key.kind, node, path);
        if matches!(key.kind, Kind::Present) {
            let off = match &node.value {
                Value::Bool(false) | Value::Null => true,
                Value::Text(t) => matches!(t.to_lowercase().as_str(), "no" | "false" | "off" | "0" | ""),
                Value::Number(n) => n == "0",
                _ => false,
            };
            if off {
                self.source
                    .warn(path, "takes effect by being present, whatever its value; remove the key to switch this off");
            }
        }
    }

    fn value(&mut self, kind: &Kind, node: &Node, path: &KeyPath) {
        let hint = match (kind, &node.value) {
            (Kind::Present, _) => return,
            (Kind::Object(object), _) => return self.object(object, node, path),
            (Kind::List(kind), Value::List(items)) => {
                for (i, item) in items.iter().enumerate() {
                    self.value(kind, item, &path.index(i));
                }
                return;
            }
            (Kind::Bool, Value::Bool(_)) | (Kind::Secret, Value::Text(_)) => return,
            (Kind::Secret, _) => {
                return self.error(node.at, path, format!("expected a text, found {}", node.kind()));
            }
            (Kind::Text(format), Value::Text(text)) => match format.check(text) {
                Ok(()) => return,
                Err(meant) => meant.map(|m| format!("; did you mean \"{m}\"?")),
            },
            (Kind::Whole(low, high), Value::Number(number)) => match number.parse::<i64>() {
                Ok(n) if (*low..=*high).contains(&n) => return,
                _ => None,
            },
            (Kind::Whole(low, high), Value::Text(text)) => match text.parse::<i64>() {
                Ok(n) if (*low..=*high).contains(&n) => Some(format!("; did you mean {n}, without quotes?")),
                _ => None,
            },
            (Kind::List(_), Value::Text(_) | Value::Object(_) | Value::Number(_)) => {
                Some("; put it into [ ]".to_owned())
            }
            _ => None,
        };
        let what = format!("expected {}, found {}{}", expected(kind), found(node), hint.unwrap_or_default());
        self.error(node.at, path, what);
    }
}

fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Text(format) => format.expected().to_owned(),
        Kind::Secret => "a text".to_owned(),
        Kind::Whole(low, high) => format!("a whole number from {low} to {high}"),
        Kind::Bool => "true or false".to_owned(),
        Kind::Present => "any value".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Object(_) => "an object".to_owned(),
    }
}

/// A value as an error shows it. Lists and objects by their kind only: a secret may be in them.
fn found(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => text::quoted(text),
        Value::Number(n) if n.len() <= 30 => n.clone(),
        Value::Bool(b) => b.to_string(),
        _ => node.kind().to_owned(),
    }
}
