//! Refuses an answer that is cut off or broken.
//!
//! The SDK's decoder of XML treats the end of the text as the end of every open element. If a proxy cut a page in the middle, the
//! list of gateways would be shorter without any error, and the missing gateways would lose their tunnels.
//! So every successful answer is read a second time, token by token, which costs a fraction of decoding it.

use aws_sdk_ec2::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, http::HttpResponse,
        interceptors::AfterDeserializationInterceptorContextRef,
    },
    error::BoxError,
};
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction},
};
use aws_smithy_xml::decode::Document;
use crosswan_core::model::Format;
use serde::de::IgnoredAny;

/// As a client's interceptor, it refuses answers that are not whole or not of this format. As a retry classifier, it asks again.
#[derive(Debug)]
pub(in crate::observe) struct OnlyWhole(pub(in crate::observe) Format);

/// An answer that is cut off, or not of this format.
#[derive(Debug, thiserror::Error)]
#[error("it is cut off or broken")]
pub(in crate::observe) struct CutOff(pub(super) Format);

impl Intercept for OnlyWhole {
    fn name(&self) -> &'static str {
        "whole answers only"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if self.accepts(context.response()) { Ok(()) } else { Err(CutOff(self.0).into()) }
    }
}

impl ClassifyRetry for OnlyWhole {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response() {
            Some(answer) if !self.accepts(answer) => RetryAction::transient_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "whole answers only"
    }
}

impl OnlyWhole {
    /// Whether the answer is whole, or an error that the service returned.
    fn accepts(&self, answer: &HttpResponse) -> bool {
        let whole = |body| match self.0 {
            Format::Xml => well_formed(body),
            Format::Json => serde_json::from_slice::<IgnoredAny>(body).is_ok(),
        };
        !answer.status().is_success() || answer.body().bytes().is_none_or(whole)
    }
}

/// Whether every token can be read and every element is closed, as the SDK's own decoder sees them.
fn well_formed(body: &[u8]) -> bool {
    let Ok(mut tokens) = Document::try_from(body) else { return false };
    tokens.try_fold(0, |_, token| token.map(|(_, depth)| depth)).is_ok_and(|depth| depth == 0)
}

#[cfg(test)]
mod tests;
