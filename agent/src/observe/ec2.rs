//! EC2: the running gateways of every listed region, and the own instance's tags ([`own`]).
//!
//! A region's answer is whole, or it is a failure with its reason: "could not ask" is never "nothing there".
//! SDK types go no further than this module: [`answer`] turns them into the model's types, and [`reason`] turns their errors.

#![allow(clippy::disallowed_methods, reason = "edge: one deadline for all regions")]

mod address;
mod answer;
mod dry_run;
mod own;
mod own_vpc;
pub(in crate::observe) mod reason;
mod role;
mod surroundings;
mod throttle;
pub(in crate::observe) mod whole;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_ec2::{
    Client,
    config::{Credentials, ProvideCredentials as _},
    types::{Filter, Instance, Vpc},
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use futures_util::future::{join_all, try_join_all};
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};

use self::answer::Collected;
pub use self::{
    address::{TakeAddressError, addresses, take_address},
    dry_run::{Subjects, permissions},
    own::{AnnounceError, CheckError, announce, own_tags, stop_source_dest_check},
    own_vpc::{Tags, TakeError, own_place, own_segment, own_vpc, tables_of, take_route},
    surroundings::surroundings,
};
use crosswan_core::{
    model::{AccountId, Answers, AskError, Format, InstanceId, Region, RegionAnswer, Scope, VpcId},
    settings::{Account, Tag},
};

/// Instances per page: a page of 200 is about 1.5 MB of XML, held for every region at once.
const PAGE: i32 = 200;
/// EC2 takes at most 200 values in one filter (`docs/facts.md`, "EC2").
const FILTER_VALUES: usize = 200;

/// Which gateways to look for, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The regions of the own account to ask.
    pub regions: BTreeSet<Region>,
    /// The further accounts to ask. All accounts and regions are asked at once.
    pub accounts: BTreeMap<AccountId, Account>,
    /// Where this gateway is: STS is asked there, and the sessions are named by its instance.
    pub home: (Region, InstanceId),
    /// The tag by which an instance is a gateway.
    pub tag: Tag,
    /// The optional environment tag. If it is set, an instance must carry both.
    pub environment: Option<Tag>,
    /// Also ask for the CIDRs of the gateways' VPCs; a spoke that looks for its hub needs none.
    pub with_cidrs: bool,
    /// The key of the tag that says the segment of a gateway's VPC; `None` where there are no segments.
    pub segment_tag: Option<String>,
    /// The peers of the last pass. Those that the answer does not show are asked for by their ids.
    pub known: BTreeMap<Scope, Known>,
}

/// The peers of the last pass in one region of one account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Their instances.
    pub instances: BTreeSet<InstanceId>,
    /// Their VPCs.
    pub vpcs: BTreeSet<VpcId>,
}

/// How EC2 is reached. The default is the SDK's: `AWS_ENDPOINT_URL(_EC2)`, and credentials from the environment, the
/// profile files or the instance's role.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// A URL to ask instead of AWS's.
    pub endpoint: Option<String>,
    /// An access key: its id and its secret.
    pub access_key: Option<(String, String)>,
}

/// The AWS clients of one pass. What they share, credentials above all, is made once, when the first of them needs it.
#[derive(Debug, Default)]
pub struct Clients {
    access: Access,
    /// On a spoke: where EC2 throttles the account, it does not try again.
    accepts_throttles: bool,
    shared: OnceCell<Result<(SdkConfig, Credentials), AskError>>,
}

impl From<Access> for Clients {
    fn from(access: Access) -> Clients {
        Clients { access, ..Clients::default() }
    }
}

impl Clients {
    /// These clients, which return the first throttle as an error if `accepts_throttles`: a spoke lets the hub go first.
    pub fn accepting_throttles(self, accepts_throttles: bool) -> Clients {
        Clients { accepts_throttles, ..self }
    }

    /// Clients that reach EC2 in the same way, over connections of their own.
    fn anew(&self) -> Clients {
        Clients { access: self.access.clone(), accepts_throttles: self.accepts_throttles, shared: OnceCell::new() }
    }

    /// The client for one region, by `deadline`.
    async fn client(&self, region: &Region, timeout: Duration, deadline: Instant) -> Result<Client, AskError> {
        Ok(self.of(self.shared(region, timeout, deadline).await?, region))
    }

    fn of(&self, shared: &(SdkConfig, Credentials), region: &Region) -> Client {
        let client = client(shared, region);
        if self.accepts_throttles { throttle::without_retries(&client) } else { client }
    }

