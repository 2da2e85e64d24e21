//! AWS Organizations: the accounts of the organization.
//!
//! Its SDK is several times larger than what the program's budget has left, so the one call is put together here. It is signed, sent and
//! tried again by the parts that the SDKs of the other services are made of.

#![allow(clippy::disallowed_methods, reason = "edge: one deadline for all pages")]

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_runtime::{
    auth::{
        SigV4OperationSigningConfig,
        sigv4::{SCHEME_ID, SigV4AuthScheme},
    },
    retries::classifiers::AwsErrorCodeClassifier,
};
use aws_sdk_ec2::config::{
    Credentials, SharedCredentialsProvider,
    http::{HttpRequest, HttpResponse},
};
use aws_smithy_runtime::client::{
    orchestrator::operation::Operation,
    retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier},
};
use aws_smithy_runtime_api::client::{
    auth::{AuthSchemeOptionResolverParams, static_resolver::StaticAuthSchemeOptionResolver},
    orchestrator::OrchestratorError,
    runtime_components::RuntimeComponentsBuilder,
    runtime_plugin::StaticRuntimePlugin,
};
use aws_smithy_types::{body::SdkBody, config_bag::Layer, error::ErrorMetadata};
use aws_types::{SigningName, region::SigningRegion, service_config::ServiceConfigKey};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::ec2::{
    Clients,
    reason::{self, Asked},
    whole::OnlyWhole,
};
use crosswan_core::{
    accounts::{Member, Partition},
    model::{AskError, Format, Region},
};

const OPERATION: &str = "ListAccounts";
/// A page has at most 20 accounts (Organizations API reference, "ListAccounts"); an organization that had more than this many pages would
/// have a hundred times as many accounts as it may have.
const MOST_PAGES: usize = 50_000;

/// One page. A list that is missing is not an empty one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    accounts: Vec<Member>,
    next_token: Option<String>,
}

/// All accounts of the organization that the credentials belong to, on all pages.
///
/// # Errors
/// One page of them could not be asked for, or is not what the operation returns; then nothing of the others counts.
pub async fn members(clients: &Clients, partition: &Partition, timeout: Duration) -> Result<Vec<Member>, AskError> {
    let deadline = Instant::now() + timeout;
    let region: Region = partition.home.parse().map_err(|why| reason::misfit(OPERATION, format!("{why}")))?;
    let shared = clients.shared(&region, timeout, deadline).await?;
    let late = |_| Err(AskError::TimedOut { after: timeout });
    timeout_at(deadline, pages(shared, partition, &region)).await.unwrap_or_else(late)
}

async fn pages(
    shared: &(SdkConfig, Credentials),
    partition: &Partition,
    region: &Region,
) -> Result<Vec<Member>, AskError> {
    let list = operation(shared, partition);
    let needed = |_: &str| "organizations:ListAccounts".to_owned();
    let asked = Asked { service: "Organizations", format: Format::Json, operation: OPERATION, region, needed: &needed };
    let (mut members, mut token) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let text = list.invoke(token.clone()).await.map_err(|error| denied(reason::failed_at(&asked, error)))?;
        let page: Page = serde_json::from_str(&text)
            .map_err(|_| reason::misfit(OPERATION, "it is not a page of Accounts, each with an Id of 12 digits"))?;
        members.extend(page.accounts);
        match page.next_token.filter(|next| !next.is_empty()) {
            // The management account is in every organization.
            None if members.is_empty() => return Err(reason::misfit(OPERATION, "it has no account at all")),
            None => return Ok(members),
            next if next == token => return Err(reason::misfit(OPERATION, "a page names itself as the next one")),
            next => token = next,
        }
    }
    Err(reason::misfit(OPERATION, "its pages do not end"))
}

