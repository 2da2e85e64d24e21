//! The security groups and every rule in them, each with the key that asks for it.

use std::collections::BTreeMap;

use super::input::Input;
use crate::{
    desired::Group,
    document::{App, Nat, Protocol, Way, way_of},
    rule::{ANYWHERE, Peer, Rule},
};

type Groups = BTreeMap<String, Group>;

/// Puts a rule into a group; the first reason stays.
fn allow(groups: &mut Groups, group: &str, rule: Rule, why: impl Into<String>) {
    groups.entry(group.to_owned()).or_default().rules.entry(rule).or_insert_with(|| why.into());
}

impl Input<'_> {
    pub(super) fn groups(&self) -> Groups {
        let mut groups = Groups::new();
        for (i, elb) in self.document.elbs.iter().enumerate() {
            groups.entry(elb.group.clone()).or_default();
            for ports in &elb.ports {
                allow(&mut groups, &elb.group, Rule::ports(ports, Peer::Cidr(ANYWHERE)), format!("elbs[{i}].ports"));
            }
            for rule in elb.allow.iter().filter_map(Rule::allow) {
                allow(&mut groups, &elb.group, rule, format!("elbs[{i}].allow"));
            }
        }
        for (i, app) in self.document.apps.iter().enumerate() {
            for group in app.all_groups() {
                groups.entry(group.to_owned()).or_default();
            }
            self.app(&mut groups, i, app);
            if way_of(self.document) == Way::App(i) {
                self.gateway(&mut groups, &app.group);
            }
        }
        if let Some(nat) = &self.document.nat {
            self.nat(&mut groups, nat);
            self.gateway(&mut groups, &nat.group);
        }
        groups
    }

    fn app(&self, groups: &mut Groups, i: usize, app: &App) {
        let own = &app.group;
        let why = |key: &str| format!("apps[{i}].{key}");
        self.balancer_rules(groups, i, app);
        for ports in &app.ports {
            allow(groups, own, Rule::ports(ports, Peer::Group(own.clone())), why("ports"));
        }
        if let Some(egress) = &app.egress {
            for rule in egress.iter().filter_map(Rule::allow) {
                allow(groups, own, rule.outbound(), why("egress"));
            }
            groups.entry(own.clone()).or_default().limits_egress.get_or_insert_with(|| app.name.clone());
        }
        for rule in app.allow.iter().filter_map(Rule::allow) {
            allow(groups, own, rule, why("allow"));
        }
        for ports in &app.pubports {
            allow(groups, own, Rule::ports(ports, Peer::Cidr(ANYWHERE)), why("pubports"));
        }
        match &self.document.vpc.default_rules {
            None => {
                allow(groups, own, Rule::cidr(Protocol::Tcp, 22, 22, ANYWHERE), "SSH, the default");
                allow(groups, own, Rule::cidr(Protocol::Icmp, -1, -1, self.document.aws.privnet), "ICMP, the default");
            }
            Some(rules) => {
                for rule in rules {
                    let rule = Rule::cidr(rule.ip_protocol, rule.from_port, rule.to_port, rule.cidr_ip);
                    allow(groups, own, rule, "vpc.default_rules");
                }
            }
        }
        self.outer_ports(groups, i, app);
    }

    /// What load balancers send to the app, and the port that they check.
    fn balancer_rules(&self, groups: &mut Groups, i: usize, app: &App) {
        for name in app.balancers() {
            let Some(elb) = self.document.elbs.iter().find(|e| e.name == name) else { continue };
            for listener in &elb.listeners {
                let to = i32::from(listener.to);
                let rule = Rule::group(Protocol::Tcp, to, to, &elb.group);
                allow(groups, &app.group, rule, format!("apps[{i}]: listener of {name}"));
            }
            // In 2014 a check on a port that no listener sends to failed for ever.
            let port = i32::from(elb.target.port);
            let rule = Rule::group(Protocol::Tcp, port, port, &elb.group);
            allow(groups, &app.group, rule, format!("apps[{i}]: health check of {name}"));
        }
    }

    /// `extports`: from each member's public address, into the last of the app's groups.
    fn outer_ports(&self, groups: &mut Groups, i: usize, app: &App) {
        let Some(group) = app.all_groups().last().map(|g| (*g).to_owned()).filter(|_| app.autoscale.is_some()) else {
            return;
        };
        let Some(scaling) = self.seen.scaling_groups.get(&self.names.full(&app.name)) else { return };
        let instances = scaling.instances.iter().filter_map(|id| self.seen.instances.get(id));
        for member in instances.filter(|m| m.state.is_up()) {
            // Members without a public address have nothing to open; 2014 crashed on them.
            let Some(public) = self.seen.interfaces.get(&member.interface).and_then(|e| e.public) else { continue };
            for ports in &app.extports {
                allow(groups, &group, Rule::ports(ports, Peer::Cidr(public.into())), format!("apps[{i}].extports"));
            }
        }
    }

    fn nat(&self, groups: &mut Groups, nat: &Nat) {
        let own = &nat.group;
        let (vpc, privnet) = (self.document.vpc.cidr, self.document.aws.privnet);
        allow(groups, own, Rule::cidr(Protocol::Tcp, 22, 22, ANYWHERE), "nat: SSH");
        allow(groups, own, Rule::cidr(Protocol::Icmp, 8, -1, ANYWHERE), "nat: ping");
        allow(groups, own, Rule::cidr(Protocol::Udp, 33434, 33534, ANYWHERE), "nat: traceroute");
        allow(groups, own, Rule::cidr(Protocol::Icmp, -1, -1, privnet), "nat: ICMP of the private network");
        for ports in &nat.ports {
            allow(groups, own, Rule::ports(ports, Peer::Cidr(ANYWHERE)), "nat.ports");
        }
        allow(groups, own, Rule::everything_from(vpc), "nat: what the VPC sends");
        allow(groups, own, Rule::default_egress(), "nat: forwards to anywhere");
    }

    /// crosswan forwards whatever the private network sends, so the group may not choose. In 2014 vpn-hub's let in four
    /// ports, and no other connection from a host of the hub reached a client.
    fn gateway(&self, groups: &mut Groups, group: &str) {
        let (vpc, privnet) = (self.document.vpc.cidr, self.document.aws.privnet);
        allow(groups, group, Rule::everything_from(privnet), "forwards for the private network");
        if !privnet.contains(&vpc) {
            allow(groups, group, Rule::everything_from(vpc), "forwards for the VPC");
        }
    }
}
