//! Instances, their interfaces and addresses, and what they are launched from, from EC2.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use aws_sdk_ec2::{
    Client,
    types::{Filter, HttpTokensState, ImageState, InstanceMetadataEndpointState, InstanceStateName, LocationType},
};
use futures_util::future::try_join;

use super::{Query, network::tags};
use crate::{
    aws::{Failure, listed, pages},
    seen::{Address, Id, Image, Instance, InstanceType, Interface, State},
};

fn filter<'a>(name: &str, values: impl IntoIterator<Item = &'a String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().cloned().collect())).build()
}

fn address(text: Option<&str>) -> Option<Ipv4Addr> {
    text?.parse().ok()
}

/// Those with an IPv4 address.
pub(super) async fn interfaces(ec2: &Client) -> Result<BTreeMap<Id, Interface>, Failure> {
    let found = pages!("ec2:DescribeNetworkInterfaces", ec2.describe_network_interfaces(), network_interfaces).await?;
    let interface = |e: aws_sdk_ec2::types::NetworkInterface| {
        let private = address(e.private_ip_address.as_deref())?;
        let others = e.private_ip_addresses.iter().flatten().filter(|a| a.primary == Some(false));
        let interface = Interface {
            vpc: e.vpc_id?,
            subnet: e.subnet_id?,
            private,
            secondary: others.filter_map(|a| address(a.private_ip_address.as_deref())).collect(),
            public: e.association.as_ref().and_then(|a| address(a.public_ip.as_deref())),
            public_dns: e.association.and_then(|a| a.public_dns_name).filter(|name| !name.is_empty()),
            groups: e.groups.unwrap_or_default().into_iter().filter_map(|g| g.group_id).collect(),
            source_dest_check: e.source_dest_check.unwrap_or(true),
            instance: e.attachment.and_then(|a| a.instance_id),
            tags: tags(e.tag_set),
        };
        Some((e.network_interface_id?, interface))
    };
    Ok(found.into_iter().filter_map(interface).collect())
}

/// Elastic IPs of VPCs.
pub(super) async fn addresses(ec2: &Client) -> Result<BTreeMap<Id, Address>, Failure> {
    let found = listed!("ec2:DescribeAddresses", ec2.describe_addresses(), addresses).await?;
    let elastic = |a: aws_sdk_ec2::types::Address| {
        let public = address(a.public_ip.as_deref())?;
        let interface = a.network_interface_id.filter(|id| !id.is_empty());
        Some((a.allocation_id?, Address { public, interface, tags: tags(a.tags) }))
    };
    Ok(found.into_iter().filter_map(elastic).collect())
}

/// Terminated ones too, as long as EC2 shows them: they have neither VPC nor interface any more.
pub(super) async fn instances(ec2: &Client) -> Result<BTreeMap<Id, Instance>, Failure> {
    let found = pages!("ec2:DescribeInstances", ec2.describe_instances(), reservations).await?;
    let mut all = BTreeMap::new();
    for instance in found.into_iter().flat_map(|r| r.instances.unwrap_or_default()) {
        let id = instance.instance_id.clone();
        all.extend(id.zip(of(instance)));
    }
    Ok(all)
}

fn of(instance: aws_sdk_ec2::types::Instance) -> Option<Instance> {
    let state = match instance.state?.name? {
        InstanceStateName::Pending => State::Pending,
        InstanceStateName::Running => State::Running,
        InstanceStateName::Stopping => State::Stopping,
        InstanceStateName::Stopped => State::Stopped,
        InstanceStateName::ShuttingDown => State::ShuttingDown,
        _ => State::Terminated,
    };
    let primary = instance.network_interfaces.unwrap_or_default().into_iter();
    let primary = primary.min_by_key(|e| e.attachment.as_ref().and_then(|a| a.device_index).unwrap_or(i32::MAX));
    let v1 = instance.metadata_options.is_some_and(|m| {
        m.http_tokens == Some(HttpTokensState::Optional)
            && m.http_endpoint != Some(InstanceMetadataEndpointState::Disabled)
    });
    Some(Instance {
        vpc: instance.vpc_id.unwrap_or_default(),
        subnet: instance.subnet_id.unwrap_or_default(),
        state,
        image: instance.image_id.unwrap_or_default(),
        instance_type: instance.instance_type.map(|t| t.as_str().to_owned()).unwrap_or_default(),
        interface: primary.and_then(|e| e.network_interface_id).unwrap_or_default(),
        source_dest_check: instance.source_dest_check.unwrap_or(true),
        imds_v1: v1,
        tags: tags(instance.tags),
    })
}

