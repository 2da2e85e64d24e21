//! What is remembered between passes: `/var/lib/crosswan/state.json`. EC2 is the database; this is its last good answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::disabled::Refused;
use crate::model::{Gateway, Identity, Pin, Region, RegionView, Timestamp, VpcId};

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
    /// Regions that never answered, and refuse as one does that the account has not enabled.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disabled: BTreeMap<Region, Refused>,
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
    /// The keys of its tunnel; `None` if that has a pre-shared key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
}

impl Peer {
    /// A peer that was just seen.
    pub fn new(gateway: Gateway) -> Peer {
        Peer { gateway, misses: 0, missed_at: None, pin: None }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_brings_in_nothing_that_ec2_could_not() {
        let state = |cidr: &str, reason: &str| {
            let refusal =
                format!(r#"{{"region":"eu-west-1","vpc":null,"instance":null,"cidr":null,"reason":"{reason}"}}"#);
            serde_json::from_str::<State>(&format!(
                r#"{{"identity":{{"instance":"i-0000ffff","region":"eu-west-1","vpc":"vpc-0000ffff","cidrs":["{cidr}"],
                "private":"10.0.0.5","public":null}},
                "regions":{{"eu-west-1":{{"at":1,"view":{{"gateways":[],"unusable":[{refusal}]}}}}}}}}"#
            ))
        };
        for bad in ["0.0.0.0/0", "10.0.0.1/16", "\\u001b[2J"] {
            let error = state(bad, "").unwrap_err().to_string();
            assert!(
                error.starts_with("expected a CIDR such as 10.1.0.0/16, found ") && !error.contains('\u{1b}'),
                "{error}"
            );
        }
        let good = state("10.0.0.0/16", r#"as \"it\" was…\u001b[2J\nrefused"#).unwrap();
        let reason = &good.regions.values().next().unwrap().view.unusable[0].reason;
        assert_eq!(reason, r#"as "it" was…\u{1b}[2J\nrefused"#);
        assert_eq!(serde_json::from_str::<State>(&serde_json::to_string(&good).unwrap()).unwrap(), good);
    }
}
