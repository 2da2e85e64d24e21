//! The own chains and the jumps to them, read from iptables-save's format. Everything foreign is skipped.

use std::collections::{BTreeMap, BTreeSet};

use super::OWN_PREFIX;
use crate::{error::Result, text::plural};

/// A chain in its table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainRef {
    pub table: String,
    pub chain: String,
}

/// A rule in a foreign chain that jumps to an own one. Its position among all the chain's rules is counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    pub position: usize,
    pub rule: String,
}

/// The own chains and hooks that are, or should be, in iptables. The default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The own chains' rules in order, without `-A CHAIN`.
    pub(super) chains: BTreeMap<ChainRef, Vec<String>>,
    /// The hooks in each foreign chain, in order.
    pub(super) hooks: BTreeMap<ChainRef, Vec<Hook>>,
    /// The tables that could not be read: nothing in them is planned or changed, and nothing is reported as missing.
    pub(super) closed: BTreeSet<String>,
}

impl Rules {
    /// The rules where iptables could not be asked at all.
    pub fn unreadable() -> Rules {
        Rules { closed: ["filter", "mangle", "nat"].map(str::to_owned).into(), ..Rules::default() }
    }

    /// Marks, in wanted rules, the tables that could not be read in `live`.
    pub fn unknown_as(&mut self, live: &Rules) {
        self.closed = live.closed.clone();
    }

    /// The rules that were read `now`, where these are wanted. If iptables could not be asked before, a second failure is no
    /// error either.
    pub fn again(&self, now: Result<Rules>) -> Result<Rules> {
        now.or_else(|e| if self.closed == Rules::unreadable().closed { Ok(Rules::unreadable()) } else { Err(e) })
    }

    /// The tables that hold native nft rules which iptables cannot read.
    pub fn closed(&self) -> &BTreeSet<String> {
        &self.closed
    }

    /// Whether there is any own chain of the table `filter`, above all the guard.
    pub(crate) fn guards(&self) -> bool {
        self.chains.keys().any(|at| at.table == "filter")
    }

    /// Whether packets are told apart by segments.
    pub(crate) fn has_segments(&self) -> bool {
        self.chains.keys().any(|at| at.chain == "CROSSWAN-SEGMENTS")
    }

    /// The own chains, a line each: table, chain, number of rules.
    pub fn summary(&self) -> Vec<String> {
        let line = |(at, rules): (&ChainRef, &Vec<String>)| format!("{at} {}", plural(rules.len(), "rule"));
        self.chains.iter().map(line).collect()
    }

    /// Reads the text that `iptables-save` printed for all tables, or that [`render`](super::render) wrote.
    pub fn parse(text: &str) -> Rules {
        let mut rules = Rules::default();
        let mut table = "";
        let mut seen = BTreeMap::<&str, usize>::new();
        for line in text.lines() {
            let chain_ref = |chain: &str| ChainRef { table: table.to_owned(), chain: chain.to_owned() };
            if let Some(name) = native(line) {
                // A change of such a table succeeds and does not show: a missing rule would be added again by every pass.
                rules.closed.insert(name.to_owned());
            } else if let Some(name) = line.strip_prefix('*') {
                table = name;
                seen.clear();
            } else if let Some((chain, _)) = line.strip_prefix(':').and_then(|l| l.split_once(' ')) {
                if is_own(chain) {
                    rules.chains.entry(chain_ref(chain)).or_default();
                }
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let (chain, rule) = rule.split_once(' ').unwrap_or((rule, ""));
                let position = seen.entry(chain).or_default();
                *position += 1;
                if is_own(chain) {
                    rules.chains.entry(chain_ref(chain)).or_default().push(rule.to_owned());
                } else if is_hook(rule) {
                    let hook = Hook { position: *position, rule: rule.to_owned() };
                    rules.hooks.entry(chain_ref(chain)).or_default().push(hook);
                }
            }
        }
        rules
    }
}

/// The table that iptables-save's line names as one with rules that only nft can have made (iptables/nft-shared.c, 1.8.9).
fn native(line: &str) -> Option<&str> {
    line.strip_prefix("# Table `")?.strip_suffix("' is incompatible, use 'nft' tool.")
}

/// Whether a chain is crosswan's own, by the prefix and its characters: a `"` in the name, which iptables allows, would
/// make jumps to it unreadable.
fn is_own(chain: &str) -> bool {
    chain.starts_with(OWN_PREFIX) && chain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether a rule jumps to an own chain. A rule ends with its target, a jump to a chain has no options, and iptables-save
/// quotes a comment with a blank in it: so the last two words decide, and a comment that looks like a jump does not count.
fn is_hook(rule: &str) -> bool {
    let mut words = rule.rsplit(' ');
    matches!((words.next(), words.next()), (Some(chain), Some("-j" | "-g")) if is_own(chain))
}
