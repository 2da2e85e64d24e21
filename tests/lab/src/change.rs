//! Changing what exists while packets flow: EC2 first, then the wires.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use crate::ec2::{RouteTable, Target, VpcView};
use crate::files::Role;
use crate::gateway::Gateway;
use crate::host::Host;
use crate::lab::{Lab, Vpc};
use crate::launch::next_second;
use crate::lock;

/// The tag of a route table that gateways write into.
const MANAGED: (&str, &str) = ("crosswan-routes", "managed");

impl Lab {
    /// Reads a VPC from EC2 again and makes routes, NAT, checks, public addresses and IMDS fit. Only what differs is
    /// touched. Every method of the lab does it; call it after changing EC2 by hand.
    pub fn sync(&self, vpc: &str) -> Result<()> {
        self.sync_vpc(self.state().vpc(vpc)?)
    }

    pub(crate) fn sync_vpc(&self, vpc: &Vpc) -> Result<()> {
        vpc.network.sync()
    }

    /// Writes a gateway's settings and key again, from what exists now: after the hub's address or a test changed them.
    pub fn write_default_settings(&self, gateway: &Gateway) -> Result<()> {
        self.write_plan(gateway, &self.plan())
    }

    /// Points a VPC's routes at these gateways: the private network at `vpn`, the private subnets' default at `nat`.
    pub(crate) fn route(&self, vpc: &Vpc, vpn: Option<&Gateway>, nat: Option<&Gateway>) -> Result<()> {
        let exists = self.ec2().vpc(&vpc.region, &vpc.id)?;
        let set = |table: &str, subnet: bool, to: &str, gateway: &Gateway| {
            let known = exists.tables.iter().filter(|t| t.subnets.iter().any(|s| vpc.is_public(s) == subnet));
            let replace = known.flat_map(|t| &t.routes).any(|(destination, _)| destination.to_string() == to);
            let action = if replace { "ReplaceRoute" } else { "CreateRoute" };
            let parameters = [("RouteTableId", table), ("DestinationCidrBlock", to), ("InstanceId", &gateway.instance)];
            self.ec2().call(&vpc.region, action, &parameters).map(drop)
        };
        if let Some(vpn) = vpn {
            for network in &self.private {
                set(&vpc.public_table, true, &network.to_string(), vpn)?;
                set(&vpc.private_table, false, &network.to_string(), vpn)?;
            }
        }
        nat.map_or(Ok(()), |nat| set(&vpc.private_table, false, "0.0.0.0/0", nat))
    }

    /// The ids of a VPC's route tables for its public and its private subnets, from now on with the tag that lets gateways write into
    /// them.
    pub fn managed_tables(&self, vpc: &str) -> Result<[String; 2]> {
        self.manage(self.state().vpc(vpc)?)?;
        self.route_tables(vpc)
    }

    /// Tags both route tables of a VPC for its gateways.
    pub(crate) fn manage(&self, vpc: &Vpc) -> Result<()> {
        for table in [&vpc.public_table, &vpc.private_table] {
            let tag = [("ResourceId.1", table.as_str()), ("Tag.1.Key", MANAGED.0), ("Tag.1.Value", MANAGED.1)];
            self.ec2().call(&vpc.region, "CreateTags", &tag)?;
        }
        Ok(())
    }

    /// A VPC's route tables, as EC2 has them now.
    pub fn tables(&self, vpc: &str) -> Result<Vec<RouteTable>> {
        let state = self.state();
        let vpc = state.vpc(vpc)?;
        Ok(self.ec2().vpc(&vpc.region, &vpc.id)?.tables)
    }

    /// Takes all routes to instances and interfaces out of a VPC's route tables.
    pub fn delete_routes(&self, vpc: &str) -> Result<()> {
        for table in self.tables(vpc)? {
            for (to, target) in &table.routes {
                if matches!(target, Target::Instance(_) | Target::Interface(_)) {
                    let parameters = [("RouteTableId", table.id.as_str()), ("DestinationCidrBlock", &to.to_string())];
                    self.ec2().call(&self.region(vpc)?, "DeleteRoute", &parameters)?;
                }
            }
        }
        self.sync(vpc)
    }

    /// Moves a VPC's routes to `gateway`, as far as they are its role's: an operator's ReplaceRoute.
    pub fn route_through(&self, gateway: &Gateway) -> Result<()> {
        let state = self.state();
        let vpc = state.vpc(owner(gateway))?;
        let (vpn, nat) = (gateway.role != Role::NatHub, gateway.role != Role::VpnHub);
        self.route(vpc, vpn.then_some(gateway), nat.then_some(gateway))?;
        self.sync_vpc(vpc)
    }

