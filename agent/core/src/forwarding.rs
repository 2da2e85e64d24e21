//! Whether other rules of this host let through what this gateway forwards: foreign chains of both iptables backends and
//! of nft against the traffic there should be. Pure.
//!
//! Each kind of traffic ([`Flow`]) is led through every base chain that a forwarded packet passes, rule by rule. A condition
//! holds for all packets of a flow, for some, or for none. A rule that stops all of them is a problem. One that stops only some,
//! or that cannot be judged, is a note. Base chains are judged apart from each other: an accept ends its own base chain only,
//! a drop is final (nft(8), "Verdict statement").
//!
//! Own chains are left out: the flows are those that they let through.

mod chains;
mod flow;
mod nft;
mod sysctl;
#[cfg(test)]
mod tests;
mod walk;
mod xtables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

pub use chains::Table;
pub use flow::{Flow, Traffic};
pub use nft::tables as nft_tables;
pub use sysctl::{Knob, Sysctl, sysctl_problems};
pub use xtables::{is_nft, tables as iptables_tables};

use walk::{Obstacle, walk};

/// The tables of iptables-save and those of `nft -j -t list ruleset`, each once. The nft backend's tables are in both:
/// iptables-save says more about them, but it leaves nft's own rules out, or prints them wrongly (a set as "everything").
pub fn each_once(by_iptables: Vec<Table>, by_nft: Vec<Table>) -> Vec<Table> {
    let same = |a: &Table, b: &Table| a.ip.is_some() && a.ip == b.ip;
    let has_all =
        |a: &Table, b: &Table| b.chains.iter().all(|(name, c)| c.base.is_none() || a.chains.contains_key(name));
    let worse = |a: &Table, b: &Table| same(a, b) && (b.native || !has_all(a, b));
    let (worse, better): (Vec<_>, Vec<_>) = by_iptables.into_iter().partition(|a| by_nft.iter().any(|b| worse(a, b)));
    drop(worse);
    let rest: Vec<Table> = by_nft.into_iter().filter(|b| !better.iter().any(|a| same(a, b))).collect();
    better.into_iter().chain(rest).collect()
}

/// How many lines of a kind are shown, as a firewall may have thousands of rules.
const MAX_LINES: usize = 5;

/// What stops or changes forwarded packets, a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// Rules that certainly stop or change packets which this gateway should forward, each with its remedy.
    pub stopped: Vec<Problem>,
    /// Rules that may stop some of them.
    pub notes: Vec<String>,
}

/// What stops or changes packets, and what mends it. It is shown as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What was found, with what it does.
    pub found: String,
    /// The command that mends it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.found, self.remedy)
    }
}

/// Judges the foreign `tables` by the `flows` that must pass.
pub fn judge(tables: &[Table], flows: &[Flow]) -> Obstacles {
    let (mut certain, mut possible) = (Found::default(), Found::default());
    for table in tables {
        for (name, chain) in &table.chains {
            let Some(base) = &chain.base else { continue };
            for flow in flows.iter().filter(|_| base.nat != Some(false)) {
                if let Some(Obstacle { sure, what, remedy }) = walk(table, name, base, flow) {
                    let found = if sure { &mut certain } else { &mut possible };
                    let key = (format!("{} {name}", table.name), what, remedy);
                    found.entry(key).or_default().insert(flow.what);
                }
            }
        }
    }
    let problems = |found: Found| {
        let more = found.len().saturating_sub(MAX_LINES);
        let problems = found.into_iter().take(MAX_LINES).map(|((at, what, remedy), flows)| {
            let flows = flows.into_iter().collect::<Vec<_>>().join(", ");
            Problem { found: format!("{at}: {what} {flows}"), remedy }
        });
        let rest = Problem { found: format!("{more} more rules like these"), remedy: "see nft list ruleset".into() };
        problems.chain((more > 0).then_some(rest)).collect::<Vec<_>>()
    };
    Obstacles { stopped: problems(certain), notes: problems(possible).into_iter().map(|p| p.found).collect() }
}

/// By chain, rule with its effect, and remedy: the flows that it affects.
type Found = BTreeMap<(String, String, String), BTreeSet<&'static str>>;
