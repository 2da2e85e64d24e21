//! The kernel settings on which forwarding depends, judged.

use std::collections::BTreeMap;

use super::Problem;
use crate::model::{plain, printable};

/// A kernel setting of this network namespace, by the key `sysctl` takes, such as `net.ipv4.ip_forward`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// The key, with dots.
    pub key: String,
    /// The value, as text without the newline.
    pub value: String,
}

/// Which of the settings a problem is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knob {
    /// `ip_forward`.
    IpForward,
    /// `send_redirects` of `all` or of the uplink.
    SendRedirects,
    /// `rp_filter` of any interface.
    RpFilter,
    /// IPv6's `forwarding`.
    Ipv6Forwarding,
}

/// What in `sysctls` keeps a gateway from working, with the command that mends it.
///
/// - ip_forward off: nothing passes.
/// - rp_filter is the greater of `all` and the interface's value. Strict (1) drops a packet that arrives on another interface than
///   the one of the way back: a second ENI, or the tunnel device before its routes are set. Loose (2) and off (0) are fine;
///   the command sets `all` to 2, which overrides every interface's 1.
/// - send_redirects is on if it is on in `all` or on the interface. A gateway with one interface gets and sends
///   every packet there, and would tell each host to bypass the gateway.
pub fn sysctl_problems(sysctls: &[Sysctl]) -> Vec<(Knob, Problem)> {
    let values: BTreeMap<&str, &str> = sysctls.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
    let shown = |value: &str| printable(value).trim_matches('"').to_owned();
    let mut problems = Vec::new();
    let mut add = |knob, found: String, key: &str, value: u8| {
        problems.push((knob, Problem { found, remedy: format!("sysctl -w {key}={value}") }));
    };
    if let Some(value) = values.get("net.ipv4.ip_forward").filter(|v| **v != "1") {
        let found = format!("net.ipv4.ip_forward is {}: nothing is forwarded", shown(value));
        add(Knob::IpForward, found, "net.ipv4.ip_forward", 1);
    }
    let all = values.get("net.ipv4.conf.all.rp_filter").copied().unwrap_or("0");
    let mut strict = Vec::new();
    for (key, value) in &values {
        if key.ends_with(".send_redirects") && *value != "0" {
            let found = format!("{key} is {}: hosts are told to bypass the gateway", shown(value));
            add(Knob::SendRedirects, found, key, 0);
        }
        let interface = key.strip_prefix("net.ipv4.conf.").and_then(|key| key.strip_suffix(".rp_filter"));
        strict.extend(interface.filter(|name| *name != "all" && all.max(value) == "1").map(plain));
    }
    if !strict.is_empty() {
        let on = strict.join(", ");
        let found = format!(
            "rp_filter is in effect 1 (strict) on {on}: packets that come back by another interface are dropped"
        );
        add(Knob::RpFilter, found, "net.ipv4.conf.all.rp_filter", 2);
    }
    problems
}
