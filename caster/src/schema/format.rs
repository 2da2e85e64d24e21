//! The closed formats of texts: what is expected, whether a text fits, and what was probably meant.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::text;

/// A kind of text with a closed set of values or characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Region,
    Zone,
    Account,
    Owner,
    Cidr,
    Address,
    /// A DNS zone with its final dot.
    DnsZone,
    /// Part of a DNS name, a load balancer's name and a tag: what fits all of them.
    Label,
    /// A name in AWS that is only ever a name: profiles, key pairs, certificates, image names.
    Name,
    /// A security group's name.
    Group,
    TagKey,
    TagValue,
    RoleArn,
    Image,
    InstanceType,
    /// tcp, udp or icmp.
    Protocol,
    /// The same, and all.
    ProtocolOrAll,
    /// `ip_protocol` of default_rules, which went to EC2 as it was.
    RawProtocol,
    Listener,
    Health,
    BalancerType,
    Action,
    Path,
}

use Format as F;

/// The words of a format that has only some.
const fn words(format: Format) -> &'static [&'static str] {
    match format {
        F::Protocol => &["tcp", "udp", "icmp"],
        F::ProtocolOrAll => &["tcp", "udp", "icmp", "all"],
        F::RawProtocol => &["tcp", "udp", "icmp", "-1"],
        F::Listener => &["http", "https", "tcp", "ssl"],
        F::BalancerType => &["application", "network", "classic"],
        F::Action => &["allow", "deny"],
        _ => &[],
    }
}

fn chars(text: &str, lengths: std::ops::RangeInclusive<usize>, allowed: impl Fn(u8) -> bool) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(allowed)
}

/// A host name's label: letters, digits and hyphens, no hyphen at an end.
fn label(text: &str) -> bool {
    chars(text, 1..=63, |b| b.is_ascii_alphanumeric() || b == b'-') && !text.starts_with('-') && !text.ends_with('-')
}

