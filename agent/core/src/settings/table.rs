//! Every key a settings source may hold, what it accepts, and the nearest known key to an unknown one.

use crate::model::printable;

/// A setting: its dotted name in TOML, its environment variable (empty if it has none), what it accepts.
pub(super) struct Key {
    pub name: &'static str,
    pub env: &'static str,
    pub accepts: &'static str,
}

const fn key(name: &'static str, env: &'static str, accepts: &'static str) -> Key {
    Key { name, env, accepts }
}

const TAG: &str = "a tag { key = \"…\", value = \"…\" } or \"key=value\", key of 1 to 128 and value of up to 256 characters, \
                   without control characters and EC2's filter characters * ? \\";

/// The settings reference. `merged.rs` has one arm for each.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("mode", "CROSSWAN_MODE", "vpn-hub, nat-hub or nat-vpn"),
    key("private_net", "CROSSWAN_PRIVATE_NET", "a list of one or more networks such as 10.0.0.0/8, none overlapping another"),
    key("hub", "CROSSWAN_HUB", "the hub's Elastic IP, a plain unicast IPv4 address such as 198.51.100.100"),
    key("hub_tag", "CROSSWAN_HUB_TAG", TAG),
    key("regions", "CROSSWAN_REGIONS", "a list of regions such as eu-west-1"),
    key("gateway_tag", "CROSSWAN_GATEWAY_TAG", TAG),
    key("environment_tag", "CROSSWAN_ENVIRONMENT_TAG", TAG),
    key("masquerade", "CROSSWAN_MASQUERADE", "true or false"),
    key("nat.sources", "CROSSWAN_NAT_SOURCES", "a list of networks such as 10.2.0.0/16, none overlapping another"),
    key("guard.input", "CROSSWAN_GUARD_INPUT", "a list of ports such as tcp/22 or udp/53"),
    key("guard.exclude", "CROSSWAN_GUARD_EXCLUDE", "a list of networks inside private_net such as 10.9.0.0/16, none overlapping another"),
    key("ipsec_interface", "CROSSWAN_IPSEC_INTERFACE", "an interface name such as ipsec0"),
    key("auth.method", "CROSSWAN_AUTH_METHOD", "key or psk"),
    key("auth.hub_key", "CROSSWAN_HUB_KEY", "the hub's Ed25519 public key (SPKI in base64, 60 characters), or a list of two during its rotation"),
    key("auth.max_key_age", "CROSSWAN_MAX_KEY_AGE", "a duration from \"1day\" to \"10years\""),
    key("auth.psk_file", "CROSSWAN_PSK_FILE", "an absolute path"),
    key("auth.psk_dir", "CROSSWAN_PSK_DIR", "an absolute path"),
    key("auth.psk_parameter", "CROSSWAN_PSK_PARAMETER", "an SSM parameter's full name such as /crosswan/psk or /crosswan/{vpc}, or its ARN"),
    key("auth.psk_secret", "CROSSWAN_PSK_SECRET", "a Secrets Manager secret's name such as crosswan/psk or crosswan/{vpc}, or its ARN"),
    key("auth.psk_region", "CROSSWAN_PSK_REGION", "a region such as eu-west-1"),
    key("removal.after_misses", "CROSSWAN_AFTER_MISSES", "a whole number from 1 to 1000"),
    key("removal.spacing", "CROSSWAN_SPACING", "a duration from \"0s\" to \"1day\""),
    key("removal.hold_above", "CROSSWAN_HOLD_ABOVE", "a percentage from \"0%\" to \"100%\""),
    key("removal.hold_floor", "CROSSWAN_HOLD_FLOOR", "a whole number from 0 to 100"),
    key("removal.confirmed_after", "CROSSWAN_CONFIRMED_AFTER", "a whole number from 1 to 1000"),
    key("keep.interval", "CROSSWAN_KEEP_INTERVAL", "a duration from \"1s\" to \"1min\""),
    key("ec2.timeout", "CROSSWAN_EC2_TIMEOUT", "a duration from \"1s\" to \"10min\""),
];

/// The TOML tables that hold dotted keys.
pub(super) const SECTIONS: [&str; 6] = ["nat", "guard", "auth", "removal", "keep", "ec2"];

/// The environment variable of a key.
pub(super) fn env_of(name: &str) -> &'static str {
    KEYS.iter().find(|k| k.name == name).map_or("", |k| k.env)
}

/// A foreign name for a message: as it is if it could be a key's, else escaped.
pub(super) fn show_name(name: &str) -> String {
    let bare = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if bare && (1..=64).contains(&name.len()) { name.into() } else { printable(name) }
}

/// `did you mean X?`, or all that is known if nothing is near. `known` share `prefix`, which tells nothing.
pub(super) fn suggest(unknown: &str, prefix: &str, known: impl Iterator<Item = &'static str>) -> String {
    let short: String = unknown.strip_prefix(prefix).unwrap_or(unknown).chars().take(64).collect();
    let likeness = |name: &str| {
        let name = name.strip_prefix(prefix).unwrap_or(name);
        let leaf = name.rsplit('.').next().unwrap_or(name);
        strsim::jaro_winkler(&short, name).max(strsim::jaro_winkler(&short, leaf))
    };
    let known: Vec<&str> = known.filter(|name| !name.is_empty()).collect();
    match known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))) {
        Some(nearest) if likeness(nearest) > 0.75 => format!("did you mean {nearest}?"),
        _ => format!("known are {}", known.join(", ")),
    }
}
