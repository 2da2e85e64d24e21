//! Whether other rules of this host let through what this gateway forwards: foreign chains of both iptables backends and
//! of nft against the traffic there should be. Pure.
//!
//! Each kind of traffic ([`Flow`]) is led through every base chain that a forwarded packet meets, rule by rule. A condition
//! holds for all packets of a flow, for none, or for some ([`Answer`]). What all of them meet certainly stops them: a
//! problem. What only some meet, or what cannot be told, is a note. Base chains are judged apart from each other: an
//! accept ends its own base chain only, a drop is final (nft(8), "Verdict statement").
//!
//! Own chains are left out: what they let through is this module's question, not its answer.

mod chains;
mod flow;
mod nft;
#[cfg(test)]
mod tests;
mod walk;
mod xtables;

use std::collections::{BTreeMap, BTreeSet};

pub use chains::{Base, Chain, Condition, Hook, Match, Rule, Table, Verdict};
pub use flow::{Answer, Flow, Traffic};
pub use nft::tables as nft_tables;
pub use xtables::{is_nft, tables as iptables_tables};

use walk::{Obstacle, walk};

/// The tables of iptables-save and those of `nft -j -t list ruleset`, each once. The nft backend's are in both: iptables-save
/// tells more of them, but of nft's own rules among them it tells nothing, or what is not so (a set as "everything").
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

/// How many lines of a kind are shown; a firewall of thousands of rules is not recited.
const MAX_LINES: usize = 5;

/// What was found, a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// Certainly stops or changes packets that this gateway should forward; with a remedy.
    pub stopped: Vec<String>,
    /// May stop some.
    pub notes: Vec<String>,
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
    let lines_of = |found: Found, line: &dyn Fn(&str, &str, &str, &str) -> String| {
        let more = found.len().saturating_sub(MAX_LINES);
        let lines = found.iter().take(MAX_LINES);
        let lines = lines.map(|((at, what, remedy), flows)| {
            line(at, what, &flows.iter().copied().collect::<Vec<_>>().join(", "), remedy)
        });
        let rest = (more > 0).then(|| format!("{more} more rules like these; see nft list ruleset"));
        lines.chain(rest).collect()
    };
    Obstacles {
        stopped: lines_of(certain, &|at, what, flows, remedy| format!("{at}: {what} {flows}; {remedy}")),
        notes: lines_of(possible, &|at, what, flows, _| format!("{at}: {what} {flows}")),
    }
}

/// Where, what and its remedy; and what it does that to.
type Found = BTreeMap<(String, String, String), BTreeSet<&'static str>>;
