//! What stays running in a gateway: charon, and agent commands as `keep`.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::libc;

use crate::gateway::Gateway;
use crate::lock;
use crate::spawn::Process;

/// Start and end of charon or of an agent; they take well under a second on a machine with nothing else to do.
const LIMIT: Duration = Duration::from_secs(30);
const CHARON: &str = "/usr/sbin/charon-systemd";

impl Gateway {
    /// Starts the agent and leaves it running.
    pub fn spawn_agent(&self, args: &[&str]) -> Result<AgentProcess> {
        let log = self.dir.join(format!("agent-{}.log", args.first().unwrap_or(&"")));
        let file = File::options().create(true).append(true).open(&log)?;
        // What earlier runs of the same command have said is no answer to a wait.
        let said = usize::try_from(file.metadata()?.len())?;
        let inside = self.inside()?;
        let process = Process::start(self.command(&self.agent_path(), args), Some(inside.namespaces()), file)?;
        Ok(AgentProcess { process, log, read_from: Mutex::new(said) })
    }

    /// Starts charon and, as Debian's unit does, loads every file with `swanctl --load-all`: tunnels of the last
    /// refresh come back without the agent.
    pub fn start_charon(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join("charon.out"))?;
        let inside = self.inside()?;
        self.stop_charon()?;
        let _ = fs::remove_file(self.path("/run/charon.vici"));
        let charon = Process::start(self.command(Path::new(CHARON), &[]), Some(inside.namespaces()), log)?;
        let until = Instant::now() + LIMIT;
        while UnixStream::connect(self.path("/run/charon.vici")).is_err() {
            if !charon.running() || Instant::now() > until {
                bail!("{}: charon did not start\n{}", self.name, self.charon_log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        lock(&self.machine).as_mut().context("switched off")?.charon = Some(charon);
        let loaded = self.run("/usr/sbin/swanctl", &["--load-all", "--noprompt"], "")?;
        loaded.ok().with_context(|| format!("{}: swanctl --load-all", self.name)).map(drop)
    }

    /// Ends charon as systemd does: it says goodbye to its peers. Nothing happens when it does not run.
    pub fn stop_charon(&self) -> Result<()> {
        self.kill_charon(libc::SIGTERM)
    }

    /// Sends charon a signal, waits up to half a minute for its end, then kills it.
    pub fn kill_charon(&self, signal: i32) -> Result<()> {
        let charon = lock(&self.machine).as_mut().and_then(|machine| machine.charon.take());
        if let Some(charon) = charon {
            charon.signal(signal);
            charon.wait(LIMIT)?;
        }
        Ok(())
    }

    /// Sends charon a signal and leaves it there: SIGSTOP and SIGCONT.
    pub fn signal_charon(&self, signal: i32) -> Result<()> {
        let machine = lock(&self.machine);
        let charon = machine.as_ref().and_then(|machine| machine.charon.as_ref()).context("charon does not run")?;
        charon.signal(signal);
        Ok(())
    }

    /// Whether charon runs.
    pub fn charon_running(&self) -> bool {
        lock(&self.machine).as_ref().and_then(|machine| machine.charon.as_ref()).is_some_and(Process::running)
    }

    /// charon's process id; `None` when it was never started.
    pub fn charon_pid(&self) -> Option<u32> {
        lock(&self.machine).as_ref().and_then(|machine| machine.charon.as_ref()).map(Process::pid)
    }

    /// What charon has logged since the gateway was made.
    pub fn charon_log(&self) -> String {
        fs::read_to_string(self.dir.join("charon.log")).unwrap_or_default()
    }

    /// The output of `swanctl` with these arguments.
    pub fn swanctl(&self, args: &[&str]) -> Result<String> {
        let output = self.run("/usr/sbin/swanctl", args, "")?;
        Ok(output.ok().with_context(|| format!("{}: swanctl {args:?}", self.name))?.stdout)
    }
}

/// An agent command that stays, as `keep` does; killed on drop.
#[derive(Debug)]
pub struct AgentProcess {
    process: Process,
    log: PathBuf,
    /// Length of the log when this began, or [`AgentProcess::wait_for_log`] last found something.
    read_from: Mutex<usize>,
}

impl AgentProcess {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it has not ended.
    pub fn running(&self) -> bool {
        self.process.running()
    }

    /// Both of its outputs; those of earlier runs of the same command come first.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until new output contains `text`, and takes note of how far that was.
    pub fn wait_for_log(&self, text: &str, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let mut from = lock(&self.read_from);
        loop {
            let log = self.log();
            if let Some(at) = log.get(*from..).and_then(|new| new.find(text)) {
                *from += at + text.len();
                return Ok(());
            }
            if Instant::now() > until || !self.running() {
                bail!("{text:?} did not appear within {limit:?} in:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends SIGTERM, waits up to half a minute, and returns the exit code; `None` when it had to be killed.
    pub fn stop(self) -> Result<Option<i32>> {
        self.process.signal(libc::SIGTERM);
        self.process.wait(LIMIT)
    }

    /// Kills it, as the out-of-memory killer would.
    pub fn kill(self) {}
}
