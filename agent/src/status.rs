//! `crosswan status`: tunnels and rules as they are at this moment, and what the last refresh reported.

mod screen;
mod show;
#[cfg(test)]
mod tests;

pub use screen::{Size, screen};

use std::{path::Path, time::Duration};

use nix::unistd::geteuid;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    files, followed, host,
    observe::{includes, kernel, live},
    paths::Paths,
    watch::PutBack,
};
use crosswan_core::{
    error::{Error, Kind, NOT_IN_FORCE, Result, STOPPED, TUNNEL_DOWN},
    iptables,
    model::{ConnName, InstanceId},
    pair::{Beside, Members, PairStatus, Takeovers},
    report::{FailedPass, Report},
    system::{Charon, Conntrack, Followed, Routing, Sa},
};
use crosswan_netlink::Look;

/// How long connecting to charon may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Everything `status` shows; `--json` prints it as it is.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The last refresh's report; `None` if there has been none since boot.
    pub last_refresh: Option<Report>,
    /// Seconds since that report.
    pub age: Option<u64>,
    /// The time of this look, in seconds since 1970.
    pub now: u64,
    /// The last pass, if it ended without a report.
    pub last_failure: Option<FailedPass>,
    /// The tunnels that are loaded or should be, by name.
    pub tunnels: Vec<TunnelStatus>,
    /// The own rules.
    pub nat: NatStatus,
    /// What else on this host stops or changes packets at this moment.
    pub stopped: Vec<String>,
    /// What `crosswan watch` put back last, since boot.
    pub put_back: Option<PutBack>,
    /// What `crosswan pair` hears of the other gateway of the pair; `None` without a pair.
    pub pair: Option<PairStatus>,
    /// What this gateway took over last, also from a member that is gone, and how often routes have moved lately.
    pub takeovers: Takeovers,
    /// The pairs at the far ends that have said which of them is to be used, by VPC.
    pub followed: Followed,
    /// The kernel's table of tracked connections.
    pub conntrack: Option<Conntrack>,
    /// charon's version, if it answers.
    pub charon: Option<String>,
    /// What could not be asked in this look.
    pub unasked: Vec<String>,
}

/// One tunnel that is loaded, or that should be.
#[derive(Debug, Serialize)]
pub struct TunnelStatus {
    /// The connection's name.
    pub connection: String,
    /// Whether charon has loaded it; `None` if charon could not be asked.
    pub loaded: Option<bool>,
    /// Whether every child is installed; `None` if charon could not be asked.
    pub up: Option<bool>,
    /// Whether it stands by, according to the last refresh: routes lead its networks to another gateway.
    pub stands_by: bool,
    /// The address of the other end, if the connection is loaded.
    pub remote: Option<String>,
    /// Seconds since the IKE_SA was established.
    pub established: Option<u64>,
    /// The connection's children, by name.
    pub children: Vec<ChildStatus>,
}

/// One child of a tunnel.
#[derive(Debug, Serialize)]
pub struct ChildStatus {
    /// The child's name in the configuration.
    pub name: String,
    /// The networks at this end.
    pub local: Vec<String>,
    /// The networks at the other end.
    pub remote: Vec<String>,
    /// Whether a CHILD_SA carries its traffic.
    pub installed: bool,
    /// Bytes received by its CHILD_SAs.
    pub bytes_in: u64,
    /// Bytes sent by its CHILD_SAs.
    pub bytes_out: u64,
}

/// Whether the rules of the last refresh are in force.
#[derive(Debug, Serialize)]
pub struct NatStatus {
    /// Whether they are in force; `None` if they could not be read.
    pub in_force: Option<bool>,
    /// The own chains as read back, such as `nat CROSSWAN-NAT 4 rules`.
    pub rules: Vec<String>,
    /// What is not as it should be, or why the rules could not be read.
    pub mismatches: Vec<String>,
}

impl Status {
    /// 0 if all is well, otherwise the code of the worst problem: what is known to be wrong counts before what is unknown.
    pub fn exit_code(&self) -> u8 {
        if self.nat.in_force == Some(false) {
            NOT_IN_FORCE
        } else if self.tunnels.iter().any(|t| t.up == Some(false) && !t.stands_by) {
            TUNNEL_DOWN
        } else if !self.stopped.is_empty() {
            STOPPED
        } else if !self.unasked.is_empty() || self.nat.in_force.is_none() {
            Kind::Observe.exit_code()
        } else {
            0
        }
    }
}

