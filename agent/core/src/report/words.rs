//! A report as text for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::Ipv4Net;

use super::{KeyReport, RegionReport, Report, RouteReport};
use crate::{
    decide::{AddressIs, Held, RouteIs},
    model::{InstanceId, KEY_TAG, SegmentName},
    outcome::{PeerFailure, Verdict},
    text::plural,
};

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

impl RegionReport {
    /// What came of asking, on one line that begins with a word for it and with this place.
    pub(crate) fn in_words(&self, place: impl fmt::Display) -> String {
        let count = plural(self.gateways, "gateway");
        match (&self.failed, self.answered) {
            (None, _) => format!("asked     {place}: {count}"),
            (Some(why), Some(_)) => format!("NO ANSWER {place}: {why}; its last good answer stands: {count}"),
            (Some(why), None) => format!("NO ANSWER {place}: {why}; it never answered before"),
        }
    }
}

impl RouteReport {
    /// That a route that leads here belongs to the other member, for the end of a line.
    fn elsewhere(&self, me: &InstanceId) -> String {
        let owner = self.owner.as_ref().filter(|owner| owner.member != *me);
        owner.map(|owner| format!(", and its table belongs to {owner}")).unwrap_or_default()
    }

    /// That a route that leads to the other member belongs to this one, for the end of a line.
    fn mine(&self, me: &InstanceId) -> String {
        let owner = self.owner.as_ref().filter(|owner| owner.member == *me);
        let as_ =
            owner.map(|owner| owner.zone.as_ref().map_or("the older one".into(), |zone| format!("the one in {zone}")));
        as_.map(|as_| format!(", and its table belongs to this gateway as {as_}")).unwrap_or_default()
    }
}

/// CIDRs on one line, separated by commas.
pub fn cidrs(cidrs: &BTreeSet<Ipv4Net>) -> String {
    cidrs.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ")
}

impl Report {
    /// The gateway on one line: mode, VPC, region, public address and CIDRs.
    pub fn headline(&self) -> String {
        let me = &self.me;
        let public = me.public.map_or_else(|| "no public address".into(), |p| p.to_string());
        format!("{} in {} ({}), {public}, {}", self.mode, me.vpc, me.region, cidrs(&me.cidrs))
    }

    /// A line each for the regions that were asked, this gateway's keys, and every peer that is kept, waited for, refused, removed
    /// or held, with the reason.
    pub fn findings(&self) -> Vec<String> {
        let mut out = Vec::new();
        out.extend(self.regions.iter().map(|(region, r)| r.in_words(r.place(region))));
        if let Some(key) = &self.key {
            let announced = if key.announced { "in" } else { "NOT in" };
            out.push(format!("own key   {} {announced} tag {KEY_TAG}", key.fingerprint));
            out.extend(key.next.iter().map(|next| format!("next key  {next}{}", key.waits())));
        }
        out.extend(self.address.iter().map(|is| match is {
            AddressIs::Here(id) => format!("address   this gateway has the Elastic IP {id}"),
            AddressIs::Kept(why) => format!("address   {why}"),
            AddressIs::Waits(what) => format!("WAITING   this gateway has no address of its own yet: {what}"),
        }));
        out.extend(self.routes.iter().map(|route @ RouteReport { table, to, is, .. }| match is {
            RouteIs::Here => format!("route     {to} of {table} leads here{}", route.elsewhere(&self.me.instance)),
            RouteIs::Left(how) => format!("route     {to} of {table} {how}: it was left as it is"),
            RouteIs::Member(how) => format!("route     {to} of {table} {how}{}", route.mine(&self.me.instance)),
            RouteIs::Waits(what) => format!("WAITING   {to} of {table} is not led here yet: {what}"),
            RouteIs::Failed => format!("FAILED    {to} of {table} does not lead here"),
        }));
        out.extend(
            self.followed
                .all()
                .map(|(party, word)| format!("pair      {party} follows {word}{}", word.overruled_in_words())),
        );
        if let Some(segments) = &self.segments {
            let may = |(name, to): (&SegmentName, &BTreeSet<SegmentName>)| {
                let to: Vec<&str> = to.iter().map(SegmentName::as_str).collect();
                format!(
                    "segment   {name} may initiate to {}",
                    if to.is_empty() { "no other".into() } else { to.join(", ") }
                )
            };
            out.push(format!("segment   this hub's own VPC is in {}", segments.own));
            out.extend(segments.reach.iter().map(may));
        }
        out.extend(self.kept.iter().map(|k| format!("kept      {} ({}): {}", k.vpc, k.region, k.why)));
        out.extend(self.replacing.iter().map(|r| {
            format!("REPLACING {} ({}): {} by {}, once that has worked: {}", r.vpc, r.region, r.old, r.new, r.why)
        }));
        out.extend(self.refused.iter().map(|r| format!("refused   {r}")));
        out.extend(self.removed.iter().map(|vpc| format!("removed   {vpc}")));
        if let Some(Held { would_remove, of, hold_above }) = &self.held {
            out.push(format!("HELD      {would_remove} of {of} peers would leave, more than {hold_above}%: those not certainly gone stay"));
            out.push("          if that is right, run: crosswan refresh --force".into());
        }
        out
    }

