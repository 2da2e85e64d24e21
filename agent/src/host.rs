//! This host: its firewall by the programs iptables and nft, its interfaces and default route, its clock, and the notifications of
//! resident units to systemd; sysctls are in `host/sysctl.rs`. This is the only module that starts programs.

#![allow(clippy::disallowed_methods, reason = "edge: the one place that starts programs; reads the clock")]

mod sysctl;

use std::{
    collections::BTreeMap,
    env,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Output, Stdio},
    time::{Duration, SystemTime},
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::InterfaceFlags,
    time::{ClockId, clock_gettime},
};
use sd_notify::NotifyState;
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command};
use tracing::debug;

pub use sysctl::sysctls;

use crosswan_core::{
    error::{Context, Error, Kind, Result},
    model::{Interface, Timestamp},
};

/// Where iptables and nft are on every distribution, whatever PATH says.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The wall clock in whole seconds since 1970, or 0 if it is set to an earlier time.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// How long this machine has been up, which no clock that is set changes; nothing if the kernel does not say.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Tells systemd the state of a resident unit. Without systemd it does nothing.
pub fn notify(state: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(state) {
        debug!(reason = %e, "cannot notify systemd");
    }
}

/// All tables of this network namespace, as `iptables-save` prints them.
///
/// # Errors
/// Of kind `Observe`: the program is missing, fails, or takes longer than `timeout`. The same holds for the other functions that ask.
pub async fn iptables_save(timeout: Duration) -> Result<String> {
    run(Kind::Observe, &["iptables-save"], "", timeout).await
}

/// As [`iptables_save`], from the backend that `iptables` does not use: `nft` or legacy. Packets pass the rules of both.
/// `None` if that backend has no rules: its program is not installed, or the kernel has none of its tables.
pub async fn other_backend_save(nft: bool, timeout: Duration) -> Result<Option<String>> {
    let program = if nft { "iptables-nft-save" } else { "iptables-legacy-save" };
    // Without an argument, legacy prints the tables that the kernel has loaded, and loads none.
    if !nft && std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default().trim().is_empty() {
        return Ok(None);
    }
    match run(Kind::Observe, &[program], "", timeout).await {
        Err(e) if is_missing(&e) => Ok(None),
        other => other.map(Some),
    }
}

/// Everything that nft has except the elements of its sets, as `nft -j -t list ruleset` prints it; `None` if nft is not installed.
/// A list of bad addresses may have a hundred thousand elements, for which nft needs seconds (measured with 1.0.6).
pub async fn nft_ruleset(timeout: Duration) -> Result<Option<String>> {
    match run(Kind::Observe, &["nft", "-j", "-t", "list", "ruleset"], "", timeout).await {
        Err(e) if is_missing(&e) => Ok(None),
        other => other.map(Some),
    }
}

/// What the driver of `interface` counts, as `ethtool -S` prints it; `None` if ethtool is not installed, or the driver counts nothing.
pub async fn driver_counts(interface: &Interface, timeout: Duration) -> Option<String> {
    run(Kind::Observe, &["ethtool", "-S", interface.as_str()], "", timeout).await.ok()
}

fn is_missing(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.to_string().starts_with(NOT_FOUND))
}

const NOT_FOUND: &str = "not found on PATH";

/// One `iptables-restore --noflush`: chains and rules that `input` does not name stay as they are.
///
/// Both backends commit table by table, each table whole or not at all. After an error the tables before the bad one
/// are changed, and the caller reads back and plans the way back. `--test` would not help: with nft it does not ask the kernel,
/// and accepts even a jump to a chain that does not exist. `timeout` should exceed the 5 s that legacy may wait for its lock.
///
/// # Errors
/// [`Kind::Apply`], with what the program printed.
pub async fn iptables_restore(input: &str, timeout: Duration) -> Result<()> {
    run(Kind::Apply, &["iptables-restore", "--noflush", "-w", "5"], input, timeout).await.map(drop)
}

fn package(program: &str) -> &str {
    match program {
        "nft" => "nftables",
        "swanctl" => "strongswan-swanctl",
        "ip" | "ss" => "iproute2",
        "sysctl" => "procps",
        "systemctl" | "journalctl" => "systemd",
        _ => "iptables",
    }
}

