//! Why AWS did not answer, or refused what it was asked for.
//!
//! Programs decide by the variant. The text for people is chosen here, once, and is always one line, whatever foreign text
//! is in it.

use std::{fmt, time::Duration};

use super::{Region, RoleArn, plain, printable};

/// The phrase that stands in every error which may mean this.
pub(crate) const NOT_ENABLED: &str = "is not enabled for this account";

/// Why one of AWS's services gave no answer. Codes and messages are foreign text, kept as they came; `Display` escapes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No source of credentials is configured.
    #[error("no credentials: no source is configured")]
    NoCredentialSource,
    /// The sources of credentials had none.
    #[error("no credentials: give the instance a role (or set AWS_ACCESS_KEY_ID): {why}")]
    NoCredentials {
        /// What the SDK's chain of sources said.
        why: String,
    },
    /// The sources of credentials did not answer in time.
    #[error("no credentials: they could not be fetched within {within:?}")]
    CredentialsTimedOut {
        /// The time that they were given.
        within: Duration,
    },
    /// The credentials are good, but do not allow this. A policy that denies it `explicitly`, as an organization's may, is not
    /// outweighed by one that allows it (IAM User Guide, "Policy evaluation logic").
    #[error(
        "not permitted: the instance's role needs {permission} ({}{}){}",
        plain(.code),
        if *.explicitly { "; a policy denies it explicitly" } else { "" },
        if .permission.starts_with("ec2:") || .permission.starts_with("sts:") { ": see docs/iam" } else { "" },
    )]
    Denied {
        /// The permission that the call needs, such as `ec2:DescribeInstances`.
        permission: String,
        /// The service's own code for the error.
        code: String,
        /// A policy denies it, and so another one that allows it does not help.
        explicitly: bool,
    },
    /// As [`AskError::Denied`], for the role of another account.
    #[error(
        "not permitted: {role} needs {permission} ({}{}): see docs/iam",
        plain(.code),
        if *.explicitly { "; a policy denies it explicitly" } else { "" },
    )]
    RoleDenied {
        /// The role.
        role: RoleArn,
        /// The permission that the call needs.
        permission: String,
        /// The service's own code for the error.
        code: String,
        /// A policy denies it, and so another one that allows it does not help.
        explicitly: bool,
    },
    /// As [`AskError::Denied`], for the credentials of whoever asks, which need not be an instance's.
    #[error(
        "not permitted: the credentials that ask need {permission} ({}{}): see docs/iam",
        plain(.code),
        if *.explicitly { "; a policy denies it explicitly" } else { "" },
    )]
    CallerDenied {
        /// The permission that the call needs.
        permission: String,
        /// The service's own code for the error.
        code: String,
        /// A policy denies it, and so another one that allows it does not help.
        explicitly: bool,
    },
    /// The account has not enabled the region.
    #[error("region {region} {} ({})", NOT_ENABLED, plain(.code))]
    NotEnabled {
        /// The region that was asked.
        region: Region,
        /// The service's own code for the error.
        code: String,
    },
    /// The credentials are not accepted. A region that the account has not enabled gives the same answer (`docs/facts.md`,
    /// "EC2").
    #[error("credentials refused ({}): they or the clock are wrong, or {region} {}", plain(.code), NOT_ENABLED)]
    NotAccepted {
        /// The region that was asked.
        region: Region,
        /// The service's own code for the error.
        code: String,
    },
    /// The credentials were good once, and have expired.
    #[error("credentials refused ({}): they have expired, or the clock is wrong", plain(.code))]
    Expired {
        /// The service's own code for the error.
        code: String,
    },
    /// The instance has as many tags as an instance may have: 50 (EC2 User Guide, "Tag your Amazon EC2 resources"). Trying again
    /// does not help.
    #[error("the instance has as many tags as EC2 lets it have: remove one ({})", plain(.code))]
    TooManyTags {
        /// The service's own code for the error.
        code: String,
    },
    /// The account has asked more often than the service allows.
    #[error("throttled: {service} answered {} to {tries} {operation}", printable(.code))]
    Throttled {
        /// The service's name for people, such as `EC2`.
        service: &'static str,
        /// The operation of its API, such as `DescribeInstances`.
        operation: &'static str,
        /// The service's own code for the error.
        code: String,
        /// How often it was asked.
        tries: Tries,
    },
    /// Any other error that the service answered with.
    #[error("{service} answered {status} to {operation}{}", service_text(.code, .message.as_deref()))]
    Refused {
        /// The service's name for people.
        service: &'static str,
        /// The operation of its API.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// The service's own code for the error; empty if it sent none.
        code: String,
        /// The service's own text.
        message: Option<String>,
    },
    /// Something between this gateway and the service answered instead of it.
    #[error(
        "{instead} came in place of {service}'s answer to {operation} (HTTP {status}): something between this gateway and \
         {service} answers, such as a proxy; look at HTTPS_PROXY, AWS_ENDPOINT_URL and the VPC's endpoints"
    )]
    Intercepted {
        /// What came.
        instead: Substitute,
        /// The service's name for people.
        service: &'static str,
        /// The operation of its API.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// Half an answer: its text ends too soon, or is not in the `format` that the service writes.
    #[error("the answer to {operation} did not parse: it is cut off or {}", .format.broken())]
    CutOff {
        /// The operation of the API.
        operation: &'static str,
        /// The format that was expected.
        format: Format,
    },
    /// A whole answer, but not what the operation returns.
    #[error("the answer to {operation} did not parse: {why}")]
    Garbage {
        /// The operation of the API.
        operation: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There was no whole answer within the time that it was given.
    #[error("timed out after {after:?}")]
    TimedOut {
        /// That time.
        after: Duration,
    },
    /// None of the attempts was answered in time.
    #[error("{operation} timed out: no answer to any of {attempts} attempts")]
    Silent {
        /// The operation of the API.
        operation: &'static str,
        /// How often it was asked.
        attempts: u32,
    },
    /// The name of the service's endpoint does not resolve.
    #[error("cannot resolve the name of {service}'s endpoint in {region}: {why}")]
    NameUnresolved {
        /// The service's name for people.
        service: &'static str,
        /// The region that was to be asked.
        region: Region,
        /// The resolver's error.
        why: String,
    },
    /// No connection could be made, or it broke.
    #[error("cannot reach {service} in {region}: {why}")]
    Unreachable {
        /// The service's name for people.
        service: &'static str,
        /// The region that was to be asked.
        region: Region,
        /// The network's error.
        why: String,
    },
    /// The request could not be built or sent.
    #[error("cannot ask {operation}: {why}")]
    NotSent {
        /// The operation of the API.
        operation: &'static str,
        /// What the SDK said.
        why: String,
    },
}

/// How often a throttled operation was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// This many times, with pauses.
    Insisted(u32),
    /// Once, as a spoke does to leave requests to the hub.
    MadeWay,
}

/// What came in place of a service's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Substitute {
    /// Text that looks like HTML.
    WebPage,
    /// An empty body.
    Nothing,
}

/// The format of a service's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// EC2's format.
    Xml,
    /// The format of SSM and Secrets Manager.
    Json,
}

impl AskError {
    /// Whether this may mean that the account has not enabled the region.
    pub(crate) fn may_mean_not_enabled(&self) -> bool {
        matches!(self, AskError::NotEnabled { .. } | AskError::NotAccepted { .. })
    }

    /// Whether this gateway has no right to ask, which no second try changes: it has no credentials, or a policy does not allow it.
    pub fn is_about_rights(&self) -> bool {
        matches!(self, AskError::Denied { .. } | AskError::NoCredentials { .. } | AskError::NoCredentialSource)
    }

    /// Whether a name did not resolve.
    pub fn is_about_a_name(&self) -> bool {
        matches!(self, AskError::NameUnresolved { .. })
    }
}

/// A service's own text for an error.
fn service_text(code: &str, message: Option<&str>) -> String {
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
