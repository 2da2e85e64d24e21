//! The host's own knobs: iptables by its programs, the default route, sysctls. The only module that spawns processes.

#![allow(clippy::disallowed_methods, reason = "edge: the one place that starts programs")]

use std::{collections::BTreeMap, env, io::ErrorKind, path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::{
    error::{Context, Error, Kind, Result},
    model::{Interface, printable},
};

/// Where iptables is on every distribution, whatever PATH says.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// What `iptables --version` says, such as `iptables v1.8.11 (nf_tables)`: the release, and which backend Debian's
/// alternatives chose. The same link decides for save and restore.
pub async fn iptables_version(timeout: Duration) -> Result<String> {
    run(Kind::Observe, &["iptables", "--version"], "", timeout).await.map(|out| out.trim().to_owned())
}

/// All tables of the network namespace as `iptables-save` prints them.
pub async fn iptables_save(timeout: Duration) -> Result<String> {
    run(Kind::Observe, &["iptables-save"], "", timeout).await
}

/// One `iptables-restore --noflush`: chains and rules that `input` does not name stay as they are.
///
/// Both backends commit table by table, each table whole or not at all; after an error the tables before the bad one
/// are changed, and the caller reads back and plans back. `--test` would not help: with nft it asks the kernel nothing
/// and lets even a jump to nowhere pass. `timeout` should exceed the 5 s that legacy may wait for its lock.
pub async fn iptables_restore(input: &str, timeout: Duration) -> Result<()> {
    run(Kind::Apply, &["iptables-restore", "--noflush", "-w", "5"], input, timeout).await.map(drop)
}

/// Runs `argv` with `input` on its stdin; its stdout. At the timeout it is killed.
async fn run(kind: Kind, argv: &[&str], input: &str, timeout: Duration) -> Result<String> {
    let failed = || Error::new(kind, format!("run {}", argv.join(" ")));
    // cron and some sudo have a PATH without the folders of administrators' programs. (With an environment of its own the
    // program, too, is looked for in the PATH given here.)
    let path = env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| "/usr/bin:/bin".into());
    let path = env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .env("PATH", env::join_paths(path).context(failed)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| match e.kind() {
            ErrorKind::NotFound => failed().because(format!(
                "not found on PATH, nor in {}; install the package iptables",
                SYSTEM_FOLDERS.join(", ")
            )),
            _ => failed().because(e),
        })?;
    let stdin = child.stdin.take();
    let feed = async {
        // A program that exits before it has read everything says why on stderr; the broken pipe says less.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(child.wait_with_output(), feed).0 };
    let output = tokio::time::timeout(timeout, both)
        .await
        .map_err(|_| failed().because(format!("no answer within {timeout:?}; killed")))?
        .context(failed)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = stderr.lines().map(|l| l.escape_default().to_string()).collect::<Vec<_>>().join("; ");
        return Err(failed().because(format!("{}: {said}", output.status)));
    }
    String::from_utf8(output.stdout).context(failed)
}

/// The interface of the default route with the lowest metric, from `/proc/net/route`.
pub fn default_route_interface() -> Result<Interface> {
    let path = "/proc/net/route";
    let table = std::fs::read_to_string(path).context(|| Error::observe(format!("read {path}")))?;
    parse_default_route(&table)
}

/// [`default_route_interface`] for the text of `/proc/net/route` (columns: proc(5); flags: linux/route.h).
pub fn parse_default_route(proc_net_route: &str) -> Result<Interface> {
    const UP: u32 = 0x1;
    const REJECT: u32 = 0x200;
    let what = || Error::observe("find the default route's interface in /proc/net/route");
    let metric_and_name = |line: &str| {
        let field: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, "00000000", _, flags, _, _, metric, "00000000", ..] = field[..] else { return None };
        let usable = u32::from_str_radix(flags, 16).ok()? & (UP | REJECT) == UP;
        usable.then_some((metric.parse::<u32>().ok()?, name.to_owned()))
    };
    let best = proc_net_route.lines().skip(1).filter_map(metric_and_name).min_by_key(|(metric, _)| *metric);
    let (_, name) = best.ok_or_else(|| what().because("there is no default route; is the network up?"))?;
    name.parse().context(what)
}

/// A kernel setting of this network namespace, by the key `sysctl` takes, such as `net.ipv4.ip_forward`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    pub key: String,
    pub value: String,
}

/// The settings that decide whether this host can be a gateway: ip_forward, and per interface of `interfaces` (the
/// default route's, the tunnel device) and for `all` rp_filter and send_redirects. An interface that is not there
/// (the tunnel's, before charon runs) has none.
pub fn sysctls(interfaces: &[&Interface]) -> Result<Vec<Sysctl>> {
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
    let all = [("all", false)].into_iter();
    for (name, optional) in all.chain(interfaces.iter().map(|i| (i.as_str(), true))) {
        for setting in ["rp_filter", "send_redirects"] {
            read(&format!("net/ipv4/conf/{name}/{setting}"), optional)?;
        }
    }
    Ok(found)
}

/// sysctl's spelling of a path: `/` and `.` change places, so that `ens5.100` stays one word.
fn dotted(path: &str) -> String {
    path.chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            c => c,
        })
        .collect()
}

/// What in `sysctls` keeps a gateway from working, a line each with the command that mends it.
///
/// - ip_forward off: nothing passes.
/// - rp_filter is the greater of `all` and the interface's. Strict (1) drops what comes by another interface than the
///   way back: a second ENI, and the tunnel device before its routes are there. Loose (2) and off (0) are fine;
///   `all` = 2 is the command, as it outdoes every interface's 1. (Kernel ESP is exempt, userspace ESP is not.)
/// - send_redirects is on if it is on in `all` or on the interface. A gateway with one interface gets and sends
///   every packet there, and would tell each host to bypass it.
pub fn sysctl_problems(sysctls: &[Sysctl]) -> Vec<String> {
    let values: BTreeMap<&str, &str> = sysctls.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
    let shown = |value: &str| printable(value).trim_matches('"').to_owned();
    let mut problems = Vec::new();
    if let Some(value) = values.get("net.ipv4.ip_forward").filter(|v| **v != "1") {
        let value = shown(value);
        problems.push(format!("net.ipv4.ip_forward is {value}: nothing is forwarded; sysctl -w net.ipv4.ip_forward=1"));
    }
    let all = values.get("net.ipv4.conf.all.rp_filter").copied().unwrap_or("0");
    for (key, value) in &values {
        if key.ends_with(".send_redirects") && *value != "0" {
            problems
                .push(format!("{key} is {}: hosts are told to bypass the gateway; sysctl -w {key}=0", shown(value)));
        }
        if key.ends_with(".rp_filter") && *key != "net.ipv4.conf.all.rp_filter" && all.max(value) == "1" {
            problems.push(format!(
                "{key} is in effect 1 (strict): packets that come back by another interface are dropped; \
                 sysctl -w net.ipv4.conf.all.rp_filter=2"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests;
