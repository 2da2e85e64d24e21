//! Namespaces for each test: anonymous network, mount and process namespaces, and one iptables backend on PATH.

use std::{
    env,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    process::{Command, Stdio},
    time::Duration,
};

use crosswan::host;
use crosswan_core::iptables::Rules;

const BACKEND: &str = "CROSSWAN_TEST_BACKEND";
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// Runs `body` once per backend. `test` is the calling test's full name: its binary runs again, inside.
///
/// The private /run holds legacy's lock and `ip netns`; the process namespace takes everything along when it ends.
pub fn each_backend(test: &str, body: fn()) {
    if env::var_os(BACKEND).is_some() {
        return body();
    }
    assert!(nix::unistd::geteuid().is_root(), "needs root, to make network namespaces");
    for backend in ["nft", "legacy"] {
        let multi = format!("/usr/sbin/xtables-{backend}-multi");
        assert!(std::fs::exists(&multi).unwrap(), "needs {multi}: install the package iptables");
        let bin = tempfile::tempdir().unwrap();
        for name in ["iptables", "iptables-save", "iptables-restore"] {
            symlink(&multi, bin.path().join(name)).unwrap();
        }
        let unshare = "60 unshare --net --mount --mount-proc --pid --fork --kill-child sh -c";
        let setup = "mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$0\" --exact --nocapture \"$1\"";
        let output = Command::new("timeout")
            .args(unshare.split(' '))
            .args([setup, env::current_exe().unwrap().to_str().unwrap(), test])
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.path().display()))
            .env(BACKEND, backend)
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{test} with {backend}:\n{text}");
    }
}

pub fn is_legacy() -> bool {
    env::var(BACKEND).unwrap() == "legacy"
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn save() -> String {
    block_on(host::iptables_save(TIMEOUT)).unwrap()
}

pub fn restore(input: &str) -> crosswan_core::error::Result<()> {
    block_on(host::iptables_restore(input, TIMEOUT))
}

/// One refresh's worth: read, plan, restore. What was changed, or `None`.
pub fn apply(want: &Rules) -> Option<String> {
    let change = crosswan_core::iptables::plan(want, &Rules::parse(&save()))?;
    restore(&change.input()).unwrap_or_else(|e| panic!("{}\n{}", e.chain(), change.input()));
    Some(change.to_string())
}

/// Runs a line of shell that must succeed; what it printed.
pub fn sh(script: &str) -> String {
    let (ok, text) = try_sh(script);
    assert!(ok, "{script}\n{text}");
    text
}

/// Whether a line of shell succeeded, and what it printed.
pub fn try_sh(script: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The packets that `filter` matches on `device` in namespace `space` while `action` runs, a line of tcpdump each.
pub fn capture(space: &str, device: &str, filter: &str, action: impl FnOnce()) -> Vec<String> {
    let mut tcpdump = Command::new("ip")
        .args(["netns", "exec", space, "tcpdump", "--immediate-mode", "-lnnti", device, filter])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(tcpdump.stderr.take().unwrap()).lines();
    assert!(stderr.any(|l| l.unwrap().starts_with("listening on")), "needs tcpdump: install the package tcpdump");
    action();
    // What was sent has arrived: veth has no latency. Ample for the capture to be printed.
    std::thread::sleep(Duration::from_millis(300));
    sh(&format!("kill {}", tcpdump.id()));
    let output = tcpdump.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().filter(|l| l.starts_with("IP")).map(str::to_owned).collect()
}
