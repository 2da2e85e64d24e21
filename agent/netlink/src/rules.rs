//! Policy rules (`RTM_*RULE`, linux/fib_rules.h).

use std::net::Ipv4Addr;

use crosswan_core::system::{PROTOCOL, Rule, TABLE, Table};
use ipnet::Ipv4Net;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST};
use nix::libc::{AF_INET, RT_TABLE_LOCAL, RT_TABLE_MAIN, RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE};

use crate::{
    error::{Answered, Failure},
    message::{Attributes, Request},
};

/// `struct fib_rule_hdr`: family, prefix lengths, TOS, table, two filling bytes, action, flags.
const HEADER: usize = 12;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_OIFNAME: u16 = 17;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
/// What a rule may have, and still match by nothing but what [`Rule`] has.
const PLAIN: [u16; 8] =
    [FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PAD, FRA_PROTOCOL];
const TO_TABLE: u8 = 1;
const INVERT: u32 = 2;
const LOOPBACK: &str = "lo";
/// No limit on the prefix length, which is the default.
const UNSUPPRESSED: u32 = u32::MAX;

/// A rule of the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    priority: u32,
    from: Option<Ipv4Net>,
    to: Option<Ipv4Net>,
    iif: Option<String>,
    action: u8,
    table: u32,
    protocol: u8,
    /// Whether it has nothing but the above.
    plain: bool,
    phrase: String,
    message: Vec<u8>,
}

/// Asks for all rules of IPv4.
pub(crate) fn list() -> Request {
    let mut header = [0; HEADER];
    header[0] = AF_INET as u8;
    Request::new(RTM_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, &header)
}

/// Adds a rule, even if there is one like it.
pub(crate) fn add(rule: &Rule) -> Request {
    request(RTM_NEWRULE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, rule)
}

/// Deletes the first rule that matches.
fn delete(rule: &Rule) -> Request {
    request(RTM_DELRULE, NLM_F_REQUEST | NLM_F_ACK, rule)
}

/// Removes all rules that are exactly `rule`, out of `all` in the kernel's order.
///
/// The kernel deletes the first rule that has what the request names, whatever else that rule has: `to 10.1.0.0/16` also matches
/// `iif lo to 10.1.0.0/16`. So rules that would be deleted by mistake are added once more beforehand.
pub(crate) fn remove(rule: &Rule, all: &[Found]) -> Vec<Request> {
    let hit: Vec<&Found> = all.iter().filter(|found| found.is_deleted_by(rule)).collect();
    let Some(last) = hit.iter().rposition(|found| found.own() == Some(*rule)) else { return Vec::new() };
    let mistaken = hit[..last].iter().filter(|found| found.own() != Some(*rule));
    let again =
        mistaken.map(|found| Request::new(RTM_NEWRULE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, &found.message));
    again.chain((0..=last).map(|_| delete(rule))).collect()
}

fn request(kind: u16, flags: u16, rule: &Rule) -> Request {
    let length = |net: Option<Ipv4Net>| net.map_or(0, |net| net.prefix_len());
    let header = [AF_INET as u8, length(rule.to), length(rule.from), 0, 0, 0, 0, TO_TABLE, 0, 0, 0, 0];
    let mut request = Request::new(kind, flags, &header)
        .with(FRA_PRIORITY, rule.priority.to_ne_bytes())
        .with(FRA_TABLE, number(rule.table).to_ne_bytes())
        .with(FRA_PROTOCOL, [PROTOCOL]);
    for (kind, net) in [(FRA_DST, rule.to), (FRA_SRC, rule.from)] {
        if let Some(net) = net {
            request = request.with(kind, net.addr().octets());
        }
    }
    if rule.own_packets { request.with(FRA_IIFNAME, format!("{LOOPBACK}\0")) } else { request }
}

fn number(table: Table) -> u32 {
    match table {
        Table::Main => RT_TABLE_MAIN.into(),
        Table::Tunnels => TABLE,
    }
}

