//! Where a key lies, and what may be said of it there: the words for people.

use super::super::ec2::reason;
use crosswan_core::{
    model::{Region, plain},
    settings::{NoKey, Service, StoredKey},
};

/// A service as its API names it (Smithy models of SSM 2014-11-06 and Secrets Manager 2017-10-17, both AWS JSON 1.1).
pub(super) struct Api {
    /// For people, and for `AWS_ENDPOINT_URL_…`.
    pub id: &'static str,
    /// In host names, signatures and permissions.
    pub name: &'static str,
    /// Before the operation in `X-Amz-Target`.
    pub target: &'static str,
}

/// The setting, and the region that it means.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub stored: &'a StoredKey,
    pub region: &'a Region,
}

impl Place<'_> {
    pub(super) fn api(&self) -> Api {
        match self.stored.service {
            Service::Parameter => Api { id: "SSM", name: "ssm", target: "AmazonSSM" },
            Service::Secret => Api { id: "Secrets Manager", name: "secretsmanager", target: "secretsmanager" },
        }
    }

    /// The store's word that there is nothing under `name`.
    pub(super) fn missing(&self, name: &str) -> NoKey {
        let make = match self.stored.service {
            Service::Parameter => "aws ssm put-parameter --type SecureString",
            Service::Secret => "aws secretsmanager create-secret",
        };
        self.stored.refused(name, format!("there is none in {}; make it with: {make}", self.region))
    }

    /// Why nothing is known of a key. It names the setting, not each name: the same for all of a batch, it is said once.
    pub(super) fn unasked(&self, why: &str) -> NoKey {
        NoKey::Unasked(format!("{} in {}: {why}", self.stored, self.region))
    }

    /// The service's error in an operator's words; one of permissions names what is missing, as far as AWS says it.
    pub(super) fn refused(&self, operation: &str, status: u16, code: &str, message: Option<&str>) -> String {
        let Api { id, name, .. } = self.api();
        if !code.starts_with("AccessDenied") {
            return reason::refused(id, operation, self.region, status, code, message);
        }
        let message = message.unwrap_or_default();
        let named = message.split("perform: ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let is_action =
            |s: &&str| s.contains(':') && s.bytes().all(|b| b.is_ascii_alphanumeric() || b":-".contains(&b));
        let permission = match named.filter(is_action) {
            Some(action) => action.to_owned(),
            // KMS's refusal, as SSM and Secrets Manager pass it on.
            None if message.contains("ciphertext") || message.contains("KMS") => {
                "kms:Decrypt for the key that encrypts it".to_owned()
            }
            None => format!("{name}:{operation}, and kms:Decrypt if a key of your own encrypts it,"),
        };
        format!("not permitted: the instance's role needs {permission} in {} ({})", self.region, plain(code))
    }
}