    /// The reason for a failure, with how often these clients tried.
    fn with_tries(&self, why: AskError) -> AskError {
        if self.accepts_throttles { throttle::tried_once(why) } else { why }
    }

    /// The one HTTP client and the one set of credentials, fetched by `deadline`. `any` region will do.
    pub(super) async fn shared(
        &self,
        any: &Region,
        timeout: Duration,
        deadline: Instant,
    ) -> Result<&(SdkConfig, Credentials), AskError> {
        let late = |_| Err(AskError::CredentialsTimedOut { within: timeout });
        let made = async { timeout_at(deadline, configured(&self.access, any, timeout)).await.unwrap_or_else(late) };
        self.shared.get_or_init(|| made).await.as_ref().map_err(Clone::clone)
    }
}

/// Asks every region of every account of `query` at once. None takes longer than `timeout`, retries and credentials included.
///
/// Every listed region has an entry in the result: all its pages, sorted by instance, or why there is no answer.
pub async fn ask(clients: &Clients, query: &Query, timeout: Duration) -> Answers {
    if query.regions.is_empty() && query.accounts.is_empty() {
        return Answers::new();
    }
    let deadline = Instant::now() + timeout;
    // Fetched once, not once per region: without any credentials, each region would wait for IMDS in turn.
    let _ = clients.shared(&query.home.0, timeout, deadline).await;
    let own = ask_account(clients, query, None, deadline, timeout);
    let others = query.accounts.values().map(|account| ask_account(clients, query, Some(account), deadline, timeout));
    let (mut answers, others) = tokio::join!(own, join_all(others));
    answers.extend(others.into_iter().flatten());
    answers
}

/// Asks every region of the own account, or of another one, whose role is assumed once for all of them.
async fn ask_account(
    clients: &Clients,
    query: &Query,
    account: Option<&Account>,
    deadline: Instant,
    timeout: Duration,
) -> Answers {
    let late = AskError::TimedOut { after: timeout };
    let shared = async {
        let shared = clients.shared(&query.home.0, timeout, deadline).await?;
        match account {
            None => Ok(Cow::Borrowed(shared)),
            Some(account) => role::assumed(shared, account, &query.home).await.map(Cow::Owned),
        }
    };
    let shared = timeout_at(deadline, shared).await.unwrap_or(Err(late.clone()));
    let regions = account.map_or(&query.regions, |account| &account.regions).iter().map(|region| async {
        let scope = Scope { account: account.map(|account| account.role.account()), region: region.clone() };
        let asked = async {
            let client = clients.of(shared.as_ref().map_err(Clone::clone)?, region);
            region_answer(&client, query, &scope).await
        };
        let answer = timeout_at(deadline, asked).await.unwrap_or(Err(late.clone()));
        let answer = answer.map_err(|why| clients.with_tries(role::of_account(why, account)));
        (scope, answer)
    });
    join_all(regions).await.into_iter().collect()
}

async fn configured(access: &Access, any: &Region, timeout: Duration) -> Result<(SdkConfig, Credentials), AskError> {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    // Pauses are scaled so that all attempts fit into the timeout. The reason is then EC2's, and not "timed out".
    let pause = (timeout / 10).max(Duration::from_millis(1));
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        // A region is named so that the SDK does not ask IMDS for one; each region's client has its own.
        .region(aws_config::Region::new(any.to_string()))
        .http_client(http)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(reason::ATTEMPTS)
                .with_initial_backoff(pause.min(Duration::from_secs(1)))
                .with_max_backoff(pause),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout((timeout / 4).min(Duration::from_secs(3)))
                .read_timeout(timeout / 3)
                .operation_attempt_timeout(timeout / 3)
                .build(),
        );
    if let Some(endpoint) = &access.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some((id, secret)) = &access.access_key {
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "given"));
    }
    let config = loader.load().await;
    let provider = config.credentials_provider().ok_or(AskError::NoCredentialSource)?;
    let credentials = provider.provide_credentials().await.map_err(|error| reason::no_credentials(&error))?;
    Ok((config, credentials))
}

/// The client for one region: it has what all clients share, and refuses answers that are cut off.
pub fn client((config, credentials): &(SdkConfig, Credentials), region: &Region) -> Client {
    let config = aws_sdk_ec2::config::Builder::from(config)
        .region(aws_sdk_ec2::config::Region::new(region.to_string()))
        .credentials_provider(credentials.clone())
        .interceptor(whole::OnlyWhole(Format::Xml))
        .build();
    Client::from_conf(config)
}

