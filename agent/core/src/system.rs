//! What is: the managed files, charon and iptables at one moment. Observed by the edges, compared by [`crate::plan`].

mod configuration;
mod doubt;
mod files;
mod sa;

use std::collections::{BTreeMap, BTreeSet};

pub use self::{
    configuration::{Configuration, is_our_secret, secret_id},
    doubt::Touched,
    files::{Files, ManagedFile},
    sa::{ChildSa, Sa},
};
use crate::{
    iptables::Rules,
    model::{ConnName, PrivateKey, PublicKey},
    swanctl::Summary,
};

/// What is on this gateway at this moment.
#[derive(Debug, Default)]
pub struct System {
    pub files: Files,
    /// The managed files whose permission bits are not what they should be.
    pub wrong_mode: BTreeSet<ManagedFile>,
    /// What the files on disk say is loaded, without what they cannot be believed about, so that this is loaded again
    /// (loading an unchanged connection touches no SA: `docs/facts.md`, "Loading connections").
    pub believed: Configuration,
    /// Why they cannot be believed: an apply was cut off, or a file does not parse.
    pub doubt: Option<String>,
    /// The peers' keys by the file on disk, believed or not.
    pub peer_keys: BTreeMap<ConnName, Vec<PublicKey>>,
    /// This gateway's private keys on disk.
    pub keys: Vec<PrivateKey>,
    /// `None` where charon was not asked or did not answer.
    pub charon: Option<Charon>,
    pub rules: Rules,
}

/// What charon holds.
#[derive(Debug, Clone, Default)]
pub struct Charon {
    pub version: String,
    pub key_exchanges: BTreeSet<String>,
    pub connections: BTreeMap<String, Summary>,
    pub secrets: BTreeSet<String>,
    /// The ids of its private keys.
    pub keys: BTreeSet<String>,
    pub sas: Vec<Sa>,
}
