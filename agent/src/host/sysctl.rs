//! The kernel settings on which forwarding depends.

use std::io::ErrorKind;

use crosswan_core::{
    error::{Error, Result},
    forwarding::Sysctl,
    model::Interface,
};

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