impl Found {
    /// Reads a message of the kernel.
    pub(crate) fn read(message: &[u8]) -> Answered<Found> {
        let attributes = Attributes::read(message, HEADER)?;
        let &[_, to, from, tos, table, _, _, action, f0, f1, f2, f3, ..] = message else {
            return Err(Failure::Garbage);
        };
        let net = |kind, length| match length {
            0 => Ok(None),
            _ => {
                let address = attributes.address(kind).unwrap_or(Ipv4Addr::UNSPECIFIED);
                Ipv4Net::new(address, length).map(Some).map_err(|_| Failure::Garbage)
            }
        };
        let inverted = u32::from_ne_bytes([f0, f1, f2, f3]) & INVERT != 0;
        let plain = attributes.only(&PLAIN)
            && !inverted
            && tos == 0
            && attributes.u32(FRA_SUPPRESS_PREFIXLEN).unwrap_or(UNSUPPRESSED) == UNSUPPRESSED;
        let mut found = Found {
            priority: attributes.u32(FRA_PRIORITY).unwrap_or(0),
            from: net(FRA_SRC, from)?,
            to: net(FRA_DST, to)?,
            iif: attributes.text(FRA_IIFNAME),
            action,
            table: attributes.u32(FRA_TABLE).unwrap_or(table.into()),
            protocol: attributes.u8(FRA_PROTOCOL).unwrap_or(0),
            plain,
            phrase: String::new(),
            message: message.to_vec(),
        };
        found.phrase = found.say(&attributes, inverted);
        Ok(found)
    }

    /// Nearly as `ip rule` prints it. What is rare is left out: it is only said that there is more.
    fn say(&self, attributes: &Attributes, inverted: bool) -> String {
        let mut phrase = format!("pref {}{}", self.priority, if inverted { " not" } else { "" });
        let selectors = [
            ("from", self.from.map(|net| net.to_string())),
            ("to", self.to.map(|net| net.to_string())),
            ("iif", self.iif.clone()),
            ("oif", attributes.text(FRA_OIFNAME)),
            ("fwmark", attributes.u32(FRA_FWMARK).map(|mark| format!("{mark:#x}"))),
        ];
        for (word, value) in selectors {
            phrase.extend(value.map(|value| format!(" {word} {value}")));
        }
        if !self.plain && !inverted && !attributes.has(FRA_OIFNAME) && !attributes.has(FRA_FWMARK) {
            phrase.push_str(" (and other conditions)");
        }
        phrase
            + &match self.action {
                TO_TABLE if self.table == number(Table::Main) => " lookup main".to_owned(),
                TO_TABLE => format!(" lookup {}", self.table),
                2 => " goto another rule".to_owned(),
                6 => " blackhole".to_owned(),
                7 => " unreachable".to_owned(),
                8 => " prohibit".to_owned(),
                action => format!(" action {action}"),
            }
    }

    /// The rule, if crosswan has made it.
    pub(crate) fn own(&self) -> Option<Rule> {
        let own_packets = self.iif.is_some();
        let fits = self.protocol == PROTOCOL && self.plain && self.action == TO_TABLE;
        let fits = fits && self.iif.as_deref().is_none_or(|iif| iif == LOOPBACK);
        let table = [Table::Main, Table::Tunnels].into_iter().find(|known| number(*known) == self.table)?;
        fits.then_some(Rule { priority: self.priority, from: self.from, to: self.to, own_packets, table })
    }

    /// Whether the kernel finds that it matches a request to delete `rule`.
    fn is_deleted_by(&self, rule: &Rule) -> bool {
        let selected = (rule.from.is_none() || rule.from == self.from)
            && (rule.to.is_none() || rule.to == self.to)
            && (!rule.own_packets || self.iif.as_deref() == Some(LOOPBACK));
        let target = self.action == TO_TABLE && self.table == number(rule.table);
        selected && target && self.protocol == PROTOCOL && self.priority == rule.priority
    }

    /// Whether it comes before rules up to `priority`, and does not belong to crosswan. The table `local`, which the kernel's first
    /// rule looks up, has only this host's own addresses.
    pub(crate) fn is_before(&self, priority: u32) -> bool {
        self.own().is_none() && self.priority <= priority && self.table != u32::from(RT_TABLE_LOCAL)
    }

    /// `pref 100 from 10.2.0.0/16 lookup 200`.
    pub(crate) fn phrase(&self) -> &str {
        &self.phrase
    }
}
