//! Anonymous network namespaces: held by a descriptor, gone with the process however it ends.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::spawn::{self, Namespaces, Output, Process};

/// Longest run of one `ip` or `nft` batch; they take milliseconds.
const BATCH: Duration = Duration::from_secs(60);

/// A network namespace without a name.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    /// Number the kernel knows it by (`net:[N]`).
    pub inode: u64,
}

impl Netns {
    /// Makes one, with its loopback up and IPv6 off (nothing may leave by a way no capture looks at).
    pub fn new() -> Result<Netns> {
        let fd = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (the lab needs root)")?;
            for at in ["all", "default"] {
                // Absent on a kernel without IPv6.
                let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{at}/disable_ipv6"), "1");
            }
            Ok(File::open("/proc/thread-self/ns/net")?)
        })?;
        let ns = Netns { inode: fd.metadata()?.ino(), fd: fd.into() };
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    /// Runs `f` on a thread inside the namespace. Sockets made there keep the namespace wherever they are used.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_thread(|| {
            setns(&self.fd, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
            f()
        })
    }

    /// A path other programs can open while this process lives, as `ip link … netns` and `nsenter --net=` want.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()))
    }

    /// For [`spawn::spawn`]: this network, the machine's files.
    pub(crate) fn only(&self) -> Namespaces {
        Namespaces { net: self.fd.as_raw_fd(), mount: None, first: false }
    }

    /// Runs the lines of an `ip -batch`.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.batch("ip", &["-batch", "-"], lines)
    }

    /// Applies one nft script; the kernel takes all of it or nothing.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.batch("nft", &["-f", "-"], script)
    }

    fn batch(&self, program: &str, args: &[&str], input: &str) -> Result<()> {
        if input.is_empty() {
            return Ok(());
        }
        let subject = || format!("{program} with:\n{input}");
        self.command(program, args, input, BATCH)?.ok().with_context(subject)?;
        Ok(())
    }

    /// Runs a program in this network with the machine's files.
    pub fn command(&self, program: &str, args: &[&str], input: &str, timeout: Duration) -> Result<Output> {
        let mut command = Command::new(program);
        command.args(args);
        spawn::output(command, Some(self.only()), input, timeout)
    }

    /// Starts a program in this network with the machine's files; what it says goes to `log`.
    pub fn start(&self, program: &str, args: &[&str], log: File) -> Result<Process> {
        let mut command = Command::new(program);
        command.args(args);
        Process::start(command, Some(self.only()), log)
    }

    /// Writes keys below `/proc/sys/net`, given as `("ipv4/ip_forward", "1")`.
    pub fn sysctl(&self, settings: &[(String, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("set net/{key}={value}"))?;
            }
            Ok(())
        })
    }

    /// Kills every process in this network. The lab itself is never in one: only its threads are, for a moment.
    pub fn kill_all(&self) {
        let own = format!("net:[{}]", self.inode);
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let inside = fs::read_link(entry.path().join("ns/net")).is_ok_and(|link| link.as_os_str() == own.as_str());
            if let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()).filter(|_| inside) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Makes a mount namespace in which each `(source, target)` is bound, in that order, and `/sys` shows this network.
    /// A source that is the machine's own `/etc` is bound read-only.
    pub fn mounts(&self, binds: &[(PathBuf, &str)]) -> Result<OwnedFd> {
        self.run(|| {
            unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
            let none = None::<&Path>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
            for (source, target) in binds {
                mount(Some(source), *target, none, MsFlags::MS_BIND, none)
                    .with_context(|| format!("bind {} over {target}", source.display()))?;
                if source == Path::new("/etc") {
                    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                    mount(none, *target, none, flags, none).with_context(|| format!("make {target} read-only"))?;
                }
            }
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).context("mount /sys")?;
            Ok(File::open("/proc/thread-self/ns/mnt")?.into())
        })
    }
}

/// A thread of its own: namespaces belong to threads, and the caller must stay where it is.
fn on_thread<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(f).join().map_err(|_| anyhow!("a thread inside a namespace panicked"))?)
}
