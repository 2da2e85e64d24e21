//! Names with a closed character set: the only foreign text that may reach a template, a file name or a VICI message.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A name that was refused: what was expected, and what was found (escaped and cut, safe to print).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {}", printable(found))]
pub struct BadName {
    /// What would have been accepted, for "expected …".
    pub expected: &'static str,
    /// The text as it came; `Display` escapes and cuts it.
    pub found: String,
}

/// Foreign text made safe for a log line: quoted, control and non-ASCII characters escaped, cut after 64 characters.
pub fn printable(foreign: &str) -> String {
    let mut out: String = foreign.chars().take(64).flat_map(char::escape_default).collect();
    if foreign.chars().count() > 64 {
        out.push('…');
    }
    format!("\"{out}\"")
}

/// Text for the middle of a line, whose origin is not certain: everything but printable ASCII and the `…` of [`printable`]
/// is escaped. It is neither quoted nor cut.
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

/// In JSON such a value is its text: written by [`fmt::Display`], read by [`FromStr`] with its error.
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
            /// The name as text.
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

/// Whether `s` is `prefix` followed by 8 to 17 lower-case hex digits: EC2 has used both lengths.
fn ec2_id(s: &str, prefix: &str) -> bool {
    s.strip_prefix(prefix).is_some_and(|h| {
        (8..=17).contains(&h.len()) && h.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Whether `s` can be a name that an operator gives to something of crosswan's.
fn label(s: &str) -> bool {
    (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

name_type!(
    /// A VPC's id.
    VpcId, "a VPC id such as vpc-0a1b2c3d", |s| ec2_id(s, "vpc-"));
name_type!(
    /// An instance's id.
    InstanceId, "an instance id such as i-0a1b2c3d", |s| ec2_id(s, "i-"));
name_type!(
    /// A route table's id.
    RouteTableId, "a route table's id such as rtb-0a1b2c3d", |s| ec2_id(s, "rtb-"));
name_type!(
    /// A subnet's id.
    SubnetId, "a subnet's id such as subnet-0a1b2c3d", |s| ec2_id(s, "subnet-"));
name_type!(
    /// An availability zone's name, as the own account knows it.
    Zone, "an availability zone such as us-west-2a",
    |s| (4..=32).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
name_type!(
    /// A network interface's id in EC2.
    InterfaceId, "a network interface's id such as eni-0a1b2c3d", |s| ec2_id(s, "eni-"));
name_type!(
    /// An Elastic IP's allocation id.
    AllocationId, "an Elastic IP's allocation id such as eipalloc-0a1b2c3d", |s| ec2_id(s, "eipalloc-"));
name_type!(
    /// The id of an Elastic IP's association with an interface.
    AssociationId, "an association's id such as eipassoc-0a1b2c3d", |s| ec2_id(s, "eipassoc-"));
name_type!(
/// An AWS region's code. Only its shape is checked: new regions appear, and EC2 refuses one that does not exist.
Region, "a region such as eu-west-1", |s| {
    let parts: Vec<&str> = s.split('-').collect();
    (3..=4).contains(&parts.len())
        && parts[..parts.len() - 1].iter().all(|p| (1..=12).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_lowercase()))
        && matches!(parts.last(), Some(n) if (1..=2).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
});
name_type!(
    /// An AWS account's id.
    AccountId, "an account's id of 12 digits", |s| s.len() == 12 && s.bytes().all(|b| b.is_ascii_digit()));
name_type!(
    /// What settings call an account.
    AccountName, "an account's name of 1 to 64 letters, digits, dots, hyphens and underscores", label);
name_type!(
    /// A segment's name, in settings and in a VPC's tag.
    SegmentName, "a segment's name of 1 to 64 letters, digits, dots, hyphens and underscores", label);
name_type!(
/// An IAM role's ARN (IAM API reference, "CreateRole": a path and a name of up to 512 and 64 characters).
RoleArn, "a role's ARN such as arn:aws:iam::111122223333:role/crosswan-discover", |s| {
    let parts: Vec<&str> = s.split(':').collect();
    let name = |name: &str| (1..=577).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&b));
    matches!(parts[..], ["arn", partition, "iam", "", account, role]
        if partition.starts_with("aws") && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            && account.parse::<AccountId>().is_ok() && role.strip_prefix("role/").is_some_and(name))
});
name_type!(
/// A network interface's name as the kernel allows it, narrowed to what iptables prints unquoted.
Interface, "an interface name such as ens5", |s| {
    (1..=15).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.')
});
name_type!(
/// A connection's name in charon. The prefix `crosswan-` marks crosswan's own connections; no others are ever touched.
ConnName, "a connection name crosswan-…", |s| {
    s.strip_prefix("crosswan-").is_some_and(|n| (1..=64).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
});

impl Default for SegmentName {
    /// The segment of VPCs without the tag.
    fn default() -> SegmentName {
        SegmentName("default".to_owned())
    }
}

impl From<&AccountId> for AccountName {
    fn from(id: &AccountId) -> AccountName {
        AccountName(id.0.clone())
    }
}

impl RoleArn {
    /// The account that the role belongs to.
    pub fn account(&self) -> AccountId {
        AccountId(self.0.split(':').nth(4).unwrap_or_default().to_owned())
    }
}

/// The connections to hubs.
const TO_HUB: &str = "crosswan-hub-";
/// The connection of a hub to the other one of its pair.
const ACROSS: &str = "crosswan-across-";
/// A proof of the own next key.
const OWN_NEXT: &str = "-own-next";
/// A proof of the peer's next key.
const PEER_NEXT: &str = "-peer-next";

impl ConnName {
    /// The hub's connection to one gateway of a client VPC.
    pub fn to_gateway(vpc: &VpcId, instance: &InstanceId) -> Self {
        ConnName(format!("crosswan-{vpc}-{instance}"))
    }
    /// A spoke's connection to the hub with this Elastic IP. The instance is `None` where settings name the hub and EC2 is
    /// not asked.
    pub(crate) fn to_hub(hub: Ipv4Addr, instance: Option<&InstanceId>) -> Self {
        let instance = instance.map_or(String::new(), |instance| format!("-{instance}"));
        ConnName(format!("{TO_HUB}{}{instance}", hub.to_string().replace('.', "-")))
    }
    /// A hub's connection to the other one of its pair, across their VPC.
    pub(crate) fn across(other: &InstanceId) -> Self {
        ConnName(format!("{ACROSS}{other}"))
    }
    /// The other hub that this connection leads to; `None` for any other name.
    pub fn other_hub(&self) -> Option<InstanceId> {
        self.0.strip_prefix(ACROSS)?.parse().ok()
    }
    /// The connection by which this gateway proves that the peer of this one accepts its next key.
    pub(crate) fn own_next(&self) -> Self {
        ConnName(format!("{self}{OWN_NEXT}"))
    }
    /// The connection by which the peer of this one proves that this gateway accepts its next key.
    pub(crate) fn peer_next(&self) -> Self {
        ConnName(format!("{self}{PEER_NEXT}"))
    }
    /// Whether it proves this gateway's next key. The holder of a next key initiates its proof, as only the IKE_SA of the
    /// initiator shows that the other end has accepted it.
    pub fn is_own_proof(&self) -> bool {
        self.0.ends_with(OWN_NEXT)
    }
    /// Whether it proves the peer's next key. The peer initiates it.
    pub(crate) fn is_peer_proof(&self) -> bool {
        self.0.ends_with(PEER_NEXT)
    }
    /// The VPC and gateway that a hub's connection leads to; `None` for any other name.
    pub fn gateway(&self) -> Option<(VpcId, InstanceId)> {
        let (vpc, instance) = self.0.strip_prefix("crosswan-")?.rsplit_once("-i-")?;
        Some((vpc.parse().ok()?, format!("i-{instance}").parse().ok()?))
    }
    /// The hub's Elastic IP and instance in the name of a spoke's connection; `None` for any other name.
    pub fn hub(&self) -> Option<(Ipv4Addr, Option<InstanceId>)> {
        let name = self.0.strip_prefix(TO_HUB)?;
        let (address, instance) = match name.split_once("-i-") {
            Some((address, instance)) => (address, Some(format!("i-{instance}").parse().ok()?)),
            None => (name, None),
        };
        Some((address.replace('-', ".").parse().ok()?, instance))
    }
    /// The gateway that it leads to, for people: its instance, or the Elastic IP of a hub whose instance is not known; `None` for a proof.
    pub fn far_gateway(&self) -> Option<String> {
        let instance = self.gateway().map(|(_, instance)| instance).or_else(|| self.other_hub());
        let hub = || self.hub().map(|(address, hub)| hub.map_or(address.to_string(), |hub| hub.to_string()));
        instance.map(|instance| instance.to_string()).or_else(hub)
    }
    /// Whether it is the shunt by which versions up to 0.1 kept a spoke's own VPC out of the tunnel. A pass unloads it.
    pub fn is_old_shunt(&self) -> bool {
        self.0 == "crosswan-own"
    }
    /// What connections have in common that succeed or fail together: the VPC's id for those to its gateways, `hub` for a
    /// spoke's to its hubs, `across` for a hub's to the other one.
    pub fn party(&self) -> &str {
        match self.0.strip_prefix("crosswan-").unwrap_or_default() {
            hub if hub.starts_with("hub-") => "hub",
            name => name.rsplit_once("-i-").map_or(name, |(vpc, _)| vpc),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_connection_tells_whose_it_is() {
        let (vpc, instance): (VpcId, InstanceId) =
            ("vpc-0a1b2c3d4e5f60718".parse().unwrap(), "i-0a1b2c3d4e5f60718".parse().unwrap());
        let hub = Ipv4Addr::new(198, 51, 100, 100);
        let spoke = ConnName::to_gateway(&vpc, &instance);
        assert_eq!(spoke.gateway(), Some((vpc.clone(), instance.clone())));
        assert_eq!((spoke.party(), spoke.hub()), (vpc.as_str(), None));
        assert_eq!((spoke.own_next().gateway(), spoke.own_next().party()), (None, vpc.as_str()));
        for known in [None, Some(&instance)] {
            let name = ConnName::to_hub(hub, known);
            assert_eq!(name.hub(), Some((hub, known.cloned())));
            assert_eq!((name.party(), name.gateway(), name.peer_next().hub()), ("hub", None, None));
        }
        let across = ConnName::across(&instance);
        assert_eq!((across.other_hub(), across.party()), (Some(instance.clone()), "across"));
        let nameless = ConnName::to_hub(hub, None);
        for (name, gateway) in [
            (&spoke, Some("i-0a1b2c3d4e5f60718")),
            (&across, Some("i-0a1b2c3d4e5f60718")),
            (&ConnName::to_hub(hub, Some(&instance)), Some("i-0a1b2c3d4e5f60718")),
            (&nameless, Some("198.51.100.100")),
            (&spoke.own_next(), None),
        ] {
            assert_eq!(name.far_gateway().as_deref(), gateway, "{name}");
        }
        assert_eq!((across.gateway(), across.hub(), spoke.other_hub()), (None, None, None));
        for name in [spoke.own_next(), ConnName::to_hub(hub, Some(&instance)).peer_next()] {
            assert_eq!(name.to_string().parse(), Ok(name.clone()), "it fits the bound on a name's length");
            assert!(name.is_own_proof() != name.is_peer_proof());
        }
    }
}
