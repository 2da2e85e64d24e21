//! A signed JSON call, made of the parts that the EC2 client brings along: the SDK's signer, retries, timeouts, endpoints.
//!
//! The SDK's own crates for the two services would put in five times as much code for two operations (`docs/facts.md`,
//! "The AWS SDK").

use std::{fmt, time::Duration};

use aws_config::SdkConfig;
use aws_runtime::{
    auth::{SigV4OperationSigningConfig, sigv4},
    retries::classifiers::AwsErrorCodeClassifier,
};
use aws_sdk_ec2::{
    config::{
        Credentials, SharedCredentialsProvider,
        endpoint::{DefaultResolver, Params, ResolveEndpoint as _},
        http::HttpResponse,
    },
    error::{ErrorMetadata, ProvideErrorMetadata},
};
use aws_smithy_runtime::client::{
    orchestrator::operation::Operation,
    retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier},
};
use aws_smithy_runtime_api::client::{
    auth::{
        AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
        static_resolver::StaticAuthSchemeOptionResolver,
    },
    identity::SharedIdentityResolver,
    orchestrator::{HttpRequest, OrchestratorError, SensitiveOutput},
    runtime_components::RuntimeComponentsBuilder,
    runtime_plugin::StaticRuntimePlugin,
};
use aws_smithy_types::{body::SdkBody, config_bag::Layer};
use aws_types::{SigningName, region::SigningRegion, service_config::ServiceConfigKey};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    super::ec2::{Session, reason},
    place::{Api, Place},
};
use crosswan_core::model::{Region, printable};

/// The store of one region, ready to be asked.
pub(super) struct Store<'a> {
    pub place: Place<'a>,
    config: SdkConfig,
    credentials: Credentials,
    endpoint: String,
}

/// An answer that holds keys: it is not shown.
pub(super) struct Found(pub Value);

/// What came instead of an answer: the service's code for it, empty if it is not the service's, and a line for people.
pub(super) struct Failure {
    pub code: String,
    pub reason: String,
}

/// An error of the service's own.
#[derive(Debug)]
struct Refused(ErrorMetadata);

impl<'a> Store<'a> {
    pub async fn connect(
        session: &Session,
        place: Place<'a>,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<Store<'a>, String> {
        let (config, credentials) = session.shared(place.region, timeout, deadline).await?.clone();
        let endpoint = endpoint(&config, &place.api(), place.region).await?;
        Ok(Store { place, config, credentials, endpoint })
    }

    /// One call, with the retries of the client for EC2.
    pub async fn call(&self, operation: &'static str, body: Value) -> Result<Found, Failure> {
        let answer = self.operation(operation).invoke(body.to_string()).await;
        answer.map_err(|error| {
            let code = error.code().unwrap_or_default().to_owned();
            let reason = match error.as_service_error().zip(error.raw_response()) {
                Some((service, raw)) => reason::instead(self.place.api().id, operation, raw).unwrap_or_else(|| {
                    self.place.refused(operation, raw.status().as_u16(), &code, service.0.message())
                }),
                None => reason::failed_at(self.place.api().id, operation, self.place.region, error),
            };
            Failure { code, reason }
        })
    }

    fn operation(&self, operation: &'static str) -> Operation<String, Found, Refused> {
        let Api { id, name, target } = self.place.api();
        let mut layer = Layer::new("signed JSON call");
        layer.store_put(AuthSchemeOptionResolverParams::new(()));
        // Or `-vv` would show the answer.
        layer.store_put(SensitiveOutput);
        layer.store_put(SigV4OperationSigningConfig {
            region: Some(SigningRegion::from(aws_config::Region::new(self.place.region.to_string()))),
            name: Some(SigningName::from_static(name)),
            ..Default::default()
        });
        let schemes = StaticAuthSchemeOptionResolver::new(vec![sigv4::SCHEME_ID]);
        let credentials = SharedCredentialsProvider::new(self.credentials.clone());
        let mut components = RuntimeComponentsBuilder::new("signed JSON call")
            .with_auth_scheme(SharedAuthScheme::new(sigv4::SigV4AuthScheme::new()))
            .with_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(schemes)))
            .with_identity_resolver(sigv4::SCHEME_ID, SharedIdentityResolver::new(credentials))
            .with_retry_classifier(TransientErrorClassifier::<Refused>::new())
            .with_retry_classifier(AwsErrorCodeClassifier::<Refused>::new())
            .with_retry_classifier(HttpStatusCodeClassifier::default());
        components
            .set_http_client(self.config.http_client())
            .set_sleep_impl(self.config.sleep_impl())
            .set_time_source(self.config.time_source());
        let target = format!("{target}.{operation}");
        let mut builder = Operation::builder().service_name(id).operation_name(operation).endpoint_url(&self.endpoint);
        if let Some(retries) = self.config.retry_config() {
            builder = builder.standard_retry(retries);
        }
        if let Some(timeouts) = self.config.timeout_config() {
            builder = builder.timeout_config(timeouts.clone());
        }
        builder
            .runtime_plugin(StaticRuntimePlugin::new().with_config(layer.freeze()).with_runtime_components(components))
            .serializer(move |body: String| {
                let mut request = HttpRequest::new(SdkBody::from(body));
                request.set_method("POST")?;
                request.set_uri("/")?;
                request.headers_mut().insert("content-type", "application/x-amz-json-1.1");
                request.headers_mut().insert("x-amz-target", target.clone());
                request.headers_mut().insert("user-agent", concat!("crosswan/", env!("CARGO_PKG_VERSION")));
                Ok(request)
            })
            .deserializer(read)
            .build()
    }
}

