//! `crosswan metrics`: what `status` sees and what tunnels have carried, as measurements for Prometheus.
//!
//! One process looks and writes a file. Another one, which has no rights and sees nothing but that file, answers a scraper.

#![allow(clippy::disallowed_methods, reason = "edge: reads the clock's file times and a socket")]

mod http;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use nix::{
    sys::{
        socket::{setsockopt, sockopt::ReceiveTimeout},
        time::TimeVal,
    },
    unistd::geteuid,
};

use crate::{
    files,
    paths::Paths,
    status::{self, Status, TunnelStatus},
};
use crosswan_core::{
    decide::{AddressIs, RouteIs},
    error::{Context, Error, Kind, Result},
    metrics::{Exposition, table::*},
    model::{ConnName, Timestamp},
    pair::{MemberRole, PeerState},
    report::Report,
    traffic::{Count, Traffic},
};

/// Counters that have not been read for this many seconds are left out.
const STALE: i64 = 60;
/// A scraper's patience ends sooner, and so does that of whoever opens a connection and says nothing.
const HEARING: TimeVal = TimeVal::new(5, 0);
/// The longest request that is read. What Prometheus sends has 200 bytes.
const LONGEST: usize = 8192;

/// Looks once, and returns the text. Nothing is changed.
///
/// # Errors
/// [`Kind::Observe`] without root's rights, as neither charon nor iptables would answer.
pub async fn look(paths: &Paths) -> Result<String> {
    if !geteuid().is_root() {
        return Err(Error::observe("ask charon and iptables: only root may; run sudo crosswan metrics"));
    }
    let mut status = status::look(paths).await;
    let traffic = files::read_json(&paths.traffic).map_err(|e| status.unasked.push(e.chain())).ok().flatten();
    Ok(of(&status, traffic.as_ref(), modified(paths)).text())
}

/// When the last refresh ended that left everything in force.
fn modified(paths: &Paths) -> Option<Timestamp> {
    let at = fs::metadata(&paths.success).and_then(|meta| meta.modified()).ok()?;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp(i64::try_from(since.as_secs()).ok()?))
}

/// Looks once, and writes the text to the file for node_exporter, whole or not at all.
///
/// # Errors
/// As [`look`], and [`Kind::Apply`] if the file cannot be written.
pub async fn write(paths: &Paths) -> Result<()> {
    files::write_atomic(&paths.metrics, look(paths).await?.as_bytes(), 0o644)
}

/// Reads one HTTP request from standard input, which may be a socket, and answers it on standard output with the file.
///
/// # Errors
/// [`Kind::Other`] if the answer cannot be sent.
pub fn serve(paths: &Paths) -> Result<()> {
    // Not a socket but a pipe: then whoever has the other end decides.
    let _ = setsockopt(&io::stdin(), ReceiveTimeout, &HEARING);
    let (mut request, mut part) = (Vec::new(), [0; 1024]);
    while request.len() < LONGEST && !http::is_whole(&request) {
        match io::stdin().read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(length) => request.extend_from_slice(&part[..length]),
        }
    }
    let age = |path| fs::metadata(path).and_then(|meta| meta.modified()).ok()?.elapsed().ok();
    let old = |age: Option<Duration>| age.is_none_or(|age| age > Duration::from_secs(STALE as u64 * 2));
    let file = match files::read(&paths.metrics) {
        Ok(Some((text, _))) if !old(age(&paths.metrics)) => Some(text),
        _ => None,
    };
    let answer = http::answer(&request, file.as_deref());
    let mut out = io::stdout().lock();
    out.write_all(answer.as_bytes())
        .and_then(|()| out.flush())
        .context(|| Error::new(Kind::Other, "answer the request"))
}

