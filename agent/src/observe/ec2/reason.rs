//! Why EC2, or another service that is reached the same way, gave no answer, in the operator's words: one line with the remedy where there is one.

use std::error::Error as StdError;

use aws_sdk_ec2::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::model::{KEY_TAG, NEXT_KEY_TAG, Region, printable};

/// No credentials to sign a request with.
pub(super) fn no_credentials(error: &(dyn StdError + 'static)) -> String {
    format!("no credentials: give the instance a role (or set AWS_ACCESS_KEY_ID): {}", innermost(error))
}

/// The answer was whole, but not what `operation` returns.
pub(in crate::observe) fn misfit(operation: &str, why: &str) -> String {
    format!("the answer to {operation} did not parse: {why}")
}

/// What came back from the SDK instead of an answer.
pub(super) fn failed<E>(operation: &str, region: &Region, error: SdkError<E, HttpResponse>) -> String
where
    E: StdError + ProvideErrorMetadata + 'static,
{
    failed_at("EC2", operation, region, error)
}

/// [`failed`] of another `service`.
pub(in crate::observe) fn failed_at<E>(
    service: &str,
    operation: &str,
    region: &Region,
    error: SdkError<E, HttpResponse>,
) -> String
where
    E: StdError + ProvideErrorMetadata + 'static,
{
    match &error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status();
            if status.is_success() {
                return misfit(operation, &innermost(answer.err()));
            }
            let code = answer.err().code().unwrap_or_default();
            refused(service, operation, region, status.as_u16(), code, answer.err().message())
        }
        SdkError::ResponseError(_) => misfit(operation, &innermost(&error)),
        SdkError::TimeoutError(_) => format!("{operation} timed out: no answer to any of {} attempts", super::ATTEMPTS),
        SdkError::DispatchFailure(_) => format!("cannot reach {service} in {region}: {}", innermost(&error)),
        _ => format!("cannot ask {operation}: {}", innermost(&error)),
    }
}

/// An error of the service's own, by its code (EC2 API reference, "Common client errors").
pub(in crate::observe) fn refused(
    service: &str,
    operation: &str,
    region: &Region,
    status: u16,
    code: &str,
    message: Option<&str>,
) -> String {
    match code {
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
            // A Deny, as in an organization's policy, is not healed by a permission more (IAM User Guide, "Troubleshoot
            // access denied error messages").
            let denied = message.is_some_and(|message| message.contains("explicit deny"));
            let denied = if denied { "; a policy denies it explicitly" } else { "" };
            format!(
                "not permitted: the instance's role needs {} ({code}{denied}): see docs/iam",
                needed(operation, region)
            )
        }
        "OptInRequired" => format!("region {region} is not enabled for this account ({code})"),
        "AuthFailure" | "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" => {
            format!(
                "credentials refused ({code}): they or the clock are wrong, or {region} is not enabled for this account"
            )
        }
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            format!("credentials refused ({code}): they have expired, or the clock is wrong")
        }
        // 50 (EC2 User Guide, "Tag your Amazon EC2 resources"); not of the kind that passes.
        "TagLimitExceeded" => format!("the instance has as many tags as EC2 lets it have: remove one ({code})"),
        _ if code.contains("Throttl") || code.contains("LimitExceeded") || code.contains("TooManyRequests") => {
            format!("throttled: {service} answered {} to {} attempts at {operation}", printable(code), super::ATTEMPTS)
        }
        "" => format!("{service} answered {status} to {operation}, without an error code"),
        _ => format!(
            "{service} answered {status} to {operation}: {}: {}",
            printable(code),
            printable(message.unwrap_or_default())
        ),
    }
}

/// The permission an operation needs, as `docs/iam` grants it.
fn needed(operation: &str, region: &Region) -> String {
    match operation {
        "CreateTags" => {
            format!("ec2:CreateTags on its own instance for the tags {KEY_TAG} and {NEXT_KEY_TAG}, in {region}")
        }
        _ => format!("ec2:{operation} in {region}"),
    }
}

/// The last cause of a chain, safe to print: what the operating system or the parser said.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    // The credentials chain lists what it tried, a line each: the instance's role is the last.
    let text = text.lines().last().unwrap_or_default().trim();
    // These texts are ours or the system's as a rule: quoted only when they need it.
    if text.len() <= 300 && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        text.to_owned()
    } else {
        printable(text)
    }
}