/// Looks once. What cannot be asked is a line of the result, not an error.
pub async fn look(paths: &Paths) -> Status {
    let mut unasked = Vec::new();
    if !geteuid().is_root() {
        unasked.push("only root may ask charon and iptables: sudo crosswan status".into());
    }
    let last_refresh: Option<Report> = json(&paths.status, &mut unasked);
    let last_failure: Option<FailedPass> = json(&paths.failure, &mut unasked);
    if last_refresh.is_none() {
        unasked.push("no refresh has reported since boot; run crosswan refresh".into());
    }
    let needs_charon = last_refresh.as_ref().is_none_or(|r| r.mode.has_ipsec());
    let mut charon = None;
    if needs_charon {
        let asked = async { live::charon(&mut live::connect(&paths.vici, PATIENCE).await?).await };
        charon = asked.await.map_err(|e| unasked.push(e.chain())).ok();
    }
    let (nat, stopped) = host(paths, last_refresh.as_ref(), &mut unasked).await;
    let now = u64::try_from(crate::host::now().0).unwrap_or_default();
    let age = last_refresh.as_ref().and_then(|r| Some(now.saturating_sub(u64::try_from(r.at.0).ok()?)));
    Status {
        tunnels: tunnels(last_refresh.as_ref(), charon.as_ref()),
        nat,
        stopped,
        put_back: json(&paths.put_back, &mut unasked),
        pair: shown(paths, &mut unasked),
        takeovers: takeovers(paths, &mut unasked),
        followed: followed::read(paths),
        conntrack: kernel::conntrack(),
        age,
        now,
        last_failure,
        charon: charon.map(|c| c.version),
        last_refresh,
        unasked,
    }
}

/// What the resident process wrote last, if the last refresh found a pair: the other member, and what was written if it is fresh.
/// What is old does not count: nobody writes it then.
///
/// # Errors
/// A file cannot be read.
pub fn pair(paths: &Paths) -> Result<Option<(InstanceId, Option<PairStatus>)>> {
    let Some((text, _)) = files::read(&paths.pair)? else { return Ok(None) };
    if Beside::parse(&text).is_some() {
        return Ok(None);
    }
    let Some(members) = Members::parse(&text) else {
        return Err(Error::new(Kind::Observe, format!("{}: not the members of a pair: refresh", paths.pair.display())));
    };
    let heard: Option<PairStatus> = files::read_json(&paths.pair_status)?;
    Ok(Some((members.other.instance, heard.filter(|heard| heard.is_fresh(host::now())))))
}

/// The same for `status`, whose `unasked` says what is missing.
fn shown(paths: &Paths, unasked: &mut Vec<String>) -> Option<PairStatus> {
    let (member, heard) = pair(paths).map_err(|e| unasked.push(e.chain())).ok()??;
    if heard.is_none() {
        unasked.push(format!(
            "crosswan pair does not run, so nobody watches the other member of the pair ({member}): systemctl start crosswan-pair"
        ));
    }
    heard
}

/// What `crosswan pair` has written down of its moves.
fn takeovers(paths: &Paths, unasked: &mut Vec<String>) -> Takeovers {
    let moves = files::read(&paths.pair_moves).map_err(|e| unasked.push(e.chain())).ok().flatten();
    let now = u64::try_from(crate::host::since_boot().as_millis()).unwrap_or(u64::MAX);
    Takeovers::of(json(&paths.pair_taken, unasked), &moves.map_or(String::new(), |(text, _)| text), now)
}

/// As [`files::read_json`]. A failure goes to `unasked`.
fn json<T: DeserializeOwned>(path: &Path, unasked: &mut Vec<String>) -> Option<T> {
    files::read_json(path).unwrap_or_else(|e| {
        unasked.push(e.chain());
        None
    })
}

/// Whether the rules are in force, and what else stops packets.
async fn host(paths: &Paths, report: Option<&Report>, unasked: &mut Vec<String>) -> (NatStatus, Vec<String>) {
    let mut stopped: Vec<String> = report.and_then(Report::source_dest_problem).into_iter().collect();
    if report.is_some_and(|r| r.mode.has_ipsec()) {
        match includes::unreached(paths) {
            Ok(unreached) => stopped.extend(unreached.map(|problem| problem.to_string())),
            Err(e) => unasked.push(e.chain()),
        }
    }
    let saved = match live::saved().await {
        Ok(saved) => saved,
        Err(e) => {
            unasked.push(e.chain());
            return (NatStatus::unknown("iptables could not be asked"), stopped);
        }
    };
    if let Some(traffic) = report.and_then(|r| r.traffic.as_ref()) {
        let (found, not_asked) = live::forwarding(traffic, &saved).await;
        stopped.extend(found.stopped.iter().map(ToString::to_string));
        unasked.extend(not_asked);
    }
    let routing = live::routing().await.map_err(|e| unasked.push(e.chain())).ok();
    let nat = nat(paths, &iptables::Rules::parse(&saved), routing.as_ref()).unwrap_or_else(|e| {
        unasked.push(e.chain());
        NatStatus::unknown("the rules that should be in force could not be read")
    });
    (nat, stopped)
}

