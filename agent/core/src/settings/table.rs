//! The settings, one row each, with everything that parsing, messages and the reference know about a setting.
//!
//! A new setting is a row, a field of [`Settings`](super::Settings), and the line of `check.rs` that fills that field. Then
//! `BLESS=1 cargo test -p crosswan-core --test pure reference` writes it into every list of settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    time::Duration,
};

use ipnet::Ipv4Net;

use super::{
    accounts::{self, Listed},
    hubs::{self, HubKeys},
    item::Item,
    parse::{self, Tag},
    segments, stored,
    values::AuthMethod,
};
use crate::{
    error::Result,
    model::{AllocationId, Mode, Opening, Reach, Region},
};

/// A setting, with what its row says.
#[derive(Debug)]
pub struct Setting {
    /// The dotted name in TOML.
    pub name: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// What a value may be, for "expected …" in an error.
    pub accepts: &'static str,
    /// What applies where no source sets it.
    pub default: IfUnset,
    /// The modes that use it; the others accept and ignore it.
    pub modes: &'static [Mode],
    /// What it does: whole sentences, with names and values between backticks.
    pub help: &'static str,
    /// Reads an item of this name into its field of the draft.
    pub(super) set: fn(&mut Draft, &Item) -> Result<()>,
}

/// What applies where no source sets a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfUnset {
    /// This value, in TOML.
    Value(&'static str),
    /// No fixed value: the text, with backticks, says what happens then. `check.rs` does it.
    Words(&'static str),
}

/// The type of a setting's field in the draft: without a default value it is an option.
macro_rules! slot {
    (Value $type:ty) => { $type };
    (Words $type:ty) => { Option<$type> };
}

/// The value of that field before any source is read.
macro_rules! initial {
    (Value $read:expr) => {
        $read
    };
    (Words $read:expr) => {
        None
    };
}

macro_rules! settings {
    ($($name:literal, $env:literal, $field:ident: $type:ty = $parse:expr,
        accepts $accepts:expr, default $kind:ident($default:literal), modes $modes:expr, $help:expr;)*) => {
        /// The strongest value of each setting so far.
        #[derive(Debug)]
        pub(super) struct Draft {
            $(pub $field: slot!($kind $type),)*
            /// Where each was set that a source has set, by name.
            pub origins: BTreeMap<&'static str, String>,
        }

        impl Draft {
            /// The defaults alone. Fails only if the table holds a default that its own parser refuses.
            pub(super) fn of_defaults() -> Result<Draft> {
                Ok(Draft {
                    $($field: initial!($kind Item::default($name, $default)?.read($accepts, $parse)?),)*
                    origins: BTreeMap::new(),
                })
            }
        }

        /// Every setting, in the order of the reference.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            env: $env,
            accepts: $accepts,
            default: IfUnset::$kind($default),
            modes: $modes,
            help: $help,
            set: |draft, item| {
                let value: $type = item.read($accepts, $parse)?;
                draft.$field = value.into();
                Ok(())
            },
        },)*];
    };
}

/// The modes in an error. The mode is also read before the other settings.
pub(super) const MODES: &str = "vpn-hub, nat-hub or nat-vpn";
const TAG: &str = "a tag { key = \"…\", value = \"…\" } or \"key=value\", key of 1 to 128 and value of up to 256 characters, \
                   without control characters and EC2's filter characters * ? \\";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

const ALL: &[Mode] = &Mode::ALL;
/// The ends of tunnels.
const VPN: &[Mode] = &[Mode::VpnHub, Mode::NatVpn];
const HUB: &[Mode] = &[Mode::VpnHub];
const CLIENT: &[Mode] = &[Mode::NatVpn];

