//! Load balancers of today for the `elbs` of 2014.

use std::collections::BTreeMap;

use super::input::Input;
use crate::{
    desired::{Balancer, Fault, Listener, TargetGroup},
    document::{BalancerKind, Elb, HealthProtocol, ListenerProtocol},
    health::Check,
    seen::Certificate,
    text,
    tree::KeyPath,
};

/// A certificate that ends sooner is warned of.
const SOON: i64 = 30;

impl Input<'_> {
    pub(super) fn balancers(&self, warnings: &mut Vec<Fault>) -> Vec<Balancer> {
        self.document.elbs.iter().enumerate().map(|(i, elb)| self.balancer(i, elb, warnings)).collect()
    }

    fn balancer(&self, i: usize, elb: &Elb, warnings: &mut Vec<Fault>) -> Balancer {
        let path = KeyPath::of("elbs").index(i);
        let kind = elb.kind();
        let inside = elb.internal && !self.document.vpc.subnets.is_empty() && kind != BalancerKind::Classic;
        let health = health(elb);
        let mut listeners = BTreeMap::new();
        let mut target_groups = BTreeMap::new();
        for (j, l) in elb.listeners.iter().enumerate() {
            let path = path.key("listeners").index(j);
            let encrypted = l.from_prot.is_encrypted();
            let certificate = l.cert.as_ref().filter(|_| encrypted);
            let certificate = certificate.map(|name| self.certificate(name, path.key("cert"), warnings));
            let to_protocol = protocol(kind, l.to_prot);
            let protocol = protocol(kind, l.from_prot);
            listeners
                .insert(l.from, Listener { path, protocol, to: l.to, to_protocol: to_protocol.clone(), certificate });
            if kind != BalancerKind::Classic {
                let name = self.names.target_group(&elb.name, l.to);
                target_groups.insert(l.to, TargetGroup { name, protocol: to_protocol, health: health.clone() });
            }
        }
        Balancer {
            name: elb.name.clone(),
            full: self.names.full(&elb.name),
            path,
            kind,
            internal: elb.internal,
            subnets: self.subnets_in(!inside, None),
            group: elb.group.clone(),
            idle_timeout: elb.idle_timeout,
            cross_zone: !elb.nocrossaz || kind == BalancerKind::Application,
            listeners,
            target_groups,
            health,
        }
    }

    /// The certificate of a name: in IAM, else the one that ACM has issued.
    fn certificate(&self, name: &str, path: KeyPath, warnings: &mut Vec<Fault>) -> Result<String, Fault> {
        let named: Vec<(&String, &Certificate)> =
            self.seen.certificates.iter().filter(|(_, c)| c.names.contains(name)).collect();
        let fault = |what: String| Fault { path: path.clone(), what };
        let iam = named.iter().find(|(_, c)| c.iam);
        let issued: Vec<_> = named.iter().filter(|(_, c)| !c.iam && c.issued).collect();
        let (arn, certificate) = match (iam, &issued[..]) {
            (Some(iam), _) => iam,
            (None, [one]) => one,
            (None, []) if named.is_empty() => {
                return Err(fault(format!("there is no certificate {name}, neither in IAM nor in ACM")));
            }
            (None, []) => return Err(fault(format!("the certificate {name} in ACM is not issued"))),
            (None, several) => {
                let arns = text::list(several.iter().map(|(arn, _)| arn));
                return Err(fault(format!("several certificates in ACM are called {name}: {arns}")));
            }
        };
        if let Some(days) = certificate.days_left.filter(|days| *days < SOON) {
            let what = if days < 0 {
                format!("{arn} has expired")
            } else {
                format!("{arn} expires in {}", text::count(days as usize, "day"))
            };
            warnings.push(fault(what));
        }
        Ok(arn.to_string())
    }
}

/// In AWS's spelling.
fn protocol(kind: BalancerKind, protocol: ListenerProtocol) -> String {
    match (protocol, kind) {
        (ListenerProtocol::Http, _) => "HTTP",
        (ListenerProtocol::Https, _) => "HTTPS",
        (ListenerProtocol::Tcp, _) => "TCP",
        (ListenerProtocol::Ssl, BalancerKind::Classic) => "SSL",
        (ListenerProtocol::Ssl, _) => "TLS",
    }
    .to_owned()
}

/// The health check as today's load balancers can make it.
fn health(elb: &Elb) -> String {
    let path = elb.target.path.as_deref().unwrap_or("/");
    let (protocol, path) = match (elb.kind(), elb.target.protocol) {
        (_, HealthProtocol::Http) => ("HTTP", Some(path)),
        (_, HealthProtocol::Https) => ("HTTPS", Some(path)),
        (BalancerKind::Application, HealthProtocol::Tcp) => ("HTTP", Some("/")),
        (BalancerKind::Application, HealthProtocol::Ssl) => ("HTTPS", Some("/")),
        (BalancerKind::Classic, HealthProtocol::Ssl) => ("SSL", None),
        (_, HealthProtocol::Tcp | HealthProtocol::Ssl) => ("TCP", None),
    };
    let check = Check {
        protocol: protocol.to_owned(),
        port: elb.target.port,
        path: path.map(str::to_owned),
        interval: elb.interval,
        healthy: elb.healthy,
        unhealthy: elb.unhealthy,
    };
    check.to_string()
}
