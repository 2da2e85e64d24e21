//! Whether the role may make a call: asked with DryRun, so that nothing is done (EC2 API reference, "Common query parameters").

#![allow(clippy::disallowed_methods, reason = "edge: one deadline for all calls")]

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_ec2::{
    Client,
    types::{AttributeBooleanValue, Tag},
};
use tokio::time::{Instant, timeout_at};

use super::{Clients, reason};
use crosswan_core::model::{
    AllocationId, AskError, InstanceId, InterfaceId, KEY_TAG, NEXT_KEY_TAG, Region, RouteTableId,
};

/// What the calls of a pass are about.
#[derive(Debug, Clone, Copy)]
pub struct Subjects<'a> {
    /// The own instance.
    pub instance: &'a InstanceId,
    /// Its interface, and a table whose routes may lead there.
    pub route: Option<(&'a RouteTableId, &'a InterfaceId)>,
    /// An address that it has or may take.
    pub address: Option<&'a AllocationId>,
}

/// A call that a pass of some mode makes beyond describing things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// The own key is announced in two tags.
    CreateTags,
    /// The hub asks for the CIDRs of its clients' VPCs.
    DescribeVpcs,
    /// The source/destination check is turned off.
    ModifyInstanceAttribute,
    /// A route is led here where there was none.
    CreateRoute,
    /// A route is led here.
    ReplaceRoute,
    /// An Elastic IP is taken.
    AssociateAddress,
}

impl Action {
    const ALL: [Action; 6] = [
        Action::CreateTags,
        Action::DescribeVpcs,
        Action::ModifyInstanceAttribute,
        Action::CreateRoute,
        Action::ReplaceRoute,
        Action::AssociateAddress,
    ];

    /// As in the id of doctor's check.
    fn as_str(self) -> &'static str {
        match self {
            Action::CreateTags => "create-tags",
            Action::DescribeVpcs => "describe-vpcs",
            Action::ModifyInstanceAttribute => "modify-instance-attribute",
            Action::CreateRoute => "create-route",
            Action::ReplaceRoute => "replace-route",
            Action::AssociateAddress => "associate-address",
        }
    }
}

/// Asks for each [`Action`] that has a subject whether it is allowed in `region`, for no longer than `timeout`.
pub async fn permissions(
    clients: &Clients,
    region: &Region,
    about: Subjects<'_>,
    timeout: Duration,
) -> BTreeMap<&'static str, Result<(), AskError>> {
    let deadline = Instant::now() + timeout;
    let late = |_| Some(Err(AskError::TimedOut { after: timeout }));
    let asked = Action::ALL.map(|action| async move {
        let asked = async {
            match clients.client(region, timeout, deadline).await {
                Ok(client) => ask(&client, region, about, action).await,
                Err(why) => Some(Err(why)),
            }
        };
        Some((action.as_str(), timeout_at(deadline, asked).await.unwrap_or_else(late)?))
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}

/// EC2's answer; `None` if there is nothing that the call could be about.
async fn ask(client: &Client, region: &Region, about: Subjects<'_>, action: Action) -> Option<Result<(), AskError>> {
    let instance = about.instance.as_str();
    let route = about.route.map(|(table, interface)| (table.as_str(), interface.as_str()));
    // Any network will do: a route authorises its table alone.
    let to = "0.0.0.0/0";
    let answer = match action {
        Action::CreateTags => {
            let tags = [KEY_TAG, NEXT_KEY_TAG].map(|key| Tag::builder().key(key).value("none").build());
            let request = client.create_tags().dry_run(true).resources(instance).set_tags(Some(tags.into()));
            request.send().await.map(drop).map_err(|error| reason::failed("CreateTags", region, error))
        }
        Action::DescribeVpcs => {
            let request = client.describe_vpcs().dry_run(true);
            request.send().await.map(drop).map_err(|error| reason::failed("DescribeVpcs", region, error))
        }
        Action::ModifyInstanceAttribute => {
            let off = AttributeBooleanValue::builder().value(false).build();
            let request = client.modify_instance_attribute().dry_run(true).instance_id(instance).source_dest_check(off);
            request.send().await.map(drop).map_err(|error| reason::failed("ModifyInstanceAttribute", region, error))
        }
        Action::CreateRoute => {
            let (table, interface) = route?;
            let request = client.create_route().dry_run(true).route_table_id(table).network_interface_id(interface);
            let answer = request.destination_cidr_block(to).send().await;
            answer.map(drop).map_err(|error| reason::failed("CreateRoute", region, error))
        }
        Action::ReplaceRoute => {
            let (table, interface) = route?;
            let request = client.replace_route().dry_run(true).route_table_id(table).network_interface_id(interface);
            let answer = request.destination_cidr_block(to).send().await;
            answer.map(drop).map_err(|error| reason::failed("ReplaceRoute", region, error))
        }
        Action::AssociateAddress => {
            let request = client.associate_address().dry_run(true).allocation_id(about.address?.as_str());
            let answer = request.instance_id(instance).allow_reassociation(false).send().await;
            answer.map(drop).map_err(|error| reason::failed("AssociateAddress", region, error))
        }
    };
    Some(match answer {
        // What it would have been allowed to do.
        Err(AskError::Refused { code, .. }) if code == "DryRunOperation" => Ok(()),
        answer => answer,
    })
}
