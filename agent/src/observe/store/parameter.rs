//! SSM Parameter Store: one call asks for up to ten names, and returns each among the parameters or among the invalid names.

use aws_config::SdkConfig;
use aws_sdk_ec2::config::Credentials;
use aws_sdk_ssm::{Client, types::ParameterType};
use crosswan_core::{
    model::{AskError, Format, Region},
    settings::Fetched,
};

use super::{
    super::ec2::{reason::misfit, whole::OnlyWhole},
    location::Location,
};

/// The most names that one GetParameters accepts.
pub(super) const AT_ONCE: usize = 10;

const OPERATION: &str = "GetParameters";

/// The client for one region, which refuses answers that are cut off.
pub(super) fn client((config, credentials): &(SdkConfig, Credentials), region: &Region) -> Client {
    let config = aws_sdk_ssm::config::Builder::from(config)
        .region(aws_config::Region::new(region.to_string()))
        .credentials_provider(credentials.clone())
        .interceptor(OnlyWhole(Format::Json))
        .retry_classifier(OnlyWhole(Format::Json))
        .build();
    Client::from_conf(config)
}

/// An entry for each of `names`, or why none of them could be asked for.
pub(super) async fn ask(client: &Client, location: Location<'_>, names: &[String]) -> Result<Fetched, AskError> {
    let request = client.get_parameters().set_names(Some(names.to_vec())).with_decryption(true);
    let found = request.send().await.map_err(|error| location.failed(OPERATION, error))?;
    let each = |name: &String| {
        let is = |named: Option<&str>| named == Some(name);
        let key = match found.parameters().iter().find(|p| is(p.name()) || is(p.arn())) {
            // Anybody who may list parameters can read a plain one, as anybody on a host can read a key file of mode 0644.
            Some(p) if p.r#type() != Some(&ParameterType::SecureString) => {
                Err(location.stored.refused(name, "it is not a SecureString; put it again with --type SecureString"))
            }
            Some(p) => {
                let value = p.value().ok_or_else(|| misfit(OPERATION, "it has no Value"))?;
                location.stored.check(name, value.as_bytes())
            }
            None if found.invalid_parameters().contains(name) => Err(location.missing(name)),
            None => return Err(misfit(OPERATION, "a name that was asked for is not in it")),
        };
        Ok((name.clone(), key))
    };
    names.iter().map(each).collect()
}
