//! IMDSv2: who this gateway is.
//!
//! The SDK's client handles the session token and `AWS_EC2_METADATA_SERVICE_ENDPOINT`. Its retries are not used: they
//! give up on a connection that is refused, and a gateway asks while its network is still coming up (`docs/facts.md`,
//! "IMDS"). It is given an HTTP client without TLS, so that nat-hub, which never asks EC2, loads no certificates.

#![allow(clippy::disallowed_methods, reason = "edge: a bounded wait for IMDS")]

mod clock;
mod notices;
mod token;

use std::{collections::BTreeSet, error::Error as StdError, fmt::Display, net::Ipv4Addr, str::FromStr, time::Duration};

use aws_config::{
    imds::client::{
        Client,
        error::{ImdsError, TokenError},
    },
    provider_config::ProviderConfig,
};
use aws_sdk_ec2::{config::http::HttpResponse, error::SdkError};
use tokio::time::{Instant, sleep, timeout_at};

pub use clock::clock;
use crosswan_core::{
    error::{Context as _, Error, Result},
    model::{AccountId, Identity, Region, printable, vpc_cidr},
};
pub use notices::Board;

/// The bound on one request with its connection and answer: IMDS is on the same host, so this is long.
const REQUEST: Duration = Duration::from_secs(2);
/// The first pause before another try. It doubles each time up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Asks IMDSv2 who this gateway is. While IMDS does not answer, or answers 401, 429 or 5xx, it asks again until `timeout`.
///
/// # Errors
/// [`crosswan_core::error::Kind::Observe`], with the path that was asked. If IMDS is disabled, or an answer does not fit the model, the
/// error comes at once; otherwise it is the last failure before `timeout`.
pub async fn identity(timeout: Duration) -> Result<Identity> {
    identity_at(None, timeout).await
}

