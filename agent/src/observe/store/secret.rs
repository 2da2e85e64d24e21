//! Secrets Manager: one secret alone, or twenty a call, each among the values or among the errors.

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
    super::ec2::{reason::misfit, whole::Whole},
    place::Place,
};

/// Names that one BatchGetSecretValue takes.
pub(super) const AT_ONCE: usize = 20;

const ONE: &str = "GetSecretValue";
const MANY: &str = "BatchGetSecretValue";

pub(super) fn client((config, credentials): &(SdkConfig, Credentials), region: &Region) -> Client {
    let config = aws_sdk_secretsmanager::config::Builder::from(config)
        .region(aws_config::Region::new(region.to_string()))
        .credentials_provider(credentials.clone())
        .interceptor(Whole(Format::Json))
        .retry_classifier(Whole(Format::Json))
        .build();
    Client::from_conf(config)
}

/// An entry for each of `names`, or why none of them could be asked for.
pub(super) async fn ask(client: &Client, place: Place<'_>, names: &[String]) -> Result<Fetched, AskError> {
    match names {
        // One permission less than a batch needs, and all that a gateway asks that is no hub.
        [name] => Ok(Fetched::from([(name.clone(), one(client, place, name).await?)])),
        _ => many(client, place, names).await,
    }
}

async fn one(client: &Client, place: Place<'_>, name: &str) -> Result<Result<Secret, NoPsk>, AskError> {
    match client.get_secret_value().secret_id(name).send().await {
        Ok(found) => checked(place, ONE, name, found.secret_string(), found.secret_binary()),
        Err(error) => {
            let code = match &error {
                SdkError::ServiceError(error) => error.err().code().unwrap_or_default().to_owned(),
                _ => String::new(),
            };
            Ok(Err(no_secret(place, name, &code, place.failed(ONE, error))))
        }
    }
}

async fn many(client: &Client, place: Place<'_>, names: &[String]) -> Result<Fetched, AskError> {
    let request = client.batch_get_secret_value().set_secret_id_list(Some(names.to_vec()));
    let found = request.send().await.map_err(|error| place.failed(MANY, error))?;
    let each = |name: &String| {
        // AWS adds six characters to a name, and accepts an ARN without them.
        let is = |arn: &str| arn == name || arn.rsplit_once('-').is_some_and(|(arn, _)| arn == name);
        let value = found.secret_values().iter().find(|v| v.name() == Some(name) || v.arn().is_some_and(is));
        let key = match value {
            Some(v) => checked(place, MANY, name, v.secret_string(), v.secret_binary())?,
            None => {
                let error = found.errors().iter().find(|e| e.secret_id() == Some(name));
                let error = error.ok_or_else(|| misfit(MANY, "a name that was asked for is not in it"))?;
                let code = error.error_code().unwrap_or_default();
                Err(no_secret(place, name, code, place.refused(ONE, 200, code, error.message())))
            }
        };
        Ok((name.clone(), key))
    };
    names.iter().map(each).collect()
}

/// Secrets Manager's error about one name: some of them are an answer.
fn no_secret(place: Place<'_>, name: &str, code: &str, why: AskError) -> NoPsk {
    match code {
        "ResourceNotFoundException" => place.missing(name),
        // As when it was scheduled for deletion.
        "InvalidRequestException" => place.stored.refused(name, why),
        _ => place.unasked(why),
    }
}

/// The value of one secret, held to the rules for keys.
fn checked(
    place: Place<'_>,
    operation: &'static str,
    name: &str,
    text: Option<&str>,
    binary: Option<&Blob>,
) -> Result<Result<Secret, NoPsk>, AskError> {
    match (text, binary) {
        (Some(text), _) => Ok(place.stored.check(name, text.as_bytes())),
        (None, Some(_)) => Ok(Err(place.stored.refused(name, "it is binary: store it as a string"))),
        (None, None) => Err(misfit(operation, "it has no SecretString")),
    }
}
