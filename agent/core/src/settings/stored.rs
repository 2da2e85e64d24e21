//! A pre-shared key that is in AWS: its name, and the result of asking for it. The agent's `observe/store.rs` asks.

use std::{collections::BTreeMap, fmt};

use super::{
    parse::{Parsed, Raw},
    psk,
};
use crate::model::{AskError, Region, Secret, VpcId};

/// In a name this stands for the client's VPC id, where there is one pre-shared key per peer.
const VPC: &str = "{vpc}";

/// One of AWS's stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// SSM Parameter Store, `auth.psk_parameter`.
    Parameter,
    /// Secrets Manager, `auth.psk_secret`.
    Secret,
}

/// The name of a pre-shared key in AWS. `Display`, such as `parameter /crosswan/psk`, is for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPsk {
    /// The store.
    pub service: Service,
    /// The name or ARN as set, with a closed character set. `{vpc}` in it stands for the client's VPC id.
    pub name: String,
    /// The region of the ARN, otherwise `auth.psk_region`; `None` for the instance's own.
    pub region: Option<Region>,
}

/// Why there is no pre-shared key under a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPsk {
    /// The store answered that there is none, or the one that it has must not be used.
    #[error("{0}")]
    Refused(String),
    /// The store could not be asked, which says nothing about the pre-shared key.
    #[error("{0}")]
    Unasked(Box<StoreUnasked>),
}

/// A store that could not be asked. It has the name as set, with `{vpc}`, and so is the same for a whole batch and is reported
/// once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stored} in {region}: {why}")]
pub struct StoreUnasked {
    /// The setting, with the name as set.
    pub stored: StoredPsk,
    /// The region that was asked.
    pub region: Region,
    /// Why there was no answer.
    pub why: AskError,
}

/// The result for each name that was asked for.
pub type Fetched = BTreeMap<String, Result<Secret, NoPsk>>;

impl StoredPsk {
    /// Whether each client VPC has a pre-shared key of its own.
    pub fn per_peer(&self) -> bool {
        self.name.contains(VPC)
    }

    /// The name of the pre-shared key for the tunnel of this client VPC.
    pub fn name_for(&self, vpc: &VpcId) -> String {
        self.name.replace(VPC, vpc.as_str())
    }

    /// Checks the content that was found under `name`, by the rules for a pre-shared key in a file.
    ///
    /// # Errors
    /// [`NoPsk::Refused`], which shows nothing of the content.
    pub fn check(&self, name: &str, content: &[u8]) -> Result<Secret, NoPsk> {
        psk::parse(content).map_err(|problem| self.refused(name, problem))
    }

    /// The error that there is no usable pre-shared key under `name` because of `problem`.
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

/// A parameter's name. It must begin with `/`, as a pre-shared key that is pasted here by mistake hardly ever does.
pub(super) fn parameter(raw: &Raw) -> Parsed<String> {
    name(raw, "ssm", |name| name.starts_with('/'))
}

/// A secret's name. AWS would also accept `+` and `=`, which are more likely in a pre-shared key than in a name.
pub(super) fn secret(raw: &Raw) -> Parsed<String> {
    name(raw, "secretsmanager", |_| true)
}

/// A name or an ARN of `service`. Anything else is not shown, as it may be a pre-shared key that was pasted in the wrong place.
fn name(raw: &Raw, service: &str, plain: impl Fn(&str) -> bool) -> Parsed<String> {
    let (Raw::Word(text) | Raw::Text(text)) = raw else { return Err(raw.found()) };
    let fits = |c: char| c.is_ascii_alphanumeric() || "/_.@:-".contains(c);
    let is_arn = |name: &str| name.split(':').nth(2) == Some(service) && StoredPsk::region_of_arn(name).is_some();
    let rest = text.replace(VPC, "");
    // 2048 is the longest ARN that either service accepts.
    let named = if text.starts_with("arn:") { is_arn(text) } else { plain(text) && !text.contains(':') };
    if (1..=2048).contains(&text.len()) && rest.chars().all(fits) && named {
        Ok(text.clone())
    } else {
        Err("something else (not shown: it may be a pre-shared key)".into())
    }
}
