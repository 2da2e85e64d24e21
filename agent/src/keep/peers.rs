//! The peers that the managed file names, and when it was changed; those that charon has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    path::Path,
};

use crosswan_core::{
    swanctl::{self, Summary},
    system::Sa,
};

/// The names of the connections that charon should have, and the peers' addresses: those of the managed file. There are none if it
/// cannot be read or parsed.
pub(super) fn managed(conf_file: &Path) -> (BTreeSet<String>, BTreeSet<Ipv4Addr>) {
    let parsed = fs::read_to_string(conf_file).ok().and_then(|text| swanctl::parse(&text).ok());
    let conns = parsed.map(swanctl::connections).unwrap_or_default();
    let peers = conns.values().flat_map(|conn| addresses(&Summary::of(conn)).collect::<Vec<_>>()).collect();
    (conns.into_keys().collect(), peers)
}

/// The peer's addresses in a connection.
pub(super) fn addresses(conn: &Summary) -> impl Iterator<Item = Ipv4Addr> {
    conn.remote_addrs.iter().filter_map(|address| address.parse().ok())
}

/// When the newest IKE_SA with each address was established, on the clock that shows `now`.
pub(super) fn established(sas: &[Sa], now: u64) -> BTreeMap<Ipv4Addr, u64> {
    let mut newest = BTreeMap::new();
    for sa in sas {
        if let (Ok(from), Some(seconds)) = (sa.remote_host.parse(), sa.established) {
            let at = newest.entry(from).or_default();
            *at = now.saturating_sub(seconds * 1000).max(*at);
        }
    }
    newest
}
