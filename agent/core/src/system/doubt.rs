//! What a failed or interrupted pass leaves in doubt: the connections and secrets that it was loading, and no others.
//!
//! charon does not show everything that it holds, so these are loaded again even if they look right. The others are not:
//! 5.9.8 takes a minute for 5,000 raw keys, and keeps every one that it is given (`docs/facts.md`, "Scale").

use std::collections::BTreeSet;

use super::{Configuration, Files, secret_id};
use crate::model::ConnName;

/// The marker's first line. Without it, everything is in doubt.
const HEAD: &str = "an apply is under way, or was cut off; what it loads:";

/// The connections and secrets that a pass touches, by name. The name of a secret begins with `ike-`, and that of a connection
/// never does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched(BTreeSet<String>);

impl Touched {
    /// Connections and secrets by their names in charon.
    pub fn named(names: impl IntoIterator<Item = String>) -> Touched {
        Touched(names.into_iter().collect())
    }

    /// These connections and their secrets.
    pub fn peers<'a>(names: impl IntoIterator<Item = &'a ConnName>) -> Touched {
        Touched(names.into_iter().flat_map(|name| [name.to_string(), secret_id(name)]).collect())
    }

    /// The text of the marker that is on disk while they are loaded.
    pub fn marker(&self) -> String {
        self.0.iter().fold(format!("{HEAD}\n"), |text, name| text + name + "\n")
    }

    /// Reads the text of [`Touched::marker`]; `None` if its first line is another one.
    pub fn parse(marker: &str) -> Option<Touched> {
        Some(Touched(marker.strip_prefix(HEAD)?.lines().skip(1).map(str::to_owned).collect()))
    }

    /// The part of `believed` that these do not touch. The result has no texts, as it is not complete.
    pub fn still_believed(&self, mut believed: Configuration) -> Configuration {
        believed.connections.retain(|name, _| !self.0.contains(name.as_str()));
        believed.secrets.retain(|id, _| !self.0.contains(id));
        Configuration { files: Files::default(), ..believed }
    }
}
