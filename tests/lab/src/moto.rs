//! moto, the EC2, SSM and Secrets Manager of the lab: found or installed once per machine, started per lab.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::netns::Netns;
use crate::spawn::{self, Process};
use crate::workdir::wait_lock;

/// The version that `docs/facts.md`, "moto", was measured with.
const VERSION: &str = "5.2.5";
/// What of it is used; each brings packages of its own.
const EXTRAS: &str = "ec2,secretsmanager,server,ssm";
/// Port of moto itself; gateways talk to the fault proxy in front of it.
pub const PORT: u16 = 5000;

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

/// Starts moto on `ip` inside `ns`; it is ready only after [`wait_ready`].
/// `images` is a file of images that are there from the start, with ids of one's own.
pub fn start(ns: &Netns, ip: Ipv4Addr, images: Option<&Path>, log: File) -> Result<Process> {
    let mut command = Command::new(server()?);
    command.args(["-H", &ip.to_string(), "-p", &PORT.to_string()]);
    // Loading its catalogue of images would take longer than all the rest.
    command.env("MOTO_EC2_LOAD_DEFAULT_AMIS", "false");
    if let Some(images) = images {
        command.env("MOTO_AMIS_PATH", images);
    }
    Process::start(command, Some(ns.only()), log).context("start moto")
}

/// Waits until moto accepts connections.
pub fn wait_ready(ns: &Netns, ip: Ipv4Addr, moto: &Process, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    while ns.run(|| Ok(TcpStream::connect((ip, PORT)).is_err()))? {
        if !moto.running() {
            bail!("moto ended while starting");
        }
        if Instant::now() > until {
            bail!("moto does not listen after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
