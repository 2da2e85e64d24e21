//! Whether the role may make a call: asked with DryRun, so that nothing is done (EC2 API reference, "Common query parameters").

#![allow(clippy::disallowed_methods, reason = "edge: one deadline for all calls")]

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_ec2::{Client, types::Tag};
use tokio::time::{Instant, timeout_at};

use super::{Clients, reason};
use crosswan_core::model::{AskError, InstanceId, KEY_TAG, NEXT_KEY_TAG, Region};

/// A call that a pass of some mode makes beyond describing instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// The own key is announced in two tags.
    CreateTags,
    /// The hub asks for the CIDRs of its clients' VPCs.
    DescribeVpcs,
}

impl Action {
    const ALL: [Action; 2] = [Action::CreateTags, Action::DescribeVpcs];

    /// As in the id of doctor's check.
    fn as_str(self) -> &'static str {
        match self {
            Action::CreateTags => "create-tags",
            Action::DescribeVpcs => "describe-vpcs",
        }
    }
}

/// Asks for each [`Action`] whether it is allowed in `region` for the own instance, for no longer than `timeout`.
pub async fn permissions(
    clients: &Clients,
    region: &Region,
    instance: &InstanceId,
    timeout: Duration,
) -> BTreeMap<&'static str, Result<(), AskError>> {
    let deadline = Instant::now() + timeout;
    let late = |_| Err(AskError::TimedOut { after: timeout });
    let asked = Action::ALL.map(|action| async move {
        let asked = async { ask(&clients.client(region, timeout, deadline).await?, region, instance, action).await };
        (action.as_str(), timeout_at(deadline, asked).await.unwrap_or_else(late))
    });
    futures_util::future::join_all(asked).await.into_iter().collect()
}

async fn ask(client: &Client, region: &Region, instance: &InstanceId, action: Action) -> Result<(), AskError> {
    let answer = match action {
        Action::CreateTags => {
            let tags = [KEY_TAG, NEXT_KEY_TAG].map(|key| Tag::builder().key(key).value("none").build());
            let request = client.create_tags().dry_run(true).resources(instance.as_str()).set_tags(Some(tags.into()));
            request.send().await.map(drop).map_err(|error| reason::failed("CreateTags", region, error))
        }
        Action::DescribeVpcs => {
            let request = client.describe_vpcs().dry_run(true);
            request.send().await.map(drop).map_err(|error| reason::failed("DescribeVpcs", region, error))
        }
    };
    match answer {
        // What it would have been allowed to do.
        Err(AskError::Refused { code, .. }) if code == "DryRunOperation" => Ok(()),
        answer => answer,
    }
}
