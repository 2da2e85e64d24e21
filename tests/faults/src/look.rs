//! What a gateway has of crosswan's at a moment, to compare with another: files, charon, iptables.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use crosswan_core::{
    model::ConnName,
    swanctl::Summary,
    system::{Sa, TABLE, all_are_up},
};
use crosswan_lab::{Gateway, PingReport, PingStream};
use crosswan_vici::Vici;

use crate::region::{Region, UP, eventually, exists};

pub const CONNECTIONS: &str = "/etc/swanctl/conf.d/crosswan.conf";
pub const SECRETS: &str = "/etc/swanctl/conf.d/crosswan-secrets.conf";
pub const RULES: &str = "/var/lib/crosswan/iptables.rules";
pub const ROUTING: &str = "/var/lib/crosswan/routing.batch";
pub const UNFINISHED: &str = "/var/lib/crosswan/unfinished";

/// The bound on one answer of charon's.
const ASK: Duration = Duration::from_secs(20);

/// Text, permissions, owner (user, group).
pub type File = (String, u32, (u32, u32));

/// Everything a pass leaves behind, but for when it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The managed files that exist, or do not.
    pub files: BTreeMap<&'static str, Option<File>>,
    pub connections: BTreeMap<String, Summary>,
    pub secrets: BTreeSet<String>,
    /// What iptables-save prints of our chains and hooks, without counters.
    pub rules: Vec<String>,
    /// Interfaces, policy rules and routes, ours and others'.
    pub routing: Vec<String>,
    pub unfinished: bool,
}

impl Snapshot {
    pub fn of(gateway: &Gateway) -> Result<Snapshot> {
        let file = |path| -> Result<_> {
            if !exists(gateway, path) {
                return Ok((path, None));
            }
            let at = gateway.path(path);
            let meta = fs::metadata(&at)?;
            Ok((path, Some((fs::read_to_string(at)?, meta.mode() & 0o7777, (meta.uid(), meta.gid())))))
        };
        Ok(Snapshot {
            files: [CONNECTIONS, SECRETS, RULES, ROUTING].into_iter().map(file).collect::<Result<_>>()?,
            connections: ask(gateway, async |vici| vici.list_conns().await)?,
            secrets: ask(gateway, async |vici| vici.shared_ids().await)?,
            rules: rules(gateway, |line| line.contains("CROSSWAN-"))?,
            routing: routing(gateway)?,
            unfinished: exists(gateway, UNFINISHED),
        })
    }

    /// An error that shows both, but no keys, unless they are equal.
    pub fn must_be(&self, wanted: &Snapshot, when: &str) -> Result<()> {
        ensure!(self.files.keys().eq(wanted.files.keys()));
        for (path, file) in &self.files {
            ensure!(*file == wanted.files[path], "{when}: {path} is not as an undisturbed pass leaves it");
        }
        let plain = |s: &Snapshot| Snapshot { files: BTreeMap::new(), ..s.clone() };
        ensure!(plain(self) == plain(wanted), "{when}:\n{:#?}\ninstead of\n{:#?}", plain(self), plain(wanted));
        Ok(())
    }
}

/// The lines of iptables-save that `keep` picks, each with its table.
pub fn rules(gateway: &Gateway, keep: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let text = gateway.run("iptables-save", &[], "")?.ok()?.stdout;
    let mut table = "";
    let mut out = Vec::new();
    for line in text.lines() {
        match line.strip_prefix('*') {
            Some(name) => table = name,
            None if line.starts_with('#') || line == "COMMIT" || !keep(line) => {}
            None => out.push(format!("{table} {}", line.split(" [").next().unwrap_or(line))),
        }
    }
    Ok(out)
}

/// The interfaces for tunnels, the policy rules, and the routes of crosswan's table, a sorted line each.
pub fn routing(gateway: &Gateway) -> Result<Vec<String>> {
    let all = format!("ip -br link show type xfrm; ip rule; ip route show table {TABLE} 2>/dev/null; true");
    let text = gateway.sh(&all)?.ok()?.stdout;
    let mut lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.sort();
    Ok(lines)
}

