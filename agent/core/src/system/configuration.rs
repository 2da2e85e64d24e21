//! What the managed files say: their texts, and the trees parsed back from them.

use std::collections::BTreeMap;

use super::{Files, ManagedFile};
use crate::{
    error::{Context, Error, Kind, Result},
    iptables::Rules,
    model::{ConnName, PrivateKey},
    swanctl::{self, Shared, Tree},
};

/// A whole configuration of this gateway: what should be, or what the files on disk say is loaded.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    pub files: Files,
    pub connections: BTreeMap<ConnName, Tree>,
    pub secrets: BTreeMap<String, Shared>,
    /// This gateway's private keys that charon should have. They stand in no managed file.
    pub keys: Vec<PrivateKey>,
    pub rules: Rules,
}

impl Configuration {
    /// Parses the texts back. Connections and secrets that are not crosswan's by name are left out: never touched.
    pub fn of(files: Files) -> Result<Configuration> {
        let parse = |file: ManagedFile, text: &Option<String>| {
            let tree = text.as_deref().map(swanctl::parse).transpose().map(Option::unwrap_or_default);
            tree.context(|| Error::new(Kind::Other, format!("parse {file}")))
        };
        let connections = swanctl::connections(parse(ManagedFile::Connections, &files.connections)?);
        let secrets = swanctl::secrets(&parse(ManagedFile::Secrets, &files.secrets)?)
            .context(|| Error::new(Kind::Other, format!("parse {}", ManagedFile::Secrets)))?;
        Ok(Configuration {
            connections: connections.into_iter().filter_map(|(n, tree)| Some((n.parse().ok()?, tree))).collect(),
            secrets: secrets.into_iter().filter(|(id, _)| is_our_secret(id)).collect(),
            keys: Vec::new(),
            rules: files.rules.as_deref().map(Rules::parse).unwrap_or_default(),
            files,
        })
    }
}

/// Secrets are ours by name, like connections.
pub fn is_our_secret(id: &str) -> bool {
    id.strip_prefix("ike-").is_some_and(|name| name.parse::<ConnName>().is_ok())
}

/// The id of a connection's pre-shared key.
pub fn secret_id(name: &ConnName) -> String {
    format!("ike-{name}")
}
