//! Tables, chains and rules of any firewall, as far as they decide about a forwarded packet.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::flow::{Answer, Flow};

/// One table with all its chains.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// As an operator finds it: `iptables filter`, `nft inet firewalld`.
    pub name: String,
    /// The name alone, where this is a table of nft's family `ip`, as those of iptables' nft backend are.
    pub ip: Option<String>,
    /// It holds rules that iptables-save cannot print, or prints without their condition.
    pub native: bool,
    pub chains: BTreeMap<String, Chain>,
}

#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// Set if packets come to it from a hook, and not only by a jump.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub struct Base {
    pub hook: Hook,
    /// `None` for a chain that filters. For one that translates addresses: whether it is another's, and not the chain in
    /// which our own hook comes first.
    pub nat: Option<bool>,
    /// The policy is to drop; and the command that changes that.
    pub drops: Option<String>,
}

/// The hooks that a forwarded packet meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Prerouting,
    Forward,
    Postrouting,
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub verdict: Verdict,
    /// As its own program prints it, or its handle.
    pub text: String,
    /// The command that takes it away.
    pub remedy: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    /// Dropped, rejected, or left to a program that may do that.
    Stop,
    /// The source address is replaced.
    Translate,
    Jump(String),
    Goto(String),
    Return,
    /// Nothing that decides: counters, logs, marks.
    Next,
}

/// A condition, or its opposite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub not: bool,
    pub condition: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Source(Vec<Ipv4Net>),
    Destination(Vec<Ipv4Net>),
    /// Interface names; `*` or `+` at the end is any rest.
    Input(Vec<String>),
    Output(Vec<String>),
    /// Of conntrack's states one of these, in lower case.
    State(Vec<String>),
    Always,
    /// Not for IPv4, or not for what a gateway forwards.
    Never,
    /// Whatever this module does not understand.
    Unknown,
}

impl Match {
    pub fn is(condition: Condition) -> Match {
        Match { not: false, condition }
    }

    pub fn unknown() -> Match {
        Match::is(Condition::Unknown)
    }

    /// For how much of the flow it holds. Prerouting does not know the way out, postrouting not the way in.
    pub fn holds(&self, flow: &Flow, hook: Hook) -> Answer {
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
    // Pseudo-states among them, such as SNAT, may hold for a flow of any state.
    const KNOWN: [&str; 6] = ["new", "established", "related", "invalid", "untracked", "dnat"];
    if states.iter().any(|s| s == state) {
        Answer::All
    } else if states.iter().all(|s| KNOWN.contains(&s.as_str())) {
        Answer::None
    } else {
        Answer::Some
    }
}