/// Asks a gateway's charon over its socket.
pub fn ask<T>(gateway: &Gateway, what: impl AsyncFnOnce(&mut Vici) -> crosswan_core::error::Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let mut vici = Vici::connect(&gateway.path("/run/charon.vici"), ASK).await?;
        what(&mut vici).await
    });
    answer.with_context(|| gateway.name.clone())
}

/// The IKE_SAs of crosswan's connections: in several looks, while one lacks something, as charon may just be working on that.
pub fn sas(gateway: &Gateway) -> Result<Vec<Sa>> {
    let sas = ask(gateway, async |vici| {
        let connections = vici.list_conns().await?;
        vici.all_sas(|sas| all_are_up(&connections, sas)).await
    })?;
    Ok(sas.into_iter().filter(|sa| sa.conn.parse::<ConnName>().is_ok()).collect())
}

/// The kernel's policies of tunnels: direction, source and destination.
pub fn policies(gateway: &Gateway) -> Result<Vec<String>> {
    let listed = gateway.sh("ip -o xfrm policy")?.ok()?.stdout;
    let policy = |line: &str| {
        let mut words = line.split([' ', '\t', '\\']).filter(|word| !word.is_empty());
        let mut after = |name| words.by_ref().skip_while(|word| *word != name).nth(1).map(str::to_owned);
        let (source, destination) = (after("src")?, after("dst")?);
        Some(format!("{} {source} {destination}", after("dir")?))
    };
    Ok(listed.lines().filter_map(policy).collect())
}

/// How a gateway's SAs fail to be exactly one IKE_SA per connection with exactly one CHILD_SA per child.
pub fn untidy(gateway: &Gateway) -> Result<Vec<String>> {
    let (conns, sas) = ask(gateway, async |vici| Ok((vici.list_conns().await?, vici.sas().await?)))?;
    let mut faults = Vec::new();
    for (name, conn) in conns.iter().filter(|(name, _)| name.parse::<ConnName>().is_ok()) {
        let wanted: Vec<_> = conn.children.iter().filter(|(_, c)| c.mode == "tunnel").map(|(name, _)| name).collect();
        let own: Vec<_> = sas.iter().filter(|sa| sa.conn == *name).collect();
        let mut children: Vec<_> = own.iter().flat_map(|sa| &sa.children).map(|c| &c.name).collect();
        children.sort();
        let up = own.iter().all(|sa| sa.is_established() && sa.children.iter().all(|c| c.is_up()));
        let tidy = own.len() == 1 && up && children == wanted;
        if !wanted.is_empty() && !tidy {
            faults.push(format!("{} {name}: {own:?}", gateway.name));
        }
    }
    Ok(faults)
}

/// Waits until all gateways with tunnels have exactly what they should have, and every host reaches every other.
pub fn all_well(region: &Region, limit: Duration) -> Result<()> {
    let mut faults = Vec::new();
    let gateways: Vec<Arc<Gateway>> = region.lab.gateways().into_iter().filter(|g| g.charon_running()).collect();
    eventually(limit, "one IKE_SA per connection and one CHILD_SA per child", || {
        faults = gateways.iter().map(|g| untidy(g)).collect::<Result<Vec<_>>>()?.concat();
        Ok(faults.is_empty())
    })
    .with_context(|| faults.join("\n"))?;
    region.settle()
}

/// What charon will have counted up to: every IKE_SA it ever tried took a number.
pub fn newest_ike(gateway: &Gateway) -> Result<u32> {
    Ok(sas(gateway)?.iter().map(|sa| sa.id).max().unwrap_or(0))
}

/// A stream of pings between two private hosts.
pub fn stream(region: &Region, from: &str, to: &str) -> Result<PingStream> {
    region.lab.host(from)?.ping_stream(region.address(to)?)
}

/// Ends a stream that must not have lost a packet.
pub fn unharmed(stream: PingStream, what: &str) -> Result<PingReport> {
    let report = stream.stop()?;
    ensure!(report.lost == 0 && report.sent > 0, "{what}: {report:?}");
    Ok(report)
}

/// Lets a stream measure an outage: stops it once it gets answers again.
pub fn gap(stream: PingStream) -> Result<Duration> {
    let before = stream.answers();
    eventually(UP, "packets pass again", || Ok(stream.answers() > before + 4))?;
    Ok(stream.stop()?.longest_gap)
}
