//! Load balancers of all kinds, target groups and listeners.

use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Certificate, ListenerAttribute, LoadBalancerAttribute, LoadBalancerSchemeEnum,
    LoadBalancerStateEnum, LoadBalancerTypeEnum, Tag, TargetDescription, TargetTypeEnum,
};

use super::{call::send, context::Apply};
use crate::{
    aws::{Failure, Kind, listed},
    document::BalancerKind,
    health::Check,
    part::{Part, Ref, Tags},
    plan::resource::{Balancer, Listener},
};

const ACTIVE: Duration = Duration::from_secs(600);

fn list(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build()).collect()
}

fn check(health: &str) -> Result<Check, Failure> {
    Check::parse(health).ok_or_else(|| Failure::waited(format!("{health} is not a health check")))
}

impl Apply<'_> {
    pub(super) async fn create_target_group(
        &self,
        part: &Part,
        vpc: &Ref,
        name: &str,
        (protocol, port): (&str, u16),
        health: &str,
        tags: &Tags,
    ) -> Result<String, Failure> {
        const CALL: &str = "elasticloadbalancing:CreateTargetGroup";
        let check = check(health)?;
        let call = self
            .aws
            .balancing
            .create_target_group()
            .name(name)
            .protocol(protocol.into())
            .port(port.into())
            .vpc_id(self.id(vpc)?)
            .target_type(TargetTypeEnum::Instance)
            .health_check_enabled(true)
            .health_check_protocol(check.protocol.as_str().into())
            .health_check_port(check.port.to_string())
            .set_health_check_path(check.path)
            .health_check_interval_seconds(check.interval.into())
            .healthy_threshold_count(check.healthy.into())
            .unhealthy_threshold_count(check.unhealthy.into())
            .set_tags(Some(list(tags)));
        let made = self.persist(|| send!("elasticloadbalancing:CreateTargetGroup", call.clone())).await;
        let found = match made {
            // An attempt before this one was not answered.
            Err(failure) if failure.kind == Kind::Exists => {
                let call = self.aws.balancing.describe_target_groups().names(name);
                listed!("elasticloadbalancing:DescribeTargetGroups", call, target_groups).await?
            }
            other => other?.target_groups.unwrap_or_default(),
        };
        let arn = found.into_iter().find_map(|g| g.target_group_arn);
        let arn = arn.ok_or_else(|| Failure::misfit(CALL, "TargetGroupArn"))?;
        self.ledger.note(part, &arn);
        Ok(arn)
    }

    pub(super) async fn set_health_check(&self, target_group: &Ref, health: &str) -> Result<(), Failure> {
        let check = check(health)?;
        let call = self
            .aws
            .balancing
            .modify_target_group()
            .target_group_arn(self.id(target_group)?)
            .health_check_protocol(check.protocol.as_str().into())
            .health_check_port(check.port.to_string())
            .set_health_check_path(check.path)
            .health_check_interval_seconds(check.interval.into())
            .healthy_threshold_count(check.healthy.into())
            .unhealthy_threshold_count(check.unhealthy.into());
        self.persist(|| send!("elasticloadbalancing:ModifyTargetGroup", call.clone())).await.map(drop)
    }

    pub(super) async fn create_balancer(&self, balancer: &Balancer) -> Result<String, Failure> {
        let id = match balancer.kind {
            BalancerKind::Classic => self.create_classic(balancer).await?,
            _ => self.create_modern(balancer).await?,
        };
        self.ledger.note(&balancer.part, &id);
        Ok(id)
    }

    async fn create_modern(&self, balancer: &Balancer) -> Result<String, Failure> {
        const CALL: &str = "elasticloadbalancing:CreateLoadBalancer";
        let network = balancer.kind == BalancerKind::Network;
        let kind = if network { LoadBalancerTypeEnum::Network } else { LoadBalancerTypeEnum::Application };
        let scheme = match balancer.internal {
            true => LoadBalancerSchemeEnum::Internal,
            false => LoadBalancerSchemeEnum::InternetFacing,
        };
        // Made again with the same values it is the same one: AWS refuses other values only.
        let call = self
            .aws
            .balancing
            .create_load_balancer()
            .name(&balancer.name)
            .r#type(kind)
            .scheme(scheme)
            .set_subnets(Some(self.ids(&balancer.subnets)?))
            .security_groups(self.id(&balancer.group)?)
            .set_tags(Some(list(&balancer.tags)));
        let made = self.persist(|| send!("elasticloadbalancing:CreateLoadBalancer", call.clone())).await;
        let found = match made {
            Err(failure) if failure.kind == Kind::Exists => {
                let call = self.aws.balancing.describe_load_balancers().names(&balancer.name);
                listed!("elasticloadbalancing:DescribeLoadBalancers", call, load_balancers).await?
            }
            other => other?.load_balancers.unwrap_or_default(),
        };
        let arn = found.into_iter().find_map(|b| b.load_balancer_arn);
        let arn = arn.ok_or_else(|| Failure::misfit(CALL, "LoadBalancerArn"))?;
        if let Some(idle) = balancer.idle_timeout.filter(|_| !network) {
            self.attribute(&arn, "idle_timeout.timeout_seconds", &idle.to_string()).await?;
        }
        if network {
            self.attribute(&arn, "load_balancing.cross_zone.enabled", &balancer.cross_zone.to_string()).await?;
        }
        if self.wait {
            self.active(&arn, &balancer.name).await?;
        }
        Ok(arn)
    }

    async fn active(&self, arn: &str, name: &str) -> Result<(), Failure> {
        self.wait_for(&format!("load balancer {name} to become active"), ACTIVE, || async {
            let call = self.aws.balancing.describe_load_balancers().load_balancer_arns(arn);
            let found = listed!("elasticloadbalancing:DescribeLoadBalancers", call, load_balancers).await?;
            let state = found.into_iter().next().and_then(|b| b.state);
            match state.as_ref().and_then(|s| s.code.as_ref()) {
                Some(LoadBalancerStateEnum::Active | LoadBalancerStateEnum::ActiveImpaired) => Ok(Some(())),
                Some(LoadBalancerStateEnum::Failed) => {
                    let why = state.and_then(|s| s.reason).unwrap_or_else(|| "no reason given".into());
                    Err(Failure::waited(format!("load balancer {name} failed: {}", crate::text::plain(&why))))
                }
                _ => Ok(None),
            }
        })
        .await
    }

    async fn attribute(&self, arn: &str, key: &str, value: &str) -> Result<(), Failure> {
        let attribute = LoadBalancerAttribute::builder().key(key).value(value).build();
        let call = self.aws.balancing.modify_load_balancer_attributes().load_balancer_arn(arn).attributes(attribute);
        self.persist(|| send!("elasticloadbalancing:ModifyLoadBalancerAttributes", call.clone())).await.map(drop)
    }

    pub(super) async fn create_listener(&self, balancer: &Ref, listener: &Listener) -> Result<(), Failure> {
        let (balancer, to) = (self.id(balancer)?, self.id(&listener.to)?);
        if !balancer.starts_with("arn:") {
            return self.create_classic_listener(&balancer, listener).await;
        }
        let forward = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(to).build();
        let certificate = |arn: &String| vec![Certificate::builder().certificate_arn(arn).build()];
        let call = self
            .aws
            .balancing
            .create_listener()
            .load_balancer_arn(balancer)
            .port(listener.port.into())
            .protocol(listener.protocol.as_str().into())
            .default_actions(forward)
            .set_certificates(listener.certificate.as_ref().map(certificate));
        match self.persist(|| send!("elasticloadbalancing:CreateListener", call.clone())).await {
            Err(failure) if failure.kind == Kind::Exists => Ok(()),
            other => other.map(drop),
        }
    }

    /// Only asked of load balancers that are there.
    fn kind(&self, id: &str) -> Option<BalancerKind> {
        self.seen.balancers.get(id).map(|b| b.kind)
    }

    pub(super) async fn set_idle_timeout(&self, balancer: &Ref, seconds: u16) -> Result<(), Failure> {
        let id = self.id(balancer)?;
        match self.kind(&id) {
            Some(BalancerKind::Classic) => self.classic_idle_timeout(&id, seconds).await,
            Some(BalancerKind::Network) => {
                let call = self.aws.balancing.describe_listeners().load_balancer_arn(&id);
                let answer = self.persist(|| send!("elasticloadbalancing:DescribeListeners", call.clone())).await?;
                let tcp = answer.listeners.unwrap_or_default().into_iter();
                for listener in tcp.filter(|l| l.protocol.as_ref().is_some_and(|p| p.as_str() == "TCP")) {
                    let idle = ListenerAttribute::builder().key("tcp.idle_timeout.seconds").value(seconds.to_string());
                    let call = self.aws.balancing.modify_listener_attributes().attributes(idle.build());
                    let call = call.set_listener_arn(listener.listener_arn);
                    self.persist(|| send!("elasticloadbalancing:ModifyListenerAttributes", call.clone())).await?;
                }
                Ok(())
            }
            _ => self.attribute(&id, "idle_timeout.timeout_seconds", &seconds.to_string()).await,
        }
    }

    pub(super) async fn set_cross_zone(&self, balancer: &Ref, on: bool) -> Result<(), Failure> {
        let id = self.id(balancer)?;
        match self.kind(&id) {
            Some(BalancerKind::Classic) => self.classic_cross_zone(&id, on).await,
            _ => self.attribute(&id, "load_balancing.cross_zone.enabled", &on.to_string()).await,
        }
    }

    /// With a target group, or with a classic load balancer by name.
    pub(super) async fn register(&self, target: &Ref, with: &Ref) -> Result<(), Failure> {
        let (target, with) = (self.id(target)?, self.id(with)?);
        if !with.starts_with("arn:") {
            return self.register_classic(&target, &with).await;
        }
        let target = TargetDescription::builder().id(target).build();
        let call = self.aws.balancing.register_targets().target_group_arn(with).targets(target);
        self.persist(|| send!("elasticloadbalancing:RegisterTargets", call.clone())).await.map(drop)
    }
}