    /// Replaces a gateway: a new instance with new addresses takes its name and routes, then the old one is terminated.
    /// Nothing is started on the new one.
    pub fn replace_gateway(&self, old: &Gateway) -> Result<Arc<Gateway>> {
        let plan = self.plan();
        next_second();
        let new = {
            let mut state = self.state();
            let vpc = state.vpc_mut(owner(old))?;
            let new = self.launch_gateway(vpc, old.role, old.name.split('/').nth(1))?;
            self.sync_vpc(vpc)?;
            new
        };
        self.write_plan(&new, &plan)?;
        self.route_through(&new)?;
        self.terminate(old)?;
        Ok(new)
    }

    /// Terminates a gateway.
    pub fn terminate(&self, gateway: &Gateway) -> Result<()> {
        let mut state = self.state();
        let vpc = state.vpc_mut(owner(gateway))?;
        self.release_addresses(vpc, &gateway.instance)?;
        self.ec2().call(&vpc.region, "TerminateInstances", &[("InstanceId.1", &gateway.instance)])?;
        let _until_unplugged = gateway.power_off();
        self.sync_vpc(vpc)?;
        vpc.network.router.detach(&gateway.instance)?;
        vpc.gateways.retain(|_, other| other.instance != gateway.instance);
        Ok(())
    }

    /// Stops an instance: everything in it dies, its disk and Elastic IP stay.
    pub fn stop_instance(&self, gateway: &Gateway) -> Result<()> {
        let state = self.state();
        let vpc = state.vpc(owner(gateway))?;
        self.ec2().call(&vpc.region, "StopInstances", &[("InstanceId.1", &gateway.instance)])?;
        let _until_unplugged = gateway.power_off();
        self.sync_vpc(vpc)?;
        vpc.network.router.detach(&gateway.instance)
    }

    /// Starts a stopped instance, as a boot: empty /run, nothing running. `new_address` gives it another public one, as
    /// instances without an Elastic IP get.
    pub fn start_instance(&self, gateway: &Gateway, new_address: bool) -> Result<()> {
        self.start(gateway, new_address, false)
    }

    /// As [`Lab::start_instance`], with what `crosswan-guard.service` does before there is a network: the rules of the last refresh. A host
    /// may send through it from its first moment on.
    pub fn start_guarded(&self, gateway: &Gateway) -> Result<()> {
        self.start(gateway, false, true)
    }

    fn start(&self, gateway: &Gateway, new_address: bool, guarded: bool) -> Result<()> {
        let state = self.state();
        let vpc = state.vpc(owner(gateway))?;
        if new_address {
            self.release_addresses(vpc, &gateway.instance)?;
            self.give_address(vpc, &gateway.instance)?;
        }
        self.ec2().call(&vpc.region, "StartInstances", &[("InstanceId.1", &gateway.instance)])?;
        let instance = self.ec2().instance(&vpc.region, &gateway.instance)?;
        self.plug_in(vpc, gateway, &instance, guarded)?;
        self.sync_vpc(vpc)
    }

    /// Removes a gateway's Elastic IP and, with `new`, gives it another, which is returned.
    pub fn change_address(&self, gateway: &Gateway, new: bool) -> Result<Option<Ipv4Addr>> {
        let state = self.state();
        let vpc = state.vpc(owner(gateway))?;
        self.release_addresses(vpc, &gateway.instance)?;
        let address = new.then(|| self.give_address(vpc, &gateway.instance)).transpose()?;
        self.sync_vpc(vpc)?;
        Ok(address)
    }

    /// Associates a secondary CIDR with a VPC; its private subnet gets a host, which is returned.
    pub fn add_cidr(&self, vpc: &str, cidr: &str) -> Result<Arc<Host>> {
        let cidr: Ipv4Net = cidr.parse().with_context(|| format!("CIDR {cidr}"))?;
        let mut state = self.state();
        let vpc = state.vpc_mut(vpc)?;
        let host = self.add_private(vpc, cidr, false)?;
        self.sync_vpc(vpc)?;
        Ok(host)
    }

    /// Sets a tag of a gateway, or with `None` removes it.
    pub fn tag(&self, gateway: &Gateway, key: &str, value: Option<&str>) -> Result<()> {
        self.ec2().tag(&gateway.region, &gateway.instance, key, value)
    }

