//! A pre-shared key that lies in AWS under a name: where, and what asking for it came to. Who asks is `observe/store.rs`.

use std::{collections::BTreeMap, fmt};

use super::{
    parse::{Parsed, Raw},
    psk,
};
use crate::model::{AskError, Region, Secret, VpcId};

/// Stands in a name for the client's VPC id: a key per peer.
const VPC: &str = "{vpc}";

/// Which of AWS's stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// SSM Parameter Store, `auth.psk_parameter`.
    Parameter,
    /// Secrets Manager, `auth.psk_secret`.
    Secret,
}

/// Where the key lies. Its `Display`, `parameter /crosswan/psk`, is for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPsk {
    pub service: Service,
    /// The name or ARN as set, of a closed character set; `{vpc}` in it stands for the client's VPC id.
    pub name: String,
    /// Of the ARN, else `auth.psk_region`. `None`: the instance's own.
    pub region: Option<Region>,
}

/// Why a name brought no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPsk {
    /// The store answered: there is none, or none that may be used.
    #[error("{0}")]
    Refused(String),
    /// The store could not be asked, which says nothing of the key.
    #[error("{0}")]
    Unasked(Box<StoreUnasked>),
}

/// A store that could not be asked. It names the setting, not the key's name: the same for all of a batch, it is said once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stored} in {region}: {why}")]
pub struct StoreUnasked {
    pub stored: StoredPsk,
    pub region: Region,
    pub why: AskError,
}

/// What came of each name that was asked for.
pub type Fetched = BTreeMap<String, Result<Secret, NoPsk>>;

impl StoredPsk {
    /// Whether each client VPC has a key of its own.
    pub fn per_peer(&self) -> bool {
        self.name.contains(VPC)
    }

    /// The name of the key for the tunnel of this client VPC.
    pub fn name_for(&self, vpc: &VpcId) -> String {
        self.name.replace(VPC, vpc.as_str())
    }

    /// What was found under `name`, held to the rules for a key in a file. The error shows nothing of it.
    pub fn check(&self, name: &str, content: &[u8]) -> Result<Secret, NoPsk> {
        psk::parse(content).map_err(|problem| self.refused(name, problem))
    }

    /// There is no usable key under `name`, because of `problem`.
    pub fn refused(&self, name: &str, problem: impl fmt::Display) -> NoPsk {
        NoPsk::Refused(format!("{} {name}: {problem}", self.service))
    }

    /// The region that its ARN names.
    pub(super) fn region_of_arn(name: &str) -> Option<Region> {
        name.strip_prefix("arn:")?.split(':').nth(2)?.parse().ok()
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Service::Parameter => "parameter",
            Service::Secret => "secret",
        })
    }
}

impl fmt::Display for StoredPsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.service, self.name)
    }
}

/// A parameter's name. It begins with `/`, as a key pasted in its place hardly ever does.
pub(super) fn parameter(raw: &Raw) -> Parsed<String> {
    name(raw, "ssm", |name| name.starts_with('/'))
}

/// A secret's name. AWS would also take `+` and `=`, which are in a key rather than in a name.
pub(super) fn secret(raw: &Raw) -> Parsed<String> {
    name(raw, "secretsmanager", |_| true)
}

/// A name or an ARN of `service`. Anything else may be a key pasted in the wrong place: it is not shown.
fn name(raw: &Raw, service: &str, plain: impl Fn(&str) -> bool) -> Parsed<String> {
    let (Raw::Word(text) | Raw::Text(text)) = raw else { return Err(raw.found()) };
    let fits = |c: char| c.is_ascii_alphanumeric() || "/_.@:-".contains(c);
    let is_arn = |name: &str| name.split(':').nth(2) == Some(service) && StoredPsk::region_of_arn(name).is_some();
    let rest = text.replace(VPC, "");
    // 2048 is the longest ARN that either service takes.
    let named = if text.starts_with("arn:") { is_arn(text) } else { plain(text) && !text.contains(':') };
    if (1..=2048).contains(&text.len()) && rest.chars().all(fits) && named {
        Ok(text.clone())
    } else {
        Err("something else (not shown: it may be a key)".into())
    }
}
