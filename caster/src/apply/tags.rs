//! Tags: in the call that makes a resource, and on one that is adopted.

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};

use super::{Apply, network::send};
use crate::{
    aws::{Failure, listed},
    part::{CAST, PART, Ref, Tags},
};

pub(super) fn list(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

pub(super) fn specification(kind: ResourceType, tags: &Tags) -> TagSpecification {
    TagSpecification::builder().resource_type(kind).set_tags(Some(list(tags))).build()
}

/// A client token for the one part of the one cast, made in a context such as its VPC.
pub(super) fn token(tags: &Tags, context: &str) -> String {
    let of = |key| tags.get(key).map(String::as_str).unwrap_or_default();
    digest(&format!("{} {} {context}", of(CAST), of(PART)))
}

/// 32 characters that are the same for the same text.
pub(super) fn digest(text: &str) -> String {
    let sum = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    sum.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

impl Apply<'_> {
    /// Tags on something that is there; `part` tells what kind of thing a name names.
    pub(super) async fn tag(&self, what: &Ref, part: &str, tags: &Tags) -> Result<(), Failure> {
        let id = self.id(what)?;
        if part.ends_with("/scaling") {
            return self.tag_scaling_group(&id, tags).await;
        }
        if part.starts_with("elb/") && id.starts_with("arn:") {
            use aws_sdk_elasticloadbalancingv2::types::Tag;
            let tags = tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect();
            let call = self.aws.balancing.add_tags().resource_arns(&id).set_tags(Some(tags));
            return self.persist(|| send!("elasticloadbalancing:AddTags", call.clone())).await.map(drop);
        }
        if part.starts_with("elb/") {
            use aws_sdk_elasticloadbalancing::types::Tag;
            let tags: Result<Vec<Tag>, _> = tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect();
            let tags = tags.map_err(|e| Failure::waited(e.to_string()))?;
            let call = self.aws.classic.add_tags().load_balancer_names(&id).set_tags(Some(tags));
            return self.persist(|| send!("elasticloadbalancing:AddTags", call.clone())).await.map(drop);
        }
        let id = if part.ends_with("/template") { self.template_id(&id).await? } else { id };
        let call = self.aws.ec2.create_tags().resources(id).set_tags(Some(list(tags)));
        self.persist(|| send!("ec2:CreateTags", call.clone())).await.map(drop)
    }

    /// The plan knows launch templates by name.
    async fn template_id(&self, name: &str) -> Result<String, Failure> {
        let call = self.aws.ec2.describe_launch_templates().launch_template_names(name);
        let found = self.persist(|| listed!("ec2:DescribeLaunchTemplates", call.clone(), launch_templates)).await?;
        let id = found.into_iter().find_map(|t| t.launch_template_id);
        id.ok_or_else(|| Failure::misfit("ec2:DescribeLaunchTemplates", "launchTemplateId"))
    }

    async fn tag_scaling_group(&self, name: &str, tags: &Tags) -> Result<(), Failure> {
        let call = self.aws.scaling.create_or_update_tags().set_tags(Some(super::scaling::tags(name, tags)?));
        self.persist(|| send!("autoscaling:CreateOrUpdateTags", call.clone())).await.map(drop)
    }
}
