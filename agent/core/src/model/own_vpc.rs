//! What EC2 shows of the own VPC: the route tables that this gateway may write, and who else is in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{AskError, InstanceId, InterfaceId, KeyTags, RouteTableId, Timestamp, Zone, printable};

/// What EC2 shows of the own VPC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnVpc {
    /// The route tables that carry the tag, by their ids.
    pub tables: BTreeMap<RouteTableId, RouteTable>,
    /// The other instances that routes of these tables lead to.
    pub neighbours: BTreeMap<InstanceId, Neighbour>,
    /// The other running gateways of the own mode; `None` where settings ask for no pair.
    pub members: Option<BTreeMap<InstanceId, Member>>,
    /// The zone of the own subnet; `None` where settings ask for no pair, or EC2 did not show it.
    pub zone: Option<Zone>,
    /// Why no zone is known, if EC2 did not show the subnets.
    pub zones_unasked: Option<AskError>,
}

/// Another running gateway of the own mode in the own VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The private address of its first interface.
    pub address: Ipv4Addr,
    /// That interface.
    pub interface: InterfaceId,
    /// The zone of its subnet, if EC2 showed it.
    pub zone: Option<Zone>,
    /// When it was launched.
    pub launched: Timestamp,
    /// The keys that it announces.
    pub tags: KeyTags,
}

/// A route table's routes for IPv4, by their destinations. Those by prefix lists are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable {
    /// Whether it is that of the own subnet: by its default route this gateway itself reaches the internet.
    pub own: bool,
    /// The zones of the subnets that have it; none where settings ask for no pair, or EC2 did not show the subnets.
    pub zones: BTreeSet<Zone>,
    /// The routes.
    pub routes: BTreeMap<Ipv4Net, VpcRoute>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcRoute {
    /// Where it leads.
    pub target: RouteTarget,
    /// Whether EC2 says that nothing is there any more.
    pub blackhole: bool,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTarget {
    /// The VPC itself. Nobody can change such a route.
    Local,
    /// An internet gateway, by its id.
    InternetGateway(String),
    /// A network interface, and the instance that has it, if one has.
    Interface {
        /// The interface.
        interface: Option<InterfaceId>,
        /// The instance.
        instance: Option<InstanceId>,
    },
    /// Anything else, by its id as EC2 writes it.
    Other(String),
}

/// Another instance of the own VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Whether it runs.
    pub running: bool,
    /// When it was launched.
    pub launched: Timestamp,
    /// Whether its tags say that it is a gateway of the own mode.
    pub same_mode: bool,
}

impl OwnVpc {
    /// The instances that routes lead to.
    pub fn instances(&self) -> BTreeSet<&InstanceId> {
        let targets = self.tables.values().flat_map(|table| table.routes.values()).map(|route| &route.target);
        targets
            .filter_map(|target| match target {
                RouteTarget::Interface { instance, .. } => instance.as_ref(),
                _ => None,
            })
            .collect()
    }
}

impl RouteTarget {
    /// Whether it is this instance or its interface; EC2 may show either alone.
    pub fn is(&self, own: &InstanceId, own_interface: Option<&InterfaceId>) -> bool {
        matches!(self, RouteTarget::Interface { interface, instance }
            if instance.as_ref() == Some(own) || interface.is_some() && interface.as_ref() == own_interface)
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteTarget::Local => f.write_str("the VPC itself"),
            RouteTarget::Interface { instance: Some(instance), .. } => write!(f, "{instance}"),
            RouteTarget::Interface { interface: Some(interface), .. } => write!(f, "{interface}"),
            RouteTarget::Interface { .. } => f.write_str("an interface without an id"),
            // EC2's text: it never reaches more than a line of the report.
            RouteTarget::InternetGateway(id) | RouteTarget::Other(id) => f.write_str(printable(id).trim_matches('"')),
        }
    }
}
