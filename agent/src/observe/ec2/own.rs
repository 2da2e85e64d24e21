//! The own instance: its tags, which hold this gateway's public keys, and its source/destination check. They are read, and written until
//! they read back.

#![allow(clippy::disallowed_methods, reason = "edge: bounded pauses between two reads")]

use std::time::Duration;

use aws_sdk_ec2::{
    Client,
    types::{AttributeBooleanValue, Instance, InstanceNetworkInterface, Tag},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Clients,
    answer::{launched, tag},
    client, reason,
};
use crosswan_core::model::{
    AskError, InstanceId, KEY_TAG, MAKES_WAY_TAG, NEXT_KEY_TAG, OwnInterface, OwnTags, Region, TAKES_PLACE_TAG,
    printable,
};

/// The most characters that EC2 accepts as the value of a tag (EC2 User Guide, "Tag your Amazon EC2 resources", restrictions).
const LONGEST: usize = 256;
/// The pauses in milliseconds before each further look for a tag that was written: EC2 is eventually consistent, as a rule within
/// seconds (EC2 Developer Guide, "Eventual consistency"). After 6.3 s in all, the next pass looks again.
const PAUSES: [u64; 6] = [100, 200, 400, 800, 1600, 3200];

/// Why tags were not announced, or why it is not known whether they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// EC2 would not accept the value, so nothing was asked.
    #[error("the value of tag {tag} must have 1 to {LONGEST} characters, not {length}")]
    Length {
        /// The tag's key.
        tag: String,
        /// The value's characters.
        length: usize,
    },
    /// EC2 could not be asked, or it refused.
    #[error("{0}")]
    Unasked(#[from] AskError),
    /// EC2 accepted the tags, and could not be asked for them afterwards.
    #[error("the tags were written, but could not be read back: {0}")]
    Unread(AskError),
    /// EC2 accepted the tag, and shows another value or none.
    #[error(
        "tag {tag} was written, but did not read back: expected {expected}, found {}",
        .found.as_deref().map_or("none".to_owned(), printable)
    )]
    NotReadBack {
        /// The tag's key.
        tag: String,
        /// The value that was written.
        expected: String,
        /// The value that EC2 shows.
        found: Option<String>,
    },
}

/// Asks for the own instance's tags, for no longer than `timeout`.
///
/// # Errors
/// Why EC2 could not be asked.
pub async fn own_tags(
    clients: &Clients,
    region: &Region,
    instance: &InstanceId,
    timeout: Duration,
) -> Result<OwnTags, AskError> {
    let deadline = Instant::now() + timeout;
    let client = clients.client(region, timeout, deadline).await?;
    bounded(deadline, timeout, read(&client, region, instance)).await.map_err(|why| clients.with_tries(why))
}

/// Overwrites these tags (key and value) of the own instance and no others, and returns once they read back. Takes no longer than
/// `timeout`.
///
/// # Errors
/// See [`AnnounceError`].
pub async fn announce(
    clients: &Clients,
    region: &Region,
    instance: &InstanceId,
    tags: &[(&str, String)],
    timeout: Duration,
) -> Result<(), AnnounceError> {
    for (key, value) in tags {
        let length = value.chars().count();
        if !(1..=LONGEST).contains(&length) {
            return Err(AnnounceError::Length { tag: (*key).to_owned(), length });
        }
    }
    let deadline = Instant::now() + timeout;
    let client = client(clients.shared(region, timeout, deadline).await?, region);
    bounded(deadline, timeout, write(&client, region, instance, tags)).await?;
    let mut pauses = pauses(deadline);
    loop {
        let found = bounded(deadline, timeout, read(&client, region, instance)).await;
        let found = found.map_err(AnnounceError::Unread)?;
        let Some((key, value)) = tags.iter().find(|(key, value)| found.get(key) != Some(value)) else { return Ok(()) };
        let Some(pause) = pauses.next() else {
            let found = found.get(key).map(str::to_owned);
            return Err(AnnounceError::NotReadBack { tag: (*key).to_owned(), expected: value.clone(), found });
        };
        sleep(pause).await;
    }
}

/// Why EC2's source/destination check is still on, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// EC2 could not be asked, or it refused.
    #[error("{0}")]
    Unasked(#[from] AskError),
    /// EC2 accepted it, and could not be asked for it afterwards.
    #[error("it was turned off, but could not be read back: {0}")]
    Unread(AskError),
    /// EC2 accepted it, and shows that it is on.
    #[error("it was turned off, but reads back as on")]
    StillOn,
}

