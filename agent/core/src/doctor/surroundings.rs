//! What EC2 shows around the own interface, which nothing but the doctor asks for.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use crate::model::{AskError, Identity, InterfaceId, NetworkAcl, RouteTableId, SecurityGroups, SubnetId, VpcRoute};

/// What EC2 shows around the own interface. Each part has its own reason if it could not be asked.
#[derive(Debug)]
pub struct Surroundings {
    /// The interface's security groups.
    pub groups: Result<SecurityGroups, AskError>,
    /// The own subnet's network ACL.
    pub acl: Result<NetworkAcl, AskError>,
    /// The subnets of the own VPC.
    pub subnets: Result<BTreeMap<SubnetId, Subnet>, AskError>,
}

/// A subnet of the own VPC, with the route table that it has by association or as the VPC's main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its network.
    pub net: Ipv4Net,
    /// Its route table.
    pub table: RouteTableId,
    /// Whether that table has the tag of `routes.tag`.
    pub tagged: bool,
    /// That table's routes for IPv4.
    pub routes: BTreeMap<Ipv4Net, VpcRoute>,
}

impl Subnet {
    /// Whether one of its routes leads to this gateway.
    pub fn leads_to(&self, me: &Identity, own: &InterfaceId) -> bool {
        self.routes.values().any(|route| route.target.is(&me.instance, Some(own)))
    }
}
