//! The output of `nft -j -t list ruleset` as tables (libnftables-json(5)). A condition that is not understood makes a rule's
//! match unknown; so does a named set, whose elements are not listed.

use std::collections::BTreeMap;

use ipnet::{Ipv4Net, Ipv4Subnets};
use serde_json::Value;

use super::chains::{Base, Chain, Condition, Hook, Match, Rule, Table, Verdict};
use crate::iptables::OWN_PREFIX;

/// The tables of the families that forwarded IPv4 packets pass.
///
/// # Errors
/// `json` is not JSON.
pub fn tables(json: &str) -> Result<Vec<Table>, serde_json::Error> {
    let all: Value = serde_json::from_str(json)?;
    let objects: Vec<&Value> = all["nftables"].as_array().into_iter().flatten().collect();
    let mut tables = BTreeMap::<(&str, &str), Table>::new();
    for object in objects {
        let (what, of) = match (object.get("chain"), object.get("rule")) {
            (Some(chain), _) => ("chain", chain),
            (_, Some(rule)) => ("rule", rule),
            _ => continue,
        };
        let (family, table) = (word(of, "family"), word(of, "table"));
        if !matches!(family, "ip" | "inet") {
            continue;
        }
        let at = tables.entry((family, table)).or_insert_with(|| Table {
            name: format!("nft {family} {}", table.escape_default()),
            ip: (family == "ip").then(|| table.to_owned()),
            ..Table::default()
        });
        if what == "chain" {
            let chain = Chain { base: base(of, family, table), rules: Vec::new() };
            at.chains.insert(word(of, "name").to_owned(), chain);
        } else {
            at.native |= is_native(of);
            at.chains.entry(word(of, "chain").to_owned()).or_default().rules.extend(rules(of));
        }
    }
    Ok(tables.into_values().collect())
}

/// Whether a rule has a named set or a verdict map, which iptables never makes.
fn is_native(rule: &Value) -> bool {
    let named = |m: &Value| m["match"]["right"].as_str().is_some_and(|right| right.starts_with('@'));
    rule["expr"].as_array().into_iter().flatten().any(|s| s.get("vmap").is_some() || named(s))
}

fn word<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

fn base(chain: &Value, family: &str, table: &str) -> Option<Base> {
    let kind = word(chain, "type");
    let hook = match word(chain, "hook") {
        "prerouting" if kind != "nat" => Hook::Prerouting,
        "forward" => Hook::Forward,
        "postrouting" => Hook::Postrouting,
        _ => return None,
    };
    let drops = (word(chain, "policy") == "drop").then(|| {
        let name = word(chain, "name").escape_default();
        format!("nft 'chain {family} {} {name} {{ policy accept; }}'", table.escape_default())
    });
    Some(Base { hook, nat: (kind == "nat").then_some(true), drops })
}

/// The rule; for a verdict map one for each of its elements.
fn rules(rule: &Value) -> Vec<Rule> {
    let (mut matches, mut verdicts) = (Vec::new(), Vec::new());
    let nat = word(rule, "table") == "nat";
    for statement in rule["expr"].as_array().into_iter().flatten() {
        let Some((name, body)) = statement.as_object().and_then(|s| s.iter().next()) else {
            matches.push(Match::unknown());
            continue;
        };
        match name.as_str() {
            "match" => matches.push(condition(body)),
            "vmap" => verdicts.extend(mapped(body, nat)),
            "counter" | "log" | "comment" | "mangle" | "notrack" | "ct helper" | "ct timeout" | "set" | "map" => {}
            other => match verdict(other, body, nat) {
                Some(verdict) => verdicts.push((None, verdict)),
                // A limit, a quota or a match of iptables' extensions.
                None => matches.push(Match::unknown()),
            },
        }
    }
    let (family, table, chain) = (word(rule, "family"), word(rule, "table"), word(rule, "chain"));
    let one = |(also, verdict): (Option<Match>, Verdict)| {
        let does = match &verdict {
            Verdict::Stop => "drop or reject",
            Verdict::Translate => "source NAT",
            _ => "no end",
        };
        Rule {
            matches: matches.iter().cloned().chain(also).collect(),
            verdict,
            text: format!("the rule with handle {} ({does})", rule["handle"]),
            remedy: format!(
                "have the program that made it accept them before, or: nft delete rule {family} {} {} handle {}",
                table.escape_default(),
                chain.escape_default(),
                rule["handle"]
            ),
        }
    };
    verdicts.into_iter().map(one).collect()
}