/// The measurements of one look. What is not known is not in it.
///
/// `success` is when the last refresh ended that left everything in force.
pub fn of(status: &Status, traffic: Option<&Traffic>, success: Option<Timestamp>) -> Exposition {
    let mut all = Exposition::default();
    let report = status.last_refresh.as_ref();
    let mode = report.map(|report| report.mode.to_string()).unwrap_or_default();
    all.add(BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION")), ("mode", &mode)], 1.0);
    all.add(LOOK, &[], status.now as f64);
    all.add(UNASKED, &[], status.unasked.len() as f64);
    all.add_time(REFRESH_SUCCESS, &[], success);
    let failure = status.last_failure.as_ref();
    all.add_time(REFRESH_AT, &[], failure.map(|failure| failure.at).max(report.map(|report| report.at)));
    let code = failure.map(|failure| failure.exit_code).or(report.map(Report::exit_code));
    all.add_known(REFRESH_EXIT, &[], code.map(f64::from));
    if report.is_none_or(|report| report.mode.has_ipsec()) {
        all.add(CHARON_UP, &[], truth(status.charon.is_some()));
    }
    all.add_known(RULES_IN_FORCE, &[], status.nat.in_force.map(truth));
    all.add_time(PUT_BACK_AT, &[], status.put_back.as_ref().map(|put_back| put_back.at));
    // What could not be asked may hide another one.
    if status.unasked.is_empty() || !status.stopped.is_empty() {
        all.add(PROBLEMS, &[], status.stopped.len() as f64);
    }
    if let Some(table) = status.conntrack {
        all.add(CONNTRACK_ENTRIES, &[], table.entries as f64);
        all.add(CONNTRACK_LIMIT, &[], table.max as f64);
        all.add(CONNTRACK_DROPPED, &[], table.dropped as f64);
    }
    if let Some(report) = report {
        reported(report, &mut all);
    }
    if let Some(pair) = &status.pair {
        let member = [("member", pair.member.as_str())];
        all.add(
            PAIR_UP,
            &member,
            truth(matches!(pair.state, PeerState::Alive | PeerState::NoCharon | PeerState::Leaving)),
        );
        if pair.role != MemberRole::Unknown {
            all.add(PAIR_ACTIVE, &[], truth(pair.role == MemberRole::Active));
        }
    }
    all.add_time(PAIR_TAKEN, &[], status.takeovers.last.as_ref().map(|taken| taken.at));
    for word in status.followed.all().map(|(_, word)| word).filter(|word| !word.overruled) {
        let Some((vpc, instance)) = word.connection.gateway() else { continue };
        let labels = [("vpc", vpc.as_str()), ("instance", instance.as_str())];
        all.add(PAIR_FOLLOWED, &labels, word.generation.into());
        all.add_time(PAIR_FOLLOWED_AT, &labels, Some(word.at));
    }
    peers(status, traffic, &mut all);
    all
}

/// What the last refresh found.
fn reported(report: &Report, all: &mut Exposition) {
    for (region, answer) in &report.regions {
        let account = answer.account.as_ref().map(|name| ("account", name.as_str()));
        let labels: Vec<_> = account.into_iter().chain([("region", region.region.as_str())]).collect();
        all.add(DISCOVERY_UP, &labels, truth(answer.failed.is_none()));
        all.add(DISCOVERY_GATEWAYS, &labels, answer.gateways as f64);
        all.add_time(DISCOVERY_ANSWERED, &labels, answer.answered);
    }
    all.add(PEERS_REFUSED, &[], report.refused.len() as f64);
    all.add(PEERS_KEPT, &[], report.kept.len() as f64);
    all.add(PEERS_HELD, &[], report.held.as_ref().map_or(0.0, |held| held.would_remove as f64));
    all.add(PEERS_FAILED, &[], report.failed.len() as f64);
    all.add(KEYS_AWAITED, &[], report.awaited.len() as f64);
    let waits = report.address.as_ref().map(|address| truth(matches!(address, AddressIs::Waits(_))));
    all.add_known(ADDRESS_AWAITED, &[], waits);
    for route in &report.routes {
        let labels = [("route_table", route.table.as_str()), ("destination", &*route.to.to_string())];
        all.add(ROUTE_OWNED, &labels, truth(matches!(route.is, RouteIs::Here)));
    }
}

/// Each tunnel, and what it has carried.
fn peers(status: &Status, traffic: Option<&Traffic>, all: &mut Exposition) {
    all.add_time(TRAFFIC_AT, &[], traffic.map(|traffic| traffic.at));
    all.add_known(TRAFFIC_MISSED, &[], traffic.map(|traffic| traffic.missed as f64));
    let now = i64::try_from(status.now).unwrap_or_default();
    let carried = traffic.filter(|traffic| traffic.at.0 >= now - STALE).map(Traffic::by_address);
    let report = status.last_refresh.as_ref();
    let reported = |tunnel: &TunnelStatus| report.and_then(|report| report.tunnels.get(&tunnel.connection));
    // The kernel counts by address. Should two tunnels have one, it is that of the tunnel in use.
    let mut counted = BTreeSet::new();
    let (in_use, standing_by): (Vec<_>, Vec<_>) = status.tunnels.iter().partition(|tunnel| !tunnel.stands_by);
    for tunnel in in_use.into_iter().chain(standing_by) {
        let (mut vpc, peer) = names(&tunnel.connection);
        vpc = reported(tunnel).and_then(|t| t.vpc.as_ref()).map_or(vpc, ToString::to_string);
        let labels = [("peer_vpc", &*vpc), ("peer", &*peer)];
        all.add_known(PEER_UP, &labels, tunnel.up.map(truth));
        all.add(PEER_IN_USE, &labels, truth(!tunnel.stands_by));
        if let Some(member) = reported(tunnel).and_then(|t| t.segment.as_ref()) {
            let segment = member.segment.as_ref().map_or("", |name| name.as_str());
            all.add(PEER_SEGMENT, &[labels[0], labels[1], ("segment", segment)], 1.0);
        }
        if tunnel.loaded == Some(true) {
            let installed = tunnel.children.iter().filter(|child| child.installed).count();
            for (state, children) in [("wanted", tunnel.children.len()), ("installed", installed)] {
                all.add(PEER_CHILDREN, &[labels[0], labels[1], ("state", state)], children as f64);
            }
        }
        let since = tunnel.established.and_then(|seconds| status.now.checked_sub(seconds));
        all.add_known(PEER_ESTABLISHED, &labels, since.map(|at| at as f64));
        let loaded = || tunnel.remote.as_ref()?.parse::<Ipv4Addr>().ok();
        let Some(remote) = reported(tunnel).map(|t| t.remote).or_else(loaded) else { continue };
        if let Some(carried) = carried.as_ref().filter(|_| counted.insert(remote)) {
            let (Count { bytes, packets }, sent) = carried.get(&remote).copied().unwrap_or_default();
            all.add(PEER_RECEIVE_BYTES, &labels, bytes as f64);
            all.add(PEER_RECEIVE_PACKETS, &labels, packets as f64);
            all.add(PEER_TRANSMIT_BYTES, &labels, sent.bytes as f64);
            all.add(PEER_TRANSMIT_PACKETS, &labels, sent.packets as f64);
        }
    }
}

/// A connection's VPC, as far as its name has one, and its gateway: the instance, or the hub's address.
fn names(connection: &str) -> (String, String) {
    let name: Option<ConnName> = connection.parse().ok();
    let vpc = name.as_ref().and_then(ConnName::gateway).map(|(vpc, _)| vpc.to_string());
    let peer = name.as_ref().and_then(ConnName::far_gateway);
    (vpc.unwrap_or_default(), peer.unwrap_or_else(|| connection.into()))
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}
