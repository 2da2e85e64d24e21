//! Tags on what is there.

use super::{call::send, context::Apply, scaling, tags::list};
use crate::{
    aws::{Failure, listed},
    part::{Ref, Tags},
};

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
        let call = self.aws.scaling.create_or_update_tags().set_tags(Some(scaling::tags(name, tags)?));
        self.persist(|| send!("autoscaling:CreateOrUpdateTags", call.clone())).await.map(drop)
    }
}