/// As [`identity`], from another address (`http://host:port`) than the environment's or 169.254.169.254.
pub async fn identity_at(endpoint: Option<&str>, timeout: Duration) -> Result<Identity> {
    let deadline = Instant::now() + timeout;
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    loop {
        // A new client each time: it must not keep a token that IMDS no longer knows.
        match timeout_at(deadline, read(&client(endpoint)?)).await {
            Ok(Ok(identity)) => return Ok(identity),
            Ok(Err(Failure::Final(error))) => return Err(error),
            Ok(Err(Failure::Passing(error))) => last = Some(error),
            Err(_) => {}
        }
        if Instant::now() + pause >= deadline {
            let waited = format!("ask IMDS who this instance is: gave up after {timeout:?}");
            return Err(match last {
                Some(error) => Error::observe(waited).because(error.chain()),
                None => Error::observe(waited).because("no answer; is this an EC2 instance with IMDSv2 enabled?"),
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// The account and the region that this instance is in, by its identity document; `None` if IMDS does not say within `timeout`, as where
/// there is none.
pub async fn account(timeout: Duration) -> Option<(AccountId, Region)> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        account_id: AccountId,
        region: Region,
    }
    let asked = async { client(None).ok()?.get("/latest/dynamic/instance-identity/document").await.ok() };
    let text = tokio::time::timeout(timeout, asked).await.ok()??;
    serde_json::from_str(text.as_ref()).ok().map(|Document { account_id, region }| (account_id, region))
}

/// Whether IMDS shows `address` as this instance's public one within `patience`.
pub async fn shows(address: Ipv4Addr, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let asked = async { public(&client(None).ok()?).await.ok()? };
        if timeout_at(deadline, asked).await.ok().flatten() == Some(address) {
            return true;
        }
        sleep(FIRST_PAUSE).await;
    }
    false
}

/// For an instance without a public address: a line with the remedy if IMDS shows one on another network interface than the first.
/// `None` if there is none, or if IMDS does not answer within `timeout`.
///
/// EC2 and IMDS give one address as the instance's, that of the first interface, and peers know a gateway by it.
pub async fn public_elsewhere(timeout: Duration) -> Option<String> {
    public_elsewhere_at(None, timeout).await
}

/// As [`public_elsewhere`], from another address, as [`identity_at`].
pub async fn public_elsewhere_at(endpoint: Option<&str>, timeout: Duration) -> Option<String> {
    tokio::time::timeout(timeout, elsewhere(&client(endpoint).ok()?)).await.ok()?
}

async fn elsewhere(client: &Client) -> Option<String> {
    let macs = get(client, "network/interfaces/macs/").await.ok()?;
    let first = get(client, "mac").await.ok()?;
    let of = |mac: &str, name: &str| format!("network/interfaces/macs/{mac}/{name}");
    for mac in macs.lines().map(|line| line.trim_end_matches('/')).filter(|mac| is_mac(mac) && *mac != first) {
        let Ok(addresses) = get(client, &of(mac, "public-ipv4s")).await else { continue };
        let Some(Ok(address)) = addresses.lines().next().map(str::parse::<Ipv4Addr>) else { continue };
        let name = |interface: std::result::Result<String, Failure>| match interface {
            Ok(id) if id.strip_prefix("eni-").is_some_and(|id| id.bytes().all(|b| b.is_ascii_alphanumeric())) => id,
            _ => "unknown".into(),
        };
        let there = name(get(client, &of(mac, "interface-id")).await);
        let here = name(get(client, &of(&first, "interface-id")).await);
        return Some(format!(
            "the public address {address} is on network interface {there}, which is not the first one of this instance: \
             associate it with the first, {here}, by which peers find a gateway and over which it sends"
        ));
    }
    None
}

/// Whether this is the MAC address of an interface, which may become part of a path.
fn is_mac(mac: &str) -> bool {
    mac.len() == 17 && mac.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

/// A failure, which says whether another try may help.
enum Failure {
    Passing(Error),
    Final(Error),
}

fn client(endpoint: Option<&str>) -> Result<Client> {
    let http = token::checked(aws_smithy_http_client::Builder::new().build_http());
    let config = ProviderConfig::without_region().with_http_client(http);
    let mut builder = Client::builder()
        .configure(&config)
        .max_attempts(1)
        .connect_timeout(REQUEST)
        .read_timeout(REQUEST)
        .operation_attempt_timeout(REQUEST)
        .operation_timeout(REQUEST * 2); // The token's request and then its own.
    if let Some(endpoint) = endpoint {
        builder =
            builder.endpoint(endpoint).context(|| Error::settings(format!("IMDS endpoint {}", printable(endpoint))))?;
    }
    Ok(builder.build())
}

async fn read(client: &Client) -> std::result::Result<Identity, Failure> {
    let mac = get(client, "mac").await?;
    // The MAC becomes part of a path, so nothing else may.
    if !is_mac(&mac) {
        return Err(misfit("mac", &mac, "expected a MAC address"));
    }
    let of_interface = |name| format!("network/interfaces/macs/{mac}/{name}");
    let (vpc_path, cidrs_path, private_path) =
        (of_interface("vpc-id"), of_interface("vpc-ipv4-cidr-blocks"), of_interface("local-ipv4s"));
    let (instance, region, vpc, cidrs, private, public) = tokio::try_join!(
        parsed(client, "instance-id"),
        parsed(client, "placement/region"),
        parsed(client, &vpc_path),
        get(client, &cidrs_path),
        get(client, &private_path),
        public(client),
    )?;
    let cidrs = cidrs
        .lines()
        .map(|line| vpc_cidr(line).ok_or_else(|| misfit(&cidrs_path, line, "expected a CIDR such as 10.1.0.0/16")))
        .collect::<std::result::Result<BTreeSet<_>, _>>()?;
    if cidrs.is_empty() {
        return Err(misfit(&cidrs_path, "", "expected at least one CIDR"));
    }
    // The interface's primary address is the first.
    let private = parse(&private_path, private.lines().next().unwrap_or_default())?;
    Ok(Identity { instance, region, vpc, cidrs, private, public })
}

async fn public(client: &Client) -> std::result::Result<Option<Ipv4Addr>, Failure> {
    const PATH: &str = "public-ipv4";
    match client.get(format!("/latest/meta-data/{PATH}")).await {
        Ok(found) => parse(PATH, found.as_ref()).map(Some),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(failed(PATH, error)),
    }
}

async fn parsed<T: FromStr<Err: Display>>(client: &Client, path: &str) -> std::result::Result<T, Failure> {
    parse(path, &get(client, path).await?)
}

async fn get(client: &Client, path: &str) -> std::result::Result<String, Failure> {
    match client.get(format!("/latest/meta-data/{path}")).await {
        Ok(found) => Ok(found.as_ref().trim_end().to_owned()),
        Err(error) => Err(failed(path, error)),
    }
}

fn parse<T: FromStr<Err: Display>>(path: &str, found: &str) -> std::result::Result<T, Failure> {
    found.trim_end().parse().map_err(|why| misfit(path, found, why))
}

fn misfit(path: &str, found: &str, why: impl Display) -> Failure {
    Failure::Final(Error::observe(format!("read IMDS {path}: found {}: {why}", printable(found))))
}

/// The error for a failed request, in words for the operator; the SDK's own text would show the whole response.
fn failed(path: &str, error: ImdsError) -> Failure {
    let status = status(&error);
    let why = match status {
        Some(403) => {
            "IMDS answered 403: it is disabled for this instance; enable the instance metadata service".to_owned()
        }
        Some(code) if code != 200 => format!("IMDS answered {code}"),
        _ => innermost(&error),
    };
    let error = Error::observe(format!("read IMDS {path}")).because(why);
    match status {
        None | Some(401 | 429 | 500..) => Failure::Passing(error),
        Some(_) => Failure::Final(error),
    }
}

/// The HTTP status IMDS answered with, to the request or to the one for its token; `None` if it did not answer.
fn status(error: &ImdsError) -> Option<u16> {
    match error {
        ImdsError::ErrorResponse(answer) => Some(answer.response().status().as_u16()),
        ImdsError::FailedToLoadToken(_) => error
            .source()?
            .downcast_ref::<SdkError<TokenError, HttpResponse>>()?
            .raw_response()
            .map(|answer| answer.status().as_u16()),
        _ => None,
    }
}

/// The last cause of a chain: the text of the operating system.
fn innermost(error: &dyn StdError) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
