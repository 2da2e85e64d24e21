//! Records in Route 53.

use std::time::Duration;

use aws_sdk_route53::types::{
    AliasTarget, Change, ChangeAction, ChangeBatch, ChangeStatus, ResourceRecord, ResourceRecordSet, RrType,
};

use super::{call::send, context::Apply};
use crate::{
    aws::{Failure, listed},
    part::Ref,
    plan::resource::RecordKind,
};

const TTL: i64 = 60;
const IN_SYNC: Duration = Duration::from_secs(120);
/// A public DNS name comes with the address, or some seconds after DNS hostnames were enabled.
const NAMED: Duration = Duration::from_secs(60);

impl Apply<'_> {
    pub(super) async fn set_record(&self, name: &str, kind: RecordKind, target: &Ref) -> Result<(), Failure> {
        let zones = &self.seen.hosted_zones;
        let zone = zones.iter().filter(|(zone, _)| name.ends_with(&format!(".{zone}"))).max_by_key(|(z, _)| z.len());
        let (_, zone) = zone.ok_or_else(|| Failure::waited(format!("no hosted zone for {name}")))?;
        let target = self.id(target)?;
        let wrong = |e: aws_sdk_route53::error::BuildError| Failure::waited(format!("{name}: {e}"));
        let record = ResourceRecordSet::builder().name(name);
        let record = match kind {
            RecordKind::Cname => {
                let value = ResourceRecord::builder().value(self.dns_name(&target).await?.0).build().map_err(wrong)?;
                record.r#type(RrType::Cname).ttl(TTL).resource_records(value)
            }
            RecordKind::Alias => {
                let (dns, zone) = self.dns_name(&target).await?;
                let zone = zone.ok_or_else(|| Failure::waited(format!("{target} has no hosted zone of its name")))?;
                let alias = AliasTarget::builder().dns_name(dns).hosted_zone_id(zone).evaluate_target_health(false);
                record.r#type(RrType::A).alias_target(alias.build().map_err(wrong)?)
            }
        };
        let change = Change::builder().action(ChangeAction::Upsert);
        let change = change.resource_record_set(record.build().map_err(wrong)?).build().map_err(wrong)?;
        let batch = ChangeBatch::builder().comment("cloudcaster").changes(change).build().map_err(wrong)?;
        let call = self.aws.dns.change_resource_record_sets().hosted_zone_id(zone).change_batch(batch);
        let answer = self.persist(|| send!("route53:ChangeResourceRecordSets", call.clone())).await?;
        let Some(info) = answer.change_info else { return Ok(()) };
        if info.status == ChangeStatus::Insync || !self.wait {
            return Ok(());
        }
        self.wait_for(&format!("{name} on all of Route 53's servers"), IN_SYNC, || async {
            let answer = send!("route53:GetChange", self.aws.dns.get_change().id(&info.id)).await?;
            Ok(answer.change_info.filter(|i| i.status == ChangeStatus::Insync).map(|_| ()))
        })
        .await
    }

    /// The public DNS name of an interface's address, or that of a load balancer with its hosted zone.
    async fn dns_name(&self, target: &str) -> Result<(String, Option<String>), Failure> {
        if target.starts_with("eni-") {
            let name = self
                .wait_for(&format!("the public DNS name of {target}"), NAMED, || async {
                    let call = self.aws.ec2.describe_network_interfaces().network_interface_ids(target);
                    let found = listed!("ec2:DescribeNetworkInterfaces", call, network_interfaces).await?;
                    let name = found.into_iter().find_map(|e| e.association?.public_dns_name);
                    Ok(name.filter(|name| !name.is_empty()))
                })
                .await?;
            return Ok((name, None));
        }
        if target.starts_with("arn:") {
            let call = self.aws.balancing.describe_load_balancers().load_balancer_arns(target);
            let answer = self.persist(|| send!("elasticloadbalancing:DescribeLoadBalancers", call.clone())).await?;
            let balancer = answer.load_balancers.unwrap_or_default().into_iter().next();
            let (dns, zone) = balancer.map(|b| (b.dns_name, b.canonical_hosted_zone_id)).unwrap_or_default();
            let missing = || Failure::misfit("elasticloadbalancing:DescribeLoadBalancers", "DNSName");
            return Ok((dns.ok_or_else(missing)?, zone));
        }
        let call = self.aws.classic.describe_load_balancers().load_balancer_names(target);
        let answer = self.persist(|| send!("elasticloadbalancing:DescribeLoadBalancers", call.clone())).await?;
        let balancer = answer.load_balancer_descriptions.unwrap_or_default().into_iter().next();
        let (dns, zone) = balancer.map(|b| (b.dns_name, b.canonical_hosted_zone_name_id)).unwrap_or_default();
        let missing = || Failure::misfit("elasticloadbalancing:DescribeLoadBalancers", "DNSName");
        Ok((dns.ok_or_else(missing)?, zone))
    }
}
