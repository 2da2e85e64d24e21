//! Classic load balancers: made where the document says `"type": "classic"`, else only those that were there before.

use aws_sdk_elasticloadbalancing::types::{
    ConnectionSettings, CrossZoneLoadBalancing, HealthCheck, Instance, Listener as ClassicListener,
    LoadBalancerAttributes, Tag,
};

use super::{call::send, context::Apply};
use crate::{
    aws::{Failure, Kind},
    health::Check,
    plan::resource::{Balancer, Listener},
};

/// Of a health check, as in 2014.
const TIMEOUT: i32 = 5;

fn wrong(e: impl std::fmt::Display) -> Failure {
    Failure::waited(format!("load balancer: {e}"))
}

fn listener(listener: &Listener) -> Result<ClassicListener, Failure> {
    let to = listener.to.to_string();
    let (protocol, port) = to.split_once(':').ok_or_else(|| wrong(format!("{to} is not PROTOCOL:PORT")))?;
    ClassicListener::builder()
        .load_balancer_port(listener.port.into())
        .protocol(&listener.protocol)
        .instance_protocol(protocol)
        .instance_port(port.parse().map_err(wrong)?)
        .set_ssl_certificate_id(listener.certificate.clone())
        .build()
        .map_err(wrong)
}

impl Apply<'_> {
    /// Its id is its name.
    pub(super) async fn create_classic(&self, balancer: &Balancer) -> Result<String, Failure> {
        let classic = &self.aws.classic;
        let tags = balancer.tags.iter().map(|(k, v)| Tag::builder().key(k).value(v).build().map_err(wrong));
        let call = classic
            .create_load_balancer()
            .load_balancer_name(&balancer.name)
            .set_subnets(Some(self.ids(&balancer.subnets)?))
            .security_groups(self.id(&balancer.group)?)
            .set_scheme(balancer.internal.then(|| "internal".to_owned()))
            .set_listeners(Some(balancer.listeners.iter().map(listener).collect::<Result<_, _>>()?))
            .set_tags(Some(tags.collect::<Result<_, _>>()?));
        match self.persist(|| send!("elasticloadbalancing:CreateLoadBalancer", call.clone())).await {
            Err(failure) if failure.kind == Kind::Exists => {}
            other => drop(other?),
        }
        if let Some(check) = balancer.health.as_deref().and_then(Check::parse) {
            let path = check.path.unwrap_or_default();
            let check = HealthCheck::builder()
                .target(format!("{}:{}{path}", check.protocol, check.port))
                .interval(check.interval.into())
                .timeout(TIMEOUT.min(i32::from(check.interval) - 1))
                .healthy_threshold(check.healthy.into())
                .unhealthy_threshold(check.unhealthy.into())
                .build()
                .map_err(wrong)?;
            let call = classic.configure_health_check().load_balancer_name(&balancer.name).health_check(check);
            self.persist(|| send!("elasticloadbalancing:ConfigureHealthCheck", call.clone())).await?;
        }
        if let Some(seconds) = balancer.idle_timeout {
            self.classic_idle_timeout(&balancer.name, seconds).await?;
        }
        self.classic_cross_zone(&balancer.name, balancer.cross_zone).await?;
        Ok(balancer.name.clone())
    }

    pub(super) async fn create_classic_listener(&self, name: &str, wanted: &Listener) -> Result<(), Failure> {
        let call = self.aws.classic.create_load_balancer_listeners().load_balancer_name(name);
        let call = call.listeners(listener(wanted)?);
        match self.persist(|| send!("elasticloadbalancing:CreateLoadBalancerListeners", call.clone())).await {
            Err(failure) if failure.kind == Kind::Exists => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn classic_idle_timeout(&self, name: &str, seconds: u16) -> Result<(), Failure> {
        let idle = ConnectionSettings::builder().idle_timeout(seconds.into()).build().map_err(wrong)?;
        self.classic_attributes(name, LoadBalancerAttributes::builder().connection_settings(idle).build()).await
    }

    pub(super) async fn classic_cross_zone(&self, name: &str, on: bool) -> Result<(), Failure> {
        let cross = CrossZoneLoadBalancing::builder().enabled(on).build();
        self.classic_attributes(name, LoadBalancerAttributes::builder().cross_zone_load_balancing(cross).build()).await
    }

    async fn classic_attributes(&self, name: &str, attributes: LoadBalancerAttributes) -> Result<(), Failure> {
        let call = self.aws.classic.modify_load_balancer_attributes().load_balancer_name(name);
        let call = call.load_balancer_attributes(attributes);
        self.persist(|| send!("elasticloadbalancing:ModifyLoadBalancerAttributes", call.clone())).await.map(drop)
    }

    pub(super) async fn register_classic(&self, instance: &str, name: &str) -> Result<(), Failure> {
        let instance = Instance::builder().instance_id(instance).build();
        let call = self.aws.classic.register_instances_with_load_balancer().load_balancer_name(name);
        let call = call.instances(instance);
        self.persist(|| send!("elasticloadbalancing:RegisterInstancesWithLoadBalancer", call.clone())).await.map(drop)
    }
}
