//! Child processes that end with the lab: own process group, killed by the kernel when the lab dies, run inside namespaces.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that forked ends, and tests fork from threads that come and go;
//! so one thread, alive as long as the process, does every fork.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::sys::signal::SigSet;

use crate::kernel::processors;
use crate::lock;

/// The namespaces a command is run in, as descriptors that must stay open until the fork.
#[derive(Clone, Copy, Debug)]
pub struct Namespaces {
    /// Network namespace.
    pub net: RawFd,
    /// Mount namespace; `None` keeps the machine's own files.
    pub mount: Option<RawFd>,
    /// Whether it runs on the first processor, where there are several.
    pub first: bool,
}

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; 128 + signal when it was killed.
    pub code: i32,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Output {
    /// Itself when the exit code is 0, else an error that carries what was printed.
    pub fn ok(self) -> Result<Output> {
        if self.code == 0 {
            return Ok(self);
        }
        bail!("exit code {}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

type Job = (Command, Sender<io::Result<Child>>);

/// Forks `command` on the long-lived thread, inside `ns`.
///
/// Safety of what runs between fork and exec: system calls on prepared values only.
pub fn spawn(mut command: Command, ns: Option<Namespaces>) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let name = command.get_program().to_string_lossy().into_owned();
    let lab = nix::unistd::getpid().as_raw();
    let unblocked = SigSet::empty();
    if processors::are_several() {
        processors::start_on(&mut command, ns.is_some_and(|ns| ns.first))?;
    }
    // SAFETY: only async-signal-safe system calls; no allocation, no locks.
    unsafe {
        command.pre_exec(move || {
            unblocked.thread_set_mask()?;
            check(libc::setpgid(0, 0))?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if libc::getppid() != lab {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            if let Some(ns) = ns {
                check(libc::setns(ns.net, libc::CLONE_NEWNET))?;
                if let Some(mount) = ns.mount {
                    check(libc::setns(mount, libc::CLONE_NEWNS))?;
                }
            }
            Ok(())
        });
    }
    let (answer, child) = channel();
    let spawner = SPAWNER.get_or_init(|| {
        let (send, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            // Signals are for the threads that expect them.
            let _ = SigSet::all().thread_block();
            for (mut command, answer) in jobs {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(send)
    });
    lock(spawner).send((command, answer)).ok().context("the thread that forks is gone")?;
    child.recv().context("the thread that forks is gone")?.with_context(|| format!("start {name}"))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs `command` to its end, feeding it `input`; kills its process group after `timeout` and reports that as an error.
pub fn output(mut command: Command, ns: Option<Namespaces>, input: &str, timeout: Duration) -> Result<Output> {
    let name = format!("{:?}", command.get_program());
    let (mut out, mut err) = (scratch()?, scratch()?);
    let mut stdin = scratch()?;
    stdin.write_all(input.as_bytes())?;
    stdin.seek(SeekFrom::Start(0))?;
    command.stdin(stdin).stdout(out.try_clone()?).stderr(err.try_clone()?);
    let started = Instant::now();
    let mut child = spawn(command, ns)?;
    let status = wait(&mut child, timeout)?;
    if status.is_none() {
        kill_group(&child, libc::SIGKILL);
        child.wait()?;
    }
    let (stdout, stderr) = (text(&mut out)?, text(&mut err)?);
    match status {
        Some(status) => Ok(Output { code: code(status), stdout, stderr, elapsed: started.elapsed() }),
        None => bail!("{name} was still running after {timeout:?}\n{stdout}{stderr}"),
    }
}

/// An anonymous file in memory: no reader threads, no pipe that can fill up.
fn scratch() -> Result<File> {
    // SAFETY: plain system call; the new descriptor is owned by the File.
    let fd = unsafe { libc::memfd_create(c"lab".as_ptr(), libc::MFD_CLOEXEC) };
    check(fd).context("memfd_create")?;
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Waits on the child's pidfd, so that a command that takes 2 ms costs 2 ms.
fn wait(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    // Whoever asked whether it runs has reaped it.
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    let pidfd = pidfd(child.id() as i32)?;
    let until = Instant::now() + timeout;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        ended(&pidfd, left);
        match child.try_wait()? {
            None if left.is_zero() => return Ok(None),
            None => {}
            done => return Ok(done),
        }
    }
}

/// A descriptor of a process that has not been reaped.
pub(crate) fn pidfd(pid: i32) -> Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is owned here.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    check(fd).context("pidfd_open")?;
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether a process has ended, once it has or after `timeout`.
pub(crate) fn ended(pidfd: &OwnedFd, timeout: Duration) -> bool {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&mut poll, 1, timeout.as_millis().min(i32::MAX as u128) as i32) == 1 }
}

/// Kills a process that may have ended.
pub(crate) fn kill(pidfd: &OwnedFd) {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: plain system call on a descriptor that is open.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, none, 0) };
}

fn kill_group(child: &Child, signal: i32) {
    // SAFETY: the child leads its own group and has not been reaped, so the id cannot belong to another.
    unsafe { libc::kill(-(child.id() as i32), signal) };
}

/// A process that stays: killed with its group and reaped on drop.
#[derive(Debug)]
pub struct Process {
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command` with both outputs appended to `log` and no input.
    pub fn start(mut command: Command, ns: Option<Namespaces>, log: File) -> Result<Process> {
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Process { child: Mutex::new(spawn(command, ns)?) })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        lock(&self.child).id()
    }

    /// Whether it has not ended yet.
    pub fn running(&self) -> bool {
        matches!(lock(&self.child).try_wait(), Ok(None))
    }

    /// Sends `signal` (a number of `signal(7)`) to the process alone.
    pub fn signal(&self, signal: i32) {
        let mut child = lock(&self.child);
        if matches!(child.try_wait(), Ok(None)) {
            // SAFETY: not reaped, checked under the lock.
            unsafe { libc::kill(child.id() as i32, signal) };
        }
    }

    /// Waits for its end; `None` when it still runs after `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<Option<i32>> {
        Ok(wait(&mut lock(&self.child), timeout)?.map(code))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        kill_group(&child, libc::SIGKILL);
        let _ = child.wait();
    }
}
