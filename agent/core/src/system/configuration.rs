//! The content of the managed files: their texts, and the trees parsed back from them.

use std::collections::BTreeMap;

use super::{Files, ManagedFile, Routing};
use crate::{
    error::{Context, Error, Kind, Result},
    iptables::Rules,
    model::{ConnName, PrivateKey},
    swanctl::{self, Shared, Tree},
};

/// A whole configuration of this gateway: the one that should be, or the one that is loaded according to the files.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// The texts; without them where only a part can be believed.
    pub files: Files,
    /// The connections, each as the body of its `load-conn` message.
    pub connections: BTreeMap<ConnName, Tree>,
    /// The pre-shared keys by their ids in charon.
    pub secrets: BTreeMap<String, Shared>,
    /// This gateway's private keys that charon should have. No managed file holds them.
    pub keys: Vec<PrivateKey>,
    /// The own chains in iptables.
    pub rules: Rules,
    /// The own interfaces, policy rules and routes.
    pub routing: Routing,
}

impl Configuration {
    /// Parses the texts back. Foreign connections and secrets, by name, are left out: they are never touched.
    ///
    /// # Errors
    /// A text does not parse, or a secret cannot be decoded.
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
            routing: files.routing.as_deref().map(Routing::parse).unwrap_or_default(),
            files,
        })
    }
}

/// Whether a secret is crosswan's own, which its id tells as a connection's name does.
pub(crate) fn is_our_secret(id: &str) -> bool {
    id.strip_prefix("ike-").is_some_and(|name| name.parse::<ConnName>().is_ok())
}

/// The id of a connection's pre-shared key.
pub fn secret_id(name: &ConnName) -> String {
    format!("ike-{name}")
}
