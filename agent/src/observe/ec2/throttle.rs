//! A spoke does not retry where EC2 throttles the account, so that the hub gets through.
//!
//! When a hub dies, all its spokes ask EC2 at once, and the hub's successor draws from the same bucket of requests to find out who
//! they are. A spoke that tried eight times would count as eight spokes. It therefore accepts the first throttle as the answer, and
//! its turn comes when its unit makes the pass again. The simulation beside `keep/patience.rs` shows how much that helps.

use aws_sdk_ec2::Client;
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::{
        ErrorKind,
        classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority, RetryReason},
    },
};

use crosswan_core::model::{AskError, Tries};

/// Forbids the retries that the SDK's own classifiers indicate because of a throttle, and no others.
#[derive(Debug)]
struct NoRetryOfThrottles;

impl ClassifyRetry for NoRetryOfThrottles {
    fn classify_retry(&self, _: &InterceptorContext) -> RetryAction {
        RetryAction::NoActionIndicated
    }

    fn classify_retry_v2(&self, _: &InterceptorContext, previous: &RetryAction) -> RetryAction {
        match previous {
            RetryAction::RetryIndicated(RetryReason::RetryableError { kind: ErrorKind::ThrottlingError, .. }) => {
                RetryAction::RetryForbidden
            }
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "no retry of throttles"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

/// The same client, which returns the first throttle as an error.
pub(super) fn without_retries(client: &Client) -> Client {
    Client::from_conf(client.config().to_builder().retry_classifier(NoRetryOfThrottles).build())
}

/// The error of a client [`without_retries`]: it says that a throttled request was tried once.
pub(super) fn tried_once(why: AskError) -> AskError {
    match why {
        AskError::Throttled { service, operation, code, .. } => {
            AskError::Throttled { service, operation, code, tries: Tries::MadeWay }
        }
        other => other,
    }
}
