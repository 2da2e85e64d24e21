//! Who is there: the answers of this pass against the peers of the last.
//!
//! This is the part of safety rules 1 (a failed answer changes nothing) and 2 (nobody leaves at once, nor too many together)
//! that hub and spoke share. [`super::election`] decides which gateway of a VPC is used.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    facts::{Facts, Held},
    findings::{Findings, Kept},
};
use crate::{
    model::{AccountId, AskError, ConnName, Gateway, InstanceId, RegionAnswer, Scope, VpcId},
    state::{LastGood, Peer},
};

const NO_ADDRESS: &str =
    "has no public address on its first network interface: associate an Elastic IP with that interface";

/// A VPC that stands after this pass.
#[derive(Debug, Clone)]
pub(super) struct Vpc {
    /// What was known about it; `None` for a new one.
    pub known: Option<Peer>,
    /// The gateway that was in use must no longer be used: EC2 says that it is not running, or neither EC2 nor charon shows it.
    pub gone: bool,
    /// The gateways that can be used, each with a public address: those that EC2 shows, and the one in use while that stays.
    pub gateways: BTreeMap<InstanceId, Gateway>,
}

/// Who stands after this pass.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pub vpcs: BTreeMap<VpcId, Vpc>,
    pub removed: BTreeSet<VpcId>,
    pub held: Option<Held>,
    pub regions: BTreeMap<Scope, LastGood>,
}

/// What EC2 shows of a VPC in this pass.
#[derive(Debug, Default)]
struct Shown {
    gateways: BTreeMap<InstanceId, Gateway>,
    /// Why some of its gateways cannot be used.
    unusable: Option<String>,
}

/// Whether a gateway can be a peer. The error is the reason for the report, or `None` if it needs no mention.
pub(super) type Eligible = Result<(), Option<String>>;

/// Merges the answers with the state. `connection` gives the name of the connection to a gateway.
pub(super) fn roster(
    facts: &Facts,
    connection: impl Fn(&Gateway) -> ConnName,
    eligible: impl Fn(&Gateway) -> Eligible,
    findings: &mut Findings,
) -> Roster {
    let (mut shown, regions) = shown(facts, &eligible, findings);
    let mut out = Roster { regions, ..Roster::default() };
    let mut kept = Vec::new();
    let mut leaving = BTreeMap::new();
    for (vpc, known) in facts.state.peers.iter().filter(|(_, known)| eligible(&known.gateway).is_ok()) {
        let shown = shown.remove(vpc).unwrap_or_default();
        let (stands, why) = match facts.answers.get(&known.gateway.scope()) {
            // Rule 1: the tunnel stands exactly as it was, even if the last good answer could not be used for it.
            Some(Err(reason)) => (as_it_was(known, &shown), Some(unasked(&known.gateway.scope(), reason))),
            _ => stands(known, shown, facts, &connection),
        };
        match stands {
            Stands::As(vpc_now) => {
                kept.extend(why.map(|why| Kept::new(&known.gateway, why)));
                out.vpcs.insert(vpc.clone(), vpc_now);
            }
            Stands::Leaving(peer) => {
                leaving.insert(vpc.clone(), peer);
            }
        }
    }
    for (vpc, shown) in shown.into_iter().filter(|(_, shown)| !shown.gateways.is_empty()) {
        out.vpcs.insert(vpc, Vpc { known: None, gone: false, gateways: shown.gateways });
    }
    hold(leaving, facts, connection, &mut out, &mut kept);
    kept.sort();
    findings.kept.append(&mut kept);
    out
}

fn unasked(region: &Scope, reason: &AskError) -> String {
    format!("{region} could not be asked: {reason}")
}

