//! Load balancers of all kinds, and target groups. What a single one must be asked for is asked only of those that documents name.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types::{
    LoadBalancer, LoadBalancerSchemeEnum, LoadBalancerTypeEnum, TagDescription,
};
use futures_util::future::{try_join, try_join_all};

use super::Query;
use crate::{
    aws::{Aws, Failure, listed, pages},
    document::BalancerKind,
    health::Check,
    part::Tags,
    seen::{Balancer, Id, Listener, TargetGroup},
};

/// How many resources one DescribeTags takes.
const TAGGED: usize = 20;

/// Application and network load balancers, by ARN.
pub(super) async fn balancers(aws: &Aws, query: &Query) -> Result<BTreeMap<Id, Balancer>, Failure> {
    let call = aws.balancing.describe_load_balancers();
    let found = pages!("elasticloadbalancing:DescribeLoadBalancers", call, load_balancers).await?;
    let mut all: BTreeMap<Id, Balancer> = found.into_iter().filter_map(basics).collect();
    for (arn, tags) in tags(aws, all.keys()).await? {
        all.entry(arn).and_modify(|b| b.tags = tags);
    }
    let named = all.into_iter().map(|(arn, balancer)| async move {
        if !query.names.contains(&balancer.name) {
            return Ok::<_, Failure>((arn, balancer));
        }
        let details = details(aws, &arn, balancer).await?;
        Ok((arn, details))
    });
    Ok(try_join_all(named).await?.into_iter().collect())
}

fn basics(balancer: LoadBalancer) -> Option<(Id, Balancer)> {
    let kind = match balancer.r#type? {
        LoadBalancerTypeEnum::Application => BalancerKind::Application,
        LoadBalancerTypeEnum::Network => BalancerKind::Network,
        // Gateway load balancers are no document's.
        _ => return None,
    };
    let basics = Balancer {
        name: balancer.load_balancer_name?,
        kind,
        vpc: balancer.vpc_id?,
        internal: balancer.scheme == Some(LoadBalancerSchemeEnum::Internal),
        dns: balancer.dns_name.unwrap_or_default(),
        listeners: BTreeMap::new(),
        idle_timeout: None,
        cross_zone: kind == BalancerKind::Application,
        instances: BTreeSet::new(),
        tags: Tags::new(),
    };
    Some((balancer.load_balancer_arn?, basics))
}

async fn tags(aws: &Aws, arns: impl Iterator<Item = &Id>) -> Result<Vec<(Id, Tags)>, Failure> {
    let arns: Vec<Id> = arns.cloned().collect();
    let asked = arns.chunks(TAGGED).map(|some| {
        let call = aws.balancing.describe_tags().set_resource_arns(Some(some.to_vec()));
        listed!("elasticloadbalancing:DescribeTags", call, tag_descriptions)
    });
    let of = |d: TagDescription| {
        let tags = d.tags.unwrap_or_default().into_iter();
        Some((d.resource_arn?, tags.filter_map(|t| Some((t.key?, t.value.unwrap_or_default()))).collect()))
    };
    Ok(try_join_all(asked).await?.into_iter().flatten().filter_map(of).collect())
}

