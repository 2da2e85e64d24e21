//! Launches, and the waits for what was launched.

use std::time::Duration;

use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification, Instance,
    InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceStateName, NetworkInterfaceStatus,
    ResourceType, ShutdownBehavior, SummaryStatus, VolumeType,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    call::send,
    context::Apply,
    tags::{digest, specification},
};
use crate::{
    aws::{Failure, listed},
    part::PART,
    plan::resource::{Launch, Place, Template},
};

/// A terminated instance lets its interface go within a minute or two.
const RELEASED: Duration = Duration::from_secs(300);
const RUNNING: Duration = Duration::from_secs(300);
const HEALTHY: Duration = Duration::from_secs(600);

impl Apply<'_> {
    pub(super) async fn launch(&self, launch: &Launch) -> Result<String, Failure> {
        let gateway = matches!(launch.place, Place::Interface(_));
        if let Place::Interface(interface) = &launch.place {
            self.released(&self.id(interface)?).await?;
        }
        let mut instance = self.run(launch, &launch.token).await?;
        // The token of an earlier launch gives the instance of that launch, also when it is gone.
        let state = instance.state.as_ref().and_then(|s| s.name.clone());
        if matches!(state, Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated)) {
            let salt = instance.instance_id.unwrap_or_default();
            instance = self.run(launch, &digest(&format!("{} {salt}", launch.token))).await?;
        }
        let id = instance.instance_id.ok_or_else(|| Failure::misfit("ec2:RunInstances", "instanceId"))?;
        self.ledger.note(&launch.part, &id);
        // Its source/destination check is that of its interface, which is off.
        self.running(&id).await?;
        if gateway && self.wait {
            self.healthy(&id).await?;
        }
        Ok(id)
    }

    /// The interface is free. One whose instance is terminated counts as free: EC2 is about to let it go, and refuses a launch as
    /// long as it has not.
    async fn released(&self, interface: &str) -> Result<(), Failure> {
        let ec2 = &self.aws.ec2;
        self.wait_for(&format!("{interface} to be released by an instance that is gone"), RELEASED, || async {
            let call = ec2.describe_network_interfaces().network_interface_ids(interface);
            let found = listed!("ec2:DescribeNetworkInterfaces", call, network_interfaces).await?;
            let Some(found) = found.into_iter().next() else { return Ok(None) };
            if found.status == Some(NetworkInterfaceStatus::Available) {
                return Ok(Some(()));
            }
            let Some(holder) = found.attachment.and_then(|a| a.instance_id) else { return Ok(None) };
            let holder = self.instance(&holder).await?;
            let state = holder.and_then(|i| i.state).and_then(|s| s.name);
            Ok((state.is_none() || state == Some(InstanceStateName::Terminated)).then_some(()))
        })
        .await
    }

    async fn instance(&self, id: &str) -> Result<Option<Instance>, Failure> {
        let call = self.aws.ec2.describe_instances().filters(super::call::filter("instance-id", id));
        let found = listed!("ec2:DescribeInstances", call, reservations).await?;
        Ok(found.into_iter().flat_map(|r| r.instances.unwrap_or_default()).next())
    }

    async fn run(&self, launch: &Launch, token: &str) -> Result<Instance, Failure> {
        let spec = &launch.spec;
        let interface = InstanceNetworkInterfaceSpecification::builder().device_index(0);
        let (interface, shutdown) = match &launch.place {
            Place::Interface(interface_id) => {
                (interface.network_interface_id(self.id(interface_id)?), ShutdownBehavior::Stop)
            }
            Place::Subnet(subnet) => {
                let interface = interface.subnet_id(self.id(subnet)?).set_groups(Some(self.ids(&spec.groups)?));
                (interface.associate_public_ip_address(spec.public), ShutdownBehavior::Terminate)
            }
        };
        let metadata = InstanceMetadataOptionsRequest::builder()
            .http_tokens(HttpTokensState::Required)
            .http_put_response_hop_limit(1)
            .build();
        // A part of its own: by its tags a part is found.
        let mut disk_tags = launch.tags.clone();
        disk_tags.insert(PART.to_owned(), format!("{}/disk", launch.part));
        let call = self
            .aws
            .ec2
            .run_instances()
            .image_id(&spec.image.image)
            .instance_type(spec.instance_type.as_str().into())
            .min_count(1)
            .max_count(1)
            .client_token(token)
            .set_key_name(spec.key_pair.clone())
            .iam_instance_profile(IamInstanceProfileSpecification::builder().name(&spec.profile).build())
            .network_interfaces(interface.build())
            .metadata_options(metadata)
            .instance_initiated_shutdown_behavior(shutdown)
            .set_block_device_mappings(self.root_disk(&spec.image.image).map(|disk| vec![disk]))
            .set_user_data(self.user_data(spec)?)
            .tag_specifications(specification(ResourceType::Instance, &launch.tags))
            .tag_specifications(specification(ResourceType::Volume, &disk_tags));
        self.persist(|| async {
            let answer = send!("ec2:RunInstances", call.clone()).await?;
            let instance = answer.instances.unwrap_or_default().into_iter().next();
            instance.ok_or_else(|| Failure::misfit("ec2:RunInstances", "instancesSet"))
        })
        .await
    }

    /// The image's root disk, as gp3 and encrypted. `None` if the image says nothing of it.
    fn root_disk(&self, image: &str) -> Option<BlockDeviceMapping> {
        let image = self.seen.images.get(image)?;
        let disk = EbsBlockDevice::builder().volume_type(VolumeType::Gp3).encrypted(true).delete_on_termination(true);
        let disk = disk.set_volume_size(image.root_gib).build();
        Some(BlockDeviceMapping::builder().device_name(image.root.as_deref()?).ebs(disk).build())
    }

    /// In Base64, as EC2 takes it.
    pub(super) fn user_data(&self, spec: &Template) -> Result<Option<String>, Failure> {
        let Some(digest) = &spec.user_data else { return Ok(None) };
        let text = self.texts.get(digest);
        let text = text.ok_or_else(|| Failure::waited(format!("the user data of {digest} is not at hand")))?;
        Ok(Some(BASE64_STANDARD.encode(text.reveal())))
    }

    async fn running(&self, id: &str) -> Result<(), Failure> {
        self.wait_for(&format!("{id} to run"), RUNNING, || async {
            let Some(instance) = self.instance(id).await? else { return Ok(None) };
            match instance.state.as_ref().and_then(|s| s.name.clone()) {
                Some(InstanceStateName::Running) => Ok(Some(())),
                Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated) => {
                    let why = instance.state_reason.and_then(|r| r.message).unwrap_or_else(|| "no reason given".into());
                    Err(Failure::waited(format!("{id} was terminated while it started: {}", crate::text::plain(&why))))
                }
                _ => Ok(None),
            }
        })
        .await
    }

    /// Both status checks have passed.
    async fn healthy(&self, id: &str) -> Result<(), Failure> {
        self.wait_for(&format!("the status checks of {id}"), HEALTHY, || async {
            let call = self.aws.ec2.describe_instance_status().instance_ids(id);
            let found = listed!("ec2:DescribeInstanceStatus", call, instance_statuses).await?;
            let passed = |s: Option<aws_sdk_ec2::types::InstanceStatusSummary>| {
                s.is_some_and(|s| s.status == Some(SummaryStatus::Ok))
            };
            let both = found.into_iter().any(|s| passed(s.instance_status) && passed(s.system_status));
            Ok(both.then_some(()))
        })
        .await
    }
}
