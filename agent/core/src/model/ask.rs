//! Why AWS did not answer, or refused what it was asked for.
//!
//! What a program decides, it decides by the kind. The words for people are chosen here, once, and each is one line whatever
//! a foreign text in it holds.

use std::{fmt, time::Duration};

use super::{Region, plain, printable};

/// In the words of each failure that may mean this.
pub(crate) const NOT_ENABLED: &str = "is not enabled for this account";

/// Why one of AWS's services gave no answer.
///
/// `service` is its name for people (`EC2`), `operation` that of its API (`DescribeInstances`), `code` its own code for an
/// error. Codes and messages are foreign text, kept as they came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No source of credentials is configured.
    #[error("no credentials: no source is configured")]
    NoCredentialSource,
    /// The sources of credentials had none.
    #[error("no credentials: give the instance a role (or set AWS_ACCESS_KEY_ID): {why}")]
    NoCredentials { why: String },
    /// The sources of credentials did not answer in time.
    #[error("no credentials: they could not be fetched within {within:?}")]
    CredentialsTimedOut { within: Duration },
    /// The credentials are good, and do not allow this. A policy that denies it `explicitly`, as an organization's may, is not
    /// outweighed by one that allows it (IAM User Guide, "Policy evaluation logic").
    #[error(
        "not permitted: the instance's role needs {permission} ({}{}){}",
        plain(.code),
        if *.explicitly { "; a policy denies it explicitly" } else { "" },
        if .permission.starts_with("ec2:") { ": see docs/iam" } else { "" },
    )]
    Denied { permission: String, code: String, explicitly: bool },
    /// The account has not enabled the region.
    #[error("region {region} {} ({})", NOT_ENABLED, plain(.code))]
    NotEnabled { region: Region, code: String },
    /// The credentials are not accepted. A region that the account has not enabled answers so, too (`docs/facts.md`, "EC2").
    #[error("credentials refused ({}): they or the clock are wrong, or {region} {}", plain(.code), NOT_ENABLED)]
    NotAccepted { region: Region, code: String },
    /// The credentials were good once.
    #[error("credentials refused ({}): they have expired, or the clock is wrong", plain(.code))]
    Expired { code: String },
    /// The instance has as many tags as an instance may have: 50 (EC2 User Guide, "Tag your Amazon EC2 resources"). Trying again
    /// does not help.
    #[error("the instance has as many tags as EC2 lets it have: remove one ({})", plain(.code))]
    TooManyTags { code: String },
    /// The account asks more than the service lets it ask.
    #[error("throttled: {service} answered {} to {tries} {operation}", printable(.code))]
    Throttled { service: &'static str, operation: &'static str, code: String, tries: Tries },
    /// Any other error of the service's own. Without a `code` it said nothing but the HTTP status.
    #[error("{service} answered {status} to {operation}{}", said(.code, .message.as_deref()))]
    Refused { service: &'static str, operation: &'static str, status: u16, code: String, message: Option<String> },
    /// Something on the way answered instead.
    #[error(
        "{instead} came in place of {service}'s answer to {operation} (HTTP {status}): something between this gateway and \
         {service} answers, such as a proxy; look at HTTPS_PROXY, AWS_ENDPOINT_URL and the VPC's endpoints"
    )]
    Intercepted { instead: Substitute, service: &'static str, operation: &'static str, status: u16 },
    /// Half an answer: its text ends too soon, or it is not the `format` that the service writes.
    #[error("the answer to {operation} did not parse: it is cut off or {}", .format.broken())]
    CutOff { operation: &'static str, format: Format },
    /// A whole answer, but not what the operation returns.
    #[error("the answer to {operation} did not parse: {why}")]
    Garbage { operation: &'static str, why: String },
    /// It did not come within the time that it was given.
    #[error("timed out after {after:?}")]
    TimedOut { after: Duration },
    /// None of the attempts was answered in time.
    #[error("{operation} timed out: no answer to any of {attempts} attempts")]
    Silent { operation: &'static str, attempts: u32 },
    /// The name of the service's endpoint does not resolve.
    #[error("cannot resolve the name of {service}'s endpoint in {region}: {why}")]
    NameUnresolved { service: &'static str, region: Region, why: String },
    /// No connection came about, or it broke.
    #[error("cannot reach {service} in {region}: {why}")]
    Unreachable { service: &'static str, region: Region, why: String },
    /// No request could be made of it.
    #[error("cannot ask {operation}: {why}")]
    NotSent { operation: &'static str, why: String },
}

/// How often was asked before a throttle was taken for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// So many times, with pauses.
    Insisted(u32),
    /// Once, to make way for the hub.
    MadeWay,
}

/// What came in place of a service's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Substitute {
    WebPage,
    Nothing,
}

/// The format of a service's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Xml,
    Json,
}

impl AskError {
    /// Whether this may mean that the account has not enabled the region.
    pub fn may_mean_not_enabled(&self) -> bool {
        matches!(self, AskError::NotEnabled { .. } | AskError::NotAccepted { .. })
    }

    /// Whether a name did not resolve.
    pub fn is_about_a_name(&self) -> bool {
        matches!(self, AskError::NameUnresolved { .. })
    }
}

/// A service's own words for an error.
fn said(code: &str, message: Option<&str>) -> String {
    match code {
        "" => ", without an error code".into(),
        _ => format!(": {}: {}", printable(code), printable(message.unwrap_or_default())),
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tries::Insisted(tries) => write!(f, "{tries} attempts at"),
            Tries::MadeWay => f.write_str("the one attempt that a spoke makes, so that the hub gets through, at"),
        }
    }
}

impl fmt::Display for Substitute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Substitute::WebPage => "a web page",
            Substitute::Nothing => "nothing",
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Xml => "XML",
            Format::Json => "JSON",
        })
    }
}

