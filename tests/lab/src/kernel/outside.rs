//! Boots a user-mode kernel for one job, passes on what its program says, and sees to it that nothing of it is left.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::sched::sched_setaffinity;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::job::{self, Job};
use super::machine::{Console, Kernel, Method, RunDir, arguments, signals};
use super::wire::{Kind, number, receive, send};
use super::{image, memory, processors, terminal};
use crate::http::some;
use crate::spawn;

/// A boot takes a second; on a busy machine several times that.
const BOOT: Duration = Duration::from_secs(60);
/// A kernel that gave no sign of life for so long hangs. It gives one every five seconds.
const SILENCE: Duration = Duration::from_secs(120);
/// From a signal to the program's end. The demo takes its region down in a second or two.
const FAREWELL: Duration = Duration::from_secs(30);
/// Bytes of input on the way: the kernel's serial line loses its breath when a terminal's buffer of 4096 bytes is full.
const INPUT: usize = 2048;
/// MiB. It grows as it is used; three labs at once take about half of it.
const MEMORY: u64 = 2048;

/// What bounds a run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the program; `None` waits for ever. A kernel that hangs is noticed in any case.
    pub time: Option<Duration>,
    /// Of everything inside, bytes.
    pub memory: u64,
    /// How many processors it has. With several each is a quarter slower.
    pub processors: usize,
}

impl Limits {
    /// `CROSSWAN_KERNEL_LIMIT`, seconds, and `CROSSWAN_KERNEL_MEMORY`, MiB.
    pub fn from_environment() -> Result<Limits> {
        Ok(Limits { time: job::seconds("CROSSWAN_KERNEL_LIMIT")?, memory: memory::size(MEMORY)?, processors: 1 })
    }
}

/// How a boot ended.
enum End {
    Exit(i32),
    /// It never came up; what the console said.
    StillBorn(String),
}

/// Runs a job in a kernel of its own and returns its exit code; 128 and the signal's number when a signal ended it.
pub fn run(job: &Job, limits: &Limits) -> Result<ExitCode> {
    run_all(std::slice::from_ref(job), limits)
}

/// Runs each job in a kernel of its own, side by side, and returns the first exit code that tells of a failure.
/// Where there are several, what they say comes by whole lines, and none of them is given this program's input.
pub fn run_all(jobs: &[Job], limits: &Limits) -> Result<ExitCode> {
    let linux = image::linux(limits.processors)?;
    let folder = memory::folder(limits.memory * jobs.len() as u64)?;
    let dirs = jobs.iter().map(|_| RunDir::new()).collect::<Result<Vec<_>>>()?;
    let signals = signals(jobs.len())?;
    let alone = jobs.len() == 1;
    std::thread::scope(|scope| {
        let runs = jobs.iter().zip(&dirs).zip(signals).map(|((job, dir), signals)| {
            let (linux, folder) = (&linux, &folder);
            scope.spawn(move || one(job, limits, linux, folder, dir, &signals, alone))
        });
        let runs = runs.collect::<Vec<_>>();
        let codes = runs.into_iter().map(|run| run.join().unwrap_or_else(|_| bail!("a thread panicked")));
        let codes = codes.collect::<Vec<_>>().into_iter().collect::<Result<Vec<_>>>()?;
        Ok(ExitCode::from(codes.into_iter().find(|code| *code != 0).unwrap_or(0)))
    })
}

