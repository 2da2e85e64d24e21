//! Several accounts in one moto. What the lab makes belongs to [`HOME`] until a test gives it to another account; a gateway is shown what
//! belongs to its own account, and a session of a role what belongs to the role's.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use roxmltree::Document;

use super::{Call, Caller, Decision, Policy};
use crate::ec2::Elements;
use crate::lock;

/// moto's own account.
pub const HOME: &str = "123456789012";
/// The organization of everyone who asks.
pub(super) const ORGANIZATION: &str = "o-a1b2c3d4e5";
const SESSION: &str = "ASIAROLE";

/// Who owns what, and which roles there are.
#[derive(Debug, Default)]
pub struct Accounts {
    /// By VPC or instance; an instance without an entry is its VPC's.
    owners: Mutex<BTreeMap<String, String>>,
    /// The trust policies of roles, by ARN.
    roles: Mutex<BTreeMap<String, Policy>>,
}

impl Accounts {
    /// From now on these VPCs or instances belong to this account.
    pub fn give(&self, ids: &[&str], account: &str) {
        lock(&self.owners).extend(ids.iter().map(|id| ((*id).to_owned(), account.to_owned())));
    }

    /// Makes a role with that trust policy, or takes it away.
    pub fn role(&self, arn: &str, trust: Option<Policy>) {
        let mut roles = lock(&self.roles);
        match trust {
            Some(trust) => drop(roles.insert(arn.to_owned(), trust)),
            None => drop(roles.remove(arn)),
        }
    }

    /// STS's answer to AssumeRole; `None` if the role does not trust the caller, or does not exist.
    pub(super) fn assumed(&self, caller: &Caller, call: &Call) -> Option<String> {
        let role = call.resources.first()?;
        let trust = lock(&self.roles).get(role)?.clone();
        let account = role.split(':').nth(4)?;
        (Policy::decide(&[trust], caller, call) == Decision::Allowed).then(|| {
            format!(
                "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
                 <AccessKeyId>{SESSION}{account}</AccessKeyId><SecretAccessKey>lab</SecretAccessKey><SessionToken>lab</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
            )
        })
    }

    /// The account of an access key; `None` if it is the lab's own.
    pub(super) fn of(&self, access_key: &str, caller: Option<&Caller>) -> Option<String> {
        if let Some(account) = access_key.strip_prefix(SESSION) {
            return Some(account.to_owned());
        }
        let instance = caller?.instance.as_deref()?.rsplit('/').next()?;
        Some(lock(&self.owners).get(instance).map_or(HOME, String::as_str).to_owned())
    }

    /// An answer as this account gets it: with its own instances only, and every VPC with its owner.
    pub(super) fn shown(&self, account: &str, action: &str, body: String) -> Result<String> {
        let owners = lock(&self.owners);
        if owners.is_empty() || !["DescribeInstances", "DescribeVpcs"].contains(&action) {
            return Ok(body);
        }
        let owner = |id: Option<&str>| id.and_then(|id| owners.get(id)).map(String::as_str);
        let document = Document::parse(&body)?;
        let set =
            document.root_element().children().find(|n| n.tag_name().name().ends_with("Set")).context("no set")?;
        let mut shown = body.clone();
        for item in set.children().filter(|n| n.is_called("item")).collect::<Vec<_>>().into_iter().rev() {
            let text = |name: &str| item.descendants().find(|n| n.is_called(name)).and_then(|n| n.text());
            let belongs = owner(text("instanceId")).or(owner(text("vpcId"))).unwrap_or(HOME);
            match item.descendants().find(|n| n.is_called("ownerId")) {
                _ if action == "DescribeInstances" && belongs != account => shown.replace_range(item.range(), ""),
                Some(at) if action == "DescribeVpcs" => {
                    shown.replace_range(at.range(), &format!("<ownerId>{belongs}</ownerId>"));
                }
                _ => {}
            }
        }
        Ok(shown)
    }
}