/// ListAccounts from one page's token on; it returns the answer's text. Organizations speaks JSON 1.1 at one endpoint of each partition
/// (AWS General Reference, "AWS Organizations endpoints and quotas").
fn operation(
    (config, credentials): &(SdkConfig, Credentials),
    partition: &Partition,
) -> Operation<Option<String>, String, ErrorMetadata> {
    // AWS_ENDPOINT_URL_ORGANIZATIONS, or the like in a profile, as the SDKs of the other services have it.
    let key = ServiceConfigKey::builder().service_id("organizations").env("AWS_ENDPOINT_URL").profile("endpoint_url");
    let named = key.build().ok().and_then(|key| config.service_config()?.load_config(key));
    let endpoint = named.or(config.endpoint_url().map(str::to_owned)).unwrap_or_else(|| partition.organizations());
    let mut settings = Layer::new("organizations");
    settings.store_put(AuthSchemeOptionResolverParams::new(()));
    settings.store_put(SigV4OperationSigningConfig {
        region: Some(SigningRegion::from_static(partition.home)),
        name: Some(SigningName::from_static("organizations")),
        ..SigV4OperationSigningConfig::default()
    });
    let parts = RuntimeComponentsBuilder::new("organizations")
        .with_auth_scheme(SigV4AuthScheme::new())
        .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID])))
        .with_identity_resolver(SCHEME_ID, SharedCredentialsProvider::new(credentials.clone()))
        .with_http_client(config.http_client());
    let mut operation = Operation::builder()
        .service_name("organizations")
        .operation_name(OPERATION)
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(&endpoint)
        .with_connection_poisoning()
        .interceptor(OnlyWhole(Format::Json))
        .retry_classifier(OnlyWhole(Format::Json))
        .retry_classifier(HttpStatusCodeClassifier::default())
        .retry_classifier(TransientErrorClassifier::<ErrorMetadata>::new())
        .retry_classifier(AwsErrorCodeClassifier::<ErrorMetadata>::new())
        .runtime_plugin(StaticRuntimePlugin::new().with_config(settings.freeze()).with_runtime_components(parts));
    if let Some(retries) = config.retry_config() {
        operation = operation.standard_retry(retries);
    }
    if let Some(timeouts) = config.timeout_config() {
        operation = operation.timeout_config(timeouts.clone());
    }
    operation.serializer(|token| Ok(request(token))).deserializer(answer).build()
}

fn request(token: Option<String>) -> HttpRequest {
    let page = token.map_or_else(|| serde_json::json!({}), |token| serde_json::json!({ "NextToken": token }));
    let mut request = HttpRequest::new(SdkBody::from(page.to_string()));
    request.set_method("POST").expect("a method");
    let headers = request.headers_mut();
    headers.insert("content-type", "application/x-amz-json-1.1");
    headers.insert("x-amz-target", "AWSOrganizationsV20161128.ListAccounts");
    headers.insert("user-agent", concat!("crosswan/", env!("CARGO_PKG_VERSION")));
    request
}

/// An error is named in its JSON, after a `#` if it has a namespace.
fn answer(answer: &HttpResponse) -> Result<String, OrchestratorError<ErrorMetadata>> {
    let text = String::from_utf8_lossy(answer.body().bytes().unwrap_or_default()).into_owned();
    if answer.status().is_success() {
        return Ok(text);
    }
    let error: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let of = |names: [&str; 2]| names.iter().find_map(|name| error[name].as_str());
    let code = of(["__type", "code"]).and_then(|code| code.rsplit('#').next()).unwrap_or_default();
    let message = of(["message", "Message"]).unwrap_or_default();
    Err(OrchestratorError::operation(ErrorMetadata::builder().code(code).message(message).build()))
}

/// It is a person who asks, as a rule, and not the instance's role. Whoever is in no organization learns what to do about it.
fn denied(why: AskError) -> AskError {
    match why {
        AskError::Denied { permission, code, explicitly } => AskError::CallerDenied { permission, code, explicitly },
        other => other,
    }
}