/// Runs `argv` with `input` on its stdin, and returns its stdout. At the timeout it is killed.
async fn run(kind: Kind, argv: &[&str], input: &str, timeout: Duration) -> Result<String> {
    let failed = || Error::new(kind, format!("run {}", argv.join(" ")));
    let output = output(kind, argv, input, timeout).await?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = stderr.lines().map(|l| l.escape_default().to_string()).collect::<Vec<_>>().join("; ");
        return Err(failed().because(format!("{}: {said}", output.status)));
    }
    String::from_utf8(output.stdout).context(failed)
}

/// Everything that a program prints, whatever it is and however it ends, for people.
///
/// # Errors
/// Of kind `Observe`: the program is missing, prints nothing and fails, or takes longer than `timeout`.
pub async fn printed(argv: &[&str], timeout: Duration) -> Result<String> {
    let output = output(Kind::Observe, argv, "", timeout).await?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && text.is_empty() {
        let failed = Error::observe(format!("run {}", argv.join(" ")));
        return Err(failed.because(format!("{}: {}", output.status, said.trim().escape_default())));
    }
    if !said.trim().is_empty() {
        text += &format!("\n# on stderr:\n{said}");
    }
    if !output.status.success() {
        text += &format!("\n# {}\n", output.status);
    }
    Ok(text)
}

async fn output(kind: Kind, argv: &[&str], input: &str, timeout: Duration) -> Result<Output> {
    let failed = || Error::new(kind, format!("run {}", argv.join(" ")));
    // cron and some sudo have a PATH without the folders of administrators' programs. (Because the child's PATH is set here, the
    // program is looked up in it, too.)
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
                "{NOT_FOUND} or in {}; install the package {}",
                SYSTEM_FOLDERS.join(", "),
                package(argv[0])
            )),
            _ => failed().because(e),
        })?;
    let stdin = child.stdin.take();
    let feed = async {
        // A program that exits before it has read everything gives the reason on stderr. The broken pipe says less.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(child.wait_with_output(), feed).0 };
    tokio::time::timeout(timeout, both)
        .await
        .map_err(|_| failed().because(format!("no answer within {timeout:?}; killed")))?
        .context(failed)
}

/// The interfaces that are up, without the loopback, each with its IPv4 addresses.
///
/// # Errors
/// The kernel does not list them.
pub fn interfaces() -> Result<BTreeMap<String, Vec<Ipv4Addr>>> {
    let mut found = BTreeMap::<String, Vec<Ipv4Addr>>::new();
    for entry in getifaddrs().context(|| Error::observe("list the network interfaces"))? {
        if entry.flags.contains(InterfaceFlags::IFF_UP) && !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            let addresses = found.entry(entry.interface_name).or_default();
            addresses.extend(entry.address.as_ref().and_then(|a| a.as_sockaddr_in()).map(|a| a.ip()));
        }
    }
    Ok(found)
}

/// The interface of the default route with the lowest metric, from `/proc/net/route`.
///
/// # Errors
/// There is no default route.
pub fn default_route_interface() -> Result<Interface> {
    let path = "/proc/net/route";
    let table = std::fs::read_to_string(path).context(|| Error::observe(format!("read {path}")))?;
    parse_default_route(&table)
}

/// As [`default_route_interface`], from the text of `/proc/net/route` (columns: proc(5); flags: linux/route.h).
fn parse_default_route(proc_net_route: &str) -> Result<Interface> {
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

/// Whether the kernel there answers; `None` if this gateway could not ask. TCP to a port where nobody listens: a living kernel refuses that
/// at once, whatever its processes do. It needs no right, and no kernel limits how often it does so, as it does with ICMP.
pub(crate) async fn kernel_answers(to: SocketAddr) -> Option<bool> {
    match TcpStream::connect(to).await {
        Ok(_) => Some(true),
        Err(e) => match e.kind() {
            ErrorKind::ConnectionRefused => Some(true),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => Some(false),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests;
