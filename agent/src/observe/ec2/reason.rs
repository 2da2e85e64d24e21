//! The SDK's errors as the model's [`AskError`], for EC2 and for every other service that is reached the same way.

use std::error::Error as StdError;

use aws_sdk_ec2::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crosswan_core::model::{
    AskError, Format, KEY_TAG, MAKES_WAY_TAG, NEXT_KEY_TAG, Region, Substitute, TAKES_PLACE_TAG, Tries, printable,
};

use super::whole::CutOff;

/// The attempts for each request, in retry mode `standard`: it got past three throttles in 2.1 s where `adaptive` took 56 s
/// (`docs/facts.md`, "EC2").
pub(super) const ATTEMPTS: u32 = 8;

/// Recognises an answer that is not the service's: a proxy or a captive portal answers with a web page, with any status.
fn instead(service: &'static str, operation: &'static str, answer: &HttpResponse) -> Option<AskError> {
    let body = String::from_utf8_lossy(answer.body().bytes()?.get(..512).or(answer.body().bytes())?).to_lowercase();
    let begin = body.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let page = ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| begin.starts_with(tag));
    let instead = match begin {
        _ if page => Substitute::WebPage,
        "" if answer.status().is_success() => Substitute::Nothing,
        _ => return None,
    };
    Some(AskError::Intercepted { instead, service, operation, status: answer.status().as_u16() })
}

/// The error for an answer that the SDK cannot decode. The SDK's own text holds values as Rust's debug output shows them, which tells
/// an operator nothing.
fn undecoded(operation: &'static str, format: Format, error: &(dyn StdError + 'static)) -> AskError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(CutOff(format)) = error.downcast_ref() {
            return AskError::CutOff { operation, format: *format };
        }
        cause = error.source();
    }
    match innermost(error) {
        // The text about a store's answer may hold part of a secret.
        why if format == Format::Json || why.contains(" { ") => {
            misfit(operation, format!("it is {format} of another kind"))
        }
        why => misfit(operation, why),
    }
}

/// The error if there are no credentials to sign a request with.
pub(super) fn no_credentials(error: &(dyn StdError + 'static)) -> AskError {
    AskError::NoCredentials { why: innermost(error) }
}

/// The error for an answer that is whole, but is not what `operation` returns.
pub(in crate::observe) fn misfit(operation: &'static str, why: impl Into<String>) -> AskError {
    AskError::Garbage { operation, why: why.into() }
}

/// The SDK's error for a request to EC2, as the model's.
pub(super) fn failed<E>(operation: &'static str, region: &Region, error: SdkError<E, HttpResponse>) -> AskError
where
    E: StdError + ProvideErrorMetadata + 'static,
{
    let needed = |_: &str| needed(operation, region);
    failed_at(&Asked { service: "EC2", format: Format::Xml, operation, region, needed: &needed }, error)
}

/// What was asked of which service.
pub(in crate::observe) struct Asked<'a> {
    /// The service's name for people.
    pub service: &'static str,
    pub format: Format,
    pub operation: &'static str,
    pub region: &'a Region,
    /// The permission that the service's message about a denial is about, and where.
    pub needed: &'a dyn Fn(&str) -> String,
}

/// As [`failed`], for any service.
pub(in crate::observe) fn failed_at<E>(asked: &Asked<'_>, error: SdkError<E, HttpResponse>) -> AskError
where
    E: StdError + ProvideErrorMetadata + 'static,
{
    let Asked { service, format, operation, region, .. } = *asked;
    if let Some(intercepted) = error.raw_response().and_then(|raw| instead(service, operation, raw)) {
        return intercepted;
    }
    match &error {
        SdkError::ServiceError(answer) => {
            let (status, error) = (answer.raw().status(), answer.err());
            if status.is_success() {
                return undecoded(operation, format, error);
            }
            refused(asked, status.as_u16(), error.code().unwrap_or_default(), error.message())
        }
        SdkError::ResponseError(answer) if !answer.raw().status().is_success() => {
            refused(asked, answer.raw().status().as_u16(), "", None)
        }
        SdkError::ResponseError(_) => undecoded(operation, format, &error),
        SdkError::TimeoutError(_) => AskError::Silent { operation, attempts: ATTEMPTS },
        SdkError::DispatchFailure(_) => match innermost(&error) {
            // Rust's standard library puts its own text around getaddrinfo's.
            why if why.contains("lookup address") => {
                let why = why.rsplit(": ").next().unwrap_or_default().to_owned();
                AskError::NameUnresolved { service, region: region.clone(), why }
            }
            why => AskError::Unreachable { service, region: region.clone(), why },
        },
        _ => AskError::NotSent { operation, why: innermost(&error) },
    }
}

/// An error that the service returned, by its code (EC2 API reference, "Common client errors").
pub(in crate::observe) fn refused(asked: &Asked<'_>, status: u16, code: &str, message: Option<&str>) -> AskError {
    let Asked { service, operation, .. } = *asked;
    let (region, code) = (asked.region.clone(), code.to_owned());
    match code.as_str() {
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
            let message = message.unwrap_or_default();
            let permission = (asked.needed)(message);
            // This wording is documented in IAM User Guide, "Troubleshoot access denied error messages".
            AskError::Denied { permission, code, explicitly: message.contains("explicit deny") }
        }
        "OptInRequired" => AskError::NotEnabled { region, code },
        "AuthFailure" | "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" => {
            AskError::NotAccepted { region, code }
        }
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => AskError::Expired { code },
        "TagLimitExceeded" => AskError::TooManyTags { code },
        _ if code.contains("Throttl") || code.contains("LimitExceeded") || code.contains("TooManyRequests") => {
            AskError::Throttled { service, operation, code, tries: Tries::Insisted(ATTEMPTS) }
        }
        _ => AskError::Refused { service, operation, status, code, message: message.map(str::to_owned) },
    }
}

/// The permission that an operation needs, as `docs/iam` grants it.
fn needed(operation: &str, region: &Region) -> String {
    match operation {
        "CreateTags" => {
            format!(
                "ec2:CreateTags on its own instance for the tags {KEY_TAG}, {NEXT_KEY_TAG}, {MAKES_WAY_TAG} and \
                 {TAKES_PLACE_TAG}, in {region}"
            )
        }
        "ModifyInstanceAttribute" => {
            format!("ec2:ModifyInstanceAttribute on its own instance for the attribute SourceDestCheck, in {region}")
        }
        "CreateRoute" | "ReplaceRoute" => {
            format!("ec2:{operation} on the route tables that have the tag of routes.tag, in {region}")
        }
        "AssociateAddress" => {
            format!("ec2:AssociateAddress on the Elastic IP and on its own instance, in {region}")
        }
        "DisassociateAddress" => format!("ec2:DisassociateAddress on the Elastic IP, in {region}"),
        _ => format!("ec2:{operation} in {region}"),
    }
}

/// The last cause of a chain, safe to print: the text of the operating system or of the parser.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    // The credentials chain lists what it tried, one on each line. The instance's role is the last.
    let text = text.lines().last().unwrap_or_default().trim();
    // These texts come from libraries or the system as a rule, so they are quoted only when they need it.
    if text.len() <= 300 && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        text.to_owned()
    } else {
        printable(text)
    }
}
