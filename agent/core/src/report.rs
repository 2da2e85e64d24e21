//! report: what a pass saw, did, refused and kept, for a person and for a machine. Written to status.json.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    decide::{Decision, Held, Kept, Replacing},
    error::{Kind, STOPPED, WAITING},
    forwarding::Traffic,
    model::{Answers, Auth, Identity, KEY_TAG, Mode, PublicKey, Refusal, Region, Timestamp, Tunnel, VpcId},
};

/// What a pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything was as it should be; nothing was done.
    Unchanged,
    /// Steps were taken and read back as planned.
    Changed,
    /// `--dry-run`: the steps were not taken.
    Planned,
    /// Some peers failed, or charon stopped answering: `failed` and `problems` say what is not as planned. All the rest
    /// was done and read back.
    Partly,
    /// Something shared failed, or did not read back as planned; the whole old state was restored.
    RolledBack,
    /// As `RolledBack`, and restoring failed too: look at the problems.
    RollBackFailed,
}

/// A peer whose part of a pass failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFailure {
    pub why: String,
    /// It was read back that the peer has what it had before the pass.
    pub restored: bool,
}

/// One region's part in a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionReport {
    /// Gateways in its answer, or in the last good one if it could not be asked.
    pub gateways: usize,
    /// Why it could not be asked.
    pub failed: Option<String>,
    /// When the answer in use came; `None` if there never was one.
    pub answered: Option<Timestamp>,
}

/// One tunnel as configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelReport {
    pub vpc: Option<VpcId>,
    pub remote: Ipv4Addr,
    /// The CIDRs on the far side.
    pub remote_cidrs: BTreeSet<Ipv4Net>,
    pub local_cidrs: BTreeSet<Ipv4Net>,
    /// The fingerprints of the keys the peer may sign with; none with a pre-shared key.
    #[serde(default)]
    pub peer_keys: Vec<String>,
}

/// This gateway's own key, by its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReport {
    pub fingerprint: String,
    /// During a rotation the key that is to follow, and the peers that have not accepted it.
    pub next: Option<String>,
    pub waiting: BTreeSet<String>,
    /// The instance's tag reads back as it should.
    pub announced: bool,
}

/// The whole report of one pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub at: Timestamp,
    pub version: String,
    pub mode: Mode,
    pub me: Identity,
    pub outcome: Outcome,
    pub regions: BTreeMap<Region, RegionReport>,
    pub tunnels: BTreeMap<String, TunnelReport>,
    pub refused: BTreeSet<Refusal>,
    pub kept: Vec<Kept>,
    pub removed: BTreeSet<VpcId>,
    pub held: Option<Held>,
    /// Gateways that wait beside the ones in use (exit code 6).
    #[serde(default)]
    pub replacing: Vec<Replacing>,
    /// The peers whose part of this pass failed, by their connections (exit code 4).
    #[serde(default)]
    pub failed: BTreeMap<String, PeerFailure>,
    /// This gateway's own key; `None` if it has none.
    #[serde(default)]
    pub key: Option<KeyReport>,
    /// The steps, in order, as an operator reads them.
    pub steps: Vec<String>,
    /// The key that is still missing (exit code 2). An image is made without one and waits for it.
    pub waiting_for: Option<String>,
    /// What could not be asked (exit code 3).
    pub unasked: Vec<String>,
    /// New gateways whose key is only a matter of moments (exit code 3, so that the pass is made again soon).
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
    /// What this gateway forwards; `status` looks whether it still may.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// Worth reading, but no failure.
    pub notes: Vec<String>,
}

/// A pass that came to no report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    pub at: Timestamp,
    pub exit_code: u8,
    pub error: String,
}

impl Report {
    /// The report of a decision, before anything was done.
    pub fn new(at: Timestamp, mode: Mode, me: &Identity, answers: &Answers, decision: &Decision) -> Report {
        let regions = answers.iter().map(|(region, answer)| {
            let used = decision.state.regions.get(region);
            let report = RegionReport {
                gateways: used.map_or(0, |u| u.view.gateways.len()),
                failed: answer.as_ref().err().cloned(),
                answered: used.map(|u| u.at),
            };
            (region.clone(), report)
        });
        Report {
            at,
            version: env!("CARGO_PKG_VERSION").into(),
            mode,
            me: me.clone(),
            outcome: Outcome::Unchanged,
            regions: regions.collect(),
            tunnels: decision
                .tunnels
                .iter()
                .filter(|(_, t)| !t.children.is_empty())
                .map(|(n, t)| (n.to_string(), t.into()))
                .collect(),
            refused: decision.refused.clone(),
            kept: decision.kept.clone(),
            removed: decision.removed.clone(),
            held: decision.held.clone(),
            replacing: decision.replacing.clone(),
            failed: BTreeMap::new(),
            key: None,
            steps: Vec::new(),
            waiting_for: None,
            unasked: answers.iter().filter_map(|(r, a)| Some(format!("{r}: {}", a.as_ref().err()?))).collect(),
            awaited: decision.awaited.clone(),
            problems: Vec::new(),
            stopped: Vec::new(),
            source_dest_check: None,
            traffic: None,
            notes: Vec::new(),
        }
    }

