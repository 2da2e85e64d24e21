//! The list of checks: what each is called, which others must pass before it says anything, and what it looks at.

use super::{cloud, examined::Examined, host, pairs, passes, path, routes, tunnels, verdict::Verdict, vpc};
use crate::error::{NOT_IN_FORCE, STOPPED, TUNNEL_DOWN, WAITING};

/// One check, or one for each thing of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its id, which is stable. Where there is one check for each thing of a kind, that thing's name is in angle brackets:
    /// `peer-<vpc>`.
    pub id: &'static str,
    /// The checks, all before this one in the list, without which it says nothing: one cause is one failure.
    pub needs: &'static [&'static str],
    /// The exit code if it fails.
    pub code: u8,
    /// What it looks at.
    pub look: Look,
}

/// How a check looks.
#[derive(Debug, Clone, Copy)]
pub enum Look {
    /// At one thing.
    One(fn(&Examined) -> Verdict),
    /// At each thing of a kind, with the id of each.
    Each(fn(&Examined) -> Vec<(String, Verdict)>),
}

/// Those of [`crate::error::Kind`].
pub(super) const SETTINGS: u8 = 2;
pub(super) const UNASKED: u8 = 3;
pub(super) const NOT_AS_PLANNED: u8 = 4;

const fn one(id: &'static str, needs: &'static [&'static str], code: u8, look: fn(&Examined) -> Verdict) -> Check {
    Check { id, needs, code, look: Look::One(look) }
}

const fn each(
    id: &'static str,
    needs: &'static [&'static str],
    code: u8,
    look: fn(&Examined) -> Vec<(String, Verdict)>,
) -> Check {
    Check { id, needs, code, look: Look::Each(look) }
}

/// Every check, in the order in which they are shown.
pub const CHECKS: &[Check] = &[
    one("root", &[], UNASKED, host::root),
    one("settings", &[], SETTINGS, host::settings),
    one("imds", &[], UNASKED, cloud::imds),
    one("uplink", &[], UNASKED, host::uplink),
    one("mtu", &["uplink"], STOPPED, host::mtu),
    one("clock", &["imds"], UNASKED, host::clock),
    one("role", &["imds", "clock"], UNASKED, cloud::role),
    one("ec2", &["uplink", "role"], UNASKED, cloud::ec2),
    each("iam-<action>", &["ec2"], UNASKED, cloud::actions),
    each("account-<name>", &["settings", "ec2"], UNASKED, cloud::accounts),
    one("source-dest-check", &["ec2"], STOPPED, cloud::source_dest_check),
    one("public-address", &["imds"], STOPPED, cloud::public_address),
    one("elastic-ip", &["settings", "ec2", "public-address"], WAITING, cloud::elastic_ip),
    one("route-tables-tagged", &["settings", "ec2"], UNASKED, routes::tagged),
    each("route-<table>-<network>", &["source-dest-check", "elastic-ip", "route-tables-tagged"], STOPPED, routes::each),
    one("subnet-unrouted", &["route-tables-tagged"], STOPPED, vpc::subnet_unrouted),
    one("security-group-ike", &["settings", "ec2"], STOPPED, vpc::security_group_ike),
    one("security-group-private", &["settings", "ec2"], STOPPED, vpc::security_group_private),
    one("nacl", &["settings", "ec2"], STOPPED, vpc::nacl),
    one("ip-forward", &["uplink"], STOPPED, host::ip_forward),
    one("rp-filter", &["uplink"], STOPPED, host::rp_filter),
    one("send-redirects", &["uplink"], STOPPED, host::send_redirects),
    one("ipv6-forwarding", &["uplink"], STOPPED, host::ipv6_forwarding),
    one("conntrack-room", &["root"], STOPPED, host::conntrack_room),
    one("ena-allowance", &["uplink"], STOPPED, host::ena_allowance),
    one("charon", &["root"], UNASKED, tunnels::charon),
    one("algorithms", &["charon"], NOT_AS_PLANNED, tunnels::algorithms),
    one("swanctl-include", &["root"], STOPPED, tunnels::swanctl_include),
    one("last-refresh", &["settings", "imds", "uplink", "role", "ec2", "charon"], NOT_AS_PLANNED, passes::last_refresh),
    one("version", &[], NOT_AS_PLANNED, passes::version),
    one("rules-in-force", &["root"], NOT_IN_FORCE, host::rules_in_force),
    one("foreign-rules", &["root"], STOPPED, host::foreign_rules),
    one("interfaces-and-routes", &["root"], NOT_IN_FORCE, host::interfaces_and_routes),
    one("foreign-routes", &[], STOPPED, host::foreign_routes),
    each("pair-<instance>", &["settings"], NOT_AS_PLANNED, passes::pair),
    each("followed-<vpc>", &["settings", "interfaces-and-routes"], NOT_IN_FORCE, pairs::followed),
    one("key-file", &["root"], NOT_AS_PLANNED, tunnels::key_file),
    one("key-loaded", &["key-file", "charon"], NOT_AS_PLANNED, tunnels::key_loaded),
    one("key-tag", &["ec2", "key-file"], NOT_AS_PLANNED, tunnels::key_tag),
    one("overlap", &[], NOT_AS_PLANNED, passes::overlap),
    one("segments", &[], NOT_AS_PLANNED, passes::segments),
    one("peer-path", &["uplink", "public-address", "charon"], TUNNEL_DOWN, path::peer_path),
    each(
        "peer-<vpc>",
        &["uplink", "public-address", "charon", "algorithms", "key-loaded"],
        TUNNEL_DOWN,
        tunnels::peers,
    ),
];

/// The exit codes, the worst first.
pub(super) const WORST_FIRST: [u8; 7] =
    [SETTINGS, NOT_IN_FORCE, TUNNEL_DOWN, STOPPED, NOT_AS_PLANNED, UNASKED, WAITING];
