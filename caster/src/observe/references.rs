//! User data that a document keeps in SSM or Secrets Manager: `ssm:NAME` and `secretsmanager:NAME`.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::Query;
use crate::{
    aws::{Aws, Failure, Kind},
    document::Secret,
};

/// What EC2 takes of user data, before Base64.
const LARGEST: usize = 16 << 10;

/// The texts by reference; one that is not there is left out.
pub(super) async fn references(aws: &Aws, query: &Query) -> Result<BTreeMap<String, Secret>, Failure> {
    let found = try_join_all(query.references.iter().map(|reference| async move {
        let text = match reference.split_once(':') {
            Some(("ssm", name)) => parameter(aws, name).await,
            Some((_, name)) => secret(aws, name).await,
            None => Ok(None),
        };
        let text = match text {
            Err(failure) if failure.kind == Kind::NotFound => None,
            other => other?,
        };
        if let Some(text) = text.as_ref().filter(|text| text.len() > LARGEST) {
            let what = format!("{reference} holds {} bytes; EC2 takes {LARGEST} bytes of user data", text.len());
            return Err(Failure::waited(what));
        }
        Ok(text.map(|text| (reference.clone(), Secret::new(text))))
    }));
    Ok(found.await?.into_iter().flatten().collect())
}

async fn parameter(aws: &Aws, name: &str) -> Result<Option<String>, Failure> {
    let answer = aws.ssm.get_parameter().name(name).with_decryption(true).send().await;
    let answer = answer.map_err(|e| Failure::of("ssm:GetParameter", &e))?;
    Ok(answer.parameter.and_then(|p| p.value))
}

async fn secret(aws: &Aws, name: &str) -> Result<Option<String>, Failure> {
    let answer = aws.secrets.get_secret_value().secret_id(name).send().await;
    Ok(answer.map_err(|e| Failure::of("secretsmanager:GetSecretValue", &e))?.secret_string)
}
