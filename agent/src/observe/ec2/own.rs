//! The own instance's tag with this gateway's public key: read, and written until it reads back.

#![allow(clippy::disallowed_methods, reason = "edge: bounded pauses between two reads")]

use std::time::Duration;

use aws_sdk_ec2::{Client, types::Tag};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Session, client, reason};
use crate::model::{InstanceId, KEY_TAG, Region, printable};

/// Characters EC2 takes as the value of a tag (EC2 User Guide, "Tag your Amazon EC2 resources", restrictions).
const LONGEST: usize = 256;
/// Pauses in milliseconds before the next look for a tag that was written: EC2 is eventually consistent, as a rule within seconds (EC2
/// Developer Guide, "Eventual consistency"). 6.3 s in all; then the next pass looks again.
const PAUSES: [u64; 6] = [100, 200, 400, 800, 1600, 3200];

/// The value of the own instance's tag [`KEY_TAG`] as EC2 has it, `None` without one. It is foreign text: whoever may
/// write tags may have written it.
///
/// The error is one line saying why EC2 could not be asked. Takes no longer than `timeout`.
pub async fn own_tag(
    session: &Session,
    region: &Region,
    instance: &InstanceId,
    timeout: Duration,
) -> Result<Option<String>, String> {
    let deadline = Instant::now() + timeout;
    let client = session.client(region, timeout, deadline).await?;
    bounded(deadline, timeout, read(&client, region, instance)).await.map_err(|why| session.told(why))
}

/// Writes the own instance's tag [`KEY_TAG`] and no other, and returns once it reads back.
///
/// The error is one line: a value EC2 would not take (nothing was asked then), why EC2 could not be asked or refused, or
/// that the tag did not read back. Takes no longer than `timeout`.
pub async fn publish(
    session: &Session,
    region: &Region,
    instance: &InstanceId,
    value: &str,
    timeout: Duration,
) -> Result<(), String> {
    let length = value.chars().count();
    if !(1..=LONGEST).contains(&length) {
        return Err(format!("the value of tag {KEY_TAG} must have 1 to {LONGEST} characters, not {length}"));
    }
    let deadline = Instant::now() + timeout;
    let client = client(session.shared(region, timeout, deadline).await?, region);
    bounded(deadline, timeout, write(&client, region, instance, value)).await?;
    let mut pauses =
        PAUSES.into_iter().map(Duration::from_millis).take_while(|pause| Instant::now() + *pause < deadline);
    loop {
        let found = bounded(deadline, timeout, read(&client, region, instance)).await;
        let found = found.map_err(|why| format!("tag {KEY_TAG} was written, but could not be read back: {why}"))?;
        if found.as_deref() == Some(value) {
            return Ok(());
        }
        let Some(pause) = pauses.next() else {
            let found = found.map_or("none".to_owned(), |found| printable(&found));
            return Err(format!("tag {KEY_TAG} was written, but did not read back: expected {value}, found {found}"));
        };
        sleep(pause).await;
    }
}

async fn bounded<T>(
    deadline: Instant,
    timeout: Duration,
    asked: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(format!("timed out after {timeout:?}")))
}

async fn read(client: &Client, region: &Region, instance: &InstanceId) -> Result<Option<String>, String> {
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
        .ok_or_else(|| reason::misfit(OPERATION, &format!("it does not have {instance}")))?;
    let tag = me.tags().iter().find(|tag| tag.key() == Some(KEY_TAG));
    Ok(tag.map(|tag| tag.value().unwrap_or_default().to_owned()))
}

async fn write(client: &Client, region: &Region, instance: &InstanceId, value: &str) -> Result<(), String> {
    let request =
        client.create_tags().resources(instance.as_str()).tags(Tag::builder().key(KEY_TAG).value(value).build());
    // What it answers says little; what counts is read back.
    request.send().await.map(drop).map_err(|error| reason::failed("CreateTags", region, error))
}
