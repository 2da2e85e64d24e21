//! report: what a pass saw, did, refused and kept, for people and for machines. The agent writes it to status.json.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

mod words;

pub use words::cidrs;

use crate::{
    decide::{AddressIs, Decided, Held, Kept, Membership, OwnAddress, Owner, Replacing, RouteIs},
    error::{Kind, STOPPED, WAITING},
    forwarding::Traffic,
    model::{
        AccountName, Auth, Identity, Mode, OwnKeys, Place, PublicKey, Reach, Refusal, Region, RegionAnswer,
        RouteTableId, Scope, Timestamp, Tunnel, VpcId,
    },
    observed::Observed,
    outcome::{Outcome, PeerFailure, Verdict},
    plan::leads_to,
    settings::{AuthMethod, Settings},
    system::Followed,
};

/// The note where EC2's check is not known: EC2 is asked about the own instance only if this gateway has a key.
const NOT_LOOKED_AT: &str = "EC2's source/destination check is unknown, as EC2 was not asked about this instance or did not say: it must be off";
const NOT_PROMOTED: &str = "this gateway's next key does not take over in this pass: both stay valid";

/// One region's part of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionReport {
    /// The number of gateways in its answer, or in the last good one if it could not be asked.
    pub gateways: usize,
    /// Why it could not be asked.
    pub failed: Option<String>,
    /// When the answer that is used came; `None` if there has never been one.
    pub answered: Option<Timestamp>,
    /// What settings call the account; `None` for the own one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
}

/// One tunnel, as it was decided on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelReport {
    /// The peer's VPC; `None` where only the hub's address is known.
    pub vpc: Option<VpcId>,
    /// What settings call the account of the peer's VPC; `None` for the own one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
    /// The region of the peer's VPC, where EC2 showed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// The peer's public address.
    pub remote: Ipv4Addr,
    /// The CIDRs on the far side.
    pub remote_cidrs: BTreeSet<Ipv4Net>,
    /// The CIDRs on the near side.
    pub local_cidrs: BTreeSet<Ipv4Net>,
    /// The segment of the peer's VPC; `None` where there are no segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<Membership>,
    /// Whether it stands by: routes lead its networks to another gateway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stands_by: bool,
    /// Whether the other hub of the pair carries its networks, as it is down here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_other_hub: bool,
    /// The fingerprints of the keys that the peer may sign with; empty with a pre-shared key.
    #[serde(default)]
    pub peer_keys: Vec<String>,
}

/// A route of the own VPC that leads to this gateway, or could.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReport {
    /// The route table.
    pub table: RouteTableId,
    /// The destination.
    pub to: Ipv4Net,
    /// How it is.
    pub is: RouteIs,
    /// The member of the pair that the table belongs to; `None` where there are no two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// Who may reach whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentsReport {
    /// The segment of the own VPC.
    pub own: Membership,
    /// Whom each segment that settings know may initiate to.
    pub reach: Reach,
}

/// This gateway's own keys, by their fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReport {
    /// The fingerprint of the key that this gateway signs with.
    pub fingerprint: String,
    /// The fingerprint of the next key, during a rotation.
    pub next: Option<String>,
    /// The peers that have not accepted it: VPC ids, or the address of a hub that EC2 does not show.
    pub waiting: BTreeSet<String>,
    /// Whether the instance's tags say what they should.
    pub announced: bool,
}

/// The whole report of one pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// When the pass began.
    pub at: Timestamp,
    /// The version of crosswan that made it.
    pub version: String,
    /// The mode that the settings asked for.
    pub mode: Mode,
    /// Who this gateway is.
    pub me: Identity,
    /// The pass in a word.
    pub outcome: Verdict,
    /// The regions that were asked, without those that the account has not enabled.
    pub regions: BTreeMap<Scope, RegionReport>,
    /// The tunnels that were decided on, by their connections.
    pub tunnels: BTreeMap<String, TunnelReport>,
    /// Gateways, VPCs and CIDRs that get no tunnel, with the reasons.
    pub refused: BTreeSet<Refusal>,
    /// Tunnels that stand although their peers were not seen as they should be.
    pub kept: Vec<Kept>,
    /// VPCs that left with this pass.
    pub removed: BTreeSet<VpcId>,
    /// Set if peers stay because too many would have left (exit code 6).
    pub held: Option<Held>,
    /// Gateways that wait beside the ones in use (exit code 6).
    #[serde(default)]
    pub replacing: Vec<Replacing>,
    /// The peers whose part of this pass failed, by their connections (exit code 4).
    #[serde(default)]
    pub failed: BTreeMap<String, PeerFailure>,
    /// The pairs at far ends of which a member has said that it is to be used, and whether this pass went against that.
    #[serde(default, skip_serializing_if = "Followed::is_empty")]
    pub followed: Followed,
    /// The Elastic IP that settings ask for (exit code 6 if this gateway waits for it); `None` if they ask for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<AddressIs>,
    /// Who may reach whom; `None` where there are no segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<SegmentsReport>,
    /// The routes of the own VPC's tagged tables (exit code 6 if one waits).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteReport>,
    /// This gateway's own key; `None` if it has none.
    #[serde(default)]
    pub key: Option<KeyReport>,
    /// The steps, in order, as an operator reads them.
    pub steps: Vec<String>,
    /// The pre-shared key that is still missing (exit code 2). An image is made without one and waits for it.
    pub waiting_for: Option<String>,
    /// What could not be asked (exit code 3).
    pub unasked: Vec<String>,
    /// New gateways that should announce their key in a moment (exit code 3, so that another pass follows soon).
    #[serde(default)]
    pub awaited: Vec<String>,
    /// What went wrong in the pass (exit code 4).
    pub problems: Vec<String>,
    /// What else on this host stops or changes packets, or will (exit code 7).
    #[serde(default)]
    pub stopped: Vec<String>,
    /// EC2's source/destination check of the own interface; `None` where EC2 was not asked for it.
    #[serde(default)]
    pub source_dest_check: Option<bool>,
    /// What this gateway forwards; `crosswan status` checks whether other rules still let it pass.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// Things that an operator should know and that are not failures.
    pub notes: Vec<String>,
}

