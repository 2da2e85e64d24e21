//! Launch templates and Auto Scaling groups.

use std::time::Duration;

use aws_sdk_autoscaling::types::{LaunchTemplateSpecification, LifecycleState, Tag};
use aws_sdk_ec2::types::{
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest, LaunchTemplateHttpTokensState,
    LaunchTemplateIamInstanceProfileSpecificationRequest, LaunchTemplateInstanceMetadataOptionsRequest,
    LaunchTemplateInstanceNetworkInterfaceSpecificationRequest, LaunchTemplateTagSpecificationRequest,
    RequestLaunchTemplateData, ResourceType, VolumeType,
};

use super::{
    call::send,
    context::Apply,
    tags::{digest, list, specification, token},
};
use crate::{
    aws::{Failure, Kind, listed},
    part::{Part, Ref, Tags},
    plan::resource::{ScalingGroup, Template},
};

const IN_SERVICE: Duration = Duration::from_secs(600);

/// Of a group; its instances get them too.
pub(super) fn tags(group: &str, tags: &Tags) -> Result<Vec<Tag>, Failure> {
    let tag = |(key, value): (&String, &String)| {
        let tag = Tag::builder().resource_id(group).resource_type("auto-scaling-group").propagate_at_launch(true);
        tag.key(key).value(value).build()
    };
    Ok(tags.iter().map(tag).collect())
}

