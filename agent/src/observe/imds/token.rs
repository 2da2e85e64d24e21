//! Checks IMDS's session token before the SDK sees it: the SDK panics at a token that it cannot send back as a header,
//! and at a lifetime beyond the largest time that it can represent. (Found by `tests/fuzz`.)

use aws_sdk_ec2::config::{SharedHttpClient, http::HttpRequest};
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    result::ConnectorError,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};

/// The longest lifetime in seconds: AWS documents six hours.
const LONGEST: u64 = 6 * 60 * 60;

/// The same HTTP client, which returns an error where the SDK would panic.
pub(super) fn checked(http: SharedHttpClient) -> SharedHttpClient {
    http_client_fn(move |settings, components| {
        SharedHttpConnector::new(Checked(http.http_connector(settings, components)))
    })
}

#[derive(Debug)]
struct Checked(SharedHttpConnector);

impl HttpConnector for Checked {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let is_for_token = request.method() == "PUT";
        let answer = self.0.call(request);
        if !is_for_token {
            return answer;
        }
        HttpConnectorFuture::new(async move {
            let mut answer = answer.await?;
            let body = ByteStream::new(answer.take_body()).collect().await;
            let token = body.map_err(|e| ConnectorError::io(e.into()))?.into_bytes();
            let lifetime = answer.headers().get("x-aws-ec2-metadata-token-ttl-seconds");
            if !token.is_ascii() || lifetime.and_then(|s| s.parse().ok()).is_some_and(|s: u64| s > LONGEST) {
                return Err(ConnectorError::other("the session token is not one that IMDS issues".into(), None));
            }
            *answer.body_mut() = SdkBody::from(token);
            Ok(answer)
        })
    }
}