settings! {
    "mode", "CROSSWAN_MODE", mode: Mode = parse::word,
        accepts MODES, default Words("none: it must be set"), modes ALL,
        "The mode says what this gateway is: `vpn-hub` is the hub of all tunnels, `nat-hub` does NAT in the hub's VPC, \
         and `nat-vpn` does NAT in a client's VPC and has the tunnel to the hub.";
    "private_net", "CROSSWAN_PRIVATE_NET", private_net: BTreeSet<Ipv4Net> = parse::networks,
        accepts "a list of one or more networks such as 10.0.0.0/8, none overlapping another",
        default Words("none: it must be set"), modes ALL,
        "These networks are excluded from NAT and reached through the hub.";
    "hub", "CROSSWAN_HUB", hub: Vec<Ipv4Addr> = hubs::addresses,
        accepts "the hub's Elastic IP, a plain unicast IPv4 address such as 198.51.100.100, or a list of two different ones",
        default Words("the hub that is found by `hub_tag`"), modes CLIENT,
        "The hub's address, or the addresses of two hubs. Of two hubs a nat-vpn keeps both tunnels up and uses one: at first the hub that is \
         named first, and another one only when the tunnel in use is down. Where `auth.method` is `\"psk\"`, a nat-vpn then asks EC2 for nothing. \
         Otherwise the hub's key must be found as well: set `regions` or `auth.hub_key`.";
    "hub_tag", "CROSSWAN_HUB_TAG", hub_tag: Tag = parse::tag,
        accepts TAG, default Value("{ key = \"service\", value = \"vpn-hub\" }"), modes CLIENT,
        "A nat-vpn looks for the hub in `regions` by this tag.";
    "regions", "CROSSWAN_REGIONS", regions: BTreeSet<Region> = parse::set,
        accepts "a list of regions such as eu-west-1",
        default Words("none: it must be set, except on a nat-vpn with `hub` and either a pre-shared key or `auth.hub_key`"), modes VPN,
        "A vpn-hub looks for gateways in these regions, and a nat-vpn for the hub and its key.";
    "own_account", "CROSSWAN_OWN_ACCOUNT", own_account: bool = parse::boolean,
        accepts "true or false", default Value("true"), modes VPN,
        "With `false` only `accounts` are asked, and not the account that this gateway is in.";
    "accounts", "CROSSWAN_ACCOUNTS", accounts: Vec<Listed> = accounts::listed,
        accepts "tables [[accounts]] with role_arn and perhaps external_id, regions, allow, segments and name, or a list of role ARNs",
        default Words("none"), modes VPN,
        "These further accounts are asked, each by the role `role_arn` in it. `external_id` is what the role's trust \
         policy demands, `regions` are by default those above, `allow` lists the networks that VPCs of this account may \
         bring (by default `private_net`), `segments` those that they may be in (by default any), and `name` is for messages. \
         The list of a stronger source replaces the whole list.";
    "gateway_tag", "CROSSWAN_GATEWAY_TAG", gateway_tag: Tag = parse::tag,
        accepts TAG, default Value("{ key = \"service\", value = \"nat\" }"), modes ALL,
        "The hub connects the gateways that have this tag, and a nat-hub or nat-vpn finds others of its mode in its VPC by it.";
    "environment_tag", "CROSSWAN_ENVIRONMENT_TAG", environment_tag: Tag = parse::tag,
        accepts TAG, default Words("none"), modes ALL,
        "A gateway or hub must have this second tag as well, and so must the other member of a pair.";
    "segments", "CROSSWAN_SEGMENTS", segments: Reach = segments::reach,
        accepts "a table of segments, each with a list of those that it may initiate to, such as { prod = [\"shared\"], dev = [] }, \
                 or a list such as prod=shared, dev",
        default Words("none: every VPC reaches every other"), modes HUB,
        "Each VPC belongs to the segment that its tag names, or to `default`. VPCs of one segment reach each other, and those of \
         other segments only if theirs is listed here: hosts in `prod` then may begin a connection to hosts in `shared`, which may \
         answer. Both ways need both entries. The hub's own VPC has its segment by its tag, too. An empty table already keeps \
         all segments apart.";
    "segment_tag", "CROSSWAN_SEGMENT_TAG", segment_tag: String = parse::tag_key,
        accepts "the key of a tag, of 1 to 128 characters, without control characters and EC2's filter characters * ? \\",
        default Value("\"crosswan-segment\""), modes HUB,
        "Where `segments` is set, the value of this tag of a VPC is its segment.";
    "routes.tag", "CROSSWAN_ROUTES_TAG", routes_tag: Tag = parse::tag,
        accepts TAG, default Value("{ key = \"crosswan-routes\", value = \"managed\" }"), modes ALL,
        "This gateway writes its routes into the route tables of its own VPC that have this tag, and into no others.";
    "routes.overrule", "CROSSWAN_ROUTES_OVERRULE", routes_overrule: bool = parse::boolean,
        accepts "true or false", default Value("false"), modes ALL,
        "In these tables, a route that leads to a living target which is not crosswan's (a peering, a Transit Gateway, \
         another's interface) is taken as well. Without this it is left and reported.";
    "address.allocation", "CROSSWAN_ADDRESS_ALLOCATION", address_allocation: AllocationId = parse::word,
        accepts "an Elastic IP's allocation id such as eipalloc-0a1b2c3d", default Words("none"), modes ALL,
        "This gateway takes this Elastic IP before it makes a tunnel or takes a route. It never takes it from an \
         instance that runs.";
    "address.tag", "CROSSWAN_ADDRESS_TAG", address_tag: Tag = parse::tag,
        accepts TAG, default Words("none"), modes ALL,
        "As `address.allocation`, with any Elastic IP that has this tag and that no running instance has. A replacement \
         without an outage needs one that is free, so two for one gateway.";
    "masquerade", "CROSSWAN_MASQUERADE", masquerade: bool = parse::boolean,
        accepts "true or false", default Words("`false` on a vpn-hub, otherwise `true`"), modes ALL,
        "The gateway does NAT for the CIDRs of its own VPC.";
    "nat.sources", "CROSSWAN_NAT_SOURCES", nat_sources: BTreeSet<Ipv4Net> = parse::any_networks,
        accepts "a list of networks such as 10.2.0.0/16, none overlapping another", default Value("[]"), modes ALL,
        "Where `masquerade` is on, the gateway does NAT for these further networks, whose packets come by a Transit \
         Gateway or a peering.";
    "guard.input", "CROSSWAN_GUARD_INPUT", guard_input: BTreeSet<Opening> = parse::set,
        accepts "a list of ports such as tcp/22 or udp/53", default Value("[]"), modes VPN,
        "These ports of this gateway can be reached from a tunnel. ICMP always can.";
    "guard.exclude", "CROSSWAN_GUARD_EXCLUDE", guard_exclude: BTreeSet<Ipv4Net> = parse::any_networks,
        accepts "a list of networks inside private_net such as 10.9.0.0/16, none overlapping another",
        default Value("[]"), modes VPN,
        "This gateway itself, but not the hosts behind it, reaches these parts of `private_net` in the clear, by peering \
         or Direct Connect.";
    "auth.method", "CROSSWAN_AUTH_METHOD", method: AuthMethod = parse::word,
        accepts "key or psk", default Words("`\"key\"`; `\"psk\"` where a 2014 file holds `VPN_PSK`"), modes ALL,
        "With `\"key\"` each gateway makes and announces a key of its own. With `\"psk\"` there are pre-shared keys only.";
    "auth.hub_key", "CROSSWAN_HUB_KEY", hub_key: HubKeys = hubs::keys,
        accepts "the hub's Ed25519 public key (SPKI in base64, 60 characters), or a list of two during its rotation; or a table of such by \
                 address, { \"198.51.100.100\" = [\"KEY\"] }, or a list such as 198.51.100.100=KEY",
        default Words("what the hub's tag says"), modes CLIENT,
        "The hub must prove that it holds this key, which is written as in the hub's tag. Where `hub` names two hubs, each needs its keys \
         by its address.";
    "auth.max_key_age", "CROSSWAN_MAX_KEY_AGE", max_key_age: Duration = |raw| parse::duration(raw, DAY, TEN_YEARS),
        accepts "a duration from \"1day\" to \"10years\"", default Words("no rotation by age"), modes ALL,
        "This gateway's key is rotated when it is older than this, for instance `\"90days\"`.";
    "auth.psk_file", "CROSSWAN_PSK_FILE", psk_file: PathBuf = parse::path,
        accepts "an absolute path", default Words("the systemd credential `crosswan.psk`, otherwise `/etc/crosswan/psk`"),
        modes VPN, "This file holds the pre-shared key. It must be owned by root and have mode 0600.";
    "auth.psk_dir", "CROSSWAN_PSK_DIR", psk_dir: PathBuf = parse::path,
        accepts "an absolute path", default Words("`/etc/crosswan/psk.d`"), modes VPN,
        "This folder holds one pre-shared key per client VPC, each in a file named by the VPC's id. Such a key overrides \
         all other pre-shared keys.";
    "auth.psk_parameter", "CROSSWAN_PSK_PARAMETER", psk_parameter: String = stored::parameter,
        accepts "an SSM parameter's full name such as /crosswan/psk or /crosswan/{vpc}, or its ARN",
        default Words("none"), modes VPN,
        "This SSM parameter (SecureString) holds the pre-shared key, instead of `auth.psk_file`. With `{vpc}` in the name \
         there is one per client VPC.";
    "auth.psk_secret", "CROSSWAN_PSK_SECRET", psk_secret: String = stored::secret,
        accepts "a Secrets Manager secret's name such as crosswan/psk or crosswan/{vpc}, or its ARN",
        default Words("none"), modes VPN,
        "This Secrets Manager secret holds the pre-shared key, instead of `auth.psk_file`. With `{vpc}` in the name there \
         is one per client VPC.";
    "auth.psk_region", "CROSSWAN_PSK_REGION", psk_region: Region = parse::word,
        accepts "a region such as eu-west-1", default Words("the ARN's, otherwise the instance's own"), modes VPN,
        "`auth.psk_parameter` or `auth.psk_secret` is in this region.";
    "removal.after_misses", "CROSSWAN_AFTER_MISSES", after_misses: u32 = |raw| parse::count(raw, 1..=1000),
        accepts "a whole number from 1 to 1000", default Value("2"), modes HUB,
        "This many successful polls of EC2 must miss a peer before its tunnel is removed.";
    "removal.spacing", "CROSSWAN_SPACING", spacing: Duration = |raw| parse::duration(raw, Duration::ZERO, DAY),
        accepts "a duration from \"0s\" to \"1day\"", default Value("\"10min\""), modes HUB,
        "Polls closer together than this count as one, because a failed pass is tried again after 30 s.";
    "removal.hold_above", "CROSSWAN_HOLD_ABOVE", hold_above: u8 = parse::percent,
        accepts "a percentage from \"0%\" to \"100%\"", default Value("\"50%\""), modes HUB,
        "A pass that would remove more than this share of the peers removes none.";
    "removal.hold_floor", "CROSSWAN_HOLD_FLOOR", hold_floor: u32 = |raw| parse::count(raw, 0..=100),
        accepts "a whole number from 0 to 100", default Value("2"), modes HUB,
        "This many peers may be removed in spite of `removal.hold_above`, if their tunnels are dead or EC2 says that they \
         are gone.";
    "removal.confirmed_after", "CROSSWAN_CONFIRMED_AFTER", confirmed_after: u32 = |raw| parse::count(raw, 1..=1000),
        accepts "a whole number from 1 to 1000", default Value("24"), modes HUB,
        "After this many polls without it a peer is removed in spite of a hold, if EC2 says that its VPC is gone too.";
    "keep.interval", "CROSSWAN_KEEP_INTERVAL", keep_interval: Duration = |raw| parse::duration(raw, SECOND, MINUTE),
        accepts "a duration from \"1s\" to \"1min\"", default Value("\"15s\""), modes VPN,
        "`crosswan keep` looks at charon this often.";
    "pair.enabled", "CROSSWAN_PAIR_ENABLED", pair_enabled: bool = parse::boolean,
        accepts "true or false", default Value("true"), modes ALL,
        "This gateway and another one of its mode in its VPC are a pair: each watches the other, and the one that lives takes the \
         VPC's routes from the one that is dead. With `false` on either they are none, and the newer one takes the routes. It needs \
         keys, so not `auth.method = \"psk\"`; a nat-hub makes one for this alone.";
    "pair.port", "CROSSWAN_PAIR_PORT", pair_port: u32 = |raw| parse::count(raw, 1024..=65535),
        accepts "a whole number from 1024 to 65535", default Value("4795"), modes ALL,
        "The members of a pair send their beats to this port, UDP, and ask each other's kernel at the same port, TCP. \
         Security groups must let both pass between them, and both must have the same. Inside their tunnels they send beats to \
         the hub, which must have the same port, too.";
    "pair.interval", "CROSSWAN_PAIR_INTERVAL", pair_interval: Duration = |raw| parse::duration(raw, SECOND / 20, 5 * SECOND),
        accepts "a duration from \"50ms\" to \"5s\"", default Value("\"100ms\""), modes ALL,
        "A member sends a beat this often. Where the two differ, the slower one counts. Burstable instance types may need \
         `\"200ms\"`.";
    "pair.misses", "CROSSWAN_PAIR_MISSES", pair_misses: u32 = |raw| parse::count(raw, 3..=50),
        accepts "a whole number from 3 to 50", default Value("4"), modes ALL,
        "After this many beats that do not come, and no answer of its kernel, the other member is dead.";
    "pair.newcomer_replaces", "CROSSWAN_PAIR_NEWCOMER_REPLACES", pair_newcomer_replaces: bool = parse::boolean,
        accepts "true or false", default Value("true"), modes ALL,
        "A gateway that is launched beside a pair takes, once it works, the place of the older member in its zone, which hands over \
         to the other member first. That ends connections to the internet through the older one's address. With `false` on either it \
         waits until a member is gone or makes way by order.";
    "ec2.timeout", "CROSSWAN_EC2_TIMEOUT", ec2_timeout: Duration = |raw| parse::duration(raw, SECOND, 10 * MINUTE),
        accepts "a duration from \"1s\" to \"10min\"", default Value("\"60s\""), modes VPN,
        "One region's whole answer with all retries may take this long, and so may fetching the pre-shared keys.";
}