    /// A line each for the steps, and for everything that failed, could not be asked, waits or should be known.
    pub fn actions(&self) -> Vec<String> {
        let mut out: Vec<String> = self.steps.iter().map(|step| format!("step      {step}")).collect();
        // The findings already have a region that could not be asked.
        let silent: BTreeSet<String> = self.silent().collect();
        let unasked = self.unasked.iter().filter(|line| !silent.contains(*line));
        out.extend(unasked.map(|u| format!("UNASKED   {u}")));
        out.extend(self.awaited.iter().map(|a| format!("AWAITED   {a}: refresh again soon, as systemd does")));
        out.extend(self.failures());
        out.extend(self.problems.iter().chain(&self.stopped).map(|p| format!("PROBLEM   {p}")));
        out.extend(self.notes.iter().map(|n| format!("note      {n}")));
        out.extend(self.waiting_for.iter().map(|psk| format!("WAITING   {psk}")));
        out
    }

    /// A line for each peer that failed. Peers that failed for the same reason, as when charon is gone, share one.
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

    /// The outcome as one line of text.
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
            Verdict::Unchanged if !self.kept.is_empty() => {
                format!(
                    "nothing to do, and {} kept: everything read back as it should be",
                    plural(self.kept.len(), "peer")
                )
            }
            Verdict::Unchanged => "nothing to do: everything read back as it should be".into(),
            Verdict::Changed => format!("changed: {steps}, read back as planned"),
            Verdict::Planned if self.steps.is_empty() => "dry run: nothing to do".into(),
            Verdict::Planned => format!("dry run: {steps} planned, none taken"),
            Verdict::Partly if self.failed.is_empty() => {
                format!("PARTLY: {steps} read back as planned; see the problems")
            }
            Verdict::Partly => {
                format!("PARTLY: {steps} read back as planned, {} failed", plural(self.failed.len(), "peer"))
            }
            Verdict::RolledBack => "ROLLED BACK: what was there before is in force again".into(),
            Verdict::RollBackFailed => "ROLL-BACK FAILED: see the problems, then run crosswan refresh again".into(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        for (name, t) in &self.tunnels {
            let standby = t.standing();
            let (remote, by) = (cidrs(&t.remote_cidrs), t.authentication());
            let segment = t.segment.as_ref().map(|segment| format!(", {segment}")).unwrap_or_default();
            writeln!(f, "  tunnel    {name} to {} for {remote}, {by}{segment}{standby}", t.remote)?;
        }
        for line in self.findings().iter().chain(&self.actions()) {
            writeln!(f, "  {line}")?;
        }
        f.write_str(&self.verdict())
    }
}