    /// The value of a tag of a gateway, if it has that.
    pub fn tag_of(&self, gateway: &Gateway, key: &str) -> Result<Option<String>> {
        let filters = [("Filter.1.Name", "resource-id"), ("Filter.1.Value.1", gateway.instance.as_str())];
        let key = [("Filter.2.Name", "key"), ("Filter.2.Value.1", key)];
        self.ec2()
            .call(&gateway.region, "DescribeTags", &[filters, key].concat())
            .map(|answer| answer.first("value").ok())
    }

    /// Switches an instance's source/destination check.
    pub fn source_dest_check(&self, gateway: &Gateway, on: bool) -> Result<()> {
        self.switch_check(&gateway.region, &gateway.instance, on)?;
        self.sync(owner(gateway))
    }

    /// The check of an instance and of its interface, which are one in EC2 and two in moto.
    pub(crate) fn switch_check(&self, region: &str, instance: &str, on: bool) -> Result<()> {
        let interface = self.ec2().instance(region, instance)?.interface;
        let value = ("SourceDestCheck.Value", if on { "true" } else { "false" });
        self.ec2().call(region, "ModifyInstanceAttribute", &[("InstanceId", instance), value])?;
        self.ec2().call(region, "ModifyNetworkInterfaceAttribute", &[("NetworkInterfaceId", &interface), value])?;
        Ok(())
    }

    /// Takes a gateway's tunnels down silently: the internet drops its IKE and ESP. `false` repairs it.
    pub fn cut_ipsec(&self, gateway: &Gateway, cut: bool) -> Result<()> {
        self.internet.cut_ipsec(gateway.public().context("no public address")?, cut)
    }

    /// Deletes a VPC with everything in it.
    pub fn delete_vpc(&self, name: &str) -> Result<()> {
        let mut state = self.state();
        let vpc = state.vpcs.remove(name).with_context(|| format!("no VPC {name} in the lab"))?;
        let _machines: Vec<_> = vpc.gateways.values().filter_map(|gateway| gateway.power_off()).collect();
        vpc.network.retire();
        vpc.network.router.announce(&VpcView::default())?;
        self.delete_from_ec2(&vpc)
    }

    /// Deletes a VPC with everything in it as far as EC2 tells; its machines and wires stay as they are.
    pub fn delete_vpc_on_paper(&self, name: &str) -> Result<()> {
        let state = self.state();
        let vpc = state.vpc(name)?;
        vpc.network.retire();
        self.delete_from_ec2(vpc)
    }

    fn delete_from_ec2(&self, vpc: &Vpc) -> Result<()> {
        let call =
            |action: &str, parameters: &[(&str, &str)]| self.ec2().call(&vpc.region, action, parameters).map(drop);
        for instance in lock(&vpc.network.view).instances.clone() {
            self.release_addresses(vpc, &instance.id)?;
            call("TerminateInstances", &[("InstanceId.1", &instance.id)])?;
        }
        for subnet in &vpc.subnets {
            call("DisassociateRouteTable", &[("AssociationId", &subnet.association)])?;
            call("DeleteSubnet", &[("SubnetId", &subnet.id)])?;
        }
        call("DetachInternetGateway", &[("InternetGatewayId", &vpc.gateway), ("VpcId", &vpc.id)])?;
        call("DeleteInternetGateway", &[("InternetGatewayId", &vpc.gateway)])?;
        for table in [&vpc.public_table, &vpc.private_table] {
            call("DeleteRouteTable", &[("RouteTableId", table)])?;
        }
        call("DeleteVpc", &[("VpcId", &vpc.id)])
    }

    /// Disassociates what Elastic IPs an instance has, and releases them unless they are of a pool.
    fn release_addresses(&self, vpc: &Vpc, instance: &str) -> Result<()> {
        for (association, allocation) in self.ec2().addresses(&vpc.region, instance)? {
            self.ec2().call(&vpc.region, "DisassociateAddress", &[("AssociationId", &association)])?;
            if !self.pools {
                self.ec2().call(&vpc.region, "ReleaseAddress", &[("AllocationId", &allocation)])?;
            }
        }
        Ok(())
    }
}

impl Vpc {
    fn is_public(&self, subnet: &str) -> bool {
        self.subnets.iter().any(|own| own.id == subnet && own.public)
    }
}

/// The VPC's name in a gateway's.
fn owner(gateway: &Gateway) -> &str {
    gateway.name.split('/').next().unwrap_or_default()
}
