//! Who is there: the answers of this pass against the peers of the last, one gateway per VPC.
//!
//! The half of `decide` that hub and spoke share: safety rules 1 (a failed answer changes nothing), 2 (nobody leaves
//! at once, nor too many together) and 4 (one gateway per VPC).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    decide::{Held, Seen, refusal},
    model::{Gateway, Refusal, Region, VpcId},
    settings::Removal,
    state::{LastGood, Peer},
};

/// A tunnel that stands although this pass did not see its peer as it should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kept {
    pub vpc: VpcId,
    pub region: Region,
    pub why: String,
}

impl Kept {
    pub fn new(gateway: &Gateway, why: String) -> Self {
        Kept { vpc: gateway.vpc.clone(), region: gateway.region.clone(), why }
    }
}

/// Who stands after this pass.
#[derive(Debug, Default)]
pub struct Roster {
    /// At most one gateway per VPC, each with a public address.
    pub peers: BTreeMap<VpcId, Peer>,
    pub refused: BTreeSet<Refusal>,
    pub kept: Vec<Kept>,
    pub removed: BTreeSet<VpcId>,
    pub held: Option<Held>,
    pub regions: BTreeMap<Region, LastGood>,
}

/// Merges the answers with the state.
pub fn roster(removal: &Removal, seen: &Seen, force: bool) -> Roster {
    let mut out = Roster::default();
    let mut failed = BTreeMap::new();
    let mut unusable = BTreeMap::new();
    let mut candidates: BTreeMap<VpcId, Vec<Gateway>> = BTreeMap::new();
    for (region, answer) in seen.answers {
        let last = match answer {
            Ok(view) => Some(LastGood { at: seen.now, view: view.clone() }),
            Err(reason) => {
                failed.insert(region, reason);
                seen.state.regions.get(region).cloned()
            }
        };
        let Some(last) = last else { continue };
        unusable.extend(last.view.unusable.iter().filter_map(|r| Some((r.vpc.clone()?, r.reason.clone()))));
        out.refused.extend(last.view.unusable.iter().cloned());
        for gateway in &last.view.gateways {
            // By VPC id: the own VPC is never a peer, whatever its CIDRs look like.
            if gateway.vpc != seen.me.vpc {
                candidates.entry(gateway.vpc.clone()).or_default().push(gateway.clone());
            }
        }
        out.regions.insert(region.clone(), last);
    }
    for gateways in candidates.into_values() {
        if let Some(gateway) = newest(gateways, &mut out.refused) {
            out.peers.insert(gateway.vpc.clone(), Peer::new(gateway));
        }
    }

    let mut leaving = BTreeMap::new();
    for (vpc, known) in &seen.state.peers {
        let region = &known.gateway.region;
        if let Some(reason) = failed.get(region) {
            // Rule 1: the tunnel stands exactly as it was, even if the last good answer was odd about it.
            out.kept.push(Kept::new(&known.gateway, format!("{region} could not be asked: {reason}")));
            out.peers.insert(vpc.clone(), known.clone());
        } else if out.peers.contains_key(vpc) {
            continue;
        } else if let Some(reason) = unusable.get(vpc) {
            // It is there; only what EC2 said of it does not fit. That is no reason to take its tunnel down.
            out.kept.push(Kept::new(&known.gateway, reason.clone()));
            out.peers.insert(vpc.clone(), known.clone());
        } else {
            let peer = missed(known, removal, seen);
            let misses = peer.misses;
            let why = if seen.answers.contains_key(region) { "not seen" } else { "its region is no longer listed" };
            if misses < removal.after_misses {
                let after = removal.after_misses;
                out.kept.push(Kept::new(&peer.gateway, format!("{why}: poll {misses} of {after}")));
                out.peers.insert(vpc.clone(), peer);
            } else {
                leaving.insert(vpc.clone(), peer);
            }
        }
    }

    let of = seen.state.peers.len();
    if !force && leaving.len() * 100 > usize::from(removal.hold_above) * of {
        out.held = Some(Held { would_remove: leaving.len(), of, hold_above: removal.hold_above });
        for peer in leaving.values() {
            out.kept.push(Kept::new(&peer.gateway, "not seen, but held: too many would leave at once".into()));
        }
        out.peers.append(&mut leaving);
    }
    out.removed = leaving.into_keys().collect();
    out.kept.sort();
    out
}

/// The peer after a poll that missed it. A poll too soon after the last one that counted tells nothing new: a pass that
/// failed elsewhere is tried again after seconds.
fn missed(known: &Peer, removal: &Removal, seen: &Seen) -> Peer {
    // A clock that was set back counts as time gone by, or the count would wait for it to catch up.
    let since = known.missed_at.map(|at| at.0.abs_diff(seen.now.0));
    if since.is_some_and(|seconds| seconds < removal.spacing.as_secs()) {
        return known.clone();
    }
    Peer { misses: known.misses.saturating_add(1), missed_at: Some(seen.now), ..known.clone() }
}

/// Rule 4: the newest gateway with a public address. One without is refused even if it is the newest: the older one
/// may be carrying the tunnel until the new one has its Elastic IP.
fn newest(gateways: Vec<Gateway>, refused: &mut BTreeSet<Refusal>) -> Option<Gateway> {
    let (mut usable, unaddressed): (Vec<_>, Vec<_>) = gateways.into_iter().partition(|g| g.public.is_some());
    for g in &unaddressed {
        refused.insert(refusal(
            g,
            Some(&g.vpc),
            "has no public address on its first network interface: associate an Elastic IP with that one".into(),
        ));
    }
    usable.sort_by(|a, b| (a.launched, &a.instance).cmp(&(b.launched, &b.instance)));
    let winner = usable.pop()?;
    for g in &usable {
        let reason = format!("{} in the same VPC was launched later", winner.instance);
        refused.insert(refusal(g, Some(&g.vpc), reason));
    }
    Some(winner)
}
