//! A policy document and what it says to a call.
//!
//! It knows only what the policies of `docs/iam` use. Anything else in a policy, including a misspelt key, is an error
//! instead of a guess.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Call, Caller, Keys};

/// Condition keys a request may have; in lower case, as keys are compared.
const KEYS: [&str; 9] = [
    "sts:externalid",
    "aws:principalorgid",
    "aws:requestedregion",
    "aws:principalarn",
    "aws:tagkeys",
    "ec2:sourceinstancearn",
    "ec2:instanceid",
    "ec2:vpc",
    "iam:passedtoservice",
];
/// Of the keys that end with a name of one's own choice.
const FAMILIES: [&str; 3] = ["aws:resourcetag/", "ec2:resourcetag/", "ec2:attribute/"];

/// A policy document.
#[derive(Clone, Debug)]
pub struct Policy(Vec<Statement>);

#[derive(Clone, Debug)]
struct Statement {
    allow: bool,
    actions: BTreeSet<String>,
    resources: Vec<String>,
    /// Who may, in a trust policy, which has no resources: its own role is the resource.
    principals: Option<Vec<String>>,
    /// Operator, key in lower case, values.
    conditions: Vec<(String, String, Vec<String>)>,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allowed,
    /// No statement allows it.
    NotAllowed,
    /// A statement denies it.
    Denied,
}

impl Policy {
    /// Reads a policy document.
    pub fn parse(text: &str) -> Result<Policy> {
        Policy::new(&serde_json::from_str(text).context("not JSON")?)
    }

    /// As [`Policy::parse`], for a test that changed the document.
    pub fn new(document: &Value) -> Result<Policy> {
        let document = document.as_object().context("no object")?;
        let unknown: Vec<_> = document.keys().filter(|key| !["Version", "Statement"].contains(&key.as_str())).collect();
        ensure!(unknown.is_empty(), "unknown elements {unknown:?}");
        // Earlier versions have no variables.
        ensure!(document.get("Version").is_some_and(|version| version == "2012-10-17"), "not Version 2012-10-17");
        let statements = document.get("Statement").and_then(Value::as_array).context("Statement is not a list")?;
        Ok(Policy(statements.iter().map(|s| statement(s).with_context(|| s.to_string())).collect::<Result<_>>()?))
    }

    /// What these policies together say to a call: a Deny counts before an Allow, and nothing is allowed by itself.
    pub fn decide(policies: &[Policy], caller: &Caller, call: &Call) -> Decision {
        let decisions = call.requests(caller).into_iter().map(|(arn, keys)| {
            let fits = |statement: &&Statement| statement.fits(&call.action, &arn, &keys);
            let fitting: Vec<_> = policies.iter().flat_map(|policy| &policy.0).filter(fits).collect();
            match fitting.iter().all(|statement| statement.allow) {
                false => Decision::Denied,
                true if fitting.is_empty() => Decision::NotAllowed,
                true => Decision::Allowed,
            }
        });
        decisions.max_by_key(|decision| *decision as u8).unwrap_or(Decision::NotAllowed)
    }
}

