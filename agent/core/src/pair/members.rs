//! Who the two members are, as a refresh writes it for `crosswan pair`: a managed file, so that this needs no IMDS and finds nobody itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Ways;
use crate::model::{
    InstanceId, InterfaceId, PublicKey, Region, RouteTable, RouteTableId, RouteTarget, SubnetId, VpcId, VpcRoute,
};

/// This gateway and the other one of its pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// This gateway.
    pub me: Me,
    /// The other one.
    pub other: Other,
    /// The port of the beats, UDP.
    pub port: u16,
    /// The destinations whose routes may be moved: the default, and the private network's.
    #[serde(default)]
    pub destinations: BTreeSet<Ipv4Net>,
    /// The gateways with a key that wait beside the two for a place, the next one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<InstanceId>,
    /// The first of them, if it works and asks for this gateway's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<Newcomer>,
}

/// A gateway that asks a member for its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newcomer {
    /// The instance.
    pub instance: InstanceId,
    /// Its private address.
    pub address: Ipv4Addr,
}

/// This gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// The instance.
    pub instance: InstanceId,
    /// Its first interface, to which routes lead.
    pub interface: InterfaceId,
    /// The subnet of that: the default route of its table is never changed.
    pub subnet: SubnetId,
    /// The VPC of both.
    pub vpc: VpcId,
    /// Its region.
    pub region: Region,
    /// Its private address.
    pub address: Ipv4Addr,
}

/// The other gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// The instance.
    pub instance: InstanceId,
    /// Its first interface.
    pub interface: InterfaceId,
    /// Its private address.
    pub address: Ipv4Addr,
    /// The keys that it may sign with: that of its tag, and the one that follows it.
    pub keys: Vec<PublicKey>,
}

impl Members {
    /// The text of the file.
    pub fn text(&self) -> String {
        // Ids, addresses and keys: none of them fails to become JSON.
        format!("{}\n", serde_json::to_string_pretty(self).unwrap_or_default())
    }

    /// Reads the text of the file; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Members> {
        serde_json::from_str(text).ok()
    }

    /// The routes that lead to the other member and may be moved; those to the private network only with `private`. The default route of
    /// the own subnet's table is none of them: by that this gateway itself reaches the internet.
    pub fn takes(&self, tables: &BTreeMap<RouteTableId, RouteTable>, private: bool) -> Vec<(RouteTableId, Ipv4Net)> {
        let all = self.leading(tables, &self.other.instance, &self.other.interface);
        all.filter(|(_, to)| private || *to == Ipv4Net::default()).collect()
    }

    /// The routes that lead to this gateway and may be moved.
    pub fn held(&self, tables: &BTreeMap<RouteTableId, RouteTable>) -> Vec<(RouteTableId, Ipv4Net)> {
        self.leading(tables, &self.me.instance, &self.me.interface).collect()
    }

    /// The routes that a gateway takes and that lead nowhere: there is none, or EC2 says that nothing is at its end any more.
    pub fn nowhere(&self, tables: &BTreeMap<RouteTableId, RouteTable>) -> BTreeSet<(RouteTableId, Ipv4Net)> {
        nowhere(&self.destinations, tables)
    }

    /// How many routes lead to each.
    pub fn ways(&self, tables: &BTreeMap<RouteTableId, RouteTable>) -> Ways {
        let [there, default] = [true, false].map(|private| self.takes(tables, private).len());
        let here = self.held(tables).len();
        Ways { here, there, private: there - default }
    }

    fn leading<'a>(
        &'a self,
        tables: &'a BTreeMap<RouteTableId, RouteTable>,
        instance: &'a InstanceId,
        interface: &'a InterfaceId,
    ) -> impl Iterator<Item = (RouteTableId, Ipv4Net)> + 'a {
        tables.iter().flat_map(move |(id, table)| {
            let routes = table.routes.iter().filter(|(to, route)| {
                let may = self.destinations.contains(to) && !(table.own && **to == Ipv4Net::default());
                may && route.target.is(instance, Some(interface))
            });
            routes.map(|(to, _)| (id.clone(), *to))
        })
    }
}

/// The routes of these tables to `destinations` that lead nowhere, but never the default route of the own subnet's table.
pub(super) fn nowhere(
    destinations: &BTreeSet<Ipv4Net>,
    tables: &BTreeMap<RouteTableId, RouteTable>,
) -> BTreeSet<(RouteTableId, Ipv4Net)> {
    let all = tables.iter().flat_map(|(id, table)| destinations.iter().map(move |to| (id, table, to)));
    let may = all.filter(|(_, table, to)| !(table.own && **to == Ipv4Net::default()));
    let gone = may.filter(|(_, table, to)| match table.routes.get(*to) {
        None => true,
        Some(VpcRoute { target: RouteTarget::Local | RouteTarget::InternetGateway(_), .. }) => false,
        Some(route) => route.blackhole,
    });
    gone.map(|(id, _, to)| (id.clone(), *to)).collect()
}
