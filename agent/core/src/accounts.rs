//! The further accounts of settings, with what the last refresh said of each; and an organization's accounts as settings. Pure.

mod organization;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

pub use self::organization::{Listing, Member, Partition, Wanted};
use crate::{
    error::Kind,
    model::{AccountId, AccountName, Region, RoleArn, Scope},
    report::{RegionReport, Report},
    settings::Account,
    text::plural,
};

/// What `crosswan accounts` shows; `--json` prints it as it is.
#[derive(Debug, Serialize)]
pub struct Accounts {
    /// The accounts that settings list.
    pub accounts: BTreeMap<AccountId, Listed>,
}

/// One account of settings. Its external id is a secret, and not shown.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// What settings call it.
    pub name: AccountName,
    /// The role that is assumed there.
    pub role_arn: RoleArn,
    /// The networks that VPCs of this account may bring.
    pub allow: Vec<String>,
    /// What the last refresh said of each region; `None` if that did not ask there.
    pub regions: BTreeMap<Region, Option<RegionReport>>,
}

impl Accounts {
    /// The accounts of settings beside the last refresh's report, if there is one.
    pub fn of(accounts: &BTreeMap<AccountId, Account>, report: Option<&Report>) -> Accounts {
        let listed = |(id, account): (&AccountId, &Account)| {
            let said = |region: &Region| {
                let scope = Scope { account: Some(id.clone()), region: region.clone() };
                (region.clone(), report.and_then(|report| report.regions.get(&scope)).cloned())
            };
            let listed = Listed {
                name: account.name.clone(),
                role_arn: account.role.clone(),
                allow: account.allow.iter().map(ToString::to_string).collect(),
                regions: account.regions.iter().map(said).collect(),
            };
            (id.clone(), listed)
        };
        Accounts { accounts: accounts.iter().map(listed).collect() }
    }

    /// 0 if every region of every account answered the last refresh, and otherwise the code for what could not be asked.
    pub fn exit_code(&self) -> u8 {
        let mut all = self.accounts.values().flat_map(|account| account.regions.values());
        let answered = all.all(|said| said.as_ref().is_some_and(|said| said.failed.is_none()));
        if answered { 0 } else { Kind::Observe.exit_code() }
    }
}

impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, account) in &self.accounts {
            let allow = account.allow.join(", ");
            writeln!(f, "{id} ({}), by {}, may bring {allow}", account.name, account.role_arn)?;
            for (region, said) in &account.regions {
                match said {
                    Some(said) => writeln!(f, "  {}", said.in_words(region))?,
                    None => writeln!(
                        f,
                        "  UNKNOWN   {region}: the last refresh has no answer; look for a note about it in crosswan status"
                    )?,
                }
            }
        }
        match self.accounts.len() {
            0 => f.write_str("settings list no further account"),
            n => write!(f, "{} beside the own one", plural(n, "account")),
        }
    }
}