fn one(
    job: &Job,
    limits: &Limits,
    linux: &Path,
    folder: &Path,
    dir: &RunDir,
    signals: &Receiver<Signal>,
    alone: bool,
) -> Result<u8> {
    let mut job = job.clone();
    job.through.insert(dir.path.join("out"));
    job.write(&dir.path.join("job"))?;
    symlink(std::env::current_exe()?, dir.path.join("init"))?;
    let raw = job.terminal.map(|_| terminal::Raw::new()).transpose().context("prepare the terminal")?;
    let input = match (&raw, alone) {
        (_, false) => Input::Nobody,
        (Some(_), _) => Input::Person,
        (None, _) => Input::Program,
    };
    let mut end = boot(linux, folder, dir, Method::Seccomp, limits, input, signals)?;
    if let End::StillBorn(console) = &end {
        eprintln!(
            "kernel: trying ptrace, which is slower, as seccomp does not work here: {}",
            console.lines().last().unwrap_or_default()
        );
        end = boot(linux, folder, dir, Method::Ptrace, limits, input, signals)?;
    }
    match end {
        End::Exit(code) => Ok(code.clamp(0, 255) as u8),
        End::StillBorn(console) => bail!(
            "the user-mode kernel did not start, neither by seccomp nor by ptrace. In a container, allow one of them \
             (docker run --security-opt seccomp=unconfined, or --cap-add SYS_PTRACE). Its console:\n{}",
            console
        ),
    }
}

/// Who reads this program's standard input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    /// A program that a person talks to, on a terminal.
    Person,
    /// Any other; from a terminal it reads nothing, because one in the background would be stopped for it.
    Program,
    /// One of several kernels.
    Nobody,
}

enum Event {
    Frame(Kind, Vec<u8>),
    /// The line was closed, by a kernel that ended.
    Ended(io::Error),
    Stdin(Vec<u8>),
}

