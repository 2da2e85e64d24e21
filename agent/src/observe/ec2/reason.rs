//! Why EC2, or another service that is reached the same way, gave no answer, in the operator's words: one line with the remedy where there is one.

use std::error::Error as StdError;

use aws_sdk_ec2::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crosswan_core::{
    decide::disabled::NOT_ENABLED,
    model::{KEY_TAG, NEXT_KEY_TAG, Region, printable},
};

/// How the line begins that says that the account asks too much.
pub(super) const THROTTLED: &str = "throttled: ";

/// How often was asked.
pub(super) fn attempts() -> String {
    format!("{} attempts at", super::ATTEMPTS)
}

/// How the line begins that says that a name did not resolve; `observe/resolver.rs` looks for the cause then.
pub(in crate::observe) const NO_NAME: &str = "cannot resolve the name of";

/// What stands in place of an answer of the service's, if that can be seen at a glance: a proxy or a captive portal answers with
/// a page for people, with any status.
pub(in crate::observe) fn instead(service: &str, operation: &str, answer: &HttpResponse) -> Option<String> {
    let body = String::from_utf8_lossy(answer.body().bytes()?.get(..512).or(answer.body().bytes())?).to_lowercase();
    let begin = body.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let page = ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| begin.starts_with(tag));
    let (status, success) = (answer.status().as_u16(), answer.status().is_success());
    let what = match begin {
        _ if page => "a web page",
        "" if success => "nothing",
        _ => return None,
    };
    Some(format!(
        "{what} came in place of {service}'s answer to {operation} (HTTP {status}): something between this gateway and \
         {service} answers, such as a proxy; look at HTTPS_PROXY, AWS_ENDPOINT_URL and the VPC's endpoints"
    ))
}

/// Why the decoder gave up. Its own words hold values as Rust's debug output shows them, which tells an operator nothing.
fn parse_error(error: &(dyn StdError + 'static)) -> String {
    match innermost(error) {
        why if why.contains(" { ") => "it is XML of another kind".into(),
        why => why,
    }
}

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
    if let Some(what) = error.raw_response().and_then(|raw| instead(service, operation, raw)) {
        return what;
    }
    match &error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status();
            if status.is_success() {
                return misfit(operation, &parse_error(answer.err()));
            }
            let code = answer.err().code().unwrap_or_default();
            refused(service, operation, region, status.as_u16(), code, answer.err().message())
        }
        SdkError::ResponseError(_) => misfit(operation, &parse_error(&error)),
        SdkError::TimeoutError(_) => format!("{operation} timed out: no answer to any of {} attempts", super::ATTEMPTS),
        SdkError::DispatchFailure(_) => match innermost(&error) {
            // The text of Rust's standard library around getaddrinfo's own.
            why if why.contains("lookup address") => {
                let why = why.rsplit(": ").next().unwrap_or_default();
                format!("{NO_NAME} {service}'s endpoint in {region}: {why}")
            }
            why => format!("cannot reach {service} in {region}: {why}"),
        },
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
        "OptInRequired" => format!("region {region} {NOT_ENABLED} ({code})"),
        "AuthFailure" | "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" => {
            format!("credentials refused ({code}): they or the clock are wrong, or {region} {NOT_ENABLED}")
        }
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            format!("credentials refused ({code}): they have expired, or the clock is wrong")
        }
        // 50 (EC2 User Guide, "Tag your Amazon EC2 resources"); not of the kind that passes.
        "TagLimitExceeded" => format!("the instance has as many tags as EC2 lets it have: remove one ({code})"),
        _ if code.contains("Throttl") || code.contains("LimitExceeded") || code.contains("TooManyRequests") => {
            format!("{THROTTLED}{service} answered {} to {} {operation}", printable(code), attempts())
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
