//! What a key means, for `cloudcaster explain`.

use std::fmt;

use serde::Serialize;

use super::{Key, Kind, Need, all_keys};
use crate::text;

/// What there is to say about one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// With `[]` where a list is: `apps[].allow[].cidr`.
    pub path: String,
    pub value: String,
    pub need: &'static str,
    pub meaning: &'static str,
    pub expected: Option<&'static str>,
    pub becomes: Option<&'static str>,
    pub keys: Vec<&'static str>,
}

/// The explanation of a key, or of every key of that name. `key` is a name (`azlimit`) or a path (`apps.allow.cidr`, also
/// as errors print it: `apps[0].allow[1].cidr`).
///
/// # Errors
/// There is no such key; the text names the nearest one.
pub fn explain(key: &str) -> Result<Vec<Explained>, String> {
    let wanted = plain(key);
    let keys = all_keys();
    let is = |path: &str| {
        let path = plain(path);
        path == wanted || path.strip_suffix(&wanted).is_some_and(|before| before.ends_with('.'))
    };
    let mut found: Vec<&(String, &Key)> = keys.iter().filter(|(path, _)| is(path)).collect();
    // A whole path means itself only: `nat` is not also a key of something else.
    if let Some(whole) = found.iter().position(|(path, _)| plain(path) == wanted) {
        found = vec![found[whole]];
    }
    if found.is_empty() {
        let last = wanted.rsplit('.').next().unwrap_or(&wanted);
        let names = keys.iter().map(|(_, key)| key.name);
        let near = text::nearest(last, names).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        return Err(format!("no key is called {}{near}", text::quoted(key)));
    }
    Ok(found.into_iter().map(|(path, key)| one(path, key)).collect())
}

/// Every key.
pub fn explain_all() -> Vec<Explained> {
    all_keys().iter().map(|(path, key)| one(path, key)).collect()
}

/// A path without indices.
fn plain(path: &str) -> String {
    let mut depth = 0;
    path.chars()
        .filter(|c| {
            depth += i32::from(*c == '[');
            let keep = depth == 0;
            depth -= i32::from(*c == ']');
            keep
        })
        .collect()
}

fn one(path: &str, key: &Key) -> Explained {
    let need = match key.need {
        Need::Required => "required",
        Need::Optional => "optional",
        Need::New => "optional, new since 2014",
        Need::Ignored => "ignored",
    };
    Explained {
        path: path.to_owned(),
        value: key.kind.label(),
        need,
        meaning: key.help,
        expected: if let Kind::Text(format) = key.kind { Some(format.expected()) } else { None },
        becomes: Some(key.maps).filter(|m| !m.is_empty()),
        keys: key.kind.object().map(|o| o.keys.iter().map(|k| k.name).collect()).unwrap_or_default(),
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Backquotes are for the tables.
        let said = |text: &str| text.replace('`', "");
        writeln!(f, "{}: {}, {}\n  {}", self.path, said(&self.value), self.need, said(self.meaning))?;
        if let Some(expected) = self.expected {
            writeln!(f, "  Expected: {expected}.")?;
        }
        if let Some(becomes) = self.becomes {
            writeln!(f, "  Becomes: {}.", said(becomes))?;
        }
        if !self.keys.is_empty() {
            writeln!(f, "  Keys: {}.", text::list(&self.keys))?;
        }
        Ok(())
    }
}
