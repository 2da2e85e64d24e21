//! What the stores answered, as keys or as the reason why there is none. Pure; a key shows in no reason.

use serde_json::Value;

use super::{super::ec2::reason::misfit, Place};
use crosswan_core::{
    model::{Secret, printable},
    settings::{Fetched, NoKey, Service},
};

pub(super) const PARAMETERS: &str = "GetParameters";
pub(super) const SECRET: &str = "GetSecretValue";
pub(super) const SECRETS: &str = "BatchGetSecretValue";

/// The JSON that came for these names: an entry for each. Fails if it is no answer to the question.
pub fn answered(place: Place, found: &Value, names: &[String]) -> Result<Fetched, String> {
    match (place.stored.service, names) {
        (Service::Parameter, _) => parameters(place, found, names),
        (Service::Secret, [name]) => Ok(Fetched::from([(name.clone(), secret(place, found, name, SECRET)?)])),
        (Service::Secret, _) => secrets(place, found, names),
    }
}

/// GetParameters: each name is among the parameters or among the invalid ones.
fn parameters(place: Place, found: &Value, names: &[String]) -> Result<Fetched, String> {
    let parameters = list(found, PARAMETERS, "Parameters")?;
    let invalid = list(found, PARAMETERS, "InvalidParameters")?;
    let each = |name: &String| {
        let key = match parameters.iter().find(|p| p["Name"] == name.as_str() || p["ARN"] == name.as_str()) {
            // A plain one can be read by whoever may list parameters, as a key file of mode 0644 can.
            Some(p) if p["Type"] != "SecureString" => {
                Err(place.stored.refused(name, "it is no SecureString: put it again with --type SecureString"))
            }
            Some(p) => place.stored.check(name, text(p, PARAMETERS, "Value")?.as_bytes()),
            None if invalid.iter().any(|i| i == name.as_str()) => Err(place.missing(name)),
            None => return Err(misfit(PARAMETERS, "a name that was asked for is not in it")),
        };
        Ok((name.clone(), key))
    };
    names.iter().map(each).collect()
}

/// BatchGetSecretValue: each name is among the values or among the errors.
fn secrets(place: Place, found: &Value, names: &[String]) -> Result<Fetched, String> {
    let values = list(found, SECRETS, "SecretValues")?;
    let errors = list(found, SECRETS, "Errors")?;
    let each = |name: &String| {
        let is = |v: &&Value| {
            let arn = v["ARN"].as_str().unwrap_or_default();
            // AWS adds six characters to a name, and accepts an ARN without them.
            v["Name"] == name.as_str() || arn == name || arn.rsplit_once('-').is_some_and(|(arn, _)| arn == name)
        };
        let key = match values.iter().find(is) {
            Some(found) => secret(place, found, name, SECRETS)?,
            None => {
                let error = errors.iter().find(|e| e["SecretId"] == name.as_str());
                let error = error.ok_or_else(|| misfit(SECRETS, "a name that was asked for is not in it"))?;
                let (code, message) = (error["ErrorCode"].as_str().unwrap_or_default(), error["Message"].as_str());
                Err(no_secret(place, name, code, &place.refused(SECRET, 200, code, message)))
            }
        };
        Ok((name.clone(), key))
    };
    names.iter().map(each).collect()
}

/// Secrets Manager's error of one name: some of them are an answer.
pub(super) fn no_secret(place: Place, name: &str, code: &str, reason: &str) -> NoKey {
    match code {
        "ResourceNotFoundException" => place.missing(name),
        // As when it was scheduled for deletion.
        "InvalidRequestException" => place.stored.refused(name, reason),
        _ => place.unasked(reason),
    }
}

/// GetSecretValue, and each value of a batch.
fn secret(place: Place, found: &Value, name: &str, operation: &str) -> Result<Result<Secret, NoKey>, String> {
    if found["SecretBinary"].is_string() && found["SecretString"].is_null() {
        return Ok(Err(place.stored.refused(name, "it is binary: store it as a string")));
    }
    Ok(place.stored.check(name, text(found, operation, "SecretString")?.as_bytes()))
}

/// What is empty may be left out; that each name is there is looked at by name.
fn list<'a>(found: &'a Value, operation: &str, name: &str) -> Result<&'a [Value], String> {
    match &found[name] {
        Value::Array(list) => Ok(list),
        Value::Null => Ok(&[]),
        _ => Err(misfit(operation, &format!("its {} is not a list", printable(name)))),
    }
}

fn text<'a>(found: &'a Value, operation: &str, name: &str) -> Result<&'a str, String> {
    found[name].as_str().ok_or_else(|| misfit(operation, &format!("it has no text {}", printable(name))))
}
