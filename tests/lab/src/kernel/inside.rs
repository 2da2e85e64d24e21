//! The first process of a user-mode kernel: it makes the machine, runs one program, passes on what that says, and switches off.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr};
use nix::unistd::{Pid, sethostname};

use super::files;
use super::job::Job;
use super::processors;
use super::wire::{CHUNK, Kind, number, receive, send};
use crate::lock;

const LINE: &str = "/dev/ttyS0";
/// What a program left running may hold its output open; nobody waits longer for its last words.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Between two signs of life.
pub const ALIVE: Duration = Duration::from_secs(5);

/// Does not return. What goes wrong here is on the console, and the kernel's panic about its first process's end follows.
pub fn main(job: &Path) -> ! {
    if let Err(e) = life(job) {
        eprintln!("the lab's first process: {e:#}");
    }
    // SAFETY: plain system call. Files of this machine are written through the kernel's cache.
    unsafe { libc::sync() };
    let Err(e) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("cannot switch off: {e}");
    std::process::exit(1)
}

fn life(path: &Path) -> Result<()> {
    let job = Job::read(path)?;
    files::set_up(&job)?;
    sethostname("lab").context("set the host's name")?;
    setrlimit(Resource::RLIMIT_NOFILE, 65536, 65536).context("allow more open files")?;
    let lo = Command::new("/usr/sbin/ip").args(["link", "set", "lo", "up"]).status();
    anyhow::ensure!(lo.is_ok_and(|status| status.success()), "ip link set lo up: is iproute2 installed?");
    let line = Line::open()?;
    line.send(Kind::Hello, &[])?;
    let out = path.with_file_name("out");
    let started = match start(&job, &out) {
        Ok(started) => started,
        Err(e) => {
            line.send(Kind::Failed, format!("{e:#}").as_bytes())?;
            return line.drain();
        }
    };
    let status = attend(started, &line)?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    line.send(Kind::Exit, &code.to_le_bytes())?;
    line.drain()
}

/// The program, and the near ends of what it reads and writes.
struct Started {
    pid: Pid,
    input: File,
    outputs: Vec<(File, Kind)>,
}

fn start(job: &Job, out: &Path) -> Result<Started> {
    let mut command = Command::new(&job.argv[0]);
    command.args(&job.argv[1..]).env_clear().envs(files::environment(job, out));
    let terminal = match job.terminal {
        None => None,
        Some((ws_row, ws_col)) => {
            let pair =
                openpty(&Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }, None).context("make a terminal")?;
            Some((File::from(pair.master), File::from(pair.slave)))
        }
    };
    let on_terminal = terminal.is_some();
    match &terminal {
        None => command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()),
        Some((_, far)) => command.stdin(far.try_clone()?).stdout(far.try_clone()?).stderr(far.try_clone()?),
    };
    if processors::count() > 1 {
        processors::start_on(&mut command, true)?;
    }
    // SAFETY: async-signal-safe system calls.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() == -1 || on_terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn().with_context(|| format!("start {}", PathBuf::from(&job.argv[0]).display()))?;
    let pid = Pid::from_raw(child.id() as i32);
    if let Some((near, _)) = terminal {
        return Ok(Started { pid, input: near.try_clone()?, outputs: vec![(near, Kind::Stdout)] });
    }
    let (Some(input), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        bail!("no pipes");
    };
    let file = |end: OwnedFd| File::from(end);
    let outputs = vec![(file(stdout.into()), Kind::Stdout), (file(stderr.into()), Kind::Stderr)];
    Ok(Started { pid, input: file(input.into()), outputs })
}

/// Passes everything on, both ways, until the program's end.
fn attend(Started { pid, input, outputs }: Started, line: &Line) -> Result<ExitStatus> {
    let closed = Arc::new(AtomicBool::new(false));
    let (done, finished) = channel();
    let count = outputs.len();
    for (output, kind) in outputs {
        let (line, done, closed) = (line.clone(), done.clone(), closed.clone());
        std::thread::spawn(move || {
            let _ = pass_on(output, kind, &line, &closed);
            let _ = done.send(());
        });
    }
    let (give, given) = channel();
    let more = line.clone();
    std::thread::spawn(move || feed(input, &given, &more));
    let commands = line.clone();
    std::thread::spawn(move || obey(&commands, pid, &give, &closed));
    let alive = line.clone();
    std::thread::spawn(move || {
        while alive.send(Kind::Hello, &[]).is_ok() {
            std::thread::sleep(ALIVE);
        }
    });
    let status = reap(pid)?;
    for _ in 0..count {
        let _ = finished.recv_timeout(LAST_WORDS);
    }
    Ok(status)
}

/// A first process is the parent of everything that lost its own.
fn reap(program: Pid) -> Result<ExitStatus> {
    loop {
        let mut status = 0;
        // SAFETY: the status is ours.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid == program.as_raw() {
            return Ok(ExitStatus::from_raw(status));
        }
        let error = io::Error::last_os_error();
        if pid < 0 && error.kind() != io::ErrorKind::Interrupted {
            return Err(error).context("wait for the program");
        }
    }
}

fn pass_on(mut pipe: impl Read, kind: Kind, line: &Line, closed: &AtomicBool) -> Result<()> {
    let mut buffer = [0; CHUNK];
    loop {
        let n = match pipe.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        if n == 0 || kind == Kind::Stdout && closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        line.send(kind, &buffer[..n])?;
    }
}

/// Asks for input only when the last was taken, so that none piles up here.
fn feed(mut stdin: impl Write, input: &Receiver<Vec<u8>>, line: &Line) {
    while line.send(Kind::More, &[]).is_ok() {
        match input.recv() {
            Ok(bytes) if !bytes.is_empty() && stdin.write_all(&bytes).is_ok() => {}
            _ => return,
        }
    }
}

fn obey(line: &Line, program: Pid, input: &Sender<Vec<u8>>, closed: &AtomicBool) {
    while let Ok((kind, contents)) = receive(&*line.reader) {
        match kind {
            Kind::Stdin => drop(input.send(contents)),
            Kind::Closed => closed.store(true, Ordering::Relaxed),
            Kind::Signal => {
                let signal = number(&contents).and_then(|number| Signal::try_from(number).ok());
                let _ = kill(Pid::from_raw(-program.as_raw()), signal);
            }
            _ => {}
        }
    }
}

/// The serial line to the outside.
#[derive(Clone)]
struct Line {
    reader: Arc<File>,
    writer: Arc<Mutex<File>>,
}

impl Line {
    fn open() -> Result<Line> {
        let file = fs::OpenOptions::new().read(true).write(true).open(LINE).with_context(|| format!("open {LINE}"))?;
        let mut settings = tcgetattr(&file).context("the line's settings")?;
        cfmakeraw(&mut settings);
        tcsetattr(&file, SetArg::TCSANOW, &settings).context("the line's settings")?;
        let writer = file.try_clone()?;
        // The console's words go where the kernel's go, and not to a device that this machine may lack.
        let console = fs::OpenOptions::new().write(true).open("/dev/console")?;
        // SAFETY: both descriptors are valid.
        unsafe { libc::dup2(console.as_raw_fd(), 2) };
        Ok(Line { reader: Arc::new(file), writer: Arc::new(Mutex::new(writer)) })
    }

    fn send(&self, kind: Kind, contents: &[u8]) -> Result<()> {
        Ok(send(&*lock(&self.writer), kind, contents)?)
    }

    fn drain(&self) -> Result<()> {
        tcdrain(&*self.reader).context("the line's last words")
    }
}