impl Format {
    fn broken(self) -> &'static str {
        match self {
            Format::Xml => "broken XML",
            Format::Json => "not JSON",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_account_may_mean_that_a_region_is_not_enabled() {
        let (region, code) = ("ap-east-1".parse::<Region>().unwrap(), "AuthFailure".to_owned());
        let not_enabled = AskError::NotEnabled { region: region.clone(), code: "OptInRequired".into() };
        let not_accepted = AskError::NotAccepted { region: region.clone(), code: code.clone() };
        for may in [not_enabled, not_accepted] {
            assert!(
                may.may_mean_not_enabled() && may.to_string().contains("ap-east-1 is not enabled for this account")
            );
        }
        // Not even if its words are the same: the message is foreign text.
        let message = Some(format!("region {region} {NOT_ENABLED}"));
        let refused = AskError::Refused { service: "EC2", operation: "DescribeVpcs", status: 400, code, message };
        for other in [refused, AskError::Expired { code: "RequestExpired".into() }] {
            assert!(!other.may_mean_not_enabled(), "{other}");
        }
    }

    #[test]
    fn foreign_text_in_a_failure_stays_on_its_line() {
        let odd = || "a\u{1b}[2J\nb".to_owned();
        let region: Region = "eu-west-1".parse().unwrap();
        for error in [
            AskError::Denied { permission: "ec2:DescribeVpcs in eu-west-1".into(), code: odd(), explicitly: true },
            AskError::NotEnabled { region: region.clone(), code: odd() },
            AskError::NotAccepted { region, code: odd() },
            AskError::Expired { code: odd() },
            AskError::TooManyTags { code: odd() },
            AskError::Throttled { service: "SSM", operation: "GetParameters", code: odd(), tries: Tries::Insisted(8) },
            AskError::Refused {
                service: "SSM",
                operation: "GetParameters",
                status: 400,
                code: odd(),
                message: Some(odd()),
            },
        ] {
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }
}
