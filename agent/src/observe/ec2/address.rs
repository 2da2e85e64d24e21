//! The Elastic IPs that settings ask for; and one of them that this instance takes.

#![allow(clippy::disallowed_methods, reason = "edge: bounded pauses between two reads")]

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_ec2::{
    Client,
    types::{Address, Filter, Instance, InstanceStateName},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Clients, FILTER_VALUES, filter, instances, literal,
    own::{bounded, to_be_named},
    reason,
};
use crosswan_core::{
    decide::{Candidate, TakeAddress},
    model::{AddressHolder, AllocationId, AskError, ElasticIp, InstanceId, Region},
    settings::WantedAddress,
};

/// The pause between two looks at an address that was asked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The bound on such a look: its connection may end with the address that it began with.
const LOOK: Duration = Duration::from_secs(3);
/// How long an association may take to read back. EC2 as a rule needs some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for the Elastic IPs that settings ask for and for the instances that have them, for no longer than `timeout`.
///
/// # Errors
/// Why EC2 could not be asked.
pub async fn addresses(
    clients: &Clients,
    region: &Region,
    wanted: &WantedAddress,
    timeout: Duration,
) -> Result<Vec<ElasticIp>, AskError> {
    let deadline = Instant::now() + timeout;
    let client = clients.client(region, timeout, deadline).await?;
    let asked = async {
        let those = match wanted {
            // A filter, and not AllocationIds: an address of another account is an error there.
            WantedAddress::Allocation(id) => filter("allocation-id", [id.to_string()]),
            WantedAddress::Tagged(tag) => filter(format!("tag:{}", tag.key), [literal(&tag.value)]),
        };
        let mut found: Vec<ElasticIp> = describe(&client, region, those).await?;
        let holders: BTreeSet<String> =
            found.iter().filter_map(|ip| Some(ip.holder.as_ref()?.instance.as_ref()?.to_string())).collect();
        let mut stopped = BTreeSet::new();
        for ids in Vec::from_iter(holders).chunks(FILTER_VALUES) {
            let by_id = vec![filter("instance-id", ids.iter().cloned())];
            let note = |instance: &Instance| {
                stopped.extend(instance.instance_id().filter(|_| !runs(instance)).map(str::to_owned))
            };
            instances(&client, by_id, region, note).await?;
        }
        for holder in found.iter_mut().filter_map(|ip| ip.holder.as_mut()) {
            holder.stopped = holder.instance.as_ref().is_some_and(|id| stopped.contains(id.as_str()));
        }
        Ok(found)
    };
    bounded(deadline, timeout, asked).await.map_err(|why| clients.with_tries(why))
}

/// One that is starting may be about to work.
fn runs(instance: &Instance) -> bool {
    let state = instance.state().and_then(|state| state.name());
    !matches!(
        state,
        Some(
            InstanceStateName::Stopped
                | InstanceStateName::Stopping
                | InstanceStateName::ShuttingDown
                | InstanceStateName::Terminated
        )
    )
}

async fn describe(client: &Client, region: &Region, filter: Filter) -> Result<Vec<ElasticIp>, AskError> {
    const OPERATION: &str = "DescribeAddresses";
    // It has no pages (EC2 API reference).
    let answer = client.describe_addresses().filters(filter).send().await;
    let answer = answer.map_err(|error| reason::failed(OPERATION, region, error))?;
    let all = answer.addresses.ok_or_else(|| reason::misfit(OPERATION, "it has no addressesSet"))?;
    let mut found: Vec<ElasticIp> = all.iter().filter_map(elastic_ip).collect();
    found.sort_by(|a, b| a.allocation.cmp(&b.allocation));
    Ok(found)
}

fn elastic_ip(address: &Address) -> Option<ElasticIp> {
    let holder = address.association_id().and_then(|id| id.parse().ok()).map(|association| AddressHolder {
        association,
        instance: address.instance_id().and_then(|id| id.parse().ok()),
        private: address.private_ip_address().and_then(|ip| ip.parse().ok()),
        stopped: false,
    });
    Some(ElasticIp {
        allocation: address.allocation_id()?.parse().ok()?,
        address: address.public_ip()?.parse().ok()?,
        holder,
    })
}

