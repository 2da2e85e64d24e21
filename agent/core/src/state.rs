//! What is remembered between passes: `/var/lib/crosswan/state.json`. EC2 is the database; this is its last good answer.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::model::{
    Gateway, Identity, InstanceId, PublicKey, RegionView, RouteTableId, Scope, SegmentTag, Timestamp, VpcId,
};

/// It is written only after a verified pass. A lost or broken file means a fresh start, and never stops a pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct State {
    /// Who this gateway was. It is used while IMDS does not answer.
    pub identity: Option<Identity>,
    /// The last good answer of each region.
    pub regions: BTreeMap<Scope, LastGood>,
    /// The VPCs that have a tunnel, with the CIDRs that they hold.
    pub peers: BTreeMap<VpcId, Peer>,
    /// Regions that have never answered, and whose refusals may mean that the account has not enabled them.
    pub disabled: BTreeMap<Scope, Refused>,
    /// The routes of the own VPC that have led here.
    pub routes: BTreeMap<RouteTableId, BTreeMap<Ipv4Net, HeldRoute>>,
    /// What the tag of the own VPC said of its segment; `None` where it was not asked for.
    pub segment: Option<SegmentTag>,
    /// The other member of the pair, as passes have met it; `None` without a pair.
    pub met: Option<Met>,
    /// On a spoke: the hub that settings no longer name, and whose tunnel stays until the next pass.
    pub drained: Option<Ipv4Addr>,
}

/// The state as it is in the file. Versions up to 0.1.0 refuse a whole state if a key of `regions` or `disabled` is no region, so what
/// belongs to other accounts is beside them, where those versions pass over it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    identity: Option<Identity>,
    regions: BTreeMap<Scope, LastGood>,
    peers: BTreeMap<VpcId, Peer>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    disabled: BTreeMap<Scope, Refused>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    accounts: BTreeMap<Scope, LastGood>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    accounts_disabled: BTreeMap<Scope, Refused>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    routes: BTreeMap<RouteTableId, BTreeMap<Ipv4Net, HeldRoute>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<SegmentTag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<Met>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drained: Option<Ipv4Addr>,
}

impl From<State> for Stored {
    fn from(State { identity, regions, peers, disabled, routes, segment, met, drained }: State) -> Stored {
        let ((regions, accounts), (disabled, accounts_disabled)) = (split(regions), split(disabled));
        Stored { identity, regions, peers, disabled, accounts, accounts_disabled, routes, segment, met, drained }
    }
}

impl From<Stored> for State {
    fn from(stored: Stored) -> State {
        let Stored {
            identity,
            mut regions,
            peers,
            mut disabled,
            accounts,
            accounts_disabled,
            routes,
            segment,
            met,
            drained,
        } = stored;
        regions.extend(accounts);
        disabled.extend(accounts_disabled);
        State { identity, regions, peers, disabled, routes, segment, met, drained }
    }
}

/// What belongs to the own account, and the rest.
fn split<T>(all: BTreeMap<Scope, T>) -> (BTreeMap<Scope, T>, BTreeMap<Scope, T>) {
    all.into_iter().partition(|(scope, _)| scope.account.is_none())
}

/// The other gateway of a pair, as passes have met it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// The gateway.
    pub member: InstanceId,
    /// When a pass first found it.
    pub since: Timestamp,
    /// Whether it has ever been heard: then it is known to watch this gateway, whatever becomes of the processes that do so.
    pub heard: bool,
}

/// A route of the own VPC that has led here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRoute {
    /// Whether it did at the last look.
    pub here: bool,
    /// How often somebody has changed it.
    pub changed: u32,
}

impl HeldRoute {
    /// As it is to be remembered once it leads elsewhere.
    pub(crate) fn found_elsewhere(self) -> HeldRoute {
        HeldRoute { here: false, changed: self.changed.saturating_add(u32::from(self.here)) }
    }
}

/// A region's last complete answer and when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    /// When it came.
    pub at: Timestamp,
    /// The answer, which counts while the region gives no other.
    pub view: RegionView,
}

/// How often a region has refused while others answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The polls that counted, `removal.spacing` apart.
    pub polls: u32,
    /// When the last of these polls was counted.
    pub at: Timestamp,
}

