//! Wanted rules against live ones: the one `iptables-restore` that makes them equal, and its description.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::rules::{ChainRef, Hook, Rules};
use crate::text::plural;

/// The differences between two states. [`Change::input`] removes them, and `Display` sums them up on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    chains: Vec<Differs<String>>,
    hooks: Vec<Differs<Hook>>,
}

/// One chain in which the two states differ. A state is `None` if it has no such chain, or no hook in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Differs<R> {
    at: ChainRef,
    want: Option<Vec<R>>,
    live: Option<Vec<R>>,
}

/// The change from `live` to `want`, or `None` if there is nothing to do. A `want` of `Rules::default()` removes all own
/// chains; a `want` that was read before a failed apply rolls back. Tables that could not be read are left alone.
pub fn plan(want: &Rules, live: &Rules) -> Option<Change> {
    let mut change =
        Change { chains: differing(&want.chains, &live.chains), hooks: differing(&want.hooks, &live.hooks) };
    change.chains.retain(|d| !live.closed.contains(&d.at.table));
    change.hooks.retain(|d| !live.closed.contains(&d.at.table));
    (!change.chains.is_empty() || !change.hooks.is_empty()).then_some(change)
}

/// How `live` differs from `want`, a line per chain, rule or hook. It is empty exactly when [`plan`] has nothing to do.
pub fn mismatch(want: &Rules, live: &Rules) -> Vec<String> {
    plan(want, live).map(|change| change.details()).unwrap_or_default()
}

fn differing<R: Clone + PartialEq>(
    want: &BTreeMap<ChainRef, Vec<R>>,
    live: &BTreeMap<ChainRef, Vec<R>>,
) -> Vec<Differs<R>> {
    let all: BTreeSet<_> = want.keys().chain(live.keys()).collect();
    all.into_iter()
        .map(|at| Differs { at: at.clone(), want: want.get(at).cloned(), live: live.get(at).cloned() })
        .filter(|d| d.want != d.live)
        .collect()
}

impl Change {
    /// The exact input for one `iptables-restore --noflush`. It has only what differs, so other chains keep their counters.
    ///
    /// A `:CHAIN` line replaces the whole chain. Hooks are deleted by their text, never by number: another program may
    /// have moved the rules since they were read, and a number would then delete a foreign one.
    pub fn input(&self) -> String {
        let mut tables = BTreeMap::<&str, [Vec<String>; 4]>::new();
        for Differs { at: ChainRef { table, chain }, want, .. } in &self.chains {
            let [chains, rules, _, gone] = tables.entry(table).or_default();
            chains.push(format!(":{chain} - [0:0]"));
            match want {
                Some(want) => rules.extend(want.iter().map(|rule| format!("-A {chain} {rule}"))),
                None => gone.push(format!("-X {chain}")),
            }
        }
        for Differs { at: ChainRef { table, chain }, want, live } in &self.hooks {
            let hooks = &mut tables.entry(table).or_default()[2];
            hooks.extend(live.iter().flatten().map(|h| format!("-D {chain} {}", h.rule)));
            hooks.extend(want.iter().flatten().map(|h| format!("-I {chain} {} {}", h.position, h.rule)));
        }
        tables.into_iter().map(|(table, lines)| format!("*{table}\n{}\nCOMMIT\n", lines.concat().join("\n"))).collect()
    }

    /// A line per chain, rule or hook that is not as wanted, with live text escaped.
    pub(super) fn details(&self) -> Vec<String> {
        let mut out = Vec::new();
        for Differs { at, want, live } in &self.chains {
            let (Some(want), Some(live)) = (want, live) else {
                out.push(format!(
                    "{at} is {}",
                    if want.is_some() { "absent" } else { "there, but is no longer wanted" }
                ));
                continue;
            };
            for i in 0..want.len().max(live.len()) {
                let show = |rules: &[String]| rules.get(i).map_or("no rule".into(), |r| r.escape_default().to_string());
                if want.get(i) != live.get(i) {
                    out.push(format!("{at} rule {}: expected {}, found {}", i + 1, show(want), show(live)));
                }
            }
        }
        out.extend(
            self.hooks.iter().map(|d| {
                format!("{}: expected {}, found {}", d.at, hooks(d.want.as_deref()), hooks(d.live.as_deref()))
            }),
        );
        out
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.chains.is_empty() && self.chains.iter().all(|d| d.live.is_none()) {
            let names: Vec<_> = self.chains.iter().map(|d| d.at.to_string()).collect();
            return write!(f, "{} (was absent)", names.join(", "));
        }
        let chains = self.chains.iter().map(|d| match (&d.want, &d.live) {
            (Some(want), None) => format!("{} {} (was absent)", d.at, plural(want.len(), "rule")),
            (Some(want), Some(live)) if want.len() == live.len() => {
                format!("{} {} (were others)", d.at, plural(want.len(), "rule"))
            }
            (Some(want), Some(live)) => format!("{} {} (was {})", d.at, plural(want.len(), "rule"), live.len()),
            (None, _) => format!("{} removed", d.at),
        });
        // A new chain brings its hook with it: only a hook that was tampered with is mentioned.
        let new = |at: &ChainRef| self.chains.iter().any(|c| c.live.is_none() && c.at.table == at.table);
        let hooked = self
            .hooks
            .iter()
            .filter(|d| !new(&d.at))
            .map(|d| format!("{}: {} (was {})", d.at, hooks(d.want.as_deref()), hooks(d.live.as_deref())));
        f.write_str(&chains.chain(hooked).collect::<Vec<_>>().join("; "))
    }
}

fn hooks(hooks: Option<&[Hook]>) -> String {
    let show = |h: &Hook| format!("{} at {}", h.rule.escape_default(), h.position);
    hooks.map_or("no hook".into(), |hooks| format!("hook {}", hooks.iter().map(show).collect::<Vec<_>>().join(", ")))
}

impl fmt::Display for ChainRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table.escape_default(), self.chain.escape_default())
    }
}
