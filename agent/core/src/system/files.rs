//! The files that crosswan writes whole.

use std::fmt;

/// The text of each managed file; `None` where there is no such file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The connections, as swanctl reads them.
    pub connections: Option<String>,
    /// The pre-shared keys: mode 0600, never logged.
    pub secrets: Option<String>,
    /// The own interfaces, policy rules and routes, as `ip -batch` reads them.
    pub routing: Option<String>,
    /// The own chains, as iptables-restore reads them.
    pub rules: Option<String>,
    /// The members of the pair, for `crosswan pair`; there is none without a pair.
    pub pair: Option<String>,
}

/// A file that crosswan writes whole, and that nobody else writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ManagedFile {
    /// swanctl connections.
    Connections,
    /// Pre-shared keys for swanctl.
    Secrets,
    /// Interfaces, policy rules and routes.
    Routing,
    /// The own chains.
    Rules,
    /// The members of the pair.
    Pair,
}

impl fmt::Display for ManagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ManagedFile::Connections => "crosswan.conf",
            ManagedFile::Secrets => "crosswan-secrets.conf",
            ManagedFile::Routing => "routing.batch",
            ManagedFile::Rules => "iptables.rules",
            ManagedFile::Pair => "pair.json",
        })
    }
}

impl ManagedFile {
    /// Its permission bits: only root may read secrets.
    pub fn mode(self) -> u32 {
        match self {
            ManagedFile::Secrets => 0o600,
            ManagedFile::Connections | ManagedFile::Routing | ManagedFile::Rules | ManagedFile::Pair => 0o644,
        }
    }
}