impl Apply<'_> {
    fn template_data(&self, data: &Template) -> Result<RequestLaunchTemplateData, Failure> {
        let interface = LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
            .device_index(0)
            .associate_public_ip_address(data.public)
            .set_groups(Some(self.ids(&data.groups)?))
            .build();
        let metadata = LaunchTemplateInstanceMetadataOptionsRequest::builder()
            .http_tokens(LaunchTemplateHttpTokensState::Required)
            .http_put_response_hop_limit(1)
            .build();
        let profile = LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name(&data.profile).build();
        let tagged = |kind: ResourceType| {
            let tags = Some(list(&data.instance_tags));
            LaunchTemplateTagSpecificationRequest::builder().resource_type(kind).set_tags(tags).build()
        };
        let image = self.seen.images.get(&data.image.image);
        let disk = image.and_then(|image| {
            let disk = LaunchTemplateEbsBlockDeviceRequest::builder().volume_type(VolumeType::Gp3).encrypted(true);
            let disk = disk.delete_on_termination(true).set_volume_size(image.root_gib).build();
            let name = image.root.as_deref()?;
            Some(vec![LaunchTemplateBlockDeviceMappingRequest::builder().device_name(name).ebs(disk).build()])
        });
        Ok(RequestLaunchTemplateData::builder()
            .image_id(&data.image.image)
            .instance_type(data.instance_type.as_str().into())
            .set_key_name(data.key_pair.clone())
            .iam_instance_profile(profile)
            .network_interfaces(interface)
            .metadata_options(metadata)
            .set_block_device_mappings(disk)
            .set_user_data(self.user_data(data)?)
            .tag_specifications(tagged(ResourceType::Instance))
            .tag_specifications(tagged(ResourceType::Volume))
            .build())
    }

    /// The plan knows templates by name, so the name is noted for the part.
    pub(super) async fn create_template(
        &self,
        part: &Part,
        name: &str,
        data: &Template,
        tags: &Tags,
    ) -> Result<String, Failure> {
        let call = self.aws.ec2.create_launch_template().launch_template_name(name).client_token(token(tags, name));
        let call = call.launch_template_data(self.template_data(data)?);
        let call = call.tag_specifications(specification(ResourceType::LaunchTemplate, tags));
        match self.persist(|| send!("ec2:CreateLaunchTemplate", call.clone())).await {
            // Another cast has made it; what differs shows in the next plan.
            Err(failure) if failure.kind == Kind::Exists => {}
            other => drop(other?),
        }
        self.ledger.note(part, name);
        Ok(name.to_owned())
    }

    pub(super) async fn create_template_version(
        &self,
        template: &Ref,
        version: u32,
        data: &Template,
    ) -> Result<(), Failure> {
        let name = self.id(template)?;
        let call = self.aws.ec2.create_launch_template_version().launch_template_name(&name);
        let call = call.client_token(digest(&format!("{name} {version} {data:?}")));
        let call = call.launch_template_data(self.template_data(data)?);
        let answer = self.persist(|| send!("ec2:CreateLaunchTemplateVersion", call.clone())).await?;
        let made = answer.launch_template_version.and_then(|v| v.version_number);
        if let Some(made) = made.and_then(|n| u32::try_from(n).ok()) {
            self.ledger.note_version(&name, made);
        }
        Ok(())
    }

    fn template(&self, template: &Ref, version: u32) -> Result<LaunchTemplateSpecification, Failure> {
        let name = self.id(template)?;
        // Another cast may have made a version in between.
        let version = self.ledger.version(&name).unwrap_or(version);
        Ok(LaunchTemplateSpecification::builder().launch_template_name(name).version(version.to_string()).build())
    }

    pub(super) async fn create_scaling_group(&self, group: &ScalingGroup) -> Result<String, Failure> {
        let size = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let call = self
            .aws
            .scaling
            .create_auto_scaling_group()
            .auto_scaling_group_name(&group.name)
            .launch_template(self.template(&group.template, group.version)?)
            .vpc_zone_identifier(self.ids(&group.subnets)?.join(","))
            .min_size(size(group.min))
            .max_size(size(group.max))
            .desired_capacity(size(group.desired))
            .set_target_group_arns(some(self.ids(&group.target_groups)?))
            .set_load_balancer_names(some(self.ids(&group.balancers)?))
            .set_tags(Some(tags(&group.name, &group.tags)?));
        match self.persist(|| send!("autoscaling:CreateAutoScalingGroup", call.clone())).await {
            Err(failure) if failure.kind == Kind::Exists => {}
            other => drop(other?),
        }
        self.ledger.note(&group.part, &group.name);
        if self.wait {
            self.in_service(&group.name, group.desired).await?;
        }
        Ok(group.name.clone())
    }

    async fn in_service(&self, name: &str, wanted: u32) -> Result<(), Failure> {
        self.wait_for(&format!("{wanted} instances of {name} in service"), IN_SERVICE, || async {
            let call = self.aws.scaling.describe_auto_scaling_groups().auto_scaling_group_names(name);
            let found = listed!("autoscaling:DescribeAutoScalingGroups", call, auto_scaling_groups).await?;
            let members = found.into_iter().flat_map(|g| g.instances.unwrap_or_default());
            let serving = members.filter(|i| i.lifecycle_state == Some(LifecycleState::InService)).count();
            Ok((serving >= wanted as usize).then_some(()))
        })
        .await
    }

    pub(super) async fn use_template(&self, group: &Ref, template: &Ref, version: u32) -> Result<(), Failure> {
        let call = self.aws.scaling.update_auto_scaling_group().auto_scaling_group_name(self.id(group)?);
        let call = call.launch_template(self.template(template, version)?);
        self.persist(|| send!("autoscaling:UpdateAutoScalingGroup", call.clone())).await.map(drop)
    }

    /// A target group, or a classic load balancer by name.
    pub(super) async fn attach_target_group(&self, group: &Ref, target_group: &Ref) -> Result<(), Failure> {
        let (group, target) = (self.id(group)?, self.id(target_group)?);
        if target.starts_with("arn:") {
            let call = self.aws.scaling.attach_load_balancer_target_groups().auto_scaling_group_name(group);
            let call = call.target_group_arns(target);
            return self.persist(|| send!("autoscaling:AttachLoadBalancerTargetGroups", call.clone())).await.map(drop);
        }
        let call = self.aws.scaling.attach_load_balancers().auto_scaling_group_name(group).load_balancer_names(target);
        self.persist(|| send!("autoscaling:AttachLoadBalancers", call.clone())).await.map(drop)
    }
}

fn some(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}
