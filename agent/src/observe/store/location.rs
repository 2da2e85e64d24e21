//! Where a pre-shared key is stored, and what the store's failures mean.

use std::error::Error as StdError;

use aws_sdk_ec2::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use crosswan_core::{
    model::{AskError, Format, Region},
    settings::{NoPsk, Service, StoreUnasked, StoredPsk},
};

use super::super::ec2::reason::{Asked, failed_at, refused};

/// The setting that names a store, and the region that is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location<'a> {
    /// The setting.
    pub(super) stored: &'a StoredPsk,
    /// Its region, or this gateway's if it names none.
    pub(super) region: &'a Region,
}

impl Location<'_> {
    /// The store has answered that there is nothing under `name`.
    pub(super) fn missing(&self, name: &str) -> NoPsk {
        let make = match self.stored.service {
            Service::Parameter => "aws ssm put-parameter --type SecureString",
            Service::Secret => "aws secretsmanager create-secret",
        };
        self.stored.refused(name, format!("it does not exist in {}; create it with: {make}", self.region))
    }

    /// The store could not be asked for a key, because of `why`.
    pub(super) fn unasked(&self, why: AskError) -> NoPsk {
        NoPsk::Unasked(Box::new(StoreUnasked { stored: self.stored.clone(), region: self.region.clone(), why }))
    }

    /// The SDK's error for a request to the store, as the model's.
    pub(super) fn failed<E>(&self, operation: &'static str, error: SdkError<E, HttpResponse>) -> AskError
    where
        E: StdError + ProvideErrorMetadata + 'static,
    {
        failed_at(&self.asked(operation, &|message| self.needed(operation, message)), error)
    }

    /// An error that the store returned.
    pub(super) fn refused(&self, operation: &'static str, status: u16, code: &str, message: Option<&str>) -> AskError {
        refused(&self.asked(operation, &|message| self.needed(operation, message)), status, code, message)
    }

    fn asked<'a>(&'a self, operation: &'static str, needed: &'a dyn Fn(&str) -> String) -> Asked<'a> {
        let service = match self.stored.service {
            Service::Parameter => "SSM",
            Service::Secret => "Secrets Manager",
        };
        Asked { service, format: Format::Json, operation, region: self.region, needed }
    }

    /// The permission that is missing, as far as AWS's message names it, and the region.
    fn needed(&self, operation: &str, message: &str) -> String {
        let named = message.split("perform: ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let is_action =
            |s: &&str| s.contains(':') && s.bytes().all(|b| b.is_ascii_alphanumeric() || b":-".contains(&b));
        let prefix = match self.stored.service {
            Service::Parameter => "ssm",
            Service::Secret => "secretsmanager",
        };
        let permission = match named.filter(is_action) {
            Some(action) => action.to_owned(),
            // SSM and Secrets Manager pass on KMS's refusal.
            None if message.contains("ciphertext") || message.contains("KMS") => {
                "kms:Decrypt for the key that encrypts it".to_owned()
            }
            None => format!("{prefix}:{operation}, and kms:Decrypt if a customer managed key encrypts it,"),
        };
        format!("{permission} in {}", self.region)
    }
}
