//! What a gateway holds, by name: to see that nothing is left of those who have gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use crosswan_lab::Gateway;
use serde_json::Value;

use crate::look::{File, Snapshot, ask, policies};

/// Where the agent may write.
const FOLDERS: [&str; 4] = ["/etc/crosswan", "/etc/swanctl", "/var/lib/crosswan", "/run/crosswan"];

/// SAs, policies, secrets, routes, rules, files, contents of the managed ones: each thing a line.
#[derive(Debug)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    pub fn of(gateway: &Gateway) -> Result<Inventory> {
        let Snapshot { files, connections, secrets, rules, routing, unfinished } = Snapshot::of(gateway)?;
        let mut all = BTreeMap::<&str, Vec<String>>::new();
        // Not the text, which holds keys.
        let text = |(path, file): (&str, Option<File>)| {
            file.map_or_else(
                || vec![format!("{path}: none")],
                |(text, mode, _)| {
                    let line =
                        |line: &str| format!("{path} {mode:o} {}", line.split("secret = ").next().unwrap_or_default());
                    text.lines().map(line).collect()
                },
            )
        };
        all.insert("file", files.into_iter().flat_map(text).collect());
        all.insert("connection", connections.into_keys().collect());
        all.insert("secret", secrets.into_iter().collect());
        all.insert("iptables", rules);
        all.insert("routing", routing);
        all.insert("unfinished", vec![unfinished.to_string()]);
        let sas = ask(gateway, async |vici| vici.sas().await)?;
        let children = sas.iter().flat_map(|sa| sa.children.iter().map(|c| format!("{} {}", sa.conn, c.name)));
        all.insert("IKE_SA", sas.iter().map(|sa| format!("{} {}", sa.conn, sa.state)).collect());
        all.insert("CHILD_SA", children.collect());
        all.insert("policy", policies(gateway)?);
        for (what, command) in [("route", "ip route show table all"), ("rule", "ip rule"), ("address", "ip -br addr")] {
            all.insert(what, gateway.sh(command)?.ok()?.stdout.lines().map(str::to_owned).collect());
        }
        let mut paths = Vec::new();
        FOLDERS.iter().for_each(|folder| walk(&gateway.path(folder), &mut paths));
        let root = gateway.path("/").display().to_string();
        // keep asks for a pass by this file while peers on paper never come up; it stands for nobody.
        let paths = paths.iter().filter(|path| !path.ends_with("/refresh-wanted"));
        all.insert("path", paths.map(|path| path.replace(&root, "/")).collect());
        let state: Value = serde_json::from_str(&gateway.read_file("/var/lib/crosswan/state.json")?)?;
        all.insert(
            "remembered",
            state["peers"].as_object().into_iter().flatten().map(|(vpc, _)| vpc.clone()).collect(),
        );
        let named = |(what, things): (&str, Vec<String>)| {
            let mut count = BTreeMap::<String, u32>::new();
            things.into_iter().for_each(|thing| *count.entry(thing).or_default() += 1);
            count.into_iter().map(|(thing, n)| format!("{what}: {thing} ({n})")).collect::<Vec<_>>()
        };
        Ok(Inventory(all.into_iter().flat_map(named).collect()))
    }

    /// What differs now, each line with + or -; looks again for as long as `patience` while anything does.
    pub fn compare(&self, gateway: &Gateway, patience: Duration) -> Result<Vec<String>> {
        let until = Instant::now() + patience;
        loop {
            let now = Inventory::of(gateway)?;
            let more = now.0.difference(&self.0).map(|line| format!("+ {line}"));
            let less = self.0.difference(&now.0).map(|line| format!("- {line}"));
            let differs: Vec<String> = more.chain(less).collect();
            if differs.is_empty() || Instant::now() > until {
                return Ok(differs);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

fn walk(dir: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() { walk(&path, into) } else { into.push(path.display().to_string()) }
    }
}
