//! Wiring what somebody else made in EC2: cloudcaster's VPCs become networks that packets cross.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ipnet::Ipv4Net;
use roxmltree::Document;

use crate::ec2::{Elements as _, Instance, Target};
use crate::files::Role;
use crate::gateway::Gateway;
use crate::host::Host;
use crate::lab::{Lab, Subnet, Vpc};
use crate::launch::numbered;
use crate::netns::Netns;

impl Lab {
    /// Wires a VPC that is in EC2 already, under a name of the lab's: instances whose Name begins with a gateway's role become
    /// gateways of that name (`hub/vpn-hub`), all others hosts (`a/host`). Calling it again wires what has come since, and unplugs
    /// what is gone.
    pub fn adopt(&self, name: &str, region: &str, id: &str) -> Result<()> {
        let mut state = self.state();
        if !state.vpcs.contains_key(name) {
            state.vpcs.insert(name.to_string(), self.vpc_of(name, region, id)?);
        }
        let plan = self.plan_of(&state);
        let vpc = state.vpc_mut(name)?;
        let view = self.ec2().vpc(region, id)?;
        // The wires of those that are gone go first: a new instance may have their addresses.
        for gone in gone(vpc, &view.instances) {
            let gateway =
                vpc.gateways.iter().find(|(_, g)| g.instance == gone).map(|(name, g)| (name.clone(), g.clone()));
            vpc.network.router.apply(&view)?;
            let _until_unplugged = gateway.as_ref().and_then(|(_, gateway)| gateway.power_off());
            vpc.network.router.detach(&gone)?;
            if let Some((name, _)) = gateway {
                vpc.gateways.remove(&name);
            }
            vpc.hosts.retain(|_, (instance, _)| *instance != gone);
        }
        *crate::lock(&vpc.network.view) = view.clone();
        let mut new = Vec::new();
        for instance in view.instances.iter().filter(|i| i.state == "running") {
            let known = vpc.gateways.values().any(|g| g.instance == instance.id)
                || vpc.hosts.values().any(|(id, _)| *id == instance.id);
            if !known {
                new.extend(self.wire(vpc, instance)?);
            }
        }
        self.sync_vpc(vpc)?;
        drop(state);
        // A hub that has just come is in the settings of the others.
        let plan = if plan.hub.is_some() { plan } else { self.plan() };
        for gateway in &new {
            self.write_plan(gateway, &plan)?;
            self.user_data(region, gateway)?;
        }
        Ok(())
    }

    /// What cloud-init does with an instance's user data, as far as cloudcaster's goes: it writes one file.
    fn user_data(&self, region: &str, gateway: &Gateway) -> Result<()> {
        let asked = [("InstanceId", gateway.instance.as_str()), ("Attribute", "userData")];
        let answer = self.ec2().call(region, "DescribeInstanceAttribute", &asked)?;
        let Ok(encoded) = answer.first("value") else { return Ok(()) };
        let text = String::from_utf8(BASE64_STANDARD.decode(&encoded).context("user data")?)?;
        let Some((head, body)) = text.split_once("  content: |\n") else { bail!("user data of another kind: {text}") };
        let path =
            head.split_once("path: ").and_then(|(_, rest)| rest.lines().next()).context("a file without a path")?;
        let lines: Vec<&str> = body.lines().map(|line| line.trim_start()).collect();
        gateway.write_file(path, &(lines.join("\n") + "\n"), 0o644)
    }

    fn plan_of(&self, state: &crate::lab::State) -> crate::files::Plan {
        let hub = state.vpcs.values().flat_map(|v| v.gateways.values()).find(|g| g.role == Role::VpnHub).cloned();
        self.plan_with(hub.as_deref())
    }