fn statement(value: &Value) -> Result<Statement> {
    let value = value.as_object().context("no object")?;
    for key in value.keys() {
        ensure!(
            ["Sid", "Effect", "Action", "Resource", "Principal", "Condition"].contains(&key.as_str()),
            "unknown element {key}"
        );
    }
    let allow = match value.get("Effect").and_then(Value::as_str) {
        Some("Allow") => true,
        Some("Deny") => false,
        other => bail!("Effect {other:?}"),
    };
    let principals = match value.get("Principal").and_then(Value::as_object) {
        Some(kinds) => {
            ensure!(kinds.keys().eq(["AWS"]) && !value.contains_key("Resource"), "Principal {kinds:?}");
            Some(strings(kinds.get("AWS"))?)
        }
        None => None,
    };
    let resources = if principals.is_some() { vec!["*".into()] } else { strings(value.get("Resource"))? };
    for resource in &resources {
        let parts: Vec<_> = resource.splitn(6, ':').collect();
        let arn = parts.len() == 6 && parts[0] == "arn" && !parts[..5].concat().contains('$');
        ensure!(arn || resource == "*", "Resource {resource} must be an ARN without variables before its end, or *");
    }
    let mut conditions = Vec::new();
    for (operator, keys) in value.get("Condition").and_then(Value::as_object).into_iter().flatten() {
        for (key, values) in keys.as_object().context("a condition without keys")? {
            let lower = key.to_lowercase();
            let known = KEYS.contains(&lower.as_str()) || FAMILIES.iter().any(|family| lower.starts_with(family));
            ensure!(known, "unknown condition key {key}");
            let values = strings(Some(values))?;
            let (all, any) = (operator.starts_with("ForAllValues:"), operator.starts_with("ForAnyValue:"));
            let many = key.eq_ignore_ascii_case("aws:TagKeys");
            ensure!(operator == "Null" || many == (all || any), "{operator} does not fit {key}");
            conditions.push((operator.clone(), lower, values));
        }
    }
    let statement = Statement {
        allow,
        actions: strings(value.get("Action"))?.into_iter().collect(),
        resources,
        principals,
        conditions,
    };
    // An operator that is not known shows here, not at the first call that gets that far.
    for (operator, ..) in &statement.conditions {
        ensure!(holds(operator, &[], &[]).is_some(), "unknown operator {operator}");
    }
    Ok(statement)
}

/// A string, or a list of at least one.
fn strings(value: Option<&Value>) -> Result<Vec<String>> {
    let list = match value {
        Some(Value::Array(list)) if !list.is_empty() => list.clone(),
        Some(one @ Value::String(_)) => vec![one.clone()],
        other => bail!("expected a string or a list of strings, found {other:?}"),
    };
    list.iter().map(|item| Ok(item.as_str().context("no string")?.to_owned())).collect()
}

impl Statement {
    fn fits(&self, action: &str, arn: &str, keys: &Keys) -> bool {
        let condition = |(operator, key, values): &(String, String, Vec<String>)| {
            // A variable that has no value matches nothing.
            let values: Vec<_> = values.iter().filter_map(|value| filled(value, keys)).collect();
            holds(operator, keys.get(key).map_or(&[][..], Vec::as_slice), &values) == Some(true)
        };
        let caller = keys.get("aws:principalarn").and_then(|arns| arns.first());
        self.actions.contains(action)
            && self.principals.as_ref().is_none_or(|all| caller.is_some_and(|arn| all.contains(arn)))
            && self.resources.iter().any(|resource| resource == "*" || arn_like(resource, arn))
            && self.conditions.iter().all(condition)
    }
}

/// Whether the request's values of a key (none: it has no such key) stand in that relation to the policy's. `None` for an
/// operator that is not known.
fn holds(operator: &str, found: &[String], wanted: &[String]) -> Option<bool> {
    let equal = |value: &String| wanted.contains(value);
    let like = |value: &String| wanted.iter().any(|pattern| arn_like(pattern, value));
    Some(match operator {
        "StringEquals" | "ForAnyValue:StringEquals" => found.iter().any(equal),
        "ForAllValues:StringEquals" => found.iter().all(equal),
        "ArnLike" => found.iter().any(like),
        "ArnNotLike" => !found.iter().any(like),
        "Null" => wanted.iter().any(|missing| missing == if found.is_empty() { "true" } else { "false" }),
        _ => return None,
    })
}

/// `text` with its variables `${key}` filled in; `None` if one has no value in this request.
fn filled(text: &str, keys: &Keys) -> Option<String> {
    let Some((before, rest)) = text.split_once("${") else { return Some(text.into()) };
    let (key, after) = rest.split_once('}')?;
    let value = keys.get(&key.to_lowercase())?.first()?;
    Some(format!("{before}{value}{}", filled(after, keys)?))
}

/// ARNs are compared part by part: a `*` does not reach over a colon.
fn arn_like(pattern: &str, arn: &str) -> bool {
    let (patterns, parts) = (pattern.splitn(6, ':'), arn.splitn(6, ':'));
    patterns.clone().count() == parts.clone().count() && patterns.zip(parts).all(|(pattern, part)| glob(pattern, part))
}

/// `*` is any text.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => {
            let Some(text) = text.strip_prefix(before) else { return false };
            (0..=text.len()).any(|n| text.is_char_boundary(n) && glob(rest, &text[n..]))
        }
    }
}
