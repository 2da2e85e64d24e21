//! `crosswan status`: tunnels and rules as they are at this moment, beside what the last refresh reported.

#![allow(clippy::disallowed_methods, reason = "edge: tells how old a report is")]

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Context, Error, Result},
    files, iptables,
    model::ConnName,
    observe::{
        kernel::{self, Conntrack},
        live,
    },
    paths::Paths,
    plan::Charon,
    report::{Failure, Report},
    vici::Sa,
};

/// How long charon may take to be reached.
const PATIENCE: Duration = Duration::from_secs(1);

/// Everything `status` shows; `--json` prints it as it is.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The last refresh's report; `None` if none is there since boot.
    pub last_refresh: Option<Report>,
    /// Seconds since it.
    pub age: Option<u64>,
    /// A later pass that came to no report, if the last one did not.
    pub last_failure: Option<Failure>,
    pub tunnels: Vec<TunnelStatus>,
    pub nat: NatStatus,
    /// The kernel's table of connections.
    pub conntrack: Option<Conntrack>,
    /// charon's version, if it answers.
    pub charon: Option<String>,
    /// What could not be asked just now.
    pub unasked: Vec<String>,
}

/// One tunnel that is loaded, or that should be.
#[derive(Debug, Serialize)]
pub struct TunnelStatus {
    pub connection: String,
    pub loaded: bool,
    /// Every child is installed.
    pub up: bool,
    pub remote: Option<String>,
    /// Seconds since the IKE_SA was established.
    pub established: Option<u64>,
    pub children: Vec<ChildStatus>,
}

#[derive(Debug, Serialize)]
pub struct ChildStatus {
    pub name: String,
    pub local: Vec<String>,
    pub remote: Vec<String>,
    pub installed: bool,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// Whether the rules of the last refresh are in force.
#[derive(Debug, Serialize)]
pub struct NatStatus {
    pub in_force: bool,
    /// Our chains as read back: `nat CROSSWAN-NAT 4 rules`.
    pub rules: Vec<String>,
    pub mismatches: Vec<String>,
}

/// Looks once.
pub async fn look(paths: &Paths) -> Status {
    let mut unasked = Vec::new();
    let last_refresh: Option<Report> = json(&paths.status, &mut unasked);
    let last_failure: Option<Failure> = json(&paths.failure, &mut unasked);
    if last_refresh.is_none() {
        unasked.push("no refresh has reported since boot; run crosswan refresh".into());
    }
    let needs_charon = last_refresh.as_ref().is_none_or(|r| r.mode.has_ipsec());
    let mut charon = None;
    if needs_charon {
        let asked = async { live::charon(&mut live::connect(&paths.vici, PATIENCE).await?).await };
        charon = asked.await.map_err(|e| unasked.push(e.chain())).ok();
    }
    let nat = nat(paths).await.unwrap_or_else(|e| {
        unasked.push(e.chain());
        NatStatus::unknown("could not be read")
    });
    let age = last_refresh.as_ref().and_then(|r| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        Some(now.saturating_sub(u64::try_from(r.at.0).ok()?))
    });
    Status {
        tunnels: tunnels(last_refresh.as_ref(), charon.as_ref()),
        nat,
        conntrack: kernel::conntrack(),
        age,
        last_failure,
        charon: charon.map(|c| c.version),
        last_refresh,
        unasked,
    }
}

/// A JSON file of ours, if it is there; trouble with it goes to `unasked`.
fn json<T: DeserializeOwned>(path: &Path, unasked: &mut Vec<String>) -> Option<T> {
    let parse =
        |text: String| serde_json::from_str(&text).context(|| Error::observe(format!("understand {}", path.display())));
    let read = files::read(path).and_then(|file| file.map(|(text, _)| parse(text)).transpose());
    read.unwrap_or_else(|e| {
        unasked.push(e.chain());
        None
    })
}

async fn nat(paths: &Paths) -> Result<NatStatus> {
    let Some((want, _)) = files::read(&paths.rules)? else {
        return Ok(NatStatus::unknown("no refresh has written any rules yet"));
    };
    let live = live::rules().await?;
    let mismatches = iptables::mismatch(&iptables::Rules::parse(&want), &live);
    Ok(NatStatus { in_force: mismatches.is_empty(), rules: live.summary(), mismatches })
}

impl NatStatus {
    fn unknown(why: &str) -> Self {
        NatStatus { in_force: false, rules: Vec::new(), mismatches: vec![why.into()] }
    }
}

/// Tunnels that charon has loaded, and those that the last refresh says it should have.
fn tunnels(report: Option<&Report>, charon: Option<&Charon>) -> Vec<TunnelStatus> {
    let expected = report.into_iter().flat_map(|r| r.tunnels.keys().cloned());
    let loaded = charon.into_iter().flat_map(|c| c.connections.keys().cloned());
    // A connection without children is no tunnel.
    let proof = |name: &String| charon.and_then(|c| c.connections.get(name)).is_some_and(|c| c.children.is_empty());
    let own = ConnName::own();
    let mut names: Vec<String> =
        expected.chain(loaded).filter(|n| n.parse::<ConnName>().is_ok_and(|name| name != own) && !proof(n)).collect();
    names.sort();
    names.dedup();
    names.into_iter().map(|name| tunnel(name, charon)).collect()
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
        loaded: summary.is_some(),
        up: !children.is_empty() && children.iter().all(|c| c.installed),
        remote: summary.map(|s| s.remote_addrs.iter().cloned().collect::<Vec<_>>().join(",")),
        established: sas.iter().filter_map(|sa| sa.established).max(),
        children,
        connection,
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(report) = &self.last_refresh {
            writeln!(f, "{}", report.headline())?;
        }
        for t in &self.tunnels {
            let state = match (t.loaded, t.up) {
                (true, true) => "UP",
                (true, false) => "DOWN",
                (false, _) => "NOT LOADED",
            };
            let since = t.established.map(|s| format!(" for {}", age(s))).unwrap_or_default();
            let reported = self.last_refresh.as_ref().and_then(|r| r.tunnels.get(&t.connection));
            let by = reported.map(|t| format!(", {}", t.by())).unwrap_or_default();
            writeln!(f, "  tunnel    {} to {}: {state}{since}{by}", t.connection, t.remote.as_deref().unwrap_or("?"))?;
            for c in &t.children {
                let state = if c.installed { "up  " } else { "DOWN" };
                let (local, remote) = (c.local.join(", "), c.remote.join(", "));
                writeln!(
                    f,
                    "            {state} {local} <=> {remote}, {} in, {} out",
                    bytes(c.bytes_in),
                    bytes(c.bytes_out)
                )?;
            }
        }
        match self.nat.in_force {
            true => writeln!(f, "  rules     in force: {}", self.nat.rules.join(", "))?,
            false => writeln!(f, "  RULES     not as they should be: {}", self.nat.mismatches.join("; "))?,
        }
        self.conntrack.iter().try_for_each(|table| writeln!(f, "  {table}"))?;
        for line in &self.unasked {
            writeln!(f, "  UNASKED   {line}")?;
        }
        if let Some(failure) = &self.last_failure {
            writeln!(f, "THE LAST REFRESH FAILED (exit code {}): {}", failure.exit_code, failure.error)?;
        }
        let Some(report) = &self.last_refresh else { return Ok(()) };
        writeln!(f, "last report, {} ago: {}", age(self.age.unwrap_or_default()), report.verdict())?;
        for line in report.findings().iter().chain(&report.deeds()) {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

fn age(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