/// A whole JSON answer, or the error that stands in one.
fn read(response: &HttpResponse) -> Result<Found, OrchestratorError<Refused>> {
    let body = serde_json::from_slice::<Value>(response.body().bytes().unwrap_or_default());
    if response.status().is_success() {
        return body.map(Found).map_err(|_| OrchestratorError::response("it is cut off or not JSON".into()));
    }
    // `namespace#Code`, and `Code:address` in other services (AWS JSON 1.1 protocol, "Operation error serialization").
    let body = body.unwrap_or_default();
    let code = body["__type"].as_str().unwrap_or_default().rsplit('#').next().unwrap_or_default();
    let message = body["message"].as_str().or(body["Message"].as_str());
    let mut error = ErrorMetadata::builder().code(code.split(':').next().unwrap_or_default());
    if let Some(message) = message {
        error = error.message(message);
    }
    Err(OrchestratorError::operation(Refused(error.build())))
}

/// As the SDK's clients find it: `AWS_ENDPOINT_URL_SSM` and its kin, `AWS_ENDPOINT_URL`, or the host beside EC2's in the
/// region's partition.
async fn endpoint(config: &SdkConfig, api: &Api, region: &Region) -> Result<String, String> {
    let given = || config.endpoint_url().map(str::to_owned);
    let of_service = || {
        let key = ServiceConfigKey::builder().service_id(api.id).env("AWS_ENDPOINT_URL").profile("endpoint_url");
        config.service_config()?.load_config(key.build().ok()?)
    };
    // What a test gives counts most.
    let set = if config.get_origin("endpoint_url").is_client_config() { given() } else { of_service().or_else(given) };
    if let Some(set) = set {
        return Ok(set);
    }
    let unknown =
        |why: &dyn fmt::Display| format!("no endpoint of {} is known: {}", api.id, printable(&why.to_string()));
    let params = Params::builder()
        .region(region.to_string())
        .use_fips(config.use_fips().unwrap_or_default())
        .use_dual_stack(config.use_dual_stack().unwrap_or_default())
        .build()
        .map_err(|e| unknown(&e))?;
    let ec2 = DefaultResolver::new().resolve_endpoint(&params).await.map_err(|e| unknown(&e))?;
    Ok(ec2.url().replacen("://ec2", &format!("://{}", api.name), 1))
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Found(…)")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Refused {}

impl ProvideErrorMetadata for Refused {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswan_core::settings::{Service, StoredKey};

    #[tokio::test]
    async fn the_host_beside_ec2s_in_each_partition() {
        let config = SdkConfig::builder().build();
        let fips = SdkConfig::builder().use_fips(true).build();
        for (config, service, region, want) in [
            (&config, Service::Parameter, "us-west-2", "https://ssm.us-west-2.amazonaws.com"),
            (&config, Service::Secret, "eu-central-2", "https://secretsmanager.eu-central-2.amazonaws.com"),
            (&config, Service::Parameter, "cn-north-1", "https://ssm.cn-north-1.amazonaws.com.cn"),
            (&config, Service::Secret, "us-gov-west-1", "https://secretsmanager.us-gov-west-1.amazonaws.com"),
            (&config, Service::Parameter, "us-iso-east-1", "https://ssm.us-iso-east-1.c2s.ic.gov"),
            (&fips, Service::Secret, "us-east-1", "https://secretsmanager-fips.us-east-1.amazonaws.com"),
        ] {
            let (stored, region) = (StoredKey { service, name: "psk".into(), region: None }, region.parse().unwrap());
            let api = Place { stored: &stored, region: &region }.api();
            assert_eq!(endpoint(config, &api, &region).await.as_deref(), Ok(want));
        }
    }
}
