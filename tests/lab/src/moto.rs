//! moto, the EC2, SSM and Secrets Manager of the lab: found or installed once per machine, imported once per program, started per lab.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::lock;
use crate::netns::Netns;
use crate::spawn;
use crate::workdir::wait_lock;

/// The version that `docs/facts.md`, "moto", was measured with.
const VERSION: &str = "5.2.5";
/// What of it is used; each brings packages of its own.
const EXTRAS: &str = "ec2,secretsmanager,server,ssm";
/// Port of moto itself; gateways talk to the fault proxy in front of it.
pub const PORT: u16 = 5000;
/// From a signal that nobody can refuse to the process's end.
const FAREWELL: Duration = Duration::from_secs(10);

/// The `moto_server` to run: `CROSSWAN_MOTO`, else one in the user's cache, installed there on first use.
pub fn server() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CROSSWAN_MOTO") {
        return Ok(path.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = cache.or_else(home).unwrap_or_else(|| "/var/cache".into()).join("crosswan");
    fs::create_dir_all(&base).with_context(|| format!("make {}", base.display()))?;
    let name = format!("moto-{VERSION}-{}", EXTRAS.replace(',', "-"));
    let (venv, done) = (base.join(&name), base.join(format!("{name}.done")));
    let _lock = wait_lock(&base.join("moto.lock"))?;
    if !done.exists() {
        eprintln!("lab: installing moto {VERSION} in {} (once)", venv.display());
        let venv_name = venv.to_string_lossy().into_owned();
        run("python3", &["-m", "venv", "--clear", &venv_name])?;
        let package = format!("moto[{EXTRAS}]=={VERSION}");
        run(&format!("{venv_name}/bin/python"), &["-m", "pip", "install", "--quiet", &package])?;
        File::create(&done)?;
    }
    Ok(venv.join("bin/moto_server"))
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(args);
    let subject = || format!("{program} {args:?} (or set CROSSWAN_MOTO to a moto_server)");
    spawn::output(command, None, "", Duration::from_secs(600))?.ok().with_context(subject)?;
    Ok(())
}

/// A moto of one lab. It is killed on drop.
#[derive(Debug)]
pub struct Moto {
    /// Unlike its number, this cannot become another process's.
    pidfd: OwnedFd,
}

/// Starts moto on `ip` inside `ns`; it is ready only after [`Moto::wait_ready`].
/// `images` is a file of images that are there from the start, with ids of one's own.
pub fn start(ns: &Netns, ip: Ipv4Addr, images: Option<&Path>, log: &Path) -> Result<Moto> {
    static STARTER: Mutex<Option<Starter>> = Mutex::new(None);
    let request = json!({
        "ns": ns.path(),
        "log": log,
        "images": images,
        "arguments": ["-H", ip.to_string(), "-p", PORT.to_string()],
    });
    let mut starter = lock(&STARTER);
    let starter = match &mut *starter {
        Some(starter) => starter,
        none => none.insert(Starter::new()?),
    };
    starter.start(&request).context("start moto")
}

/// The program of `moto/starter.py`, and the lines it reads and writes.
struct Starter {
    _process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Starter {
    fn new() -> Result<Starter> {
        // The first line of a Python program names the Python that has its packages.
        let server = server()?;
        let text = fs::read_to_string(&server).with_context(|| format!("read {}", server.display()))?;
        let python = text.lines().next().and_then(|line| line.strip_prefix("#!"));
        let python = python.with_context(|| format!("{}: its first line names no Python", server.display()))?;
        let mut command = Command::new(python.trim());
        command.args(["-c", include_str!("moto/starter.py")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = spawn::spawn(command, None)?;
        let (requests, answers) = (process.stdin.take().context("no pipe")?, process.stdout.take().context("no pipe")?);
        Ok(Starter { _process: process, requests, answers: BufReader::new(answers) })
    }

    fn start(&mut self, request: &Value) -> Result<Moto> {
        writeln!(self.requests, "{request}").context("the program that starts moto has ended")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let pid: i32 = answer.trim().parse().context("the program that starts moto has ended")?;
        Ok(Moto { pidfd: spawn::pidfd(pid)? })
    }
}

impl Moto {
    /// Waits until it accepts connections on `ip` in `ns`.
    pub fn wait_ready(&self, ns: &Netns, ip: Ipv4Addr, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while ns.run(|| Ok(TcpStream::connect((ip, PORT)).is_err()))? {
            ensure!(!spawn::ended(&self.pidfd, Duration::ZERO), "moto ended while starting");
            ensure!(Instant::now() < until, "moto does not listen after {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        spawn::kill(&self.pidfd);
        spawn::ended(&self.pidfd, FAREWELL);
    }
}
