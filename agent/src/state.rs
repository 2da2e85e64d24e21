//! What is remembered between passes: `/var/lib/crosswan/state.json`. EC2 is the database; this is its last good answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Gateway, Identity, Region, RegionView, Timestamp, VpcId};

/// Written after a verified pass only. A lost or broken file is a fresh start, never an error that stops a pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Who this gateway was; stands in while IMDS does not answer.
    pub identity: Option<Identity>,
    /// The last good answer of each region.
    #[serde(default)]
    pub regions: BTreeMap<Region, LastGood>,
    /// The peers that have a tunnel, with the CIDRs they hold.
    #[serde(default)]
    pub peers: BTreeMap<VpcId, Peer>,
}

/// A region's last complete answer and when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    pub at: Timestamp,
    pub view: RegionView,
}

/// A peer with a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// As last seen; `cidrs` are the accepted ones.
    pub gateway: Gateway,
    /// Successful polls of its region, in a row, that did not show it.
    pub misses: u32,
    /// When the last of them was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_at: Option<Timestamp>,
}

impl Peer {
    /// A peer that was just seen.
    pub fn new(gateway: Gateway) -> Peer {
        Peer { gateway, misses: 0, missed_at: None }
    }
}

impl State {
    /// The state as far as it is this gateway's: an image taken in another VPC brings a state that means nothing here.
    pub fn for_vpc(self, vpc: &VpcId) -> State {
        match &self.identity {
            Some(identity) if identity.vpc == *vpc => self,
            _ => State::default(),
        }
    }
}
