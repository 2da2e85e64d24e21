//! Names with a closed character set: the only foreign text that may reach a template, a file name or a VICI message.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name that was refused: what was expected, and what was found (escaped and cut, safe to print).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {}", printable(found))]
pub struct BadName {
    pub expected: &'static str,
    pub found: String,
}

/// Foreign text made safe for a log line: control and non-ASCII characters escaped, 64 characters at most.
pub fn printable(foreign: &str) -> String {
    let mut out: String = foreign.chars().take(64).flat_map(char::escape_default).collect();
    if foreign.chars().count() > 64 {
        out.push('…');
    }
    format!("\"{out}\"")
}

/// Text inside a line of ours, of which we know that it is text but not from whom: what is not plain ASCII (or the `…` of
/// [`printable`]) is escaped. Neither quoted nor cut.
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            ' '..='~' | '…' => out.push(c),
            other => out.extend(other.escape_default()),
        }
    }
    out
}

/// In JSON such a value is its text: [`fmt::Display`] out, [`FromStr`] with its error in.
macro_rules! as_text {
    ($name:ident, $error:ty) => {
        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl FromStr for $name {
            type Err = BadName;
            fn from_str(s: &str) -> Result<Self, BadName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(s) { Ok(Self(s.to_owned())) } else { Err(BadName { expected: $expected, found: s.to_owned() }) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(s: String) -> Result<Self, BadName> { s.parse() }
        }
        impl From<$name> for String {
            fn from(n: $name) -> String { n.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(&self.0) }
        }
    };
}

/// `prefix` followed by 8 to 17 lower-case hex digits: both lengths EC2 has used.
fn ec2_id(s: &str, prefix: &str) -> bool {
    s.strip_prefix(prefix).is_some_and(|h| {
        (8..=17).contains(&h.len()) && h.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

name_type!(
    /// A VPC's id. Also a spoke's IKE identity: stable over replaced instances and addresses.
    VpcId, "a VPC id such as vpc-0a1b2c3d", |s| ec2_id(s, "vpc-"));
name_type!(
    /// An instance's id.
    InstanceId, "an instance id such as i-0a1b2c3d", |s| ec2_id(s, "i-"));
name_type!(
/// An AWS region's code. Checked for shape only: new regions appear, and EC2 refuses what does not exist.
Region, "a region such as eu-west-1", |s| {
    let parts: Vec<&str> = s.split('-').collect();
    (3..=4).contains(&parts.len())
        && parts[..parts.len() - 1].iter().all(|p| (1..=12).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_lowercase()))
        && matches!(parts.last(), Some(n) if (1..=2).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
});
name_type!(
/// A network interface's name as the kernel allows it, narrowed to what iptables prints unquoted.
Interface, "an interface name such as ens5", |s| {
    (1..=15).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.')
});
name_type!(
/// A connection's name in charon. The prefix `crosswan-` is what makes a connection ours: nothing else is ever touched.
ConnName, "a connection name crosswan-…", |s| {
    s.strip_prefix("crosswan-").is_some_and(|n| (1..=48).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
});

impl ConnName {
    /// The hub's connection to the gateway of a client VPC.
    pub fn to_vpc(vpc: &VpcId) -> Self {
        ConnName(format!("crosswan-{vpc}"))
    }
    /// A spoke's connection to the hub with this Elastic IP.
    pub fn to_hub(hub: Ipv4Addr) -> Self {
        ConnName(format!("crosswan-hub-{}", hub.to_string().replace('.', "-")))
    }
    /// The hub's Elastic IP, out of the name of a spoke's connection to it.
    pub fn hub(&self) -> Option<Ipv4Addr> {
        self.0.strip_prefix("crosswan-hub-")?.replace('-', ".").parse().ok()
    }
    /// The pass shunt that keeps a spoke's own VPC out of the tunnel.
    pub fn own() -> Self {
        ConnName("crosswan-own".into())
    }
}
