//! Another account, with the role by which the hub asks there.

use anyhow::Result;
use crosswan_lab::{
    Lab,
    iam::{Policy, accounts::HOME},
};
use serde_json::{Value, json};

/// The account.
pub const OTHER: &str = "111122223333";

/// Its role.
pub struct Account {
    role: String,
    trust: Policy,
}

impl Account {
    /// With a role that the lab's hub may assume, by the trust policy of `docs/iam`.
    pub fn new(lab: &Lab) -> Result<Account> {
        let mut trust: Value = serde_json::from_str(include_str!("../../../docs/iam/discover-trust.json"))?;
        trust["Statement"][0]["Principal"] = json!({ "AWS": format!("arn:aws:iam::{HOME}:role/crosswan-vpn-hub") });
        trust["Statement"][0]["Condition"] = json!({});
        let account =
            Account { role: format!("arn:aws:iam::{OTHER}:role/crosswan-discover"), trust: Policy::new(&trust)? };
        account.answers(lab, true);
        Ok(account)
    }

    /// Whether the role may be assumed from now on.
    pub fn answers(&self, lab: &Lab, does: bool) {
        lab.iam().accounts.role(&self.role, does.then(|| self.trust.clone()));
    }

    /// Gives it these resources, which are seen nowhere else from now on.
    pub fn gets(&self, lab: &Lab, resources: &[&str]) {
        lab.iam().accounts.give(resources, OTHER);
    }

    /// The hub's settings that list it, with one region.
    pub fn settings(&self, region: &str) -> String {
        format!("[[accounts]]\nrole_arn = \"{}\"\nname = \"payments\"\nregions = [\"{region}\"]\n", self.role)
    }
}