    /// With that check on, EC2 drops whatever this gateway forwards.
    pub fn source_dest_problem(&self) -> Option<String> {
        let me = &self.me;
        (self.source_dest_check == Some(true)).then(|| {
            format!(
                "EC2's source/destination check of {} is on, which drops all that is forwarded; \
                 aws ec2 modify-instance-attribute --region {} --instance-id {} --no-source-dest-check",
                me.instance, me.region, me.instance
            )
        })
    }

    /// 0 if all is well, else the code of the worst thing in it. A dry run judges what it could see, not what it left.
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Partly | Outcome::RolledBack | Outcome::RollBackFailed => Kind::Apply.exit_code(),
            _ if !self.problems.is_empty() => Kind::Apply.exit_code(),
            _ if !self.unasked.is_empty() || !self.awaited.is_empty() => Kind::Observe.exit_code(),
            _ if self.waiting_for.is_some() => Kind::Settings.exit_code(),
            _ if !self.stopped.is_empty() => STOPPED,
            _ if self.held.is_some() || !self.replacing.is_empty() => WAITING,
            _ => 0,
        }
    }
}

impl From<&Tunnel> for TunnelReport {
    fn from(t: &Tunnel) -> Self {
        TunnelReport {
            vpc: t.vpc.clone(),
            remote: t.remote_addr,
            remote_cidrs: t.children.values().flat_map(|c| c.remote.iter().copied()).collect(),
            local_cidrs: t.children.values().flat_map(|c| c.local.iter().copied()).collect(),
            peer_keys: match &t.auth {
                Auth::Psk(_) => Vec::new(),
                Auth::Key { peer, .. } => peer.iter().map(PublicKey::fingerprint).collect(),
            },
        }
    }
}

impl TunnelReport {
    /// How the two ends know each other, for the end of a line. The first characters of a fingerprint tell keys apart.
    pub fn by(&self) -> String {
        let short = |key: &String| format!("{}...", key.get(..15).unwrap_or(key));
        match &self.peer_keys[..] {
            [] => "pre-shared key".into(),
            [key] => format!("key {}", short(key)),
            keys => format!("keys {}", keys.iter().map(short).collect::<Vec<_>>().join(" and ")),
        }
    }
}

impl KeyReport {
    fn waits(&self) -> String {
        let peers: Vec<&str> = self.waiting.iter().take(5).map(String::as_str).collect();
        let more = self.waiting.len() - peers.len();
        match (peers.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(": waits for {} to accept it", peers.join(", ")),
            (false, more) => format!(": waits for {} and {more} more to accept it", peers.join(", ")),
        }
    }
}

/// CIDRs on one line.
pub fn cidrs(cidrs: &BTreeSet<Ipv4Net>) -> String {
    cidrs.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ")
}

impl Report {
    /// Who this is, on one line.
    pub fn headline(&self) -> String {
        let me = &self.me;
        let public = me.public.map_or_else(|| "no public address".into(), |p| p.to_string());
        format!("{} in {} ({}), {public}, {}", self.mode, me.vpc, me.region, cidrs(&me.cidrs))
    }

