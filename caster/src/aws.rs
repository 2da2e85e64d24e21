//! AWS: one set of credentials, one HTTP client, and a client for each service in one region.
//!
//! Reads retry by themselves. What makes something decides for itself (see `apply`), since AWS takes a client token for few of
//! those calls, and a retry of the others could make a second one.

mod failure;
mod pages;

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig, sts::AssumeRoleProvider, timeout::TimeoutConfig,
};
use aws_sdk_ec2::config::ProvideCredentials as _;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

pub use failure::{Failure, Kind};
pub(crate) use pages::{listed, pages};

/// In mode `standard`, as the agent: `adaptive` slows down for minutes after a few throttles (docs/facts.md, "EC2").
const ATTEMPTS: u32 = 6;
/// All attempts take some 15 s, so that a region that does not answer is soon known to be one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A single answer; RunInstances takes the longest, some seconds.
const ANSWER: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);

/// The clients of one region.
#[derive(Debug, Clone)]
pub struct Aws {
    pub region: String,
    pub ec2: aws_sdk_ec2::Client,
    pub scaling: aws_sdk_autoscaling::Client,
    pub balancing: aws_sdk_elasticloadbalancingv2::Client,
    /// Load balancers of the previous generation.
    pub classic: aws_sdk_elasticloadbalancing::Client,
    pub iam: aws_sdk_iam::Client,
    pub acm: aws_sdk_acm::Client,
    pub sts: aws_sdk_sts::Client,
    pub ssm: aws_sdk_ssm::Client,
    pub secrets: aws_sdk_secretsmanager::Client,
    /// With the credentials of `aws.r53xacct`, if the document has one.
    pub dns: aws_sdk_route53::Client,
}

impl Aws {
    /// Clients for `region`, with the credentials that the SDK finds: environment, profile files, or the machine's role. `dns_role`
    /// is the role to assume for Route 53.
    ///
    /// # Errors
    /// There are no credentials.
    pub async fn connect(region: &str, dns_role: Option<&str>) -> Result<Self, Failure> {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(LONGEST_PAUSE))
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(ANSWER).build())
            .load()
            .await;
        let provider = config.credentials_provider().ok_or_else(Failure::no_credentials)?;
        // Fetched here, so that their lack is one error and not one for each call.
        let credentials = provider.provide_credentials().await;
        credentials.map_err(|e| Failure::credentials(&e))?;
        let dns = match dns_role {
            None => aws_sdk_route53::Client::new(&config),
            Some(role) => aws_sdk_route53::Client::new(&assuming(&config, role).await),
        };
        Ok(Aws {
            region: region.to_owned(),
            ec2: aws_sdk_ec2::Client::new(&config),
            scaling: aws_sdk_autoscaling::Client::new(&config),
            balancing: aws_sdk_elasticloadbalancingv2::Client::new(&config),
            classic: aws_sdk_elasticloadbalancing::Client::new(&config),
            iam: aws_sdk_iam::Client::new(&config),
            acm: aws_sdk_acm::Client::new(&config),
            sts: aws_sdk_sts::Client::new(&config),
            ssm: aws_sdk_ssm::Client::new(&config),
            secrets: aws_sdk_secretsmanager::Client::new(&config),
            dns,
        })
    }
}

async fn assuming(config: &SdkConfig, role: &str) -> SdkConfig {
    let provider = AssumeRoleProvider::builder(role).session_name("cloudcaster").configure(config).build().await;
    let provider = aws_sdk_ec2::config::SharedCredentialsProvider::new(provider);
    config.clone().into_builder().credentials_provider(provider).build()
}
