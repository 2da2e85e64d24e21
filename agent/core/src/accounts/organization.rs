//! What AWS Organizations shows of its accounts, as `[[accounts]]` of settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Context as _, Error, Result},
    model::{AccountId, AccountName, Region, RoleArn, printable},
    settings::is_external_id,
    text::plural,
};

/// An account as Organizations shows it (Organizations API reference, "Account").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    /// Its number.
    pub id: AccountId,
    /// What its people call it: foreign text, which need not be there nor be the only one of its kind.
    #[serde(default)]
    pub name: String,
    /// `ACTIVE` if it is in use.
    pub state: Option<String>,
    /// What `State` has replaced: AWS stops sending it (in September 2026, by the same page), and what imitates AWS may send nothing else.
    pub status: Option<String>,
}

/// A partition of AWS: where its Organizations are, and how its ARNs begin.
#[derive(Debug, PartialEq, Eq)]
pub struct Partition {
    /// The beginning of its regions' names.
    prefix: &'static str,
    /// Its name in ARNs.
    pub name: &'static str,
    /// The region whose endpoint answers for all accounts, and for which requests are signed.
    pub home: &'static str,
    suffix: &'static str,
}

/// AWS General Reference, "AWS Organizations endpoints and quotas". The last one has all other regions.
const PARTITIONS: [Partition; 3] = [
    Partition { prefix: "cn-", name: "aws-cn", home: "cn-northwest-1", suffix: "amazonaws.com.cn" },
    Partition { prefix: "us-gov-", name: "aws-us-gov", home: "us-gov-west-1", suffix: "amazonaws.com" },
    Partition { prefix: "", name: "aws", home: "us-east-1", suffix: "amazonaws.com" },
];

impl Partition {
    /// The partition of this region; without one, that of most accounts.
    pub fn of(region: Option<&Region>) -> &'static Partition {
        let region = region.map_or("", Region::as_str);
        PARTITIONS.iter().find(|partition| region.starts_with(partition.prefix)).unwrap_or(&PARTITIONS[2])
    }

    /// The URL of its Organizations.
    pub fn organizations(&self) -> String {
        format!("https://organizations.{}.{}", self.home, self.suffix)
    }
}

/// What shall be printed of each account.
#[derive(Debug)]
pub struct Wanted {
    partition: &'static Partition,
    role: String,
    external_id: Option<String>,
    regions: BTreeSet<Region>,
    hub: AccountId,
}

impl Wanted {
    /// `role` is the name of the role in every account, with its path if it has one, and `hub` the account that the hub is in. Without
    /// `regions` none are printed, and those of the gateway's own settings count.
    ///
    /// # Errors
    /// Of kind `Settings`: IAM or STS would not accept the role's name or the external id.
    pub fn new(
        partition: &'static Partition,
        role: String,
        external_id: Option<String>,
        regions: BTreeSet<Region>,
        hub: AccountId,
    ) -> Result<Wanted> {
        let wanted = Wanted { partition, role, external_id, regions, hub };
        wanted
            .role(&wanted.hub)
            .context(|| Error::settings("--role takes the name of a role, the same in all accounts"))?;
        match &wanted.external_id {
            Some(id) if !is_external_id(id) => {
                Err(Error::settings("--external-id: STS does not accept it (2 to 1224 letters, digits and _+=,.@:/-)"))
            }
            _ => Ok(wanted),
        }
    }

    fn role(&self, account: &AccountId) -> std::result::Result<RoleArn, crate::model::BadName> {
        format!("arn:{}:iam::{account}:role/{}", self.partition.name, self.role).parse()
    }
}

/// The accounts for settings, and what is not among them. Its text is TOML; JSON has all of it.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// By their numbers.
    pub accounts: Vec<Entry>,
    /// The others, with the reason.
    pub left_out: Vec<LeftOut>,
    /// What whoever uses the list should know.
    pub notes: Vec<String>,
}

/// One of `[[accounts]]`.
#[derive(Debug, Serialize)]
pub struct Entry {
    role_arn: RoleArn,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<AccountName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    regions: BTreeSet<Region>,
}

