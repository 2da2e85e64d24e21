//! The running system: what charon and iptables have loaded at this moment.

#![allow(clippy::disallowed_methods, reason = "edge: waits for charon")]

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::kernel;
use crate::host;
use crosswan_core::{
    error::{Context, Error, Result},
    forwarding::{self, Knob, Obstacles, Problem, Traffic, judge, sysctl_problems},
    iptables::Rules,
    model::Interface,
    system::{Charon, all_are_up},
};
use crosswan_netlink::{Look, Netlink};
use crosswan_vici::Vici;

/// The bound on one request to charon or iptables.
const ASK: Duration = Duration::from_secs(10);

/// How long charon may take to open its socket after a start.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to charon, and tries again until `patience` ends: at boot charon may need a moment.
///
/// # Errors
/// charon's socket does not answer.
pub async fn connect(socket: &Path, patience: Duration) -> Result<Vici> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match Vici::connect(socket, ASK).await {
            Err(e) if tokio::time::Instant::now() >= deadline => return Err(e.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Ok(vici) => return Ok(vici),
        }
    }
}

/// What charon has loaded: its version, algorithms, connections, SAs, and the ids of its secrets and keys.
///
/// # Errors
/// charon does not answer one of the requests.
pub async fn charon(vici: &mut Vici) -> Result<Charon> {
    let connections = vici.list_conns().await?;
    Ok(Charon {
        version: vici.version().await?,
        key_exchanges: vici.key_exchanges().await?,
        sas: vici.all_sas(|sas| all_are_up(&connections, sas)).await?,
        connections,
        secrets: vici.shared_ids().await?,
        keys: vici.key_ids().await?,
    })
}

/// The own chains and the jumps to them, of all tables.
///
/// # Errors
/// As [`saved`].
pub async fn rules() -> Result<Rules> {
    Ok(Rules::parse(&saved().await?))
}

/// The own interfaces, policy rules and routes, and what of others may be in their way.
///
/// # Errors
/// The kernel does not answer.
pub async fn routing() -> Result<Look> {
    Netlink::open()?.look().await
}

/// The output of `iptables-save`.
///
/// # Errors
/// It cannot be run, or fails.
pub async fn saved() -> Result<String> {
    host::iptables_save(ASK).await
}

/// What on this host, other than the own rules, stops or changes the `traffic`: sysctls, and other programs' rules in both
/// backends of iptables and in nft. `saved` is the result of [`saved`]. The lines in the second value say what could not be asked.
pub async fn forwarding(traffic: &Traffic, saved: &str) -> (Obstacles, Vec<String>) {
    let sysctls = sysctls(&traffic.uplink);
    let (mut findings, mut unasked) = foreign(traffic, saved).await;
    match sysctls {
        Ok(problems) => drop(findings.stopped.splice(0..0, problems.into_iter().map(|(_, problem)| problem))),
        Err(e) => unasked.insert(0, e.chain()),
    }
    unasked.dedup();
    (findings, unasked)
}

/// What is wrong with the kernel's settings for a gateway.
///
/// # Errors
/// The kernel does not list its interfaces, or a setting cannot be read.
pub fn sysctls(uplink: &Interface) -> Result<Vec<(Knob, Problem)>> {
    let all = host::sysctls(uplink, host::interfaces()?.keys())?;
    let ipv6 = kernel::problems().into_iter().map(|problem| (Knob::Ipv6Forwarding, problem));
    Ok(sysctl_problems(&all).into_iter().chain(ipv6).collect())
}

/// As [`forwarding`], without the sysctls.
pub async fn foreign(traffic: &Traffic, saved: &str) -> (Obstacles, Vec<String>) {
    let mut unasked = Vec::new();
    let interfaces = host::interfaces().unwrap_or_else(|e| {
        unasked.push(e.chain());
        BTreeMap::new()
    });
    let nft = forwarding::is_nft(saved).unwrap_or(true);
    let (other, ruleset) = tokio::join!(host::other_backend_save(!nft, ASK), host::nft_ruleset(ASK));
    let mut tables = forwarding::iptables_tables(saved, "iptables", true);
    let program = if nft { "iptables-legacy" } else { "iptables-nft" };
    let other = other.unwrap_or_else(|e| {
        unasked.push(e.chain());
        None
    });
    let other = other.unwrap_or_default();
    tables.extend(forwarding::iptables_tables(&other, program, false));
    let mut notes = Vec::new();
    match ruleset {
        Ok(Some(json)) => {
            let parsed = forwarding::nft_tables(&json);
            match parsed.context(|| Error::observe("understand what nft -j -t list ruleset prints")) {
                Ok(parsed) => tables = forwarding::each_once(tables, parsed),
                Err(e) => unasked.push(e.chain()),
            }
        }
        Ok(None) => notes.push(
            "nft is not installed, so tables that iptables does not show were not looked at: apt-get install nftables"
                .to_owned(),
        ),
        Err(e) => unasked.push(e.chain()),
    }
    let mut findings = judge(&tables, &traffic.flows(&interfaces));
    findings.notes.splice(0..0, notes);
    (findings, unasked)
}