/// With its listeners and attributes.
async fn details(aws: &Aws, arn: &Id, mut balancer: Balancer) -> Result<Balancer, Failure> {
    let call = aws.balancing.describe_listeners().load_balancer_arn(arn);
    let listeners = pages!("elasticloadbalancing:DescribeListeners", call, listeners).await?;
    let call = aws.balancing.describe_load_balancer_attributes().load_balancer_arn(arn);
    let attributes = listed!("elasticloadbalancing:DescribeLoadBalancerAttributes", call, attributes).await?;
    let value = |key: &str| attributes.iter().find(|a| a.key.as_deref() == Some(key)).and_then(|a| a.value.as_deref());
    balancer.idle_timeout = match balancer.kind {
        BalancerKind::Network => {
            // TLS listeners have a fixed one.
            let tcp = listeners.iter().filter(|l| l.protocol.as_ref().is_some_and(|p| p.as_str() == "TCP"));
            let arns = tcp.filter_map(|l| l.listener_arn.as_deref());
            let all = try_join_all(arns.map(|arn| tcp_idle_timeout(aws, arn))).await?;
            // Different ones are none of which a document could say that it is the right one.
            all.first().copied().flatten().filter(|first| all.iter().all(|other| *other == Some(*first)))
        }
        _ => value("idle_timeout.timeout_seconds").and_then(|v| v.parse().ok()),
    };
    if balancer.kind == BalancerKind::Network {
        balancer.cross_zone = value("load_balancing.cross_zone.enabled") == Some("true");
    }
    for listener in listeners {
        let port = listener.port.and_then(|p| u16::try_from(p).ok());
        let action = listener.default_actions.unwrap_or_default().into_iter().next();
        let forward = |f: aws_sdk_elasticloadbalancingv2::types::ForwardActionConfig| f.target_groups?.pop();
        let to = action.and_then(|a| a.target_group_arn.or_else(|| forward(a.forward_config?)?.target_group_arn));
        let certificate = listener.certificates.unwrap_or_default().into_iter().next();
        let listener = Listener {
            protocol: listener.protocol.map(|p| p.as_str().to_owned()).unwrap_or_default(),
            certificate: certificate.and_then(|c| c.certificate_arn),
            to: to.unwrap_or_default(),
        };
        balancer.listeners.extend(port.map(|port| (port, listener)));
    }
    Ok(balancer)
}

async fn tcp_idle_timeout(aws: &Aws, listener: &str) -> Result<Option<u16>, Failure> {
    let call = aws.balancing.describe_listener_attributes().listener_arn(listener);
    let attributes = listed!("elasticloadbalancing:DescribeListenerAttributes", call, attributes).await?;
    let idle = attributes.into_iter().find(|a| a.key.as_deref() == Some("tcp.idle_timeout.seconds"));
    Ok(idle.and_then(|a| a.value?.parse().ok()))
}

/// By ARN. Targets are asked for where a document names the group.
pub(super) async fn target_groups(aws: &Aws, query: &Query) -> Result<BTreeMap<Id, TargetGroup>, Failure> {
    let call = aws.balancing.describe_target_groups();
    let found = pages!("elasticloadbalancing:DescribeTargetGroups", call, target_groups).await?;
    let mut all: BTreeMap<Id, TargetGroup> = found.into_iter().filter_map(target_group).collect();
    for (arn, tags) in tags(aws, all.keys()).await? {
        all.entry(arn).and_modify(|g| g.tags = tags);
    }
    let named = all.into_iter().map(|(arn, mut group)| async move {
        if query.names.contains(&group.name) {
            let call = aws.balancing.describe_target_health().target_group_arn(&arn);
            let found = listed!("elasticloadbalancing:DescribeTargetHealth", call, target_health_descriptions).await?;
            group.targets = found.into_iter().filter_map(|d| d.target?.id).collect();
        }
        Ok::<_, Failure>((arn, group))
    });
    Ok(try_join_all(named).await?.into_iter().collect())
}

fn target_group(group: aws_sdk_elasticloadbalancingv2::types::TargetGroup) -> Option<(Id, TargetGroup)> {
    let port = u16::try_from(group.port?).ok()?;
    let check = group.health_check_protocol.map(|p| p.as_str().to_owned()).unwrap_or_default();
    let check_port = group.health_check_port.and_then(|p| p.parse().ok()).unwrap_or(port);
    let path = group.health_check_path.filter(|_| check.starts_with("HTTP"));
    let count = |n: Option<i32>| n.unwrap_or_default();
    let health = Check {
        protocol: check,
        port: check_port,
        path,
        interval: u16::try_from(count(group.health_check_interval_seconds)).unwrap_or_default(),
        healthy: u8::try_from(count(group.healthy_threshold_count)).unwrap_or_default(),
        unhealthy: u8::try_from(count(group.unhealthy_threshold_count)).unwrap_or_default(),
    };
    let seen = TargetGroup {
        name: group.target_group_name?,
        vpc: group.vpc_id?,
        protocol: group.protocol.map(|p| p.as_str().to_owned()).unwrap_or_default(),
        port,
        health: health.to_string(),
        targets: BTreeSet::new(),
        tags: Tags::new(),
    };
    Some((group.target_group_arn?, seen))
}