    /// What was asked, and what was kept, refused, removed and held, and why. A line each; empty if all is plain.
    pub fn findings(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (region, r) in &self.regions {
            let count = plural(r.gateways, "gateway");
            out.push(match (&r.failed, r.answered) {
                (None, _) => format!("asked     {region}: {count}"),
                (Some(why), Some(_)) => format!("NO ANSWER {region}: {why}; its last good answer stands: {count}"),
                (Some(why), None) => format!("NO ANSWER {region}: {why}; it never answered before"),
            });
        }
        if let Some(key) = &self.key {
            let announced = if key.announced { "in" } else { "NOT in" };
            out.push(format!("own key   {} {announced} tag {KEY_TAG}", key.fingerprint));
            out.extend(key.next.iter().map(|next| format!("next key  {next}{}", key.waits())));
        }
        out.extend(self.kept.iter().map(|k| format!("kept      {} ({}): {}", k.vpc, k.region, k.why)));
        out.extend(self.replacing.iter().map(|r| {
            format!("REPLACING {} ({}): {} by {}, once that has worked: {}", r.vpc, r.region, r.old, r.new, r.why)
        }));
        out.extend(self.refused.iter().map(|r| format!("refused   {r}")));
        out.extend(self.removed.iter().map(|vpc| format!("removed   {vpc}")));
        if let Some(Held { would_remove, of, hold_above }) = &self.held {
            out.push(format!("HELD      {would_remove} of {of} peers would leave, more than {hold_above}%: none does"));
            out.push("          if that is right: crosswan refresh --force".into());
        }
        out
    }

    /// What was done and what went wrong, then the outcome.
    pub fn deeds(&self) -> Vec<String> {
        let mut out: Vec<String> = self.steps.iter().map(|step| format!("step      {step}")).collect();
        // A region that could not be asked is among the findings already.
        let regions: Vec<String> = self.regions.keys().map(|r| format!("{r}: ")).collect();
        let unasked = self.unasked.iter().filter(|u| !regions.iter().any(|r| u.starts_with(r)));
        out.extend(unasked.map(|u| format!("UNASKED   {u}")));
        out.extend(self.awaited.iter().map(|a| format!("AWAITED   {a}: refresh again soon, as systemd does")));
        out.extend(self.failures());
        out.extend(self.problems.iter().chain(&self.stopped).map(|p| format!("PROBLEM   {p}")));
        out.extend(self.notes.iter().map(|n| format!("note      {n}")));
        out.extend(self.waiting_for.iter().map(|key| format!("WAITING   {key}")));
        out
    }

    /// A line for each peer that failed; one for all that failed in the same words, as when charon is gone.
    fn failures(&self) -> Vec<String> {
        let mut alike: BTreeMap<(&str, bool), Vec<&str>> = BTreeMap::new();
        for (name, PeerFailure { why, restored }) in &self.failed {
            alike.entry((why, *restored)).or_default().push(name);
        }
        let line = |((why, restored), names): ((&str, bool), Vec<&str>)| {
            let more = names.len().saturating_sub(5);
            let names = names.into_iter().take(5).collect::<Vec<_>>().join(", ");
            let names = if more > 0 { format!("{names} and {more} more") } else { names };
            let now = match restored {
                true => "what was there before is in force again",
                false => "NOT RESTORED, the next refresh tries again",
            };
            format!("FAILED    {names}: {why}; {now}")
        };
        alike.into_iter().map(line).collect()
    }

    /// The outcome in words.
    pub fn verdict(&self) -> String {
        let but = match self.stopped.is_empty() {
            true => "",
            false => "; but this host stops packets, or will: see the problems",
        };
        self.outcome_in_words() + but
    }

    fn outcome_in_words(&self) -> String {
        let steps = plural(self.steps.len(), "step");
        match self.outcome {
            Outcome::Unchanged if !self.kept.is_empty() => {
                format!(
                    "nothing to do, and {} kept: everything read back as it should be",
                    plural(self.kept.len(), "peer")
                )
            }
            Outcome::Unchanged => "nothing to do: everything read back as it should be".into(),
            Outcome::Changed => format!("changed: {steps}, read back as planned"),
            Outcome::Planned if self.steps.is_empty() => "dry run: nothing to do".into(),
            Outcome::Planned => format!("dry run: {steps} planned, none taken"),
            Outcome::Partly if self.failed.is_empty() => {
                format!("PARTLY: {steps} read back as planned; see the problems")
            }
            Outcome::Partly => {
                format!("PARTLY: {steps} read back as planned, {} failed", plural(self.failed.len(), "peer"))
            }
            Outcome::RolledBack => "ROLLED BACK: what was there before is in force again".into(),
            Outcome::RollBackFailed => "ROLL-BACK FAILED: see the problems, then run crosswan refresh again".into(),
        }
    }
}

fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        for (name, t) in &self.tunnels {
            writeln!(f, "  tunnel    {name} to {} for {}, {}", t.remote, cidrs(&t.remote_cidrs), t.by())?;
        }
        for line in self.findings().iter().chain(&self.deeds()) {
            writeln!(f, "  {line}")?;
        }
        f.write_str(&self.verdict())
    }
}

#[cfg(test)]
mod tests;