fn verdict(name: &str, body: &Value, nat: bool) -> Option<Verdict> {
    Some(match name {
        "accept" => Verdict::Accept,
        "drop" | "reject" | "queue" => Verdict::Stop,
        "return" => Verdict::Return,
        "continue" => Verdict::Next,
        "jump" | "goto" if !nat && word(body, "target").starts_with(OWN_PREFIX) => Verdict::Next,
        "jump" => Verdict::Jump(word(body, "target").to_owned()),
        "goto" => Verdict::Goto(word(body, "target").to_owned()),
        "masquerade" | "snat" => Verdict::Translate,
        "dnat" | "redirect" | "tproxy" => Verdict::Accept,
        _ => return None,
    })
}

/// The elements of an inline verdict map: a condition and a verdict each.
fn mapped(map: &Value, nat: bool) -> Vec<(Option<Match>, Verdict)> {
    let Some(elements) = map["data"]["set"].as_array() else {
        // A named map may do anything.
        return vec![(Some(Match::unknown()), Verdict::Stop)];
    };
    let one = |element: &Value| {
        let (key, outcome) = (element.get(0)?, element.get(1)?);
        let (name, body) = outcome.as_object()?.iter().next()?;
        let when = serde_json::json!({ "op": "==", "left": map["key"], "right": key });
        Some((Some(condition(&when)), verdict(name, body, nat)?))
    };
    elements.iter().filter_map(one).collect()
}

fn condition(of: &Value) -> Match {
    let (left, right) = (&of["left"], &of["right"]);
    let key = |kind: &str| left[kind]["key"].as_str();
    let (protocol, field) = (word(&left["payload"], "protocol"), word(&left["payload"], "field"));
    let condition = match (key("meta"), key("ct"), protocol, field) {
        (Some("iif" | "iifname"), ..) => names(right).map(Condition::Input),
        (Some("oif" | "oifname"), ..) => names(right).map(Condition::Output),
        (Some("nfproto"), ..) => names(right).map(|n| of_ipv4(&n, "ipv4")),
        (Some("protocol"), ..) => names(right).map(|n| of_ipv4(&n, "ip")),
        (Some("l4proto"), ..) if right == "ipv6-icmp" => Some(Condition::Never),
        (_, Some("state"), ..) => names(right).map(Condition::State),
        // A gateway forwards no packet whose destination was replaced.
        (_, Some("status"), ..) if right == "dnat" => Some(Condition::Never),
        (.., "ip", "saddr") => nets(right).map(Condition::Source),
        (.., "ip", "daddr") => nets(right).map(Condition::Destination),
        (.., "ip6" | "icmpv6", _) => Some(Condition::Never),
        _ => None,
    };
    match word(of, "op") {
        "==" | "in" => Match::is(condition.unwrap_or(Condition::Unknown)),
        "!=" => Match { not: true, condition: condition.unwrap_or(Condition::Unknown) },
        _ => Match::unknown(),
    }
}

fn of_ipv4(names: &[String], ipv4: &str) -> Condition {
    if names.iter().any(|name| name == ipv4) { Condition::Always } else { Condition::Never }
}

/// One value, or an anonymous set, or a list of them.
fn values(right: &Value) -> Vec<&Value> {
    let inner = right.get("set").unwrap_or(right);
    inner.as_array().map_or_else(|| vec![inner], |all| all.iter().collect())
}

fn names(right: &Value) -> Option<Vec<String>> {
    let name = |v: &Value| v.as_str().filter(|name| !name.starts_with('@')).map(str::to_owned);
    values(right).into_iter().map(name).collect()
}

fn nets(right: &Value) -> Option<Vec<Ipv4Net>> {
    flat(values(right).into_iter().map(net))
}

fn flat(all: impl Iterator<Item = Option<Vec<Ipv4Net>>>) -> Option<Vec<Ipv4Net>> {
    all.collect::<Option<Vec<_>>>().map(|nets| nets.concat())
}

/// An address, a prefix or a range; `None` for anything else, such as a named set.
fn net(value: &Value) -> Option<Vec<Ipv4Net>> {
    if let Some(text) = value.as_str() {
        return text.parse().map(|address| vec![Ipv4Net::new_assert(address, 32)]).ok();
    }
    if let Some(range) = value["range"].as_array() {
        let end = |n: usize| range.get(n)?.as_str()?.parse().ok();
        return Some(Ipv4Subnets::new(end(0)?, end(1)?, 0).collect());
    }
    let length = value["prefix"]["len"].as_u64()?.try_into().ok()?;
    Some(vec![Ipv4Net::new(value["prefix"]["addr"].as_str()?.parse().ok()?, length).ok()?])
}
