//! What a failed or interrupted apply leaves in doubt: what it was loading, and no other connection or secret.
//!
//! charon does not show all of what it holds, so these are loaded again though they may look right. The others are not:
//! 5.9.8 takes a minute for 5,000 raw keys, and keeps every one it is given (`docs/facts.md`, "Scale").

use std::collections::BTreeSet;

use super::{Configuration, Files, secret_id};
use crate::model::ConnName;

/// The marker's first line. Without it, all is in doubt.
const HEAD: &str = "an apply is under way, or was cut off; what it loads:";

/// Connections and secrets by name; a secret's begins with `ike-`, and no connection's does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched(BTreeSet<String>);

impl Touched {
    /// Connections and secrets by their names in charon.
    pub fn named(names: impl IntoIterator<Item = String>) -> Touched {
        Touched(names.into_iter().collect())
    }

    /// Connections of which it is not known what charon holds, with their secrets.
    pub fn peers<'a>(names: impl IntoIterator<Item = &'a ConnName>) -> Touched {
        Touched(names.into_iter().flat_map(|name| [name.to_string(), secret_id(name)]).collect())
    }

    /// What stands in the marker on disk while they are taken.
    pub fn marker(&self) -> String {
        self.0.iter().fold(format!("{HEAD}\n"), |text, name| text + name + "\n")
    }

    /// Out of [`Touched::marker`].
    pub fn parse(marker: &str) -> Option<Touched> {
        Some(Touched(marker.strip_prefix(HEAD)?.lines().skip(1).map(str::to_owned).collect()))
    }

    /// What of `believed` can still be believed. The result has no texts, as it is not complete.
    pub fn still_believed(&self, mut believed: Configuration) -> Configuration {
        believed.connections.retain(|name, _| !self.0.contains(name.as_str()));
        believed.secrets.retain(|id, _| !self.0.contains(id));
        Configuration { files: Files::default(), ..believed }
    }
}
