//! The tables, chains and rules of any firewall, as far as they decide about a forwarded packet.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::flow::{Answer, Flow};

/// One table with all its chains.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Its name for the operator: `iptables filter`, `nft inet firewalld`.
    pub(super) name: String,
    /// The name alone, if this is a table of nft's family `ip`, as those of iptables' nft backend are.
    pub(super) ip: Option<String>,
    /// Whether it has rules that iptables-save cannot print, or prints without their condition.
    pub(super) native: bool,
    pub(super) chains: BTreeMap<String, Chain>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// Set if packets come to it from a hook, not only by a jump.
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) hook: Hook,
    /// `None` for a chain that filters. For one that translates addresses, whether it is foreign: false for the chain in which
    /// crosswan's own hook comes first.
    pub(super) nat: Option<bool>,
    /// If the policy is to drop, the command that changes it.
    pub(super) drops: Option<String>,
}

/// The hooks that a forwarded packet meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Prerouting,
    Forward,
    Postrouting,
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) matches: Vec<Match>,
    pub(super) verdict: Verdict,
    /// The rule as its program prints it, or its handle.
    pub(super) text: String,
    /// The command that removes it.
    pub(super) remedy: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    /// The packet is dropped, rejected, or left to a program that may do that.
    Stop,
    /// The source address is replaced.
    Translate,
    Jump(String),
    Goto(String),
    Return,
    /// The rule decides nothing: it counts, logs or marks.
    Next,
}

/// A condition, or its opposite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) not: bool,
    pub(super) condition: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Source(Vec<Ipv4Net>),
    Destination(Vec<Ipv4Net>),
    /// Interface names; `*` or `+` at the end is any rest.
    Input(Vec<String>),
    Output(Vec<String>),
    /// One of these states of conntrack, in lower case.
    State(Vec<String>),
    Always,
    /// Not for IPv4, or not for what a gateway forwards.
    Never,
    /// Anything that this module does not understand.
    Unknown,
}

impl Match {
    pub(super) fn is(condition: Condition) -> Match {
        Match { not: false, condition }
    }

    pub(super) fn unknown() -> Match {
        Match::is(Condition::Unknown)
    }

    /// For how much of the flow it holds. Prerouting does not know the interface out, and postrouting not the one in.
    pub(super) fn holds(&self, flow: &Flow, hook: Hook) -> Answer {
        let answer = match &self.condition {
            Condition::Source(nets) => flow.from.within(nets),
            Condition::Destination(nets) => flow.to.within(nets),
            Condition::Input(_) if hook == Hook::Postrouting => Answer::Some,
            Condition::Input(names) => by_interface(&flow.input, names),
            Condition::Output(_) if hook == Hook::Prerouting => Answer::Some,
            Condition::Output(names) => by_interface(&flow.output, names),
            Condition::State(states) => by_state(states, flow.state),
            Condition::Always => Answer::All,
            Condition::Never => Answer::None,
            Condition::Unknown => Answer::Some,
        };
        if self.not { answer.opposite() } else { answer }
    }
}

fn by_interface(ways: &std::collections::BTreeSet<String>, names: &[String]) -> Answer {
    let fits = |way: &String| {
        names.iter().any(|name| match name.strip_suffix(['*', '+']) {
            Some(start) => way.starts_with(start),
            None => way == name,
        })
    };
    match ways.iter().filter(|way| fits(way)).count() {
        0 if ways.is_empty() => Answer::Some,
        0 => Answer::None,
        n if n == ways.len() => Answer::All,
        _ => Answer::Some,
    }
}

fn by_state(states: &[String], state: &str) -> Answer {
    // Other states, such as the pseudo-state SNAT, may hold for a flow of any state.
    const KNOWN: [&str; 6] = ["new", "established", "related", "invalid", "untracked", "dnat"];
    if states.iter().any(|s| s == state) {
        Answer::All
    } else if states.iter().all(|s| KNOWN.contains(&s.as_str())) {
        Answer::None
    } else {
        Answer::Some
    }
}
