//! Where EC2 is asked: one region of one account.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{AccountId, BadName, Region};

/// A region of the account that this gateway is in, or of another one. Its text is `eu-west-1` or `111122223333/eu-west-1`. Those of
/// the own account come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope {
    /// The account; `None` for the one that this gateway is in.
    pub account: Option<AccountId>,
    /// The region.
    pub region: Region,
}

impl Scope {
    /// The account for a sentence.
    pub fn whose(&self) -> String {
        match &self.account {
            None => "this gateway's own account".into(),
            Some(account) => format!("account {account}"),
        }
    }
}

/// A region of the own account.
impl From<Region> for Scope {
    fn from(region: Region) -> Scope {
        Scope { account: None, region }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(account) = &self.account {
            write!(f, "{account}/")?;
        }
        write!(f, "{}", self.region)
    }
}

impl FromStr for Scope {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Scope, BadName> {
        let (account, region) = match text.split_once('/') {
            Some((account, region)) => (Some(account.parse()?), region),
            None => (None, text),
        };
        Ok(Scope { account, region: region.parse()? })
    }
}

as_text!(Scope, BadName);