/// A pass that ended in an error, before there was a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailedPass {
    /// When it ended.
    pub at: Timestamp,
    /// The exit code of the process.
    pub exit_code: u8,
    /// The error with its causes, on one line.
    pub error: String,
}

impl Report {
    /// Makes the report of a pass or of a dry run, once its outcome is known.
    pub fn of(settings: &Settings, observed: &Observed, decided: &Decided, outcome: Outcome) -> Report {
        let Decided { findings, .. } = decided;
        let check = match outcome.check_stopped {
            Some(Ok(())) => Some(false),
            _ => observed.source_dest_check(),
        };
        let in_force = outcome.is_in_force() || outcome.verdict == Verdict::Planned;
        let still_there = |vpc: &VpcId| outcome.failed.keys().any(|name| leads_to(name, vpc));
        let removes = in_force && (observed.system.charon.is_some() || outcome.verdict == Verdict::Planned);
        let removed = decided.removed.iter().filter(|vpc| removes && !still_there(vpc));
        let needs_psk = settings.mode.has_ipsec() && settings.auth.method == AuthMethod::Psk;
        let mut report = Report {
            at: observed.now,
            version: env!("CARGO_PKG_VERSION").into(),
            mode: settings.mode,
            me: observed.me.clone(),
            outcome: outcome.verdict,
            regions: regions(settings, observed, decided),
            tunnels: decided
                .tunnels
                .iter()
                .filter(|(_, tunnel)| !tunnel.children.is_empty())
                .map(|(name, tunnel)| (name.to_string(), TunnelReport::of(tunnel, settings, decided)))
                .collect(),
            refused: findings.refused.clone(),
            kept: findings.kept.clone(),
            removed: removed.cloned().collect(),
            held: decided.held.clone(),
            replacing: findings.replacing.clone(),
            followed: observed.system.followed.without(&decided.overruled),
            address: address(decided, &outcome),
            segments: decided
                .segments
                .as_ref()
                .map(|segments| SegmentsReport { own: segments.own.clone(), reach: segments.rules.reach.clone() }),
            routes: vpc_routes(decided, &outcome),
            key: observed.own.map(|own| KeyReport::of(&own, decided, &outcome)),
            waiting_for: observed.psks.missing.clone().filter(|_| needs_psk),
            unasked: observed.unasked.clone(),
            awaited: findings.awaited.clone(),
            problems: observed.problems.clone(),
            stopped: observed.stopped.clone(),
            source_dest_check: check,
            traffic: Some(observed.traffic.clone()),
            notes: observed.notes.clone(),
            steps: outcome.steps,
            failed: outcome.failed.into_iter().map(|(name, failure)| (name.to_string(), failure)).collect(),
        };
        let silent: Vec<String> = report.silent().collect();
        report.unasked.splice(0..0, silent);
        if let Some(Err(why)) = &observed.tags {
            report.unasked.push(format!("look up this gateway's own tags: {why}"));
        }
        match &observed.vpc {
            // Whoever asks for nothing of this kind, such as a nat-hub without a role, need not permit it.
            Some(Err(why)) if why.is_about_rights() => {
                report
                    .notes
                    .push(format!("the VPC's route tables were not looked at, so its routes are yours to set: {why}"));
            }
            Some(Err(why)) => report.unasked.push(format!("look up the VPC's route tables: {why}")),
            _ => {}
        }
        if let Some(Err(why)) = &observed.segment {
            report.unasked.push(format!("look up the segment of this hub's own VPC: {why}"));
        }
        if let Some(Err(why)) = &observed.addresses {
            report.unasked.push(format!("look up the Elastic IP: {why}"));
        }
        report.unasked.extend(outcome.unasked);
        report.problems.extend(outcome.problems);
        // A dry run has the step that ends it.
        report.stopped.extend(report.source_dest_problem().filter(|_| report.outcome != Verdict::Planned));
        if let Some(Err(why)) = &outcome.check_stopped {
            report.notes.push(format!("this gateway could not turn off EC2's source/destination check itself: {why}"));
        }
        match observed.vpc.iter().flatten().find_map(|vpc| vpc.zones_unasked.as_ref()) {
            Some(why) if why.is_about_rights() => report.notes.push(format!(
                "zones were not looked at, so every table belongs to the older member of the pair: {why}"
            )),
            Some(why) => report.unasked.push(format!("look up the zones of the VPC's subnets: {why}")),
            None => {}
        }
        // Nobody misses the key of one that is alone and was not to be anything else.
        let missed = settings.needs_key() || observed.has_company();
        let unannounced = outcome.unannounced.as_ref().filter(|_| missed);
        report.notes.extend(unannounced.map(|why| format!("no pair: this gateway may not announce its key: {why}")));
        // Where EC2 could not be asked, that is said already.
        let not_looked_at = check.is_none() && !matches!(observed.tags, Some(Err(_)));
        report.notes.extend(not_looked_at.then(|| NOT_LOOKED_AT.to_owned()));
        let promotes = decided.presence.as_ref().is_some_and(|presence| presence.promote);
        report.notes.extend((promotes && !outcome.promoted).then(|| NOT_PROMOTED.to_owned()));
        report.notes.extend(findings.notes.iter().cloned());
        report.notes.extend(findings.not_enabled.iter().map(|region| region.to_string()));
        report.notes.extend(settings.warnings.iter().cloned());
        report
    }

