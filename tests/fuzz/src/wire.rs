//! AWS in place of itself: the SDK's clients get these answers, one after the other, over no wire at all.

use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig};
use aws_sdk_ec2::config::{Credentials, SharedHttpClient};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;

/// The answer to the next request, and its status.
pub type Answers = Arc<Mutex<std::vec::IntoIter<(u16, Vec<u8>)>>>;

/// What clients share.
pub fn config(answers: Answers) -> (SdkConfig, Credentials) {
    let http: SharedHttpClient = http_client_fn(move |_, _| SharedHttpConnector::new(Wire(answers.clone())));
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .http_client(http)
        .build();
    (config, Credentials::new("id", "key", None, None, "given"))
}

#[derive(Debug)]
struct Wire(Answers);

impl HttpConnector for Wire {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let (status, page) = self.0.lock().unwrap().next().unwrap_or((200, Vec::new()));
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(page))))
    }
}
