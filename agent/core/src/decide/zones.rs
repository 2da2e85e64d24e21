//! To which member of a pair a route table belongs: to the one in the zone of its subnets, else to the older one.
//!
//! That moves nothing. It only says which of two members takes a route that leads nowhere: the other one leaves it to its owner, for as
//! long as the owner can be expected to come.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{pair::standing, third};
use crate::{
    model::{InstanceId, OwnInterface, OwnVpc, RouteTable, Timestamp, Zone},
    observed::Observed,
    pair::{PairStatus, PeerState},
    settings::Settings,
};

/// A gateway that was launched less than so many seconds ago is expected to take its routes itself: it boots, and its first refresh is
/// under way. Longer than that nobody leaves hosts without a route for the sake of their zone.
const EXPECTED: i64 = 120;
/// One that is heard is expected to take a route within so many seconds of its first having led nowhere: it sees that within half a minute.
const TAKES: u64 = 60;

/// The member of a pair that a route table belongs to. `Display` is a phrase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The member.
    pub member: InstanceId,
    /// The zone of all the table's subnets, where the member stands alone; `None` if it is the owner as the older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}, the member in {zone}", self.member),
            None => write!(f, "{}, the older member", self.member),
        }
    }
}

/// Two gateways that are a pair, or become one as soon as the other one has announced its key.
pub(super) struct Two<'a> {
    me: Standing<'a>,
    other: Standing<'a>,
    now: Timestamp,
    /// What this gateway hears of the other one.
    heard: Option<&'a PairStatus>,
}

/// Where a gateway stands, and since when.
#[derive(Clone, Copy)]
struct Standing<'a> {
    instance: &'a InstanceId,
    zone: Option<&'a Zone>,
    launched: Timestamp,
}