/// Turns off EC2's source/destination check of the own instance, and returns once that reads back. Takes no longer than `timeout`.
///
/// # Errors
/// See [`CheckError`].
pub async fn stop_source_dest_check(
    clients: &Clients,
    region: &Region,
    instance: &InstanceId,
    timeout: Duration,
) -> Result<(), CheckError> {
    const OPERATION: &str = "ModifyInstanceAttribute";
    let deadline = Instant::now() + timeout;
    let client = client(clients.shared(region, timeout, deadline).await?, region);
    let off = AttributeBooleanValue::builder().value(false).build();
    let request = client.modify_instance_attribute().instance_id(instance.as_str()).source_dest_check(off.clone());
    let asked = async {
        let answer = request.send().await.map_err(|error| reason::failed(OPERATION, region, error));
        let Some(interface) = to_be_named(&answer, &client, region, instance).await? else { return answer.map(drop) };
        let request = client.modify_network_interface_attribute().network_interface_id(interface.id.as_str());
        let answer = request.source_dest_check(off).send().await;
        answer.map(drop).map_err(|error| reason::failed("ModifyNetworkInterfaceAttribute", region, error))
    };
    bounded(deadline, timeout, asked).await?;
    let mut pauses = pauses(deadline);
    loop {
        let found = bounded(deadline, timeout, read(&client, region, instance)).await.map_err(CheckError::Unread)?;
        if found.source_dest_check == Some(false) {
            return Ok(());
        }
        sleep(pauses.next().ok_or(CheckError::StillOn)?).await;
    }
}

/// The own first interface, if an answer says that it must be named: EC2 changes nothing by an instance's id where the instance has several
/// interfaces ("There are multiple interfaces attached to instance", EC2 API reference, `InvalidInstanceID`).
pub(super) async fn to_be_named<T>(
    answer: &Result<T, AskError>,
    client: &Client,
    region: &Region,
    instance: &InstanceId,
) -> Result<Option<OwnInterface>, AskError> {
    match answer {
        Err(AskError::Refused { code, .. }) if code == "InvalidInstanceID" => {
            Ok(read(client, region, instance).await?.interface)
        }
        _ => Ok(None),
    }
}

/// The pauses before each further look at what was written, as far as they end before `deadline`.
pub(super) fn pauses(deadline: Instant) -> impl Iterator<Item = Duration> {
    PAUSES.into_iter().map(Duration::from_millis).take_while(move |pause| Instant::now() + *pause < deadline)
}

pub(super) async fn bounded<T>(
    deadline: Instant,
    timeout: Duration,
    asked: impl Future<Output = Result<T, AskError>>,
) -> Result<T, AskError> {
    timeout_at(deadline, asked).await.unwrap_or(Err(AskError::TimedOut { after: timeout }))
}

async fn read(client: &Client, region: &Region, instance: &InstanceId) -> Result<OwnTags, AskError> {
    const OPERATION: &str = "DescribeInstances";
    // Asked by id, the answer is never paged, and EC2 returns an error for an instance that does not exist.
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
        .ok_or_else(|| reason::misfit(OPERATION, format!("{instance} is missing from it")))?;
    Ok(OwnTags {
        key: tag(me, KEY_TAG).map(str::to_owned),
        next: tag(me, NEXT_KEY_TAG).map(str::to_owned),
        makes_way: tag(me, MAKES_WAY_TAG).map(str::to_owned),
        takes_place: tag(me, TAKES_PLACE_TAG).map(str::to_owned),
        source_dest_check: me.source_dest_check(),
        interface: first_interface(me),
    })
}

/// The interface that the instance was launched with, as EC2 shows it.
pub(super) fn first_of(instance: &Instance) -> Option<&InstanceNetworkInterface> {
    let mut all = instance.network_interfaces().iter();
    all.find(|i| i.attachment().and_then(|a| a.device_index()).unwrap_or_default() == 0)
}

/// The interface that the instance was launched with.
fn first_interface(instance: &Instance) -> Option<OwnInterface> {
    let first = first_of(instance)?;
    Some(OwnInterface {
        id: first.network_interface_id()?.parse().ok()?,
        subnet: first.subnet_id()?.parse().ok()?,
        launched: launched(instance)?,
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
    // The answer says little. The tags are read back.
    request.send().await.map(drop).map_err(|error| reason::failed("CreateTags", region, error))
}