    /// The VPC with its subnets, before anything is plugged in.
    fn vpc_of(&self, name: &str, region: &str, id: &str) -> Result<Vpc> {
        let network = self.network(region, id)?;
        let of_vpc = [("Filter.1.Name", "vpc-id"), ("Filter.1.Value.1", id)];
        let subnets = self.ec2().call(region, "DescribeSubnets", &of_vpc)?;
        let subnets = subnets_of(&subnets.0)?;
        subnets.iter().try_for_each(|(_, cidr)| network.router.add_subnet(*cidr))?;
        let view = self.ec2().vpc(region, id)?;
        let leads_out = |routes: &[(Ipv4Net, Target)]| routes.iter().any(|(_, target)| *target == Target::Internet);
        let table = |public: bool| {
            let found = view.tables.iter().find(|table| leads_out(&table.routes) == public);
            found.map(|table| table.id.clone()).context("a VPC without a public or a private table")
        };
        Ok(Vpc {
            name: name.into(),
            region: region.into(),
            id: id.into(),
            gateway: String::new(),
            public_table: table(true)?,
            private_table: table(false)?,
            subnets: subnets
                .into_iter()
                .map(|(id, cidr)| {
                    let public = leads_out(view.routes(&id));
                    // Who made the VPC takes the first addresses.
                    Subnet { id, association: String::new(), cidr, public, next: 10 }
                })
                .collect(),
            gateways: Default::default(),
            hosts: Default::default(),
            network,
        })
    }

    /// Boots an instance and plugs it in; a gateway is returned.
    fn wire(&self, vpc: &mut Vpc, instance: &Instance) -> Result<Option<Arc<Gateway>>> {
        let name = self.name_of(&vpc.region, &instance.id)?;
        let subnet = vpc.subnets.iter().find(|s| s.id == instance.subnet).context("an instance in no subnet")?.cidr;
        let Some(role) = [Role::VpnHub, Role::NatHub, Role::NatVpn].into_iter().find(|r| name.starts_with(r.as_str()))
        else {
            let short = name.split('-').next().unwrap_or("host").to_string();
            let full = format!("{}/{short}", vpc.name);
            if vpc.hosts.contains_key(&short) {
                bail!("two hosts called {full}");
            }
            let ns = Arc::new(Netns::new()?);
            vpc.network.router.attach(&ns, instance, subnet)?;
            let host = Arc::new(Host::new(&full, ns, instance.private)?);
            vpc.hosts.insert(short, (instance.id.clone(), host));
            return Ok(None);
        };
        let name = (0..).map(|n| numbered(role.as_str(), n)).find(|name| !vpc.gateways.contains_key(name));
        let name = name.context("no name left for a gateway")?;
        let full = format!("{}/{name}", vpc.name);
        let gateway = self.gateway_of(vpc, &full, role, instance, subnet)?;
        self.plug_in(vpc, &gateway, instance, false)?;
        vpc.gateways.insert(name, gateway.clone());
        Ok(Some(gateway))
    }

    fn name_of(&self, region: &str, instance: &str) -> Result<String> {
        let filters = [
            ("Filter.1.Name", "resource-id"),
            ("Filter.1.Value.1", instance),
            ("Filter.2.Name", "key"),
            ("Filter.2.Value.1", "Name"),
        ];
        self.ec2().get(region, "DescribeTags", &filters, "value")
    }
}

/// Instances that were wired and do not run any more.
fn gone(vpc: &Vpc, instances: &[Instance]) -> Vec<String> {
    let runs = |id: &String| instances.iter().any(|i| i.id == *id && i.state == "running");
    let wired = vpc.gateways.values().map(|g| g.instance.clone()).chain(vpc.hosts.values().map(|(id, _)| id.clone()));
    wired.filter(|id| !runs(id)).collect()
}

fn subnets_of(answer: &str) -> Result<Vec<(String, Ipv4Net)>> {
    let document = Document::parse(answer)?;
    let sets = document.descendants().filter(|n| n.is_called("subnetSet"));
    let items = sets.flat_map(|set| set.children()).filter(|n| n.is_called("item"));
    let subnet = |item: roxmltree::Node| {
        let id = item.value("subnetId").context("a subnet without an id")?.to_string();
        Ok((id, item.value("cidrBlock").context("a subnet without a CIDR")?.parse()?))
    };
    items.map(subnet).collect()
}
