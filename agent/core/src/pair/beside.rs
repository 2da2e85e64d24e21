//! A gateway that waits beside a pair. A refresh writes it for `crosswan pair` where it would write the members.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{Me, members::nowhere};
use crate::model::{InstanceId, RouteTable, RouteTableId};

/// This gateway, which is no member, and the two that are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// This gateway.
    pub me: Me,
    /// The two that it waits beside.
    pub beside: [InstanceId; 2],
    /// The one for which it has made way, if it was a member and has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_way: Option<InstanceId>,
    /// The member whose place it is to ask for, once it works; `None` if it takes nobody's, or EC2 shows that it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks_for: Option<InstanceId>,
    /// The destinations whose routes a gateway of this mode takes.
    pub destinations: BTreeSet<Ipv4Net>,
}

impl Beside {
    /// The text of the file.
    pub fn text(&self) -> String {
        // Ids, addresses and networks: none of them fails to become JSON.
        format!("{}\n", serde_json::to_string_pretty(self).unwrap_or_default())
    }

    /// Reads the text of the file; `None` if it is something else, as that of a member is.
    pub fn parse(text: &str) -> Option<Beside> {
        serde_json::from_str(text).ok()
    }

    /// The routes that a gateway takes and that lead nowhere. Both members may be gone at once, and then nobody else sees it.
    pub fn nowhere(&self, tables: &BTreeMap<RouteTableId, RouteTable>) -> BTreeSet<(RouteTableId, Ipv4Net)> {
        nowhere(&self.destinations, tables)
    }
}