/// A VPC with a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The gateway that carries its traffic, as last seen. Its `cidrs` are the accepted ones only.
    pub gateway: Gateway,
    /// The keys that it is known by: one, two during its rotation, or none with a pre-shared key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PublicKey>,
    /// The next key of this gateway that it has accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts: Option<PublicKey>,
    /// The successful polls of its region in a row that did not show it.
    pub misses: u32,
    /// When the last of these polls was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_at: Option<Timestamp>,
    /// Since when every pass has found its tunnel down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// The same of each other gateway of the VPC that has a place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub idle_since: BTreeMap<InstanceId, Timestamp>,
    /// The keys of the other gateways of the VPC.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<InstanceId, Vec<PublicKey>>,
    /// The gateways that were in use before and were replaced by one that worked, the latest one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<InstanceId>,
}

impl Peer {
    /// A peer that has just been seen for the first time.
    pub fn new(gateway: Gateway) -> Peer {
        Peer {
            gateway,
            keys: Vec::new(),
            accepts: None,
            misses: 0,
            missed_at: None,
            down_since: None,
            idle_since: BTreeMap::new(),
            others: BTreeMap::new(),
            lost: Vec::new(),
        }
    }

    /// The keys that one gateway of the VPC is known by; empty if there are none.
    pub(crate) fn keys_of(&self, instance: &InstanceId) -> &[PublicKey] {
        if self.gateway.instance == *instance { &self.keys } else { self.others.get(instance).map_or(&[], |keys| keys) }
    }
}

impl State {
    /// The state, or an empty one if it was written in another VPC: an image that was taken there brings a state that means
    /// nothing here.
    pub fn for_vpc(self, vpc: &VpcId) -> State {
        match &self.identity {
            Some(identity) if identity.vpc == *vpc => self,
            _ => State::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::Region;

    #[test]
    fn versions_that_require_a_gateways_private_address_and_this_one_read_each_others_state() {
        /// As of 0.1.0.
        #[derive(Deserialize)]
        struct Before {
            private: Ipv4Addr,
            launched: Timestamp,
        }
        let gateway = |private: &str| {
            format!(
                r#"{{"instance":"i-00000001","region":"eu-west-1","vpc":"vpc-00000001",{private}"public":"198.51.100.1",
                "launched":7,"cidrs":["10.1.0.0/16"]}}"#
            )
        };
        let of = |private: &str| serde_json::from_str::<Gateway>(&gateway(private)).unwrap();
        let ours = of("");
        assert_eq!((of(r#""private":"10.1.0.10","#), of(r#""private":"0.0.0.0","#)), (ours.clone(), ours.clone()));
        let Before { private, launched } = serde_json::from_str(&serde_json::to_string(&ours).unwrap()).unwrap();
        assert_eq!((private, launched), (Ipv4Addr::UNSPECIFIED, Timestamp(7)));
    }

    #[test]
    fn versions_that_know_one_account_read_a_state_with_several_and_this_one_reads_theirs() {
        /// As of 0.1.0.
        #[derive(Deserialize)]
        struct Before {
            regions: BTreeMap<Region, serde_json::Value>,
            disabled: BTreeMap<Region, Refused>,
        }
        let last = || LastGood { at: Timestamp(1), view: RegionView::default() };
        let refused = Refused { polls: 1, at: Timestamp(1) };
        let scopes: [Scope; 2] = ["eu-west-1", "111122223333/eu-west-1"].map(|scope| scope.parse().unwrap());
        let regions = scopes.clone().map(|scope| (scope, last())).into();
        let disabled = scopes.clone().map(|scope| (scope, refused)).into();
        let state = State { regions, disabled, ..State::default() };
        let text = serde_json::to_string(&state).unwrap();
        let before: Before = serde_json::from_str(&text).unwrap();
        let own: Vec<_> = before.regions.keys().chain(before.disabled.keys()).map(Region::as_str).collect();
        assert_eq!(own, ["eu-west-1", "eu-west-1"]);
        assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        let theirs =
            r#"{"identity":null,"regions":{"eu-west-1":{"at":1,"view":{"gateways":[],"unusable":[]}}},"peers":{}}"#;
        let read: State = serde_json::from_str(theirs).unwrap();
        assert_eq!(read.regions, [(scopes[0].clone(), last())].into());
        assert_eq!(serde_json::to_string(&read).unwrap(), theirs, "nothing is written that they did not write");
    }

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
