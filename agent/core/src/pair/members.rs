//! Who the two members are, as a refresh writes it for `crosswan pair`: a managed file, so that this needs no IMDS and finds nobody itself.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Ways;
use crate::model::{
    InstanceId, InterfaceId, PublicKey, Region, RouteTable, RouteTableId, RouteTarget, SubnetId, VpcId,
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

    /// The tables whose default route leads to the other member and may be moved: not that of the own subnet, by whose default route this
    /// gateway itself reaches the internet.
    pub fn takes(&self, tables: &BTreeMap<RouteTableId, RouteTable>) -> Vec<RouteTableId> {
        leading(tables, &self.other.instance, &self.other.interface).cloned().collect()
    }

    /// How many default routes lead to each.
    pub fn ways(&self, tables: &BTreeMap<RouteTableId, RouteTable>) -> Ways {
        Ways { here: leading(tables, &self.me.instance, &self.me.interface).count(), there: self.takes(tables).len() }
    }
}

fn leading<'a>(
    tables: &'a BTreeMap<RouteTableId, RouteTable>,
    instance: &InstanceId,
    interface: &InterfaceId,
) -> impl Iterator<Item = &'a RouteTableId> {
    let leads = |target: &RouteTarget| target.is(instance, Some(interface));
    let found = tables.iter().filter(move |(_, table)| {
        !table.own && table.routes.get(&Ipv4Net::default()).is_some_and(|route| leads(&route.target))
    });
    found.map(|(id, _)| id).collect::<Vec<_>>().into_iter()
}
