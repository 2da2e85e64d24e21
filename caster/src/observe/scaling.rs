//! Launch templates and Auto Scaling groups.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{LaunchTemplate, ResourceType, ResponseLaunchTemplateData};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::try_join_all;

use super::{Query, network::tags};
use crate::{
    aws::{Aws, Failure, pages},
    document::{Digest, Secret},
    part::{CAST, Tags},
    seen::{Id, ScalingGroup, Template, TemplateData},
};

/// Those with a document's name or tag; each with the data of its newest version.
pub(super) async fn templates(aws: &Aws, query: &Query) -> Result<BTreeMap<String, Template>, Failure> {
    let ec2 = &aws.ec2;
    let found = pages!("ec2:DescribeLaunchTemplates", ec2.describe_launch_templates(), launch_templates).await?;
    let meant = |t: &LaunchTemplate| {
        let named = t.launch_template_name.as_ref().is_some_and(|name| query.names.contains(name));
        let tagged = |tag: &aws_sdk_ec2::types::Tag| {
            tag.key.as_deref() == Some(CAST) && tag.value.as_ref().is_some_and(|v| query.casts.contains(v))
        };
        named || t.tags.iter().flatten().any(tagged)
    };
    let with_data = found.into_iter().filter(meant).map(|template| async move {
        const CALL: &str = "ec2:DescribeLaunchTemplateVersions";
        let version = template.latest_version_number.unwrap_or_default();
        let call = ec2
            .describe_launch_template_versions()
            .set_launch_template_id(template.launch_template_id)
            .versions(version.to_string());
        let found = pages!("ec2:DescribeLaunchTemplateVersions", call, launch_template_versions).await?;
        let data = found.into_iter().next().and_then(|v| v.launch_template_data);
        let data = data.ok_or_else(|| Failure::misfit(CALL, "launchTemplateData"))?;
        let name = template.launch_template_name.ok_or_else(|| Failure::misfit(CALL, "name"))?;
        let version = u32::try_from(version).unwrap_or_default();
        Ok::<_, Failure>((name, Template { version, data: of(data), tags: tags(template.tags) }))
    });
    Ok(try_join_all(with_data).await?.into_iter().collect())
}

fn of(data: ResponseLaunchTemplateData) -> TemplateData {
    let interface = data.network_interfaces.unwrap_or_default().into_iter().next();
    let public = interface.as_ref().and_then(|e| e.associate_public_ip_address).unwrap_or(false);
    let mut groups: BTreeSet<Id> = data.security_group_ids.unwrap_or_default().into_iter().collect();
    groups.extend(interface.and_then(|e| e.groups).unwrap_or_default());
    let profile = data.iam_instance_profile.and_then(|p| p.name.or(p.arn)).unwrap_or_default();
    let instance = data.tag_specifications.unwrap_or_default().into_iter();
    let instance = instance.filter(|s| s.resource_type == Some(ResourceType::Instance)).flat_map(|s| s.tags);
    TemplateData {
        image: data.image_id.unwrap_or_default(),
        instance_type: data.instance_type.map(|t| t.as_str().to_owned()).unwrap_or_default(),
        key_pair: data.key_name,
        profile: profile.rsplit('/').next().unwrap_or_default().to_owned(),
        groups,
        public,
        user_data: data.user_data.map(|encoded| digest(&encoded)),
        tags: tags(Some(instance.flatten().collect())),
    }
}

/// Of user data as a template has it; what is not the Base64 of a text differs from every document's.
fn digest(encoded: &str) -> Digest {
    let text = BASE64_STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Secret::new(text.unwrap_or_else(|| encoded.to_owned())).digest()
}

pub(super) async fn groups(aws: &Aws) -> Result<BTreeMap<String, ScalingGroup>, Failure> {
    let call = aws.scaling.describe_auto_scaling_groups();
    let found = pages!("autoscaling:DescribeAutoScalingGroups", call, auto_scaling_groups).await?;
    let group = |g: aws_sdk_autoscaling::types::AutoScalingGroup| {
        let size = |n: Option<i32>| u32::try_from(n.unwrap_or_default()).unwrap_or_default();
        let members = g.instances.unwrap_or_default().into_iter();
        let serving = members.filter(|i| i.lifecycle_state.as_ref().is_some_and(|s| s.as_str() == "InService"));
        let template = g.launch_template.and_then(|t| Some((t.launch_template_name?, t.version?)));
        let subnets = g.vpc_zone_identifier.unwrap_or_default();
        let tag = |t: aws_sdk_autoscaling::types::TagDescription| Some((t.key?, t.value.unwrap_or_default()));
        let group = ScalingGroup {
            subnets: subnets.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect(),
            min: size(g.min_size),
            max: size(g.max_size),
            desired: size(g.desired_capacity),
            template,
            configuration: g.launch_configuration_name.filter(|name| !name.is_empty()),
            target_groups: g.target_group_arns.unwrap_or_default().into_iter().collect(),
            balancers: g.load_balancer_names.unwrap_or_default().into_iter().collect(),
            instances: serving.filter_map(|i| i.instance_id).collect(),
            tags: g.tags.unwrap_or_default().into_iter().filter_map(tag).collect::<Tags>(),
        };
        Some((g.auto_scaling_group_name?, group))
    };
    Ok(found.into_iter().filter_map(group).collect())
}