    /// A line for each region that could not be asked.
    fn silent(&self) -> impl Iterator<Item = String> {
        self.regions.iter().filter_map(|(region, r)| Some(format!("{}: {}", r.place(region), r.failed.as_ref()?)))
    }

    /// The problem that EC2's source/destination check is on, if it is: EC2 then drops everything that this gateway forwards.
    pub fn source_dest_problem(&self) -> Option<String> {
        let me = &self.me;
        (self.source_dest_check == Some(true)).then(|| {
            format!(
                "EC2's source/destination check of {} is on, so EC2 drops everything that it forwards; turn it off: \
                 aws ec2 modify-instance-attribute --region {} --instance-id {} --no-source-dest-check",
                me.instance, me.region, me.instance
            )
        })
    }

    /// Whether everything is in force, whatever else waits or stops packets.
    pub fn is_in_force(&self) -> bool {
        matches!(self.exit_code(), 0 | WAITING | STOPPED)
    }

    /// Whether a route waits until this gateway has worked.
    pub fn waits_for_routes(&self) -> bool {
        self.routes.iter().any(|route| matches!(route.is, RouteIs::Waits(_)))
    }

    /// Whether a tunnel that comes up is a reason for another pass: a route waits for it, or leads to the other hub of the pair until then.
    pub fn waits_for_tunnels(&self) -> bool {
        self.waits_for_routes() || self.tunnels.values().any(|tunnel| tunnel.by_other_hub)
    }

    /// Whether this gateway waits for its Elastic IP.
    pub fn waits_for_address(&self) -> bool {
        matches!(self.address, Some(AddressIs::Waits(_)))
    }

    /// The report of two passes, of which the first one took an address: what was done in both.
    pub fn after(mut self, first: Report) -> Report {
        self.steps.splice(0..0, first.steps);
        if self.outcome == Verdict::Unchanged {
            self.outcome = Verdict::Changed;
        }
        self
    }

    /// 0 if all is well, otherwise the code of the worst thing in the report. That of a dry run depends only on what it has seen.
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            Verdict::Partly | Verdict::RolledBack | Verdict::RollBackFailed => Kind::Apply.exit_code(),
            _ if !self.problems.is_empty() => Kind::Apply.exit_code(),
            _ if !self.unasked.is_empty() || !self.awaited.is_empty() => Kind::Observe.exit_code(),
            _ if self.waiting_for.is_some() => Kind::Settings.exit_code(),
            _ if !self.stopped.is_empty() => STOPPED,
            _ if self.held.is_some() || !self.replacing.is_empty() => WAITING,
            _ if self.waits_for_address() || self.waits_for_routes() => WAITING,
            _ => 0,
        }
    }
}