/// Those of the names that documents mention, of the owners that they trust; and those that they mention by id.
pub(super) async fn images(ec2: &Client, query: &Query) -> Result<BTreeMap<Id, Image>, Failure> {
    const CALL: &str = "ec2:DescribeImages";
    let by_name = async {
        // An empty filter would match everything.
        if query.image_names.is_empty() {
            return Ok(Vec::new());
        }
        let owners = Some(query.image_owners.iter().cloned().collect());
        let call = ec2.describe_images().set_owners(owners).filters(filter("name", &query.image_names));
        pages!("ec2:DescribeImages", call, images).await
    };
    let by_id = async {
        if query.image_ids.is_empty() {
            return Ok(Vec::new());
        }
        // A filter, not ImageIds: with those one that is gone fails the whole request.
        let call = ec2.describe_images().filters(filter("image-id", &query.image_ids));
        pages!("ec2:DescribeImages", call, images).await
    };
    let (mut found, named) = try_join(by_name, by_id).await?;
    found.extend(named);
    let image = |i: aws_sdk_ec2::types::Image| {
        let mut disks = i.block_device_mappings.iter().flatten();
        let root = disks.find(|d| d.device_name.is_some() && d.device_name == i.root_device_name);
        let root_gib = root.and_then(|d| d.ebs.as_ref()).and_then(|e| e.volume_size);
        let image = Image {
            name: i.name.unwrap_or_default(),
            owner: i.owner_id.ok_or_else(|| Failure::misfit(CALL, "owner"))?,
            owner_alias: i.image_owner_alias,
            available: i.state == Some(ImageState::Available),
            architecture: i.architecture.map(|a| a.as_str().to_owned()).unwrap_or_default(),
            virtualization: i.virtualization_type.map(|v| v.as_str().to_owned()).unwrap_or_default(),
            root: i.root_device_name,
            root_gib,
        };
        Ok((i.image_id.ok_or_else(|| Failure::misfit(CALL, "imageId"))?, image))
    };
    found.into_iter().map(image).collect()
}

/// Those that documents mention, where they exist in the region.
pub(super) async fn instance_types(ec2: &Client, query: &Query) -> Result<BTreeMap<String, InstanceType>, Failure> {
    if query.instance_types.is_empty() {
        return Ok(BTreeMap::new());
    }
    let these = filter("instance-type", &query.instance_types);
    let described = ec2.describe_instance_types().filters(these.clone());
    let offered = ec2.describe_instance_type_offerings().location_type(LocationType::AvailabilityZone).filters(these);
    let (types, offerings) = try_join(
        pages!("ec2:DescribeInstanceTypes", described, instance_types),
        pages!("ec2:DescribeInstanceTypeOfferings", offered, instance_type_offerings),
    )
    .await?;
    let mut zones: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for offering in offerings {
        if let Some((kind, zone)) = offering.instance_type.zip(offering.location) {
            zones.entry(kind.as_str().to_owned()).or_default().insert(zone);
        }
    }
    let kind = |t: aws_sdk_ec2::types::InstanceTypeInfo| {
        let name = t.instance_type?.as_str().to_owned();
        let architectures = t.processor_info.and_then(|p| p.supported_architectures).unwrap_or_default();
        let virtualizations = t.supported_virtualization_types.unwrap_or_default();
        let kind = InstanceType {
            zones: zones.get(&name).cloned().unwrap_or_default(),
            architectures: architectures.iter().map(|a| a.as_str().to_owned()).collect(),
            virtualizations: virtualizations.iter().map(|v| v.as_str().to_owned()).collect(),
            current: t.current_generation.unwrap_or(true),
        };
        Some((name, kind))
    };
    Ok(types.into_iter().filter_map(kind).collect())
}
