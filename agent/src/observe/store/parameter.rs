//! SSM Parameter Store: ten names a call, each among the parameters or among the invalid ones.

use aws_config::SdkConfig;
use aws_sdk_ec2::config::Credentials;
use aws_sdk_ssm::{Client, types::ParameterType};
use crosswan_core::{
    model::{AskError, Format, Region},
    settings::Fetched,
};

use super::{
    super::ec2::{reason::misfit, whole::Whole},
    place::Place,
};

/// Names that one GetParameters takes.
pub(super) const AT_ONCE: usize = 10;

const OPERATION: &str = "GetParameters";

pub(super) fn client((config, credentials): &(SdkConfig, Credentials), region: &Region) -> Client {
    let config = aws_sdk_ssm::config::Builder::from(config)
        .region(aws_config::Region::new(region.to_string()))
        .credentials_provider(credentials.clone())
        .interceptor(Whole(Format::Json))
        .retry_classifier(Whole(Format::Json))
        .build();
    Client::from_conf(config)
}

/// An entry for each of `names`, or why none of them could be asked for.
pub(super) async fn ask(client: &Client, place: Place<'_>, names: &[String]) -> Result<Fetched, AskError> {
    let request = client.get_parameters().set_names(Some(names.to_vec())).with_decryption(true);
    let found = request.send().await.map_err(|error| place.failed(OPERATION, error))?;
    let each = |name: &String| {
        let is = |named: Option<&str>| named == Some(name);
        let key = match found.parameters().iter().find(|p| is(p.name()) || is(p.arn())) {
            // A plain one can be read by whoever may list parameters, as a key file of mode 0644 can.
            Some(p) if p.r#type() != Some(&ParameterType::SecureString) => {
                Err(place.stored.refused(name, "it is no SecureString: put it again with --type SecureString"))
            }
            Some(p) => {
                let value = p.value().ok_or_else(|| misfit(OPERATION, "it has no Value"))?;
                place.stored.check(name, value.as_bytes())
            }
            None if found.invalid_parameters().contains(name) => Err(place.missing(name)),
            None => return Err(misfit(OPERATION, "a name that was asked for is not in it")),
        };
        Ok((name.clone(), key))
    };
    names.iter().map(each).collect()
}