/// Asks one region with its [`client`]. Returns all its pages, or why there is no answer.
pub async fn region_answer(client: &Client, query: &Query, scope: &Scope) -> RegionAnswer {
    let (nothing, region) = (Known::default(), &scope.region);
    let known = query.known.get(scope).unwrap_or(&nothing);
    let mut seen = Collected::new(scope);
    let tag = |tag: &Tag| filter(format!("tag:{}", tag.key), [literal(&tag.value)]);
    let mut filters = vec![tag(&query.tag), filter("instance-state-name", ["running".to_owned()])];
    filters.extend(query.environment.as_ref().map(tag));
    instances(client, filters, region, |instance| seen.add(instance)).await?;
    // No chunk is ever empty; an empty filter would match everything.
    for ids in seen.missing(&known.instances).chunks(FILTER_VALUES) {
        // A filter, and not InstanceIds: with InstanceIds one deleted instance fails the whole request.
        let by_id = vec![filter("instance-id", ids.iter().map(|id| id.to_string()))];
        instances(client, by_id, region, |instance| seen.note_state(instance)).await?;
    }
    if query.with_cidrs {
        let ids: BTreeSet<VpcId> = seen.vpcs().into_iter().chain(known.vpcs.iter().cloned()).collect();
        let ids: Vec<String> = ids.into_iter().map(String::from).collect();
        let chunks = try_join_all(ids.chunks(FILTER_VALUES).map(|ids| vpcs(client, ids, region))).await?;
        let shown = chunks.concat();
        seen.note_deleted(&known.vpcs, &shown);
        seen.set_vpcs(&shown, query.segment_tag.as_deref());
    }
    Ok(seen.into_view())
}

/// Calls `each` with every instance that matches, on all pages. The loop is written out because the SDK's paginator ends at a
/// repeated token, which would be half an answer.
async fn instances(
    client: &Client,
    filters: Vec<Filter>,
    region: &Region,
    mut each: impl FnMut(&Instance),
) -> Result<(), AskError> {
    const OPERATION: &str = "DescribeInstances";
    let mut token = None;
    loop {
        let page = client
            .describe_instances()
            .set_filters(Some(filters.clone()))
            .max_results(PAGE)
            .set_next_token(token.clone())
            .send()
            .await
            .map_err(|error| reason::failed(OPERATION, region, error))?;
        let reservations = page.reservations.ok_or_else(|| reason::misfit(OPERATION, "it has no reservationSet"))?;
        for reservation in reservations {
            let instances = reservation.instances.ok_or_else(|| reason::misfit(OPERATION, "it has no instancesSet"))?;
            instances.iter().for_each(&mut each);
        }
        if !next(OPERATION, &mut token, page.next_token)? {
            return Ok(());
        }
    }
}

/// All pages of these VPCs. There must be at least one id and at most [`FILTER_VALUES`].
async fn vpcs(client: &Client, ids: &[String], region: &Region) -> Result<Vec<Vpc>, AskError> {
    const OPERATION: &str = "DescribeVpcs";
    let mut found = Vec::new();
    let mut token = None;
    loop {
        let page = client
            .describe_vpcs()
            // A filter, and not VpcIds: with VpcIds one deleted VPC fails the whole request.
            .filters(filter("vpc-id", ids.iter().cloned()))
            .max_results(PAGE)
            .set_next_token(token.clone())
            .send()
            .await
            .map_err(|error| reason::failed(OPERATION, region, error))?;
        found.extend(page.vpcs.ok_or_else(|| reason::misfit(OPERATION, "it has no vpcSet"))?);
        if !next(OPERATION, &mut token, page.next_token)? {
            return Ok(found);
        }
    }
}

/// Moves to the next page's token and returns whether there is one. A page that points to itself is an error: it would never end.
fn next(operation: &'static str, token: &mut Option<String>, new: Option<String>) -> Result<bool, AskError> {
    match new.filter(|new| !new.is_empty()) {
        None => Ok(false),
        new if new == *token => Err(reason::misfit(operation, "a page names itself as the next one")),
        new => {
            *token = new;
            Ok(true)
        }
    }
}

fn filter(name: impl Into<String>, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

/// A filter value that matches only itself: EC2 reads `*` and `?` as wildcards and `\` as their escape.
fn literal(value: &str) -> String {
    value.chars().flat_map(|c| matches!(c, '*' | '?' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_value_is_not_a_pattern() {
        for (value, escaped) in [("nat", "nat"), ("n*t?", r"n\*t\?"), (r"a\b", r"a\\b"), ("", ""), ("größe", "größe")]
        {
            assert_eq!(literal(value), escaped);
        }
    }
}
