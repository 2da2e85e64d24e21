//! What is: the managed files, charon and iptables at one moment. The edges observe it, and [`crate::plan`] compares it.

mod configuration;
mod conntrack;
mod doubt;
mod files;
mod followed;
mod routing;
mod sa;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::configuration::is_our_secret;
pub use self::{
    configuration::{Configuration, secret_id},
    conntrack::Conntrack,
    doubt::Touched,
    files::{Files, ManagedFile},
    followed::{Followed, Followee},
    routing::{BACKSTOP_METRIC, PROTOCOL, Routing, RoutingChange, Rule, TABLE, Table, Via, address_of},
    sa::{ChildSa, Sa, all_are_up},
};
use crate::{
    iptables::Rules,
    model::{ConnName, Place, PrivateKey, PublicKey},
    swanctl::Summary,
};

/// What is on this gateway at this moment.
#[derive(Debug, Default)]
pub struct System {
    /// The managed files as they are on disk.
    pub files: Files,
    /// The managed files whose permission bits are not what they should be.
    pub wrong_mode: BTreeSet<ManagedFile>,
    /// The configuration that is loaded according to the files on disk, without the connections and secrets in doubt: those
    /// are loaded again, and loading an unchanged connection touches no SA (`docs/facts.md`, "Loading connections").
    pub believed: Configuration,
    /// Why something is in doubt: a pass was cut off, or a file does not parse.
    pub doubt: Option<String>,
    /// The places of the connections according to the file on disk, whether in doubt or not.
    pub places: BTreeMap<ConnName, Place>,
    /// The peers' keys according to the file on disk, whether in doubt or not.
    pub peer_keys: BTreeMap<ConnName, Vec<PublicKey>>,
    /// This gateway's private keys on disk.
    pub keys: Vec<PrivateKey>,
    /// `None` where charon was not asked or did not answer.
    pub charon: Option<Charon>,
    /// The own chains in iptables now.
    pub rules: Rules,
    /// The own interfaces, policy rules and routes now.
    pub routing: Routing,
    /// The far gateways that are followed by their own word.
    pub followed: Followed,
}

/// What charon holds.
#[derive(Debug, Clone, Default)]
pub struct Charon {
    /// charon's version, such as `5.9.8`.
    pub version: String,
    /// The key exchange methods that it has plugins for, such as `ML_KEM_768`.
    pub key_exchanges: BTreeSet<String>,
    /// Its loaded connections by name, those of others included.
    pub connections: BTreeMap<String, Summary>,
    /// The ids of its shared secrets, those of others included.
    pub secrets: BTreeSet<String>,
    /// The ids of its private keys ([`PublicKey::charon_id`]).
    pub keys: BTreeSet<String>,
    /// Its IKE_SAs with their children.
    pub sas: Vec<Sa>,
}