/// What every region shows, or last showed, by VPC.
fn shown(
    facts: &Facts,
    eligible: impl Fn(&Gateway) -> Eligible,
    findings: &mut Findings,
) -> (BTreeMap<VpcId, Shown>, BTreeMap<Scope, LastGood>) {
    let last = |(region, answer): (&Scope, &RegionAnswer)| {
        let last = match answer {
            Ok(view) => Some(LastGood { at: facts.observed.now, view: view.lasting() }),
            Err(_) => facts.state.regions.get(region).cloned(),
        };
        Some((region.clone(), last?))
    };
    let regions: BTreeMap<Scope, LastGood> = facts.answers.iter().filter_map(last).collect();
    let holders = Holders::of(facts, &regions);
    let mut shown: BTreeMap<VpcId, Shown> = BTreeMap::new();
    for (region, last) in &regions {
        for refusal in &last.view.unusable {
            if let Some(vpc) = refusal.vpc.as_ref().filter(|vpc| holders.other_than(region, vpc).is_none()) {
                shown.entry(vpc.clone()).or_default().unusable = Some(refusal.reason.clone());
            }
        }
        findings.refused.extend(last.view.unusable.iter().cloned());
        // By VPC id: the own VPC is never a peer, whatever its CIDRs look like.
        for gateway in last.view.gateways.iter().filter(|gateway| gateway.vpc != facts.me.vpc) {
            let eligible = match (holders.other_than(region, &gateway.vpc), gateway.public) {
                (Some(other), _) => Err(Some(of_two(&other))),
                (None, Some(_)) => eligible(gateway),
                (None, None) => Err(Some(NO_ADDRESS.into())),
            };
            match eligible {
                Ok(()) => {
                    let vpc = shown.entry(gateway.vpc.clone()).or_default();
                    vpc.gateways.insert(gateway.instance.clone(), gateway.clone());
                }
                Err(Some(why)) => findings.refuse(gateway, Some(&gateway.vpc), why),
                Err(None) => {}
            }
        }
    }
    (shown, regions)
}

/// Which account holds a VPC. A VPC is in one account, but one that is shared is shown in others too, and there somebody else may
/// start instances in it (Amazon VPC User Guide, "Share your VPC subnets with other accounts"): they must not take its tunnel.
struct Holders<'a> {
    known: &'a BTreeMap<VpcId, Peer>,
    /// The accounts that are listed.
    listed: BTreeSet<Option<&'a AccountId>>,
    /// Who shows a gateway of each VPC.
    shows: BTreeMap<&'a VpcId, BTreeSet<&'a Scope>>,
}

impl<'a> Holders<'a> {
    fn of(facts: &'a Facts, regions: &'a BTreeMap<Scope, LastGood>) -> Holders<'a> {
        let mut shows: BTreeMap<&VpcId, BTreeSet<&Scope>> = BTreeMap::new();
        for (scope, last) in regions {
            for gateway in &last.view.gateways {
                shows.entry(&gateway.vpc).or_default().insert(scope);
            }
        }
        let listed = facts.answers.keys().map(|scope| scope.account.as_ref()).collect();
        Holders { known: &facts.state.peers, listed, shows }
    }

    /// An account other than that of `scope` that holds this VPC: the one that its tunnel leads to while settings list that, and for
    /// a VPC without a tunnel any that shows it too.
    fn other_than(&self, scope: &Scope, vpc: &VpcId) -> Option<Scope> {
        let known = self.known.get(vpc).map(|peer| peer.gateway.scope());
        let holder = known.filter(|holder| self.listed.contains(&holder.account.as_ref()));
        let of_another = |holder: &Scope| holder.account != scope.account;
        match holder {
            Some(holder) => Some(holder).filter(of_another),
            None => self.shows.get(vpc)?.iter().copied().find(|shows| of_another(shows)).cloned(),
        }
    }
}

fn of_two(other: &Scope) -> String {
    format!(
        "{} has a gateway in this VPC too, and one account only may bring a VPC: run its gateways in one account, or take the other one \
         out of settings",
        other.whose()
    )
}

enum Stands {
    As(Vpc),
    Leaving(Peer),
}

/// A known VPC of a silent region, with the gateways of its last good answer.
fn as_it_was(known: &Peer, shown: &Shown) -> Stands {
    let mut gateways = shown.gateways.clone();
    gateways.insert(known.gateway.instance.clone(), known.gateway.clone());
    Stands::As(Vpc { known: Some(known.clone()), gone: false, gateways })
}