impl<'a> Two<'a> {
    /// The two, if settings ask for a pair and there are two.
    pub(super) fn of(
        settings: &Settings,
        observed: &'a Observed,
        vpc: &'a OwnVpc,
        own: &'a OwnInterface,
    ) -> Option<Two<'a>> {
        let third::Standing::With(instance, other) = standing(settings, observed, vpc, own).0 else { return None };
        let me = Standing { instance: &observed.me.instance, zone: vpc.zone.as_ref(), launched: own.launched };
        let other = Standing { instance, zone: other.zone.as_ref(), launched: other.launched };
        let heard = observed.heard.as_ref().filter(|heard| heard.member == *instance);
        Some(Two { me, other, now: observed.now, heard })
    }

    /// Whose this table is.
    pub(super) fn owner(&self, table: &RouteTable) -> Owner {
        let Two { me, other, .. } = self;
        let mut zones = table.zones.iter();
        let only = zones.next().filter(|_| zones.next().is_none());
        let stands = |member: &Standing<'_>| only.is_some() && member.zone == only;
        let (member, zone) = match (stands(me), stands(other)) {
            (true, false) => (me, only),
            (false, true) => (other, only),
            _ if (me.launched, me.instance) < (other.launched, other.instance) => (me, None),
            _ => (other, None),
        };
        Owner { member: member.instance.clone(), zone: zone.cloned() }
    }

    /// Why this gateway leaves a route of that table, which leads nowhere, to its owner; `None` if it takes it.
    pub(super) fn leaves(&self, owner: &Owner) -> Option<String> {
        if owner.member != *self.other.instance {
            return None;
        }
        let age = self.now.0 - self.other.launched.0;
        let takes =
            |heard: &&PairStatus| heard.state == PeerState::Alive && heard.nowhere_s.unwrap_or_default() < TAKES;
        let why = match (0..EXPECTED).contains(&age) {
            true => format!("was launched {age} s ago"),
            false => self.heard.filter(takes).map(|_| "lives".to_owned())?,
        };
        Some(format!("it belongs to {owner}, which {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        name.parse().unwrap()
    }

    /// This gateway is `i-0000000a`, launched at 100 in zone a; the other one `i-0000000b`, launched at `launched` in `there`.
    fn owner(there: &str, launched: i64, zones: &[&str], heard: Option<&PairStatus>) -> (Owner, Option<String>) {
        let (mine, its) = ("i-0000000a".parse().unwrap(), "i-0000000b".parse().unwrap());
        let (here, there) = (zone("us-west-2a"), there.parse().ok());
        let me = Standing { instance: &mine, zone: Some(&here), launched: Timestamp(100) };
        let other = Standing { instance: &its, zone: there.as_ref(), launched: Timestamp(launched) };
        let two = Two { me, other, now: Timestamp(150), heard };
        let table = RouteTable { zones: zones.iter().map(|name| zone(name)).collect(), ..RouteTable::default() };
        let owner = two.owner(&table);
        let leaves = two.leaves(&owner);
        (owner, leaves)
    }

    #[test]
    fn a_table_of_one_zone_is_of_the_member_there_and_any_other_of_the_older_one() {
        let of = |there: &str, launched: i64, zones: &[&str]| owner(there, launched, zones, None).0.to_string();
        let (a, b) = ("us-west-2a", "us-west-2b");
        assert_eq!(of(b, 90, &[a]), "i-0000000a, the member in us-west-2a");
        assert_eq!(of(b, 90, &[b]), "i-0000000b, the member in us-west-2b");
        for zones in [&[a, b][..], &[], &["us-west-2c"]] {
            assert_eq!(of(b, 90, zones), "i-0000000b, the older member", "{zones:?}");
            assert_eq!(of(b, 110, zones), "i-0000000a, the older member", "{zones:?}");
        }
        // Both in one zone, or one of which EC2 has not said it.
        assert_eq!(of(a, 110, &[a]), "i-0000000a, the older member");
        assert_eq!(of("", 90, &[b]), "i-0000000b, the older member");
        assert_eq!(of(b, 100, &[]), "i-0000000a, the older member", "launched in one second, the ids decide");
    }

    #[test]
    fn a_route_is_left_to_its_owner_only_while_that_boots() {
        let leaves = |launched: i64, zones: &[&str]| owner("us-west-2b", launched, zones, None).1;
        assert!(leaves(140, &["us-west-2b"]).unwrap().contains("launched 10 s ago"));
        assert_eq!(leaves(140, &["us-west-2a"]), None, "its own");
        assert_eq!(leaves(150 - EXPECTED, &["us-west-2b"]), None, "it has had its time");
        assert_eq!(leaves(160, &["us-west-2b"]), None, "a clock that is wrong keeps nobody waiting");
    }
    #[test]
    fn one_that_is_heard_has_a_minute_for_a_route_that_is_new() {
        let heard = |state: &str, nowhere: Option<u64>| -> PairStatus {
            serde_json::from_value(serde_json::json!({
                "at": 150, "member": "i-0000000b", "address": "10.0.0.5", "state": state, "judgement": "", "heard_ms": 5,
                "its_health": "well", "own_health": "well", "role": "shared", "routes_here": 1, "routes_there": 1, "refused": {},
                "taken": null, "nowhere_s": nowhere
            }))
            .unwrap()
        };
        let leaves = |zone: &str, heard: &PairStatus| owner("us-west-2b", -1000, &[zone], Some(heard)).1;
        for nowhere in [None, Some(0), Some(TAKES - 1)] {
            assert!(leaves("us-west-2b", &heard("alive", nowhere)).unwrap().ends_with("in us-west-2b, which lives"));
        }
        assert_eq!(leaves("us-west-2b", &heard("alive", Some(TAKES))), None, "it does not take it");
        assert_eq!(leaves("us-west-2b", &heard("no-charon", None)), None);
        assert_eq!(leaves("us-west-2b", &heard("dead", None)), None);
        assert_eq!(leaves("us-west-2a", &heard("alive", None)), None, "its own");
    }
}