fn nat(paths: &Paths, live: &iptables::Rules, look: Option<&Look>) -> Result<NatStatus> {
    let Some((want, _)) = files::read(&paths.rules)? else {
        return Ok(NatStatus::unknown("no refresh has written any rules yet"));
    };
    let mut mismatches = iptables::mismatch(&iptables::Rules::parse(&want), live);
    let routing = files::read(&paths.routing)?.map(|(text, _)| Routing::parse(&text)).unwrap_or_default();
    let routing = followed::read(paths).over(routing);
    let left = look.iter().flat_map(|look| routing.changes_from(&look.routing));
    mismatches.extend(left.map(|change| format!("still to do: {change}")));
    let foreign = look.iter().flat_map(|look| &look.foreign_interfaces).filter(|_| !routing.is_empty());
    mismatches.extend(foreign.map(|name| format!("there is {name}, which crosswan has not made")));
    let in_force = match (mismatches.is_empty(), live.closed().is_empty() && look.is_some()) {
        (false, _) => Some(false),
        (true, false) => None,
        (true, true) => Some(true),
    };
    mismatches.extend(live.closed().iter().map(|table| format!("table ip {table} holds rules of nft's own")));
    let mut rules = live.summary();
    rules.extend(look.filter(|look| !look.routing.is_empty()).map(|look| look.routing.summary()));
    Ok(NatStatus { in_force, rules, mismatches })
}

impl NatStatus {
    fn unknown(why: &str) -> Self {
        NatStatus { in_force: None, rules: Vec::new(), mismatches: vec![why.into()] }
    }
}

/// The tunnels that charon has loaded, and those that it should have according to the last refresh.
fn tunnels(report: Option<&Report>, charon: Option<&Charon>) -> Vec<TunnelStatus> {
    let expected = report.into_iter().flat_map(|r| r.tunnels.keys().cloned());
    let loaded = charon.into_iter().flat_map(|c| c.connections.keys().cloned());
    // A connection without children only proves a key; it is not a tunnel.
    let proof = |name: &String| charon.and_then(|c| c.connections.get(name)).is_some_and(|c| c.children.is_empty());
    let mut names: Vec<String> = expected
        .chain(loaded)
        .filter(|n| n.parse::<ConnName>().is_ok_and(|name| !name.is_old_shunt()) && !proof(n))
        .collect();
    names.sort();
    names.dedup();
    let stands_by = |name: &String| report.and_then(|r| r.tunnels.get(name)).is_some_and(|t| t.stands_by);
    names.into_iter().map(|name| TunnelStatus { stands_by: stands_by(&name), ..tunnel(name, charon) }).collect()
}

fn tunnel(connection: String, charon: Option<&Charon>) -> TunnelStatus {
    let summary = charon.and_then(|c| c.connections.get(&connection));
    let sas: Vec<&Sa> = charon.iter().flat_map(|c| &c.sas).filter(|sa| sa.conn == connection).collect();
    let children: Vec<ChildStatus> = summary
        .iter()
        .flat_map(|s| &s.children)
        .map(|(name, child)| {
            let live = || sas.iter().flat_map(|sa| &sa.children).filter(|c| c.name == *name && c.is_up());
            ChildStatus {
                name: name.clone(),
                local: child.local_ts.iter().cloned().collect(),
                remote: child.remote_ts.iter().cloned().collect(),
                installed: live().next().is_some(),
                bytes_in: live().map(|c| c.bytes_in).sum(),
                bytes_out: live().map(|c| c.bytes_out).sum(),
            }
        })
        .collect();
    TunnelStatus {
        loaded: charon.map(|_| summary.is_some()),
        stands_by: false,
        up: charon.map(|_| !children.is_empty() && children.iter().all(|c| c.installed)),
        remote: summary.map(|s| s.remote_addrs.iter().cloned().collect::<Vec<_>>().join(",")),
        established: sas.iter().filter_map(|sa| sa.established).max(),
        children,
        connection,
    }
}
