//! Which segment each VPC is in, by its tag. What is not certain isolates: a name that settings do not know reaches only its like, and
//! what is no name reaches nobody.

use std::{collections::BTreeMap, fmt};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::findings::Findings;
use crate::{
    model::{Realm, SegmentName, SegmentTag, Segments, VpcId},
    observed::Observed,
    settings::{Segmentation, Settings},
    state::{Peer, State},
};

/// The segment of a VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Its name; `None` if the VPC is in none and reaches nobody.
    pub segment: Option<SegmentName>,
    /// Why it reaches less than its tag may have meant, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl fmt::Display for Membership {
    /// `segment prod`, `no segment`, `segment lab (unknown)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.segment, &self.why) {
            (None, _) => f.write_str("no segment"),
            (Some(name), None) => write!(f, "segment {name}"),
            (Some(name), Some(_)) => write!(f, "segment {name} (unknown to settings)"),
        }
    }
}

/// The segments of a pass.
#[derive(Debug, Clone)]
pub struct Segmented {
    /// Who may reach whom.
    pub rules: Segments,
    /// The own VPC's.
    pub own: Membership,
    /// The client VPCs'.
    pub of: BTreeMap<VpcId, Membership>,
    /// What to remember of the own VPC's tag.
    pub tag: Option<SegmentTag>,
}

impl Membership {
    /// `why` goes on from its words, with a colon or a comma.
    fn nobody(why: impl fmt::Display) -> Membership {
        Membership { segment: None, why: Some(format!("is in no segment and reaches nobody{why}")) }
    }

    fn realm(&self) -> Realm {
        self.segment.as_ref().map_or(Realm::NOBODY, Realm::of)
    }
}

/// Decides the segments of this VPC and of the `peers`; `None` where settings have none. Adds to the findings who is isolated.
pub(super) fn segments(
    settings: &Settings,
    observed: &Observed,
    peers: &BTreeMap<VpcId, Peer>,
    findings: &mut Findings,
) -> Option<Segmented> {
    let segmentation = settings.segments.as_ref()?;
    let tag = match &observed.segment {
        Some(Ok(tag)) => Some(tag.clone()),
        // What is not known is not changed.
        _ => observed.state.segment.clone(),
    };
    let names =
        Names::of(segmentation, tag.iter().chain(peers.values().filter_map(|peer| peer.gateway.segment.as_ref())));
    let unread = ", as its tag could not be read yet: let this gateway's role describe VPCs, and run crosswan refresh";
    let own = tag.as_ref().map_or_else(|| Membership::nobody(unread), |tag| names.membership(tag));
    let member = |peer: &Peer| {
        let unasked = || Membership::nobody(", as its region has not answered since there are segments");
        let found = peer.gateway.segment.as_ref().map_or_else(unasked, |tag| names.membership(tag));
        let Some(account) = &peer.gateway.account else { return found };
        let Some(account) = settings.accounts.get(account) else {
            // Which segments it might be in is not known any more, and its tunnels leave.
            return Membership::nobody(": its account is not in settings any more");
        };
        match (&account.segments, &found.segment) {
            (Some(allowed), Some(name)) if !allowed.contains(name) => Membership::nobody(format!(
                ": its segment {name} is not in segments of account {}, whose VPCs may not be in it",
                account.name
            )),
            _ => found,
        }
    };
    let of: BTreeMap<VpcId, Membership> = peers.iter().map(|(vpc, peer)| (vpc.clone(), member(peer))).collect();
    let reached = of.values().chain([&own]).filter_map(|member| member.segment.clone());
    let strangers = reached.filter(|name| !segmentation.reach.contains_key(name)).collect();
    findings.notes.extend(own.why.iter().map(|why| format!("the hub's own {} {why}", observed.me.vpc)));
    for (vpc, member) in &of {
        let region = peers.get(vpc).map(|peer| peer.gateway.scope().to_string()).unwrap_or_default();
        findings.notes.extend(member.why.iter().map(|why| format!("{vpc} ({region}) {why}")));
    }
    let rules = Segments { reach: segmentation.reach.clone(), strangers, hub: own.segment.clone() };
    Some(Segmented { rules, own, of, tag })
}

impl Segmented {
    /// The realm of each network with a tunnel.
    pub(super) fn realm<'a>(&'a self, state: &'a State) -> impl Fn(&Ipv4Net) -> Realm + use<'a> {
        let nets = state.peers.iter().flat_map(|(vpc, peer)| {
            let realm = self.of.get(vpc).map_or(Realm::NOBODY, Membership::realm);
            peer.gateway.cidrs.iter().map(move |net| (net.trunc(), realm))
        });
        let realms: BTreeMap<Ipv4Net, Realm> = nets.collect();
        move |net| realms.get(net).copied().unwrap_or(Realm::NOBODY)
    }
}

/// The names that have a realm of their own.
struct Names<'a> {
    segmentation: &'a Segmentation,
    /// Whose each realm is: settings' names come first, then those of tags in their order.
    of: BTreeMap<Realm, SegmentName>,
}

impl<'a> Names<'a> {
    fn of<'t>(segmentation: &'a Segmentation, tags: impl Iterator<Item = &'t SegmentTag>) -> Names<'a> {
        let mut tagged: Vec<SegmentName> = tags.filter_map(SegmentTag::name).collect();
        tagged.sort();
        let mut of = BTreeMap::new();
        for name in segmentation.reach.keys().cloned().chain(tagged) {
            of.entry(Realm::of(&name)).or_insert(name);
        }
        Names { segmentation, of }
    }

    fn membership(&self, tag: &SegmentTag) -> Membership {
        let key = crate::model::plain(&self.segmentation.tag);
        let Some(name) = tag.name() else {
            return Membership::nobody(format!(
                ": its tag {key} is {tag}, which is not of 1 to 64 letters, digits, dots, hyphens \
                 and underscores"
            ));
        };
        let holder = self.of.get(&Realm::of(&name));
        if let Some(other) = holder.filter(|other| **other != name) {
            return Membership::nobody(format!(
                ": the realm of its segment {name} is that of {other}; give its tag {key} another name"
            ));
        }
        let why = (!self.segmentation.reach.contains_key(&name)).then(|| {
            format!(
                "is in segment {name}, which settings do not know, so it reaches only VPCs of that name: add {name} to segments, or \
                 correct its tag {key}"
            )
        });
        Membership { segment: Some(name), why }
    }
}