/// An account that is not listed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its number.
    pub account: AccountId,
    /// Its name, as it came.
    pub name: String,
    /// Why.
    pub why: String,
}

impl Listing {
    /// The accounts of an organization that are in use, without the hub's own: a VPC that two accounts show is refused, and the hub asks
    /// in its own account anyway.
    ///
    /// # Errors
    /// Never for what `Wanted::new` accepts.
    pub fn of(members: Vec<Member>, wanted: &Wanted) -> Result<Listing> {
        // A list that changed between two pages may have an account twice.
        let members: BTreeMap<AccountId, Member> =
            members.into_iter().map(|member| (member.id.clone(), member)).collect();
        let mut listing = Listing { accounts: vec![], left_out: vec![], notes: vec![] };
        if !members.contains_key(&wanted.hub) {
            listing.notes.push(format!(
                "account {}, where the hub is, is not in this organization: the hub's own account must not be listed",
                wanted.hub
            ));
        }
        let (used, out): (Vec<_>, Vec<_>) = members.into_values().partition(|member| why_not(member, wanted).is_none());
        let left_out = |member: Member| LeftOut {
            why: why_not(&member, wanted).unwrap_or_default(),
            account: member.id,
            name: member.name,
        };
        listing.left_out = out.into_iter().map(left_out).collect();
        let named: Vec<Option<AccountName>> = used.iter().map(|member| name(&member.name)).collect();
        for (member, own) in used.iter().zip(&named) {
            let alone = own.as_ref().filter(|own| named.iter().flatten().filter(|other| other == own).count() == 1);
            if alone.is_none() {
                let why = if own.is_some() { "another account would have the same" } else { "settings do not take it" };
                let shown = printable(&member.name);
                listing.notes.push(format!("account {} is listed without its name {shown}: {why}", member.id));
            }
            listing.accounts.push(Entry {
                role_arn: wanted.role(&member.id).context(|| Error::settings("--role"))?,
                name: alone.cloned(),
                external_id: wanted.external_id.clone(),
                regions: wanted.regions.clone(),
            });
        }
        Ok(listing)
    }

    /// A line each for what is not printed, and for what should be known.
    pub fn remarks(&self) -> Vec<String> {
        let left_out = |out: &LeftOut| format!("left out  {} {}: {}", out.account, printable(&out.name), out.why);
        let notes = self.notes.iter().map(|note| format!("note      {note}"));
        self.left_out.iter().map(left_out).chain(notes).collect()
    }
}

/// Why an account is not listed, if it is not.
fn why_not(member: &Member, wanted: &Wanted) -> Option<String> {
    match member.state.as_ref().or(member.status.as_ref()) {
        _ if member.id == wanted.hub => Some("the hub is in it, and asks there without a role".into()),
        Some(state) if state == "ACTIVE" => None,
        Some(state) => Some(format!("its state is {}, and not ACTIVE", printable(state))),
        None => Some("Organizations did not say whether it is active".into()),
    }
}

/// A name that settings take, and that nobody can mistake for another account's number. Whoever may name an account chooses it.
fn name(foreign: &str) -> Option<AccountName> {
    let words = foreign.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
    let name = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    name.parse().ok().filter(|_| name.parse::<AccountId>().is_err())
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "# {} of the organization, as crosswan accounts --organization found them",
            plural(self.accounts.len(), "account")
        )?;
        // All of these have closed character sets, without quotes and backslashes.
        for Entry { role_arn, name, external_id, regions } in &self.accounts {
            write!(f, "\n\n[[accounts]]\nrole_arn = \"{role_arn}\"")?;
            name.iter().try_for_each(|name| write!(f, "\nname = \"{name}\""))?;
            external_id.iter().try_for_each(|id| write!(f, "\nexternal_id = \"{id}\""))?;
            if !regions.is_empty() {
                let regions: Vec<&str> = regions.iter().map(Region::as_str).collect();
                write!(f, "\nregions = {regions:?}")?;
            }
        }
        Ok(())
    }
}
