//! Security groups and their rules.

use aws_sdk_ec2::types::{IpPermission, IpRange, ResourceType, UserIdGroupPair};

use super::{
    call::{filter, send},
    context::Apply,
    tags::specification,
};
use crate::{
    aws::{Failure, Kind, listed},
    part::{Part, Ref, Tags},
    plan::Step,
    rule::{Peer, Rule},
};

impl Apply<'_> {
    pub(super) async fn create_group(
        &self,
        part: &Part,
        vpc: &Ref,
        name: &str,
        tags: &Tags,
    ) -> Result<String, Failure> {
        let vpc = self.id(vpc)?;
        let call = self.aws.ec2.create_security_group().group_name(name).description(name).vpc_id(&vpc);
        let call = call.tag_specifications(specification(ResourceType::SecurityGroup, tags));
        let made = self
            .persist(|| async {
                let answer = send!("ec2:CreateSecurityGroup", call.clone()).await?;
                answer.group_id.ok_or_else(|| Failure::misfit("ec2:CreateSecurityGroup", "groupId"))
            })
            .await;
        let id = match made {
            Err(failure) if failure.kind == Kind::Exists => {
                let call = self.aws.ec2.describe_security_groups().filters(filter("vpc-id", &vpc));
                let call = call.filters(filter("group-name", name));
                let found = listed!("ec2:DescribeSecurityGroups", call, security_groups).await?;
                found.into_iter().find_map(|g| g.group_id).ok_or(failure)?
            }
            other => other?,
        };
        self.ledger.note(part, &id);
        Ok(id)
    }

    /// The rules of a unit, all of one group and one direction, in one call. If one of them is there already EC2 takes none, and
    /// they go one by one.
    pub(super) async fn allow(&self, group: &Ref, unit: &[&Step]) -> Result<(), Failure> {
        let rules = unit.iter().filter_map(|step| match step {
            Step::Allow { rule, .. } => Some(rule),
            _ => None,
        });
        let group = self.id(group)?;
        let egress = rules.clone().any(|rule| rule.egress);
        let permissions: Vec<IpPermission> = rules.map(|rule| self.permission(rule)).collect::<Result<_, _>>()?;
        match self.authorize(&group, egress, permissions.clone()).await {
            Err(failure) if failure.kind == Kind::Exists => {}
            other => return other,
        }
        for permission in permissions {
            match self.authorize(&group, egress, vec![permission]).await {
                Err(failure) if failure.kind == Kind::Exists => {}
                other => other?,
            }
        }
        Ok(())
    }

    async fn authorize(&self, group: &str, egress: bool, permissions: Vec<IpPermission>) -> Result<(), Failure> {
        let ec2 = &self.aws.ec2;
        if egress {
            let call = ec2.authorize_security_group_egress().group_id(group).set_ip_permissions(Some(permissions));
            return self.persist(|| send!("ec2:AuthorizeSecurityGroupEgress", call.clone())).await.map(drop);
        }
        let call = ec2.authorize_security_group_ingress().group_id(group).set_ip_permissions(Some(permissions));
        self.persist(|| send!("ec2:AuthorizeSecurityGroupIngress", call.clone())).await.map(drop)
    }

    fn permission(&self, rule: &Rule) -> Result<IpPermission, Failure> {
        let permission = IpPermission::builder().ip_protocol(&rule.protocol);
        let permission = match rule.protocol.as_str() {
            "-1" => permission,
            _ => permission.from_port(rule.from).to_port(rule.to),
        };
        let permission = match &rule.peer {
            Peer::Cidr(net) => permission.ip_ranges(IpRange::builder().cidr_ip(net.to_string()).build()),
            Peer::Group(name) => {
                let pair = UserIdGroupPair::builder().group_id(self.group_id(name)?).build();
                permission.user_id_group_pairs(pair)
            }
        };
        Ok(permission.build())
    }

    /// Rules name groups: those that this cast made, or that are in the VPC.
    fn group_id(&self, name: &str) -> Result<String, Failure> {
        self.id(&Ref::New(Part::group(name))).or_else(|failure| {
            let there = self.seen.groups.iter().find(|(_, g)| g.name == name && self.vpc.as_ref() == Some(&g.vpc));
            there.map(|(id, _)| id.clone()).ok_or(failure)
        })
    }

    pub(super) async fn revoke_default_egress(&self, group: &Ref) -> Result<(), Failure> {
        let everything = self.permission(&Rule::default_egress())?;
        let call = self.aws.ec2.revoke_security_group_egress().group_id(self.id(group)?).ip_permissions(everything);
        match self.persist(|| send!("ec2:RevokeSecurityGroupEgress", call.clone())).await {
            Err(failure) if failure.kind == Kind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }
}
