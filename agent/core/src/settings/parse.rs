//! Raw values to typed ones, each by one function. Its error is the text of what was found, safe to print.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::Ipv4Net;

use crate::model::{overlap, printable};

/// A value as it is in its source.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    /// Untyped text of the environment, a flag or a 2014 file: any scalar, or a list separated by commas or spaces.
    Word(String),
    Text(String),
    /// The number as it was written.
    Number(String),
    Bool(bool),
    List(Vec<Raw>),
    Table(BTreeMap<String, Raw>),
    Date,
}

impl Raw {
    pub(super) fn found(&self) -> String {
        match self {
            Raw::Word(s) | Raw::Text(s) => printable(s),
            Raw::Number(n) => n.chars().take(64).collect(),
            Raw::Bool(b) => b.to_string(),
            Raw::List(_) => "a list".into(),
            Raw::Table(t) if t.is_empty() => "an empty table".into(),
            Raw::Table(t) => {
                let keys: Vec<String> = t.keys().take(4).map(|k| printable(k)).collect();
                format!("a table of {}", keys.join(", "))
            }
            Raw::Date => "a date or time".into(),
        }
    }
}

/// An EC2 tag to filter by: a key of 1 to 128 characters and a value of at most 256, without control characters
/// and without `*`, `?` and `\`, which EC2's filters do not take literally. No part of it may reach a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The tag's key.
    pub key: String,
    /// The tag's value, compared as a whole.
    pub value: String,
}

/// The error is what was found instead.
pub(super) type Parsed<T> = Result<T, String>;

/// The address blocks that hosts cannot use (RFC 6890), and their names.
const NO_HOSTS: [(Ipv4Net, &str); 4] = [
    (Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8), "\"this network\""),
    (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback"),
    (Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local"),
    (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast"),
];

fn text(raw: &Raw) -> Parsed<&str> {
    match raw {
        Raw::Word(s) | Raw::Text(s) => Ok(s),
        _ => Err(raw.found()),
    }
}

pub(super) fn word<T: FromStr>(raw: &Raw) -> Parsed<T> {
    text(raw)?.parse().map_err(|_| raw.found())
}

pub(super) fn boolean(raw: &Raw) -> Parsed<bool> {
    match raw {
        Raw::Bool(b) => Ok(*b),
        Raw::Word(s) => s.parse().map_err(|_| raw.found()),
        _ => Err(raw.found()),
    }
}

pub(super) fn count(raw: &Raw, accepted: RangeInclusive<u32>) -> Parsed<u32> {
    let number = match raw {
        Raw::Number(s) | Raw::Word(s) => s.parse().ok(),
        _ => None,
    };
    number.filter(|n| accepted.contains(n)).ok_or_else(|| raw.found())
}

pub(super) fn percent(raw: &Raw) -> Parsed<u8> {
    let number = text(raw)?.strip_suffix('%').and_then(|n| n.parse().ok());
    number.filter(|n| *n <= 100).ok_or_else(|| raw.found())
}

pub(super) fn duration(raw: &Raw, shortest: Duration, longest: Duration) -> Parsed<Duration> {
    let duration = humantime::parse_duration(text(raw)?).ok();
    duration.filter(|d| (shortest..=longest).contains(d)).ok_or_else(|| raw.found())
}

/// An absolute path. A relative one is not shown, as it may be a pre-shared key that was pasted in the wrong place.
pub(super) fn path(raw: &Raw) -> Parsed<PathBuf> {
    match text(raw)? {
        s if !s.starts_with('/') => Err("text without a leading / (not shown: it may be a pre-shared key)".into()),
        s if s.chars().any(char::is_control) => Err(raw.found()),
        s => Ok(s.into()),
    }
}

pub(super) fn tag(raw: &Raw) -> Parsed<Tag> {
    let (key, value) = match raw {
        Raw::Word(s) | Raw::Text(s) => s.split_once('=').ok_or_else(|| raw.found())?,
        Raw::Table(t) => match (t.get("key"), t.get("value")) {
            (Some(Raw::Text(key)), Some(Raw::Text(value))) if t.len() == 2 => (key.as_str(), value.as_str()),
            _ => return Err(raw.found()),
        },
        _ => return Err(raw.found()),
    };
    if !fits(key, KEY) {
        return Err(format!("the key {}", printable(key)));
    }
    if !fits(value, 0..=256) {
        return Err(format!("the value {}", printable(value)));
    }
    Ok(Tag { key: key.into(), value: value.into() })
}

/// The key of a tag alone.
pub(super) fn tag_key(raw: &Raw) -> Parsed<String> {
    word(raw).and_then(|key: String| if fits(&key, KEY) { Ok(key) } else { Err(raw.found()) })
}

/// How many characters a tag's key may have.
const KEY: RangeInclusive<usize> = 1..=128;

/// Whether a tag can have this text, and a filter can ask for it. EC2 counts Unicode characters:
/// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html
fn fits(text: &str, lengths: RangeInclusive<usize>) -> bool {
    lengths.contains(&text.chars().count()) && !text.chars().any(|c| c.is_control() || matches!(c, '*' | '?' | '\\'))
}

pub(super) fn list<T>(raw: &Raw, each: impl Fn(&Raw) -> Parsed<T>) -> Parsed<Vec<T>> {
    match raw {
        Raw::List(entries) => entries.iter().map(each).collect(),
        Raw::Word(s) => s
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|part| !part.is_empty())
            .map(|part| each(&Raw::Word(part.into())))
            .collect(),
        _ => Err(raw.found()),
    }
}

pub(super) fn set<T: FromStr + Ord>(raw: &Raw) -> Parsed<BTreeSet<T>> {
    Ok(list(raw, word)?.into_iter().collect())
}

fn network(raw: &Raw) -> Parsed<Ipv4Net> {
    let net: Ipv4Net = word(raw)?;
    if net.prefix_len() == 0 {
        return Err(format!("{} (that is the whole internet)", raw.found()));
    }
    if net != net.trunc() {
        return Err(format!("{} (bits are set in its host part: {} was probably meant)", raw.found(), net.trunc()));
    }
    match NO_HOSTS.iter().find(|(no, _)| overlap(no, &net)) {
        Some((no, what)) => Err(format!("{} (it overlaps {no}, {what})", raw.found())),
        None => Ok(net),
    }
}

/// At least one.
pub(super) fn networks(raw: &Raw) -> Parsed<BTreeSet<Ipv4Net>> {
    let nets = any_networks(raw)?;
    if nets.is_empty() { Err("none".into()) } else { Ok(nets) }
}

pub(super) fn any_networks(raw: &Raw) -> Parsed<BTreeSet<Ipv4Net>> {
    let nets = list(raw, network)?;
    for (i, a) in nets.iter().enumerate() {
        if let Some(b) = nets[..i].iter().find(|b| overlap(a, b)) {
            return Err(if a == b { format!("{a} twice") } else { format!("{b} and {a}, which overlap") });
        }
    }
    Ok(nets.into_iter().collect())
}

pub(super) fn unicast(raw: &Raw) -> Parsed<Ipv4Addr> {
    let addr: Ipv4Addr = word(raw)?;
    match NO_HOSTS.iter().find(|(no, _)| no.contains(&addr)) {
        Some((no, what)) => Err(format!("{} (it lies in {no}, {what})", raw.found())),
        None if addr.octets()[0] >= 240 => Err(format!("{} (reserved)", raw.found())),
        None => Ok(addr),
    }
}
