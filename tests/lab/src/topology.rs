//! What a VPC of the lab is made of, before any of it exists.

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use crate::files::Role;

/// A VPC to be made: gateways stand in the first CIDR's public subnet, one private host in each CIDR's private subnet.
#[derive(Clone, Debug)]
pub struct VpcSpec {
    /// Its name in the lab; gateways and hosts are `name/…`.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Primary CIDR first.
    pub cidrs: Vec<Ipv4Net>,
    /// Gateways to launch.
    pub gateways: Vec<Role>,
    /// Whether its route tables have only the tag by which gateways take their routes; otherwise the lab makes the routes, as an
    /// operator does.
    pub bare: bool,
}

impl VpcSpec {
    /// A hub VPC with vpn-hub and nat-hub.
    pub fn hub(name: &str, region: &str, cidrs: &[&str]) -> Result<VpcSpec> {
        VpcSpec::new(name, region, cidrs, &[Role::VpnHub, Role::NatHub])
    }

    /// A client VPC with one nat-vpn.
    pub fn client(name: &str, region: &str, cidrs: &[&str]) -> Result<VpcSpec> {
        VpcSpec::new(name, region, cidrs, &[Role::NatVpn])
    }

    /// The same VPC, whose routes are left to its gateways.
    pub fn bare(self) -> VpcSpec {
        VpcSpec { bare: true, ..self }
    }

    /// A VPC with any gateways; CIDRs are /16 to /26.
    pub fn new(name: &str, region: &str, cidrs: &[&str], gateways: &[Role]) -> Result<VpcSpec> {
        let cidrs =
            cidrs.iter().map(|cidr| cidr.parse().with_context(|| format!("CIDR {cidr}"))).collect::<Result<_>>()?;
        Ok(VpcSpec { name: name.into(), region: region.into(), cidrs, gateways: gateways.into(), bare: false })
    }
}

/// The `n`th subnet of a VPC's CIDR: /24s, in small CIDRs quarters.
pub fn subnet(cidr: Ipv4Net, n: usize) -> Result<Ipv4Net> {
    let length = (cidr.prefix_len() + 2).clamp(24, 28);
    cidr.subnets(length).ok().and_then(|mut all| all.nth(n)).with_context(|| format!("{cidr} has no subnet {n}"))
}
