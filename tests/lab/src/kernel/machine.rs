//! A user-mode kernel as a process of this machine: its command line, its folder, its console, its end.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{PipeReader, Read};
use std::os::fd::RawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};
use nix::fcntl::Flock;
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use super::job;
use super::outside::Limits;
use crate::lock;
use crate::workdir::try_lock;

/// Of the console, bytes and lines, for what is said about a failure.
const CONSOLE: usize = 64 << 10;
const TAIL: usize = 25;

/// How user processes are held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By a seccomp filter: faster.
    Seccomp,
    /// By ptrace.
    Ptrace,
}

/// The kernel's command line: this machine's files as its root, and the line as its first serial one.
pub fn arguments(dir: &Path, method: Method, limits: &Limits, line: RawFd) -> Result<Vec<OsString>> {
    let dir = dir.to_str().filter(|dir| !dir.contains(['"', '\n'])).context("TMPDIR: its path has odd characters")?;
    ensure!(dir.len() < 200, "TMPDIR: its path is too long for a kernel's command line");
    let arguments = [
        format!("mem={}M", limits.memory >> 20),
        format!("seccomp={}", if method == Method::Seccomp { "on" } else { "off" }),
        "rootfstype=hostfs rootflags=/ rw".into(),
        format!("uml_dir={dir}/ umid=uml"),
        format!("ssl0=fd:{line} con=null con0=null,fd:1"),
        format!("init=\"{dir}/init\""),
        format!("{}=\"{dir}/job\"", job::VARIABLE),
    ];
    // A kernel that is built for one takes it for an argument of the first process.
    let several = (limits.processors > 1).then(|| format!("ncpus={}", limits.processors));
    let arguments: Vec<String> = arguments.into_iter().chain(several).collect();
    // Each word is an argument of its own, but for a path with spaces.
    let words = arguments.iter().flat_map(|argument| match argument.contains('"') {
        true => vec![argument.as_str()],
        false => argument.split(' ').collect(),
    });
    Ok(words.map(OsString::from).collect())
}

const PREFIX: &str = "crosswan-kernel-";

/// The processors this program may run on.
pub fn processors() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("the processors to run on")?;
    Ok((0..CpuSet::count()).filter(|processor| set.is_set(*processor).unwrap_or(false)).collect())
}

/// The folder of one run: the job, the first process, the kernel's own files, and `out`, which stays if something is in it.
pub struct RunDir {
    /// Where it is.
    pub path: PathBuf,
    /// The processor of its kernel.
    pub processor: usize,
    _lock: Flock<File>,
}

impl RunDir {
    /// So many processors, of which the first is its own.
    pub fn processors(&self, count: usize) -> Result<Vec<usize>> {
        let own = std::iter::once(self.processor);
        let all: Vec<usize> =
            own.chain(processors()?.into_iter().filter(|other| *other != self.processor)).take(count).collect();
        ensure!(all.len() == count, "this needs {count} processors, and has {}", all.len());
        Ok(all)
    }

    /// Sweeps what killed runs left, then makes a new one, for the processor with the fewest kernels.
    pub fn new() -> Result<RunDir> {
        let base = std::env::temp_dir().canonicalize().context("TMPDIR")?;
        let mut kernels: BTreeMap<usize, u32> = processors()?.into_iter().map(|processor| (processor, 0)).collect();
        for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = name.strip_prefix(PREFIX) else { continue };
            if let Some(_lock) = try_lock(&entry.path()) {
                clear(&entry.path());
                continue;
            }
            let processor = name.split('-').next().and_then(|processor| processor.parse().ok());
            if let Some(count) = processor.and_then(|processor: usize| kernels.get_mut(&processor)) {
                *count += 1;
            }
        }
        let fewest = kernels.iter().min_by_key(|(_, count)| **count);
        let processor = *fewest.context("no processor to run on")?.0;
        let random = fs::read("/proc/sys/kernel/random/uuid").context("a random name")?;
        let name = String::from_utf8_lossy(&random).chars().take(8).collect::<String>();
        let path = base.join(format!("{PREFIX}{processor}-{name}"));
        let subject = || format!("make {} (TMPDIR: a folder that can be written)", path.display());
        DirBuilder::new().mode(0o700).create(&path).with_context(subject)?;
        let lock = try_lock(&path).with_context(|| format!("lock {}", path.display()))?;
        fs::create_dir(path.join("out"))?;
        Ok(RunDir { path, processor, _lock: lock })
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        clear(&self.path);
    }
}

/// Removes a run's folder, but not what the run was to leave.
fn clear(dir: &Path) {
    let out = dir.join("out");
    let _ = fs::remove_dir(&out);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path() != out) {
        let path = entry.path();
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let _ = if folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
    // Fails where something was left.
    let _ = fs::remove_dir(dir);
}

/// Killed with all of its processes, and reaped, on drop.
pub struct Kernel(pub Child);

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: it leads its own group and has not been reaped. What left the group dies with its parent.
        unsafe { libc::kill(-(self.0.id() as i32), libc::SIGKILL) };
        let _ = self.0.wait();
    }
}

/// What the kernel says, its last part.
pub struct Console {
    said: Arc<Mutex<VecDeque<u8>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Console {
    pub fn read(mut pipe: PipeReader) -> Console {
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let kept = said.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = pipe.read(&mut buffer) {
                let mut kept = lock(&kept);
                kept.extend(&buffer[..n]);
                let surplus = kept.len().saturating_sub(CONSOLE);
                kept.drain(..surplus);
                if n == 0 {
                    return;
                }
            }
        });
        Console { said, thread: Mutex::new(Some(thread)) }
    }

    /// Its last lines, once the kernel has ended.
    pub fn tail(&self) -> String {
        let _ = lock(&self.thread).take().map(JoinHandle::join);
        let bytes: Vec<u8> = lock(&self.said).iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

/// From now on the signals that end a program come to each of `count` receivers. Called before other threads are there.
pub fn signals(count: usize) -> Result<Vec<Receiver<Signal>>> {
    let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    set.thread_block().context("block signals")?;
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
    std::thread::spawn(move || {
        while let Ok(signal) = set.wait() {
            for sender in &senders {
                let _ = sender.send(signal);
            }
        }
    });
    Ok(receivers)
}
