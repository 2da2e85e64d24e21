//! Making way: a spoke does not insist where EC2 throttles the account.
//!
//! When a hub dies its spokes come all at once, and out of the same bucket of requests its successor has to be told who they are. A
//! spoke that tried eight times would be eight spokes. It takes the first throttle for an answer: so many are asking that its turn
//! comes later, when its unit makes the pass again. The simulation beside `keep/patience.rs` shows what that is worth.

use aws_sdk_ec2::Client;
use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::{
        ErrorKind,
        classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority, RetryReason},
    },
};

use crosswan_core::model::{AskError, Tries};

/// Forbids what the SDK's own classifiers would have tried again because of a throttle, and nothing else.
#[derive(Debug)]
struct MakesWay;

impl ClassifyRetry for MakesWay {
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
        "makes way"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

/// The same client, which makes way.
pub(super) fn making_way(client: &Client) -> Client {
    Client::from_conf(client.config().to_builder().retry_classifier(MakesWay).build())
}

/// A failure, as it is of a client that asked once.
pub(super) fn told(why: AskError) -> AskError {
    match why {
        AskError::Throttled { service, operation, code, .. } => {
            AskError::Throttled { service, operation, code, tries: Tries::MadeWay }
        }
        other => other,
    }
}
