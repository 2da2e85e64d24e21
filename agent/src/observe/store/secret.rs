//! Secrets Manager: one call asks for one secret, or for up to twenty and returns each among the values or among the errors.

use aws_config::SdkConfig;
use aws_sdk_ec2::config::Credentials;
use aws_sdk_secretsmanager::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
};
use crosswan_core::{
    model::{AskError, Format, Region, Secret},
    settings::{Fetched, NoPsk},
};

use super::{
    super::ec2::{reason::misfit, whole::OnlyWhole},
    location::Location,
};

/// The most names that one BatchGetSecretValue accepts.
pub(super) const AT_ONCE: usize = 20;

const ONE: &str = "GetSecretValue";
const MANY: &str = "BatchGetSecretValue";

/// The client for one region, which refuses answers that are cut off.
pub(super) fn client((config, credentials): &(SdkConfig, Credentials), region: &Region) -> Client {
    let config = aws_sdk_secretsmanager::config::Builder::from(config)
        .region(aws_config::Region::new(region.to_string()))
        .credentials_provider(credentials.clone())
        .interceptor(OnlyWhole(Format::Json))
        .retry_classifier(OnlyWhole(Format::Json))
        .build();
    Client::from_conf(config)
}

/// An entry for each of `names`, or why none of them could be asked for.
pub(super) async fn ask(client: &Client, location: Location<'_>, names: &[String]) -> Result<Fetched, AskError> {
    match names {
        // A single secret needs one permission less than a batch, and a spoke asks for no more than one.
        [name] => Ok(Fetched::from([(name.clone(), one(client, location, name).await?)])),
        _ => many(client, location, names).await,
    }
}

async fn one(client: &Client, location: Location<'_>, name: &str) -> Result<Result<Secret, NoPsk>, AskError> {
    match client.get_secret_value().secret_id(name).send().await {
        Ok(found) => checked(location, ONE, name, found.secret_string(), found.secret_binary()),
        Err(error) => {
            let code = match &error {
                SdkError::ServiceError(error) => error.err().code().unwrap_or_default().to_owned(),
                _ => String::new(),
            };
            Ok(Err(no_secret(location, name, &code, location.failed(ONE, error))))
        }
    }
}

async fn many(client: &Client, location: Location<'_>, names: &[String]) -> Result<Fetched, AskError> {
    let request = client.batch_get_secret_value().set_secret_id_list(Some(names.to_vec()));
    let found = request.send().await.map_err(|error| location.failed(MANY, error))?;
    let each = |name: &String| {
        // AWS adds six characters to a name, and accepts an ARN without them.
        let is = |arn: &str| arn == name || arn.rsplit_once('-').is_some_and(|(arn, _)| arn == name);
        let value = found.secret_values().iter().find(|v| v.name() == Some(name) || v.arn().is_some_and(is));
        let key = match value {
            Some(v) => checked(location, MANY, name, v.secret_string(), v.secret_binary())?,
            None => {
                let error = found.errors().iter().find(|e| e.secret_id() == Some(name));
                let error = error.ok_or_else(|| misfit(MANY, "a name that was asked for is not in it"))?;
                let code = error.error_code().unwrap_or_default();
                Err(no_secret(location, name, code, location.refused(ONE, 200, code, error.message())))
            }
        };
        Ok((name.clone(), key))
    };
    names.iter().map(each).collect()
}

/// Secrets Manager's error about one name. Some errors are an answer.
fn no_secret(location: Location<'_>, name: &str, code: &str, why: AskError) -> NoPsk {
    match code {
        "ResourceNotFoundException" => location.missing(name),
        // For instance when it is scheduled for deletion.
        "InvalidRequestException" => location.stored.refused(name, why),
        _ => location.unasked(why),
    }
}

/// The value of one secret, if it obeys the rules for pre-shared keys.
fn checked(
    location: Location<'_>,
    operation: &'static str,
    name: &str,
    text: Option<&str>,
    binary: Option<&Blob>,
) -> Result<Result<Secret, NoPsk>, AskError> {
    match (text, binary) {
        (Some(text), _) => Ok(location.stored.check(name, text.as_bytes())),
        (None, Some(_)) => Ok(Err(location.stored.refused(name, "it is binary; store it as a string"))),
        (None, None) => Err(misfit(operation, "it has no SecretString")),
    }
}
