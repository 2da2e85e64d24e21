//! What the stores answered, as keys or as the reason why there is none. Pure; a key shows in no reason.

use serde_json::Value;

use super::{
    NoKey,
    call::{Found, Store},
};
use crate::{
    model::{Secret, printable},
    settings::Fetched,
};

const PARAMETERS: &str = "GetParameters";
const SECRET: &str = "GetSecretValue";
const SECRETS: &str = "BatchGetSecretValue";

/// GetParameters: each name is among the parameters or among the invalid ones. Fails if the answer is none.
pub(super) fn parameters(store: &Store, found: &Found, names: &[String]) -> Result<Fetched, String> {
    let parameters = list(found, PARAMETERS, "Parameters")?;
    let invalid = list(found, PARAMETERS, "InvalidParameters")?;
    let each = |name: &String| {
        let key = match parameters.iter().find(|p| p["Name"] == name.as_str() || p["ARN"] == name.as_str()) {
            // A plain one can be read by whoever may list parameters, as a key file of mode 0644 can.
            Some(p) if p["Type"] != "SecureString" => {
                Err(store.stored.refused(name, "it is no SecureString: put it again with --type SecureString"))
            }
            Some(p) => store.stored.check(name, text(p, PARAMETERS, "Value")?.as_bytes()),
            None if invalid.iter().any(|i| i == name.as_str()) => Err(store.missing(name)),
            None => return Err(misfit(PARAMETERS, "a name that was asked for is not in it")),
        };
        Ok((name.clone(), key))
    };
    names.iter().map(each).collect()
}

/// GetSecretValue.
pub(super) fn secret(store: &Store, found: &Found, name: &str) -> Result<Result<Secret, NoKey>, String> {
    value(store, &found.0, name, SECRET)
}

/// BatchGetSecretValue: each name is among the values or among the errors. Fails if the answer is none.
pub(super) fn secrets(store: &Store, found: &Found, names: &[String]) -> Result<Fetched, String> {
    let values = list(found, SECRETS, "SecretValues")?;
    let errors = list(found, SECRETS, "Errors")?;
    let each = |name: &String| {
        let is = |v: &&Value| {
            let arn = v["ARN"].as_str().unwrap_or_default();
            // AWS adds six characters to a name, and accepts an ARN without them.
            v["Name"] == name.as_str() || arn == name || arn.rsplit_once('-').is_some_and(|(arn, _)| arn == name)
        };
        let key = match values.iter().find(is) {
            Some(found) => value(store, found, name, SECRETS)?,
            None => {
                let error = errors.iter().find(|e| e["SecretId"] == name.as_str());
                let error = error.ok_or_else(|| misfit(SECRETS, "a name that was asked for is not in it"))?;
                let (code, message) = (error["ErrorCode"].as_str().unwrap_or_default(), error["Message"].as_str());
                Err(no_secret(store, name, code, &store.refused(SECRET, 200, code, message)))
            }
        };
        Ok((name.clone(), key))
    };
    names.iter().map(each).collect()
}

/// Secrets Manager's error of one name: some of them are an answer.
pub(super) fn no_secret(store: &Store, name: &str, code: &str, reason: &str) -> NoKey {
    match code {
        "ResourceNotFoundException" => store.missing(name),
        // As when it was scheduled for deletion.
        "InvalidRequestException" => store.stored.refused(name, reason),
        _ => store.unasked(reason),
    }
}

fn value(store: &Store, found: &Value, name: &str, operation: &str) -> Result<Result<Secret, NoKey>, String> {
    if found["SecretBinary"].is_string() && found["SecretString"].is_null() {
        return Ok(Err(store.stored.refused(name, "it is binary: store it as a string")));
    }
    Ok(store.stored.check(name, text(found, operation, "SecretString")?.as_bytes()))
}

fn list<'a>(Found(found): &'a Found, operation: &str, name: &str) -> Result<&'a [Value], String> {
    let list = found[name].as_array().map(Vec::as_slice);
    list.ok_or_else(|| misfit(operation, &format!("it has no list {}", printable(name))))
}

fn text<'a>(found: &'a Value, operation: &str, name: &str) -> Result<&'a str, String> {
    found[name].as_str().ok_or_else(|| misfit(operation, &format!("it has no text {}", printable(name))))
}

fn misfit(operation: &str, why: &str) -> String {
    super::super::ec2::reason::misfit(operation, why)
}
