//! Further accounts in which gateways are looked for, each by a role of that account.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::parse::{self, Parsed, Raw};
use crate::model::{AccountId, AccountName, Region, RoleArn, Secret, SegmentName, printable};

/// An account in which EC2 is asked by a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The role that is assumed there.
    pub role: RoleArn,
    /// What the role's trust policy demands as `sts:ExternalId`.
    pub external_id: Option<Secret>,
    /// The regions in which it is asked; at least one.
    pub regions: BTreeSet<Region>,
    /// The networks that VPCs of this account may bring.
    pub allow: BTreeSet<Ipv4Net>,
    /// The segments that VPCs of this account may be in; `None` if they may be in any.
    pub segments: Option<BTreeSet<SegmentName>>,
    /// What messages and labels call it.
    pub name: AccountName,
}

/// An account as a source lists it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    role: RoleArn,
    external_id: Option<Secret>,
    regions: Option<BTreeSet<Region>>,
    allow: Option<BTreeSet<Ipv4Net>>,
    segments: Option<BTreeSet<SegmentName>>,
    name: Option<AccountName>,
}

/// What an entry may have.
const KEYS: &str = "role_arn, external_id, regions, allow, segments and name";

/// Tables, or role ARNs alone.
pub(super) fn listed(raw: &Raw) -> Parsed<Vec<Listed>> {
    parse::list(raw, |entry| match entry {
        Raw::Table(entries) => table(entries),
        arn => Ok(Listed {
            role: parse::word(arn)?,
            external_id: None,
            regions: None,
            allow: None,
            segments: None,
            name: None,
        }),
    })
}

fn table(entries: &BTreeMap<String, Raw>) -> Parsed<Listed> {
    if let Some(key) = entries.keys().find(|key| !KEYS.split([',', ' ']).any(|known| known == *key) || *key == "and") {
        return Err(format!("an account with {}, which is none of {KEYS}", printable(key)));
    }
    let role = entries.get("role_arn").ok_or("an account without role_arn")?;
    let role: RoleArn = parse::word(role).map_err(|found| format!("the role_arn {found}"))?;
    let of = |key: &'static str| {
        let account = role.account();
        move |found: String| format!("for account {account} the {key} {found}")
    };
    Ok(Listed {
        external_id: entries.get("external_id").map(external_id).transpose().map_err(of("external_id"))?,
        regions: entries.get("regions").map(parse::set).transpose().map_err(of("regions"))?,
        allow: entries.get("allow").map(parse::networks).transpose().map_err(of("allow"))?,
        segments: entries.get("segments").map(parse::set).transpose().map_err(of("segments"))?,
        name: entries.get("name").map(parse::word).transpose().map_err(of("name"))?,
        role,
    })
}

/// It is never shown.
fn external_id(raw: &Raw) -> Parsed<Secret> {
    match raw {
        Raw::Text(id) if is_external_id(id) => Ok(Secret::new(id.as_bytes())),
        _ => Err("that STS does not accept (not shown: it is a secret)".into()),
    }
}

/// Whether STS accepts this as an external id (STS API reference, "AssumeRole").
pub fn is_external_id(id: &str) -> bool {
    (2..=1224).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
}

/// The accounts by their ids, with the defaults of this gateway. The error is what is wrong with one of them.
pub(super) fn checked(
    listed: Vec<Listed>,
    regions: &BTreeSet<Region>,
    private_net: &BTreeSet<Ipv4Net>,
) -> Parsed<BTreeMap<AccountId, Account>> {
    let mut accounts: BTreeMap<AccountId, Account> = BTreeMap::new();
    for Listed { role, external_id, regions: own, allow, segments, name } in listed {
        let id = role.account();
        let regions = own.unwrap_or_else(|| regions.clone());
        if regions.is_empty() {
            return Err(format!("no regions for account {id}, and no regions beside the accounts"));
        }
        let name = name.unwrap_or_else(|| AccountName::from(&id));
        if accounts.values().any(|account| account.name == name) && !accounts.contains_key(&id) {
            return Err(format!("the name {name} for two accounts"));
        }
        let allow = allow.unwrap_or_else(|| private_net.clone());
        if let Some(twice) = accounts.insert(id, Account { role, external_id, regions, allow, segments, name }) {
            return Err(format!("account {} twice", twice.role.account()));
        }
    }
    Ok(accounts)
}