fn boot(
    linux: &Path,
    folder: &Path,
    dir: &RunDir,
    method: Method,
    limits: &Limits,
    input: Input,
    signals: &Receiver<Signal>,
) -> Result<End> {
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    ours.set_write_timeout(Some(BOOT))?;
    let (console, says) = io::pipe()?;
    let mut command = Command::new(linux);
    command.args(arguments(&dir.path, method, limits, theirs.as_raw_fd())?);
    command.env_clear().env("TMPDIR", folder).env("HOME", &dir.path).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.current_dir("/").stdin(Stdio::null()).stdout(says.try_clone()?).stderr(says);
    let line = theirs.as_raw_fd();
    let processors = dir.processors(limits.processors)?;
    let first = processors::only(dir.processor)?;
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // SAFETY: async-signal-safe system calls; the descriptor is open until the fork.
    unsafe {
        command.pre_exec(move || {
            // A page fault inside wakes the kernel, which wakes the process: across processors that takes several times as long.
            sched_setaffinity(Pid::from_raw(0), &first)?;
            // Of this machine's files it keeps each open that has been read. The usual limit is 1024, and one may lift it.
            setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
            match libc::fcntl(line, libc::F_SETFD, 0) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
    let kernel = Kernel(spawn::spawn(command, None)?);
    drop(theirs);
    let console = Console::read(console);
    if processors.len() > 1 {
        processors::pin(kernel.0.id(), &processors)?;
    }
    let result = converse(ours, limits, input, signals);
    // It is needed no more, or it is broken: nothing of it is worth a wait.
    drop(kernel);
    match result {
        Ok(Some(code)) => Ok(End::Exit(code)),
        Ok(None) => Ok(End::StillBorn(console.tail())),
        Err(e) => {
            Err(e.context(format!("the user-mode kernel failed. The end of its console:\n{}\nkernel", console.tail())))
        }
    }
}

/// Passes frames on until the program's end. `None` when the kernel ended before it said anything.
fn converse(line: UnixStream, limits: &Limits, input: Input, signals: &Receiver<Signal>) -> Result<Option<i32>> {
    let (events, next) = channel();
    let (wish, wished) = channel();
    let reader = line.try_clone()?;
    let frames = events.clone();
    std::thread::spawn(move || {
        loop {
            let event = receive(&reader).map_or_else(Event::Ended, |(kind, contents)| Event::Frame(kind, contents));
            let last = matches!(event, Event::Ended(_));
            if frames.send(event).is_err() || last {
                return;
            }
        }
    });
    std::thread::spawn(move || read_input(&wished, &events, input));
    let started = Instant::now();
    let (mut heard, mut up, mut dying) = (started, false, None::<Instant>);
    let by_lines = input == Input::Nobody;
    // A kernel that cannot be told anything has ended, and its last words are still to be read.
    let tell = |kind, contents: &[u8]| drop(send(&line, kind, contents));
    let (mut stdout, mut stderr) = (Whole::new(io::stdout(), by_lines), Whole::new(io::stderr(), by_lines));
    loop {
        if let Ok(signal) = signals.try_recv() {
            ensure!(up && dying.is_none(), "ended by {signal}");
            tell(Kind::Signal, &(signal as i32).to_le_bytes());
            dying = Some(Instant::now() + FAREWELL);
        }
        let now = Instant::now();
        ensure!(dying.is_none_or(|until| now < until), "its program did not end within {FAREWELL:?} of a signal");
        ensure!(now < heard + if up { SILENCE } else { BOOT }, "it has given no sign of life since {:?}", now - heard);
        if let Some(time) = limits.time {
            ensure!(
                now < started + time,
                "its program was still running after {} s (CROSSWAN_KERNEL_LIMIT)",
                time.as_secs()
            );
        }
        match next.recv_timeout(Duration::from_millis(100)) {
            Ok(Event::Frame(kind, contents)) => {
                heard = Instant::now();
                match kind {
                    Kind::Hello => up = true,
                    Kind::Stdout if stdout.write(&contents).is_err() => tell(Kind::Closed, &[]),
                    Kind::Stderr => drop(stderr.write(&contents)),
                    Kind::More => drop(wish.send(())),
                    Kind::Exit => {
                        let code = number(&contents).context("a garbled exit code")?;
                        tell(Kind::Off, &[]);
                        until_off(&next);
                        return Ok(Some(code));
                    }
                    Kind::Failed => bail!("cannot {}", String::from_utf8_lossy(&contents)),
                    _ => {}
                }
            }
            Ok(Event::Ended(_)) if !up => return Ok(None),
            Ok(Event::Ended(e)) => return Err(e).context("it ended before its program did"),
            Ok(Event::Stdin(bytes)) => tell(Kind::Stdin, &bytes),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the threads that listen to it are gone"),
        }
    }
}

/// The kernel writes this machine's files out and ends by itself; what it says now is of no interest.
fn until_off(next: &Receiver<Event>) {
    let until = Instant::now() + FAREWELL;
    while let Ok(event) = next.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if matches!(event, Event::Ended(_)) {
            return;
        }
    }
}

/// Passes on what comes; where several kernels speak, only whole lines, and the rest at the end.
struct Whole<W: Write> {
    to: W,
    by_lines: bool,
    rest: Vec<u8>,
}

impl<W: Write> Whole<W> {
    fn new(to: W, by_lines: bool) -> Whole<W> {
        Whole { to, by_lines, rest: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rest.extend(bytes);
        let end = if self.by_lines {
            self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
        } else {
            self.rest.len()
        };
        self.to.write_all(&self.rest[..end])?;
        self.rest.drain(..end);
        self.to.flush()
    }
}

impl<W: Write> Drop for Whole<W> {
    fn drop(&mut self) {
        let _ = self.to.write_all(&self.rest);
        let _ = self.to.flush();
    }
}

/// Reads standard input when it is wished for.
fn read_input(wished: &Receiver<()>, events: &Sender<Event>, input: Input) {
    let mut stdin = io::stdin();
    let none = input == Input::Nobody || input == Input::Program && io::IsTerminal::is_terminal(&stdin);
    let mut buffer = [0; INPUT];
    while wished.recv().is_ok() && !none {
        let n = some(&mut stdin, &mut buffer).unwrap_or(0);
        if events.send(Event::Stdin(buffer[..n].to_vec())).is_err() || n == 0 {
            return;
        }
    }
}