/// Why no address was taken, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TakeAddressError {
    /// EC2 could not be asked, or it refused.
    #[error("{0}")]
    Unasked(#[from] AskError),
    /// All addresses were taken by others meanwhile.
    #[error("others have taken all that were free")]
    Taken,
    /// EC2 was asked, and does not show that this instance has it.
    #[error("{0} was associated, but does not read back so")]
    Elsewhere(AllocationId),
}

/// Associates one of the addresses with the own instance, and returns it once that reads back. Takes no longer than `timeout`, and
/// half a minute at most.
///
/// The connection on which EC2 is asked ends with the address that it began with, so the answer counts only where it is an error, and
/// every look has a connection of its own.
///
/// # Errors
/// See [`TakeAddressError`].
pub async fn take_address<'a>(
    clients: &Clients,
    region: &Region,
    instance: &InstanceId,
    take: &'a TakeAddress,
    timeout: Duration,
) -> Result<&'a Candidate, TakeAddressError> {
    let deadline = Instant::now() + timeout.min(PATIENCE);
    for candidate in &take.candidates {
        let anew = clients.anew();
        let asked = async {
            let client = anew.client(region, timeout, deadline).await?;
            associate(&client, region, instance, candidate).await
        };
        let mut asked = std::pin::pin!(asked);
        let mut answer = None;
        loop {
            tokio::select! {
                got = &mut asked, if answer.is_none() => answer = Some(got),
                () = sleep(LOOK_AGAIN) => {}
            }
            match &answer {
                Some(Err(why)) if is_taken(why) => break,
                Some(Err(why)) if !is_unknown(why) => return Err(why.clone().into()),
                _ => {}
            }
            if is_own(clients, region, instance, candidate).await {
                return Ok(candidate);
            }
            if Instant::now() + LOOK_AGAIN >= deadline {
                return Err(match answer {
                    Some(Err(why)) => why.into(),
                    _ => TakeAddressError::Elsewhere(candidate.allocation.clone()),
                });
            }
        }
    }
    Err(TakeAddressError::Taken)
}

/// Associates the address, which nobody may have taken meanwhile. The role of a young instance may not be known everywhere yet, which
/// EC2 calls AuthFailure (fck-nat #122): it is asked again.
async fn associate(
    client: &Client,
    region: &Region,
    instance: &InstanceId,
    candidate: &Candidate,
) -> Result<(), AskError> {
    if let Some(left) = &candidate.left {
        // That of an instance that does not run, and no other: if somebody has taken the address since, its association has another id.
        let ended = client.disassociate_address().association_id(left.as_str()).send().await;
        match ended.map_err(|error| reason::failed("DisassociateAddress", region, error)) {
            Err(AskError::Refused { code, .. }) if code == "InvalidAssociationID.NotFound" => {}
            ended => drop(ended?),
        }
    }
    loop {
        let to = || client.associate_address().allocation_id(candidate.allocation.as_str()).allow_reassociation(false);
        let failed = |error| reason::failed("AssociateAddress", region, error);
        let mut answer = to().instance_id(instance.as_str()).send().await.map_err(failed);
        if let Some(interface) = to_be_named(&answer, client, region, instance).await? {
            answer = to().network_interface_id(interface.id.as_str()).send().await.map_err(failed);
        }
        match answer {
            Err(AskError::NotAccepted { .. }) => sleep(LOOK_AGAIN).await,
            answer => return answer.map(drop),
        }
    }
}

/// Whether EC2 says that another has it.
fn is_taken(why: &AskError) -> bool {
    matches!(why, AskError::Refused { code, .. } if code == "Resource.AlreadyAssociated")
}

/// Whether EC2 may have done it nevertheless.
fn is_unknown(why: &AskError) -> bool {
    matches!(
        why,
        AskError::Silent { .. } | AskError::Unreachable { .. } | AskError::TimedOut { .. } | AskError::NotSent { .. }
    )
}

/// Whether EC2 shows that the instance has the address.
async fn is_own(clients: &Clients, region: &Region, instance: &InstanceId, candidate: &Candidate) -> bool {
    let deadline = Instant::now() + LOOK;
    let asked = async {
        let client = clients.anew().client(region, LOOK, deadline).await?;
        describe(&client, region, filter("allocation-id", [candidate.allocation.to_string()])).await
    };
    let found = timeout_at(deadline, asked).await.unwrap_or(Err(AskError::TimedOut { after: LOOK }));
    found.is_ok_and(|found| {
        found.iter().filter_map(|ip| ip.holder.as_ref()).any(|holder| holder.instance.as_ref() == Some(instance))
    })
}
