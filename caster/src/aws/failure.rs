//! Why a call failed: what kind of failure it is, which says whether to try again, and a line for the operator.

use std::{error::Error, fmt};

use aws_sdk_ec2::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::text;

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    /// The service's code, empty if the failure is not the service's.
    pub code: String,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Too many requests; the SDK has retried already.
    Throttled,
    /// The resource is not there, or not seen yet.
    NotFound,
    /// The resource is there already.
    Exists,
    /// Something else still holds the resource.
    Busy,
    /// The credentials do not permit the call, or are not valid.
    Denied,
    /// No answer, or a server error: nobody knows whether the call took effect.
    Unclear,
    /// Anything else: the call is wrong, and stays so.
    Refused,
}

impl Failure {
    pub(super) fn no_credentials() -> Self {
        let text = "no credentials: set AWS_PROFILE or AWS_ACCESS_KEY_ID, or give this machine a role".to_owned();
        Failure { kind: Kind::Denied, code: String::new(), text }
    }
    pub(super) fn credentials(error: &dyn Error) -> Self {
        let Failure { kind, code, text } = Self::no_credentials();
        Failure { kind, code, text: format!("{text}: {}", innermost(error)) }
    }
    /// An answer that lacks what it must have.
    pub fn misfit(call: &str, what: &str) -> Self {
        let text = format!("the answer to {call} has no {what}: something other than AWS may have answered");
        Failure { kind: Kind::Unclear, code: String::new(), text }
    }
    /// A wait that ran out, or a state that a wait cannot get out of.
    pub fn waited(text: String) -> Self {
        Failure { kind: Kind::Refused, code: String::new(), text }
    }
    /// What the SDK gave instead of an answer to `call` (`ec2:CreateVpc`).
    pub fn of<E>(call: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let SdkError::ServiceError(answer) = error else {
            let what = match error {
                SdkError::TimeoutError(_) => "no answer in time".to_owned(),
                SdkError::ConstructionFailure(_) => {
                    let text = format!("{call}: the request could not be made: {}", innermost(error));
                    return Failure { kind: Kind::Refused, code: String::new(), text };
                }
                _ => innermost(error),
            };
            return Failure { kind: Kind::Unclear, code: String::new(), text: format!("{call}: {what}") };
        };
        let (status, error) = (answer.raw().status().as_u16(), answer.err());
        let code = error.code().unwrap_or_default();
        let message = match error.message().map(str::trim).filter(|m| !m.is_empty()) {
            Some(message) => text::plain(message),
            None if code.is_empty() => format!("HTTP {status} without an error of the service"),
            None => format!("HTTP {status}"),
        };
        let kind = kind(code, status);
        let text = match kind {
            Kind::Denied if permission(code) => format!("{call}: not permitted ({}): {message}", text::plain(code)),
            Kind::Denied => format!("{call}: the credentials were refused ({}): {message}", text::plain(code)),
            _ if code.is_empty() => format!("{call}: {message}"),
            _ => format!("{call}: {}: {message}", text::plain(code)),
        };
        Failure { kind, code: code.to_owned(), text }
    }
}

/// Of a service's error code (API references of the services, "Common errors"), else of the HTTP status.
fn kind(code: &str, status: u16) -> Kind {
    let has = |part: &str| code.contains(part);
    match code {
        "InvalidPermission.Duplicate"
        | "RouteAlreadyExists"
        | "AlreadyExistsFault"
        | "AlreadyExists"
        | "EntityAlreadyExists"
        | "NetworkAclEntryAlreadyExists"
        | "InvalidSubnet.Conflict"
        | "Resource.AlreadyAssociated" => Kind::Exists,
        "IncorrectState"
        | "IncorrectInstanceState"
        | "InvalidNetworkInterface.InUse"
        | "DependencyViolation"
        | "ScalingActivityInProgress"
        | "ResourceContention"
        | "PriorRequestNotComplete" => Kind::Busy,
        "AuthFailure"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "OptInRequired" => Kind::Denied,
        _ if permission(code) => Kind::Denied,
        // A quota, and not the rate of requests.
        _ if has("LimitExceeded") && !has("Request") => Kind::Refused,
        _ if has("Throttl") || has("RequestLimitExceeded") || has("TooManyRequests") => Kind::Throttled,
        _ if has("Duplicate") || has("AlreadyExists") => Kind::Exists,
        _ if has("NotFound") || code == "NoSuchEntity" || code == "NoSuchHostedZone" => Kind::NotFound,
        _ if status >= 500 => Kind::Unclear,
        _ => Kind::Refused,
    }
}

fn permission(code: &str) -> bool {
    matches!(code, "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}

/// The last cause of a chain: what the system or the parser said.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    text::plain(text.lines().last().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_tells_whether_to_try_again() {
        for (code, status, expected) in [
            ("RequestLimitExceeded", 503, Kind::Throttled),
            ("Throttling", 400, Kind::Throttled),
            ("VpcLimitExceeded", 400, Kind::Refused),
            ("InvalidVpcID.NotFound", 400, Kind::NotFound),
            ("InvalidGroup.Duplicate", 400, Kind::Exists),
            ("InvalidSubnet.Conflict", 400, Kind::Exists),
            ("UnauthorizedOperation", 403, Kind::Denied),
            ("InternalError", 500, Kind::Unclear),
            ("", 502, Kind::Unclear),
            ("InvalidParameterValue", 400, Kind::Refused),
        ] {
            assert_eq!(kind(code, status), expected, "{code} {status}");
        }
    }
}