/// Classic load balancers, by name.
pub(super) async fn classic(aws: &Aws, query: &Query) -> Result<BTreeMap<Id, Balancer>, Failure> {
    let call = aws.classic.describe_load_balancers();
    let found = pages!("elasticloadbalancing:DescribeLoadBalancers", call, load_balancer_descriptions).await?;
    let mut all: BTreeMap<Id, Balancer> = found.into_iter().filter_map(classic_basics).collect();
    let (names, meant): (Vec<Id>, Vec<Id>) =
        (all.keys().cloned().collect(), all.keys().filter(|n| query.names.contains(*n)).cloned().collect());
    let tagged = names.chunks(TAGGED).map(|some| {
        let call = aws.classic.describe_tags().set_load_balancer_names(Some(some.to_vec()));
        listed!("elasticloadbalancing:DescribeTags", call, tag_descriptions)
    });
    let attributes = meant.iter().map(|name| async move {
        let call = aws.classic.describe_load_balancer_attributes().load_balancer_name(name);
        const CALL: &str = "elasticloadbalancing:DescribeLoadBalancerAttributes";
        let answer = call.send().await.map_err(|e| Failure::of(CALL, &e))?;
        let attributes = answer.load_balancer_attributes.ok_or_else(|| Failure::misfit(CALL, "attributes"))?;
        Ok::<_, Failure>((name.clone(), attributes))
    });
    let (tagged, attributes) = try_join(try_join_all(tagged), try_join_all(attributes)).await?;
    for description in tagged.into_iter().flatten() {
        let tags = description.tags.unwrap_or_default().into_iter();
        let tags = tags.map(|t| (t.key, t.value.unwrap_or_default())).collect();
        if let Some(balancer) = description.load_balancer_name.and_then(|name| all.get_mut(&name)) {
            balancer.tags = tags;
        }
    }
    for (name, attributes) in attributes {
        let Some(balancer) = all.get_mut(&name) else { continue };
        balancer.idle_timeout = attributes.connection_settings.and_then(|c| u16::try_from(c.idle_timeout).ok());
        balancer.cross_zone = attributes.cross_zone_load_balancing.is_some_and(|c| c.enabled);
    }
    Ok(all)
}

fn classic_basics(balancer: aws_sdk_elasticloadbalancing::types::LoadBalancerDescription) -> Option<(Id, Balancer)> {
    let name = balancer.load_balancer_name?;
    let listeners = balancer.listener_descriptions.unwrap_or_default().into_iter().filter_map(|d| d.listener);
    let listener = |l: aws_sdk_elasticloadbalancing::types::Listener| {
        let port = u16::try_from(l.load_balancer_port).ok()?;
        let protocol = l.protocol.to_uppercase();
        let to = l.instance_protocol.map(|p| p.to_uppercase()).unwrap_or_else(|| protocol.clone());
        let to = format!("{to}:{}", l.instance_port);
        Some((port, Listener { protocol, certificate: l.ssl_certificate_id, to }))
    };
    let seen = Balancer {
        name: name.clone(),
        kind: BalancerKind::Classic,
        // Without one it is of EC2-Classic, and of no document.
        vpc: balancer.vpc_id?,
        internal: balancer.scheme.as_deref() == Some("internal"),
        dns: balancer.dns_name.unwrap_or_default(),
        listeners: listeners.filter_map(listener).collect(),
        idle_timeout: None,
        cross_zone: false,
        instances: balancer.instances.unwrap_or_default().into_iter().filter_map(|i| i.instance_id).collect(),
        tags: Tags::new(),
    };
    Some((name, seen))
}