/// The Elastic IP as EC2 showed it, or as it is after this pass.
fn address(decided: &Decided, outcome: &Outcome) -> Option<AddressIs> {
    match &decided.address {
        OwnAddress::Is(is) => Some(is.clone()),
        OwnAddress::Take(_) => outcome.address.clone(),
        OwnAddress::Unasked => None,
    }
}

/// The routes as EC2 showed them, or as they are after this pass.
fn vpc_routes(decided: &Decided, outcome: &Outcome) -> Vec<RouteReport> {
    let mut routes = decided.vpc_routes.are.clone();
    routes.extend(outcome.routes.clone());
    let owner = |table: &RouteTableId| decided.vpc_routes.owners.get(table).cloned();
    routes.into_iter().map(|((table, to), is)| RouteReport { owner: owner(&table), table, to, is }).collect()
}

/// The regions that count, by name.
fn regions(settings: &Settings, observed: &Observed, decided: &Decided) -> BTreeMap<Scope, RegionReport> {
    let left_out = |region: &Scope| decided.findings.not_enabled.iter().any(|out| out.region == *region);
    let answers = observed.answers.iter().filter(|(region, _)| !left_out(region));
    let report = |(region, answer): (&Scope, &RegionAnswer)| {
        let used = decided.state.regions.get(region);
        let report = RegionReport {
            gateways: used.map_or(0, |last| last.view.gateways.len()),
            failed: answer.as_ref().err().map(ToString::to_string),
            answered: used.map(|last| last.at),
            account: settings.name_of(region.account.as_ref()),
        };
        (region.clone(), report)
    };
    answers.map(report).collect()
}

impl RegionReport {
    /// The region for the beginning of a line, with the name of the account.
    pub(crate) fn place(&self, region: &Scope) -> String {
        let name =
            self.account.as_ref().filter(|name| Some(name.as_str()) != region.account.as_ref().map(|id| id.as_str()));
        name.map_or_else(|| region.to_string(), |name| format!("{region} ({name})"))
    }
}

impl TunnelReport {
    fn of(t: &Tunnel, settings: &Settings, decided: &Decided) -> Self {
        let routing = &decided.routing;
        let peer = t.vpc.as_ref().and_then(|vpc| decided.state.peers.get(vpc));
        let remote = || t.children.values().flat_map(|child| child.remote.iter().copied());
        let leads = |place| move |net: Ipv4Net| routing.routes.get(&net).is_some_and(|via| via.place == place);
        let is_across = t.place == Place::Across;
        let by_other_hub = !is_across && remote().any(leads(Place::Across));
        let used = match is_across {
            true => routing.routes.values().any(|via| via.place == Place::Across),
            false => by_other_hub || remote().any(leads(t.place)),
        };
        TunnelReport {
            stands_by: !used,
            by_other_hub,
            vpc: t.vpc.clone(),
            account: settings.name_of(peer.and_then(|peer| peer.gateway.account.as_ref())),
            region: peer.map(|peer| peer.gateway.region.clone()),
            segment: t.vpc.as_ref().and_then(|vpc| decided.segments.as_ref()?.of.get(vpc).cloned()),
            remote: t.remote_addr,
            remote_cidrs: remote().collect(),
            local_cidrs: t.children.values().flat_map(|c| c.local.iter().copied()).collect(),
            peer_keys: match &t.auth {
                Auth::Psk(_) => Vec::new(),
                Auth::Key { peer, .. } => peer.iter().map(PublicKey::fingerprint).collect(),
            },
        }
    }

    /// Whether it is used, for the end of a line.
    pub fn standing(&self) -> &'static str {
        match (self.by_other_hub, self.stands_by) {
            (true, _) => ", reached by the other hub",
            (false, true) => ", stands by",
            (false, false) => "",
        }
    }

    /// How the two ends authenticate, for the end of a line: `pre-shared key`, or the beginnings of the fingerprints of the peer's
    /// keys, which are enough to distinguish them.
    pub fn authentication(&self) -> String {
        let short = |key: &String| format!("{}...", key.get(..15).unwrap_or(key));
        match &self.peer_keys[..] {
            [] => "pre-shared key".into(),
            [key] => format!("key {}", short(key)),
            keys => format!("keys {}", keys.iter().map(short).collect::<Vec<_>>().join(" and ")),
        }
    }
}

impl KeyReport {
    fn of(own: &OwnKeys, decided: &Decided, outcome: &Outcome) -> KeyReport {
        let (current, next) = match own.next_key() {
            Some(next) if outcome.promoted => (next, None),
            next => (own.current.key, next),
        };
        KeyReport {
            fingerprint: current.fingerprint(),
            next: next.map(|key| key.fingerprint()),
            waiting: decided.presence.as_ref().map(|presence| presence.waiting.clone()).unwrap_or_default(),
            announced: decided.presence.is_some() && (decided.announce.is_empty() || outcome.announced),
        }
    }
}

#[cfg(test)]
mod tests;
