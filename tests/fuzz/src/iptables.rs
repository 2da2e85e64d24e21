//! iptables-save's output: any text, and tables of other programs' rules beside ours, changed and restored.

use std::collections::BTreeMap;

use crosswan_core::iptables::{Rules, mismatch, plan};

use crate::{oracle, swanctl::OURS};

pub fn target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let want = &OURS.rules;
    let live = Rules::parse(&text);
    live.summary().iter().for_each(oracle::line);
    mismatch(want, &live).iter().for_each(oracle::line);
    assert_eq!(plan(&live, &live), None);
    if let Some(change) = plan(want, &live) {
        oracle::line(&change);
        input(&change.input());
    }
    restored(data, want);
}

/// Nothing in iptables-restore's input but our chains, and jumps to them.
fn input(text: &str) {
    for line in text.lines() {
        let hook = |rest: &str| rest.contains(" CROSSWAN-");
        let fine = line == "COMMIT"
            || [":CROSSWAN-", "-A CROSSWAN-", "-X CROSSWAN-", "*"].iter().any(|s| line.starts_with(s))
            || ["-D ", "-I "].iter().any(|s| line.strip_prefix(s).is_some_and(hook));
        assert!(fine, "a line of another's: {line:?}");
    }
}

/// Tables by their names, chains by theirs, rules in their order.
type Tables = BTreeMap<String, BTreeMap<String, Vec<String>>>;

const TABLES: [&str; 3] = ["filter", "mangle", "nat"];
const BUILT_IN: [&str; 4] = ["FORWARD", "INPUT", "OUTPUT", "POSTROUTING"];
const CHAINS: [&str; 8] =
    ["FORWARD", "OUTPUT", "POSTROUTING", "DOCKER", "CROSSWAN-GUARD", "CROSSWAN-TO", "CROSSWAN-MSS", "CROSSWAN-OLD"];

/// After iptables-restore took the change there is nothing left to change, and the rules of others are as they were.
fn restored(data: &[u8], want: &Rules) {
    let mut tables = tables(data);
    let before = foreign(&tables);
    if let Some(change) = plan(want, &Rules::parse(&save(&tables))) {
        oracle::line(&change);
        restore(&mut tables, &change.input());
    }
    assert_eq!(plan(want, &Rules::parse(&save(&tables))), None, "restored, and still not as wanted");
    assert_eq!(foreign(&tables), before, "a rule of another's has changed");
}

/// Tables as they could be: each line of the input is a rule, its first byte the chain it is in, its second the chain it
/// jumps to, or that it says something else.
fn tables(data: &[u8]) -> Tables {
    let mut tables: Tables = TABLES.map(|t| (t.into(), BUILT_IN.map(|c| (c.into(), Vec::new())).into())).into();
    for line in data.split(|b| *b == b'\n') {
        let [place, kind, text @ ..] = line else { continue };
        let (table, chain) = (TABLES[usize::from(*place) % 3], CHAINS[usize::from(*place) / 3 % 8]);
        let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
        let rule = match (kind & 1, text.trim()) {
            (0, "") => format!("-j {}", CHAINS[usize::from(*kind) / 2 % 8]),
            (0, text) => format!("{text} -j {}", CHAINS[usize::from(*kind) / 2 % 8]),
            (_, "") => "-j ACCEPT".into(),
            (_, text) => text.into(),
        };
        let chains = tables.entry(table.into()).or_default();
        chains.extend(jump(&rule).filter(|to| !chains.contains_key(*to)).map(|to| (to.to_owned(), Vec::new())));
        chains.entry(chain.into()).or_default().push(rule);
    }
    tables
}

/// The chain a rule ends in.
fn jump(rule: &str) -> Option<&str> {
    let (rest, to) = rule.rsplit_once(' ')?;
    matches!(rest.rsplit(' ').next(), Some("-j" | "-g")).then_some(to)
}

/// What iptables-save prints of it.
fn save(tables: &Tables) -> String {
    let mut out = String::new();
    for (table, chains) in tables {
        out += &format!("*{table}\n");
        chains.keys().for_each(|chain| out += &format!(":{chain} - [0:0]\n"));
        chains.iter().for_each(|(chain, rules)| rules.iter().for_each(|r| out += &format!("-A {chain} {r}\n")));
        out += "COMMIT\n";
    }
    out
}

/// `iptables-restore --noflush`, as far as a change needs it, and as unforgiving.
fn restore(tables: &mut Tables, text: &str) {
    input(text);
    let mut table = String::new();
    for line in text.lines().filter(|l| *l != "COMMIT") {
        if let Some(name) = line.strip_prefix('*') {
            table = name.into();
            continue;
        }
        let chains = tables.get_mut(&table).unwrap();
        let (verb, rest) = line.split_once(' ').unwrap();
        let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "-A" => chains.get_mut(chain).unwrap().push(rule.into()),
            "-D" => {
                let rules = chains.get_mut(chain).unwrap();
                rules.remove(rules.iter().position(|r| r == rule).expect("a rule to delete"));
            }
            "-I" => {
                let (position, rule) = rule.split_once(' ').unwrap();
                chains.get_mut(chain).unwrap().insert(position.parse::<usize>().unwrap() - 1, rule.into());
            }
            "-X" => {
                assert_eq!(chains.remove(chain), Some(Vec::new()), "only an empty chain can be deleted");
                let mut rules = chains.values().flatten();
                assert!(!rules.any(|r| jump(r) == Some(chain)), "{chain} is deleted and still jumped to");
            }
            declared => drop(chains.insert(declared[1..].into(), Vec::new())),
        }
    }
}

/// The rules of others, in order: not ours, not in a chain of ours.
fn foreign(tables: &Tables) -> Vec<String> {
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let ours = |chain: &str| chain.starts_with("CROSSWAN-") && plain(chain);
    let rules = tables.iter().flat_map(|(table, chains)| {
        let others = chains.iter().filter(|(chain, _)| !ours(chain));
        others.flat_map(move |(chain, rules)| rules.iter().map(move |r| format!("{table} {chain} {r}")))
    });
    rules.filter(|r| !jump(r).is_some_and(ours)).collect()
}