impl Format {
    /// As a table shows it.
    pub fn label(self) -> &'static str {
        match self {
            F::Region => "region",
            F::Zone => "availability zone",
            F::Account => "account id",
            F::Owner => "account id, `self` or `amazon`",
            F::Cidr => "CIDR",
            F::Address => "IPv4 address",
            F::DnsZone => "DNS zone",
            F::Label => "DNS label",
            F::Name | F::TagKey | F::TagValue => "text",
            F::Group => "security group's name",
            F::RoleArn => "role ARN",
            F::Image => "image id",
            F::InstanceType => "instance type",
            F::Protocol => "`tcp`, `udp` or `icmp`",
            F::ProtocolOrAll => "`tcp`, `udp`, `icmp` or `all`",
            F::RawProtocol => "`tcp`, `udp`, `icmp` or `-1`",
            F::Listener => "`http`, `https`, `tcp` or `ssl`",
            F::Health => "health check",
            F::BalancerType => "`application`, `network` or `classic`",
            F::Action => "`allow` or `deny`",
            F::Path => "file name",
        }
    }

    /// What an error says was expected.
    pub fn expected(self) -> &'static str {
        match self {
            F::Region => "a region such as us-west-2",
            F::Zone => "an availability zone such as us-west-2a",
            F::Account => "an account id of 12 digits",
            F::Owner => "an account id of 12 digits, self or amazon",
            F::Cidr => "a CIDR such as 10.0.0.0/16",
            F::Address => "an IPv4 address such as 10.0.0.5",
            F::DnsZone => "a DNS zone with its final dot, such as example.com.",
            F::Label => "a DNS label (letters, digits and hyphens, at most 63, no hyphen at an end)",
            F::Name => "a name (1 to 128 letters, digits and any of +=,.@_/-)",
            F::Group => {
                "a security group's name (1 to 240 letters, digits, spaces and any of ._-:/()#,@[]+=&;{}!$*), not default, not sg-"
            }
            F::TagKey => "a tag's key (1 to 128 characters, not beginning with aws:)",
            F::TagValue => "a tag's value (1 to 256 characters)",
            F::RoleArn => "a role's ARN such as arn:aws:iam::123456789012:role/dns",
            F::Image => "an image id such as ami-0a1b2c3d",
            F::InstanceType => "an instance type such as t3.micro",
            F::Protocol => "tcp, udp or icmp",
            F::ProtocolOrAll => "tcp, udp, icmp or all",
            F::RawProtocol => "tcp, udp, icmp or -1 (all)",
            F::Listener => "http, https, tcp or ssl",
            F::Health => "a health check such as HTTP:80/, HTTPS:443/up, TCP:80 or SSL:443",
            F::BalancerType => "application, network or classic",
            F::Action => "allow or deny",
            F::Path => "a file's name",
        }
    }

    /// Whether `text` fits. If not: what was probably meant, where that can be told.
    pub fn check(self, text: &str) -> Result<(), Option<String>> {
        if self.fits(text) { Ok(()) } else { Err(self.suggest(text)) }
    }

    fn fits(self, text: &str) -> bool {
        match self {
            F::Region => {
                let parts: Vec<&str> = text.split('-').collect();
                (3..=4).contains(&parts.len())
                    && parts[..parts.len() - 1].iter().all(|p| chars(p, 1..=12, |b| b.is_ascii_lowercase()))
                    && parts.last().is_some_and(|n| chars(n, 1..=2, |b| b.is_ascii_digit()))
            }
            F::Zone => chars(text, 6..=40, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            F::Account => chars(text, 12..=12, |b| b.is_ascii_digit()),
            F::Owner => matches!(text, "self" | "amazon") || F::Account.fits(text),
            F::Cidr => text.parse::<Ipv4Net>().is_ok_and(|net| net == net.trunc()),
            F::Address => text.parse::<Ipv4Addr>().is_ok(),
            F::DnsZone => text.len() <= 200 && text.strip_suffix('.').is_some_and(|z| z.split('.').all(label)),
            F::Label => label(text),
            F::Name => chars(text, 1..=128, |b| b.is_ascii_alphanumeric() || b"+=,.@_/-".contains(&b)),
            F::Group => {
                chars(text, 1..=240, |b| b.is_ascii_alphanumeric() || b" ._-:/()#,@[]+=&;{}!$*".contains(&b))
                    && text.trim() == text
                    && !text.starts_with("sg-")
                    && text != "default"
            }
            F::TagKey => {
                chars(text, 1..=128, |b| (b' '..=b'~').contains(&b)) && !text.to_lowercase().starts_with("aws:")
            }
            F::TagValue => chars(text, 1..=256, |b| (b' '..=b'~').contains(&b)),
            F::RoleArn => {
                let parts: Vec<&str> = text.splitn(6, ':').collect();
                matches!(parts[..], ["arn", p, "iam", "", a, r]
                    if p.starts_with("aws") && F::Account.fits(a)
                        && r.strip_prefix("role/").is_some_and(|n| F::Name.fits(n)))
            }
            F::Image => text.strip_prefix("ami-").is_some_and(|h| {
                chars(h, 8..=17, |b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                    && (h.len() == 8 || h.len() == 17)
            }),
            F::InstanceType => text.split_once('.').is_some_and(|(family, size)| {
                chars(family, 1..=24, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && chars(size, 1..=24, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            }),
            F::Health => crate::document::Health::parse(text).is_some(),
            F::Path => !text.is_empty() && text.len() <= 4096 && !text.contains('\0'),
            F::Protocol | F::ProtocolOrAll | F::RawProtocol | F::Listener | F::BalancerType | F::Action => {
                words(self).contains(&text)
            }
        }
    }

    fn suggest(self, found: &str) -> Option<String> {
        let better = match self {
            F::Cidr => match found.parse::<Ipv4Net>() {
                Ok(net) => net.trunc().to_string(),
                Err(_) => format!("{}/32", found.parse::<Ipv4Addr>().ok()?),
            },
            F::Address => found.parse::<Ipv4Net>().ok()?.addr().to_string(),
            F::DnsZone => format!("{found}."),
            F::RawProtocol | F::ProtocolOrAll if matches!(found, "all" | "-1") => (*words(self).last()?).to_owned(),
            _ if !words(self).is_empty() => text::nearest(found, words(self).iter().copied())?.to_owned(),
            _ => found.trim().to_lowercase(),
        };
        (better != found && self.fits(&better)).then_some(better)
    }

    /// The JSON Schema of the format. Where no regular expression says it all, it says what it can: `check` says the rest.
    pub fn schema(self) -> serde_json::Value {
        use serde_json::json;
        let pattern = match self {
            F::Region => "^[a-z]{1,12}(-[a-z]{1,12}){1,2}-[0-9]{1,2}$",
            F::Zone => "^[a-z0-9-]{6,40}$",
            F::Account => "^[0-9]{12}$",
            F::Owner => "^([0-9]{12}|self|amazon)$",
            F::Cidr => r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$",
            F::Address => r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$",
            F::DnsZone => r"^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+$",
            F::Label => "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$",
            F::Name => "^[A-Za-z0-9+=,.@_/-]{1,128}$",
            F::Group => r"^[A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]{1,240}$",
            F::TagKey => "^[ -~]{1,128}$",
            F::TagValue => "^[ -~]{1,256}$",
            F::RoleArn => "^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,128}$",
            F::Image => "^ami-([0-9a-f]{8}|[0-9a-f]{17})$",
            F::InstanceType => r"^[a-z0-9-]{1,24}\.[a-z0-9-]{1,24}$",
            F::Health => "^((HTTP|HTTPS):[0-9]{1,5}/.*|(TCP|SSL):[0-9]{1,5})$",
            F::Path => "^.{1,4096}$",
            _ => return json!({ "enum": words(self) }),
        };
        json!({ "type": "string", "pattern": pattern })
    }
}