/// A known VPC whose region has answered or is no longer listed; and why it is kept, if that needs a mention.
fn stands(
    known: &Peer,
    shown: Shown,
    facts: &Facts,
    connection: impl Fn(&Gateway) -> ConnName,
) -> (Stands, Option<String>) {
    let in_use = &known.gateway;
    let back = Peer { misses: 0, missed_at: None, ..known.clone() };
    let Shown { mut gateways, unusable } = shown;
    if gateways.contains_key(&in_use.instance) {
        return (Stands::As(Vpc { known: Some(back), gone: false, gateways }), None);
    }
    let answer = facts.answers.get(&in_use.scope()).and_then(|answer| answer.as_ref().ok());
    let stopped = answer.is_some_and(|view| view.stopped.contains(&in_use.instance));
    // An address belongs to one instance.
    let replaced = gateways.values().any(|gateway| gateway.public == in_use.public);
    if !gateways.is_empty() && (stopped || replaced || facts.contacts.is_dead(&connection(in_use))) {
        return (Stands::As(Vpc { known: Some(back), gone: true, gateways }), None);
    }
    if let Some(reason) = unusable.filter(|_| !stopped) {
        // EC2 shows the gateway, only with data that cannot be used. Its tunnel stays up.
        gateways.insert(in_use.instance.clone(), in_use.clone());
        return (Stands::As(Vpc { known: Some(back), gone: false, gateways }), Some(reason));
    }
    let peer = missed(known, facts);
    let (misses, after) = (peer.misses, facts.settings.removal.after_misses);
    match (misses < after, gateways.is_empty()) {
        (true, _) => {
            gateways.insert(in_use.instance.clone(), in_use.clone());
            let why = if answer.is_some() { "not seen" } else { "its region is no longer listed" };
            let why = format!("{why}: poll {misses} of {after}");
            (Stands::As(Vpc { known: Some(peer), gone: false, gateways }), Some(why))
        }
        (false, false) => (Stands::As(Vpc { known: Some(peer), gone: true, gateways }), None),
        (false, true) => (Stands::Leaving(peer), None),
    }
}

/// The peer after a poll that missed it. A poll too soon after the last one that counted does not count: a pass that failed for
/// another reason is tried again after seconds.
fn missed(known: &Peer, facts: &Facts) -> Peer {
    // A clock that was set back counts as elapsed time. Otherwise the count would wait for it to catch up.
    let since = known.missed_at.map(|at| at.0.abs_diff(facts.observed.now.0));
    if since.is_some_and(|seconds| seconds < facts.settings.removal.spacing.as_secs()) {
        return known.clone();
    }
    Peer { misses: known.misses.saturating_add(1), missed_at: Some(facts.observed.now), ..known.clone() }
}

/// Rule 2: a pass that would remove too many peers removes none, because a tag or a role may have been changed by mistake. A few
/// that are certainly gone may leave all the same, or a small fleet would never be cleaned up. A hold ends when the polls have
/// confirmed it for long enough and EC2 says that the VPC itself is gone.
fn hold(
    leaving: BTreeMap<VpcId, Peer>,
    facts: &Facts,
    connection: impl Fn(&Gateway) -> ConnName,
    out: &mut Roster,
    kept: &mut Vec<Kept>,
) {
    let removal = &facts.settings.removal;
    let of = facts.state.peers.len();
    if facts.request.force || leaving.len() * 100 <= usize::from(removal.hold_above) * of {
        out.removed = leaving.into_keys().collect();
        return;
    }
    let would_remove = leaving.len();
    let view = |peer: &Peer| facts.answers.get(&peer.gateway.scope()).and_then(|answer| answer.as_ref().ok());
    let deleted = |peer: &Peer| view(peer).is_some_and(|view| view.deleted.contains(&peer.gateway.vpc));
    let stopped = |peer: &Peer| view(peer).is_some_and(|view| view.stopped.contains(&peer.gateway.instance));
    let surely_gone =
        |peer: &Peer| stopped(peer) || deleted(peer) || facts.contacts.is_dead(&connection(&peer.gateway));
    let few = leaving.values().filter(|peer| surely_gone(peer)).count() <= removal.hold_floor as usize;
    let may_leave =
        |peer: &Peer| (few && surely_gone(peer)) || (peer.misses >= removal.confirmed_after && deleted(peer));
    let (leaving, held): (BTreeMap<_, _>, BTreeMap<_, _>) = leaving.into_iter().partition(|(_, peer)| may_leave(peer));
    if !held.is_empty() {
        out.held = Some(Held { would_remove, of, hold_above: removal.hold_above });
    }
    for (vpc, peer) in held {
        kept.push(Kept::new(&peer.gateway, "not seen, but held: too many would leave at once".into()));
        let gateways = [(peer.gateway.instance.clone(), peer.gateway.clone())].into();
        out.vpcs.insert(vpc, Vpc { known: Some(peer), gone: false, gateways });
    }
    out.removed = leaving.into_keys().collect();
}
