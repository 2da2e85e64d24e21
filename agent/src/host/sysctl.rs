//! The kernel settings on which forwarding depends.

use std::{collections::BTreeMap, io::ErrorKind};

use crosswan_core::{
    error::{Error, Result},
    model::{Interface, plain, printable},
};

/// A kernel setting of this network namespace, by the key `sysctl` takes, such as `net.ipv4.ip_forward`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// The key, with dots.
    pub key: String,
    /// The value, as text without the newline.
    pub value: String,
}

/// The settings that decide whether this host can be a gateway: ip_forward, rp_filter for `all` and for each of
/// `interfaces` (those that are up), send_redirects for `all` and for the `uplink`. An interface that has gone is left out.
///
/// # Errors
/// A setting that every kernel has cannot be read.
pub fn sysctls<'a>(uplink: &Interface, interfaces: impl Iterator<Item = &'a String>) -> Result<Vec<Sysctl>> {
    let mut found = Vec::new();
    let mut read = |path: &str, optional: bool| {
        match std::fs::read_to_string(format!("/proc/sys/{path}")) {
            Ok(value) => found.push(Sysctl { key: dotted(path), value: value.trim().to_owned() }),
            Err(e) if optional && e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::observe(format!("read /proc/sys/{path}")).because(e)),
        }
        Ok(())
    };
    read("net/ipv4/ip_forward", false)?;
    read("net/ipv4/conf/all/rp_filter", false)?;
    read("net/ipv4/conf/all/send_redirects", false)?;
    for name in interfaces {
        read(&format!("net/ipv4/conf/{name}/rp_filter"), true)?;
    }
    read(&format!("net/ipv4/conf/{uplink}/send_redirects"), true)?;
    Ok(found)
}

/// A path in sysctl's spelling: `/` and `.` change places, so that `ens5.100` stays one word.
pub(super) fn dotted(path: &str) -> String {
    path.chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            c => c,
        })
        .collect()
}

/// What in `sysctls` keeps a gateway from working: one line each, with the command that mends it.
///
/// - ip_forward off: nothing passes.
/// - rp_filter is the greater of `all` and the interface's value. Strict (1) drops a packet that arrives on another interface than
///   the one of the way back: a second ENI, or the tunnel device before its routes are set. Loose (2) and off (0) are fine;
///   the command sets `all` to 2, which overrides every interface's 1.
/// - send_redirects is on if it is on in `all` or on the interface. A gateway with one interface gets and sends
///   every packet there, and would tell each host to bypass the gateway.
pub fn sysctl_problems(sysctls: &[Sysctl]) -> Vec<String> {
    let values: BTreeMap<&str, &str> = sysctls.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
    let shown = |value: &str| printable(value).trim_matches('"').to_owned();
    let mut problems = Vec::new();
    if let Some(value) = values.get("net.ipv4.ip_forward").filter(|v| **v != "1") {
        let value = shown(value);
        problems.push(format!("net.ipv4.ip_forward is {value}: nothing is forwarded; sysctl -w net.ipv4.ip_forward=1"));
    }
    let all = values.get("net.ipv4.conf.all.rp_filter").copied().unwrap_or("0");
    let mut strict = Vec::new();
    for (key, value) in &values {
        if key.ends_with(".send_redirects") && *value != "0" {
            problems
                .push(format!("{key} is {}: hosts are told to bypass the gateway; sysctl -w {key}=0", shown(value)));
        }
        let interface = key.strip_prefix("net.ipv4.conf.").and_then(|key| key.strip_suffix(".rp_filter"));
        strict.extend(interface.filter(|name| *name != "all" && all.max(value) == "1").map(plain));
    }
    if !strict.is_empty() {
        problems.push(format!(
            "rp_filter is in effect 1 (strict) on {}: packets that come back by another interface are dropped; \
             sysctl -w net.ipv4.conf.all.rp_filter=2",
            strict.join(", ")
        ));
    }
    problems
}
