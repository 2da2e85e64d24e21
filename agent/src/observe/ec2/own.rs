//! The own instance's tags with this gateway's public keys: read, and written until they read back.

#![allow(clippy::disallowed_methods, reason = "edge: bounded pauses between two reads")]

use std::time::Duration;

use aws_sdk_ec2::{Client, types::Tag};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Session, answer::tag, client, reason};
use crosswan_core::model::{AskError, InstanceId, KEY_TAG, NEXT_KEY_TAG, OwnTags, Region, printable};

/// Characters EC2 takes as the value of a tag (EC2 User Guide, "Tag your Amazon EC2 resources", restrictions).
const LONGEST: usize = 256;
/// Pauses in milliseconds before the next look for a tag that was written: EC2 is eventually consistent, as a rule within seconds (EC2
/// Developer Guide, "Eventual consistency"). 6.3 s in all; then the next pass looks again.
const PAUSES: [u64; 6] = [100, 200, 400, 800, 1600, 3200];

/// Why tags were not written, or nobody knows whether they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// EC2 would not take the value: nothing was asked.
    #[error("the value of tag {tag} must have 1 to {LONGEST} characters, not {length}")]
    Length { tag: String, length: usize },
    /// EC2 could not be asked, or refused.
    #[error("{0}")]
    Unasked(#[from] AskError),
    /// EC2 took the tags and could not be asked for them then.
    #[error("the tags were written, but could not be read back: {0}")]
    Unread(AskError),
    /// EC2 took the tag and shows something else, or nothing.
    #[error(
        "tag {tag} was written, but did not read back: expected {expected}, found {}",
        .found.as_deref().map_or("none".to_owned(), printable)
    )]
    NotReadBack { tag: String, expected: String, found: Option<String> },
}

/// Asks for the own instance's tags.
///
/// The error is why EC2 could not be asked. Takes no longer than `timeout`.
pub async fn own_tags(
    session: &Session,
    region: &Region,
    instance: &InstanceId,
    timeout: Duration,
) -> Result<OwnTags, AskError> {
    let deadline = Instant::now() + timeout;
    let client = session.client(region, timeout, deadline).await?;
    bounded(deadline, timeout, read(&client, region, instance)).await.map_err(|why| session.told(why))
}

/// Overwrites these tags of the own instance and no others, and returns once they read back.
///
/// Takes no longer than `timeout`.
pub async fn publish(
    session: &Session,
    region: &Region,
    instance: &InstanceId,
    tags: &[(&str, String)],
    timeout: Duration,
) -> Result<(), PublishError> {
    for (key, value) in tags {
        let length = value.chars().count();
        if !(1..=LONGEST).contains(&length) {
            return Err(PublishError::Length { tag: (*key).to_owned(), length });
        }
    }
    let deadline = Instant::now() + timeout;
    let client = client(session.shared(region, timeout, deadline).await?, region);
    bounded(deadline, timeout, write(&client, region, instance, tags)).await?;
    let mut pauses =
        PAUSES.into_iter().map(Duration::from_millis).take_while(|pause| Instant::now() + *pause < deadline);
    loop {
        let found = bounded(deadline, timeout, read(&client, region, instance)).await;
        let found = found.map_err(PublishError::Unread)?;
        let Some((key, value)) = tags.iter().find(|(key, value)| found.get(key) != Some(value)) else { return Ok(()) };
        let Some(pause) = pauses.next() else {
            let found = found.get(key).map(str::to_owned);
            return Err(PublishError::NotReadBack { tag: (*key).to_owned(), expected: value.clone(), found });
        };
        sleep(pause).await;
    }
}

async fn bounded<T>(
    deadline: Instant,
    timeout: Duration,
    asked: impl Future<Output = Result<T, AskError>>,
) -> Result<T, AskError> {
    timeout_at(deadline, asked).await.unwrap_or(Err(AskError::TimedOut { after: timeout }))
}

async fn read(client: &Client, region: &Region, instance: &InstanceId) -> Result<OwnTags, AskError> {
    const OPERATION: &str = "DescribeInstances";
    // By id, and never paged: one that is not there is an error of EC2's.
    let answer = client
        .describe_instances()
        .instance_ids(instance.as_str())
        .send()
        .await
        .map_err(|error| reason::failed(OPERATION, region, error))?;
    let reservations = answer.reservations.ok_or_else(|| reason::misfit(OPERATION, "it has no reservationSet"))?;
    let me = reservations
        .iter()
        .flat_map(|reservation| reservation.instances())
        .find(|i| i.instance_id() == Some(instance.as_str()))
        .ok_or_else(|| reason::misfit(OPERATION, format!("it does not have {instance}")))?;
    Ok(OwnTags {
        key: tag(me, KEY_TAG).map(str::to_owned),
        next: tag(me, NEXT_KEY_TAG).map(str::to_owned),
        source_dest_check: me.source_dest_check(),
    })
}

async fn write(
    client: &Client,
    region: &Region,
    instance: &InstanceId,
    tags: &[(&str, String)],
) -> Result<(), AskError> {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(value).build()).collect();
    let request = client.create_tags().resources(instance.as_str()).set_tags(Some(tags));
    // What it answers says little; what counts is read back.
    request.send().await.map(drop).map_err(|error| reason::failed("CreateTags", region, error))
}
