//! What a gateway holds, to compare before and after: files with their inodes, rules and counters, charon's connections.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use anyhow::{Context, Result};
use crosswan_faults::look::routing;
use crosswan_lab::{Gateway, Role};
use crosswan_vici::Vici;

use crate::region::exists;

/// The files of a refresh that charon and iptables are made to fit.
pub const MANAGED: [&str; 4] = [
    "/etc/swanctl/conf.d/crosswan.conf",
    "/etc/swanctl/conf.d/crosswan-secrets.conf",
    "/var/lib/crosswan/iptables.rules",
    "/var/lib/crosswan/routing.batch",
];
/// Every folder in which the agent may write.
const FOLDERS: [&str; 5] = ["/etc/crosswan", "/etc/swanctl", "/etc/default", "/var/lib/crosswan", "/run/crosswan"];

/// One file; if it is rewritten with the same bytes, it counts as another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    inode: u64,
    changed: (i64, i64),
    pub mode: u32,
    pub contents: String,
}

/// All that a refresh could have changed on a gateway.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub files: BTreeMap<String, FileState>,
    /// `iptables-save`, counters and comments aside.
    pub rules: Vec<String>,
    /// Interfaces, policy rules and routes.
    pub routing: Vec<String>,
    pub connections: String,
    pub secrets: Vec<String>,
}

impl Snapshot {
    pub fn of(gateway: &Gateway) -> Result<Snapshot> {
        let mut files = BTreeMap::new();
        for folder in FOLDERS {
            walk(&gateway.path(folder), &mut files)?;
        }
        let has_charon = gateway.role != Role::NatHub;
        let conns = || gateway.swanctl(&["--list-conns"]);
        Ok(Snapshot {
            files,
            rules: rules(gateway)?,
            routing: routing(gateway)?,
            connections: if has_charon { conns()? } else { String::new() },
            secrets: if has_charon { secrets(gateway)? } else { Vec::new() },
        })
    }
}

fn walk(dir: &Path, into: &mut BTreeMap<String, FileState>) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry?.path();
        let meta = fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            walk(&path, into)?;
        } else {
            into.insert(path.display().to_string(), file(&path)?);
        }
    }
    Ok(())
}

fn file(path: &Path) -> Result<FileState> {
    let meta = fs::metadata(path).with_context(|| path.display().to_string())?;
    Ok(FileState {
        inode: meta.ino(),
        changed: (meta.mtime(), meta.mtime_nsec()),
        mode: meta.mode() & 0o7777,
        contents: String::from_utf8_lossy(&fs::read(path)?).into_owned(),
    })
}

/// The managed files that exist.
pub fn managed(gateway: &Gateway) -> Result<BTreeMap<&'static str, FileState>> {
    let there = MANAGED.into_iter().filter(|path| exists(gateway, path));
    there.map(|path| Ok((path, file(&gateway.path(path))?))).collect()
}

/// `iptables-save` without comments and counters.
pub fn rules(gateway: &Gateway) -> Result<Vec<String>> {
    let saved = gateway.sh("iptables-save")?.ok()?.stdout;
    let lines = saved.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned()).collect())
}

/// Packets so far by rule, of all rules in own chains.
pub fn counters(gateway: &Gateway) -> Result<BTreeMap<String, u64>> {
    let saved = gateway.sh("iptables-save -c")?.ok()?.stdout;
    let rules = saved.lines().filter(|line| line.contains("] -A CROSSWAN-"));
    let count = |line: &str| {
        let (counters, rule) = line.trim_start_matches('[').split_once("] ")?;
        Some((rule.to_owned(), counters.split(':').next()?.parse().ok()?))
    };
    rules.map(|line| count(line).with_context(|| line.to_owned())).collect()
}

/// The ids of the shared secrets charon holds (VICI `get-shared`).
pub fn secrets(gateway: &Gateway) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async {
        Vici::connect(&gateway.path("/run/charon.vici"), Duration::from_secs(10)).await?.shared_ids().await
    });
    Ok(asked?.into_iter().collect())
}

/// What charon has logged about configuration that came over VICI.
pub fn vici_loads(gateway: &Gateway) -> Vec<String> {
    let log = gateway.charon_log();
    let loads = ["vici connection", "vici shared key", "loaded IKE shared key", "loaded shared key"];
    log.lines().filter(|line| loads.iter().any(|load| line.contains(load))).map(str::to_owned).collect()
}
