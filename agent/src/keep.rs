//! The small resident loop that keeps the tunnels of the last refresh up.
//!
//! It exists because charon alone does not recover: after NO_PROPOSAL_CHOSEN, AUTHENTICATION_FAILED or TS_UNACCEPTABLE
//! it never tries again. It looks at an interval, on charon's events and when the managed file has changed;
//! [`decide`] says what to do, and here it is done. Initiations do not wait for their outcome: a waiting one holds
//! one of charon's threads, so a few dead peers would stop it for everyone. The next look is the outcome.
//! What no initiation brings back may need what only EC2 knows, a new gateway or its key: for that it asks for a pass.

#![allow(clippy::disallowed_methods, reason = "edge: the resident loop has a clock and a lock file")]

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use ring::rand::{SecureRandom, SystemRandom};
use sd_notify::NotifyState;
use tokio::time::{self, Instant, MissedTickBehavior};
use tracing::{debug, info, warn};

use crate::host::notify;
use crosswan_core::{
    error::{Context, Error, Kind, Result},
    keep::{Action, Memory, Pace, Unloaded, View, decide, patience},
    model::Mode,
    swanctl,
};
use crosswan_vici::{Events, Target, Vici};

/// One VICI answer, however many connections it lists.
const VICI_TIMEOUT: Duration = Duration::from_secs(10);
/// Events come in bursts: look once, after the burst.
const QUIET: Duration = Duration::from_millis(300);
/// The next look when something was seen missing for the first time, and when a refresh held the lock.
const SOON: Duration = Duration::from_millis(600);
const FILE_POLL: Duration = Duration::from_secs(1);
const MAX_RECONNECT: Duration = Duration::from_secs(5);
/// Between two passes that are asked for: the unit's start limit is there for those that fail.
const PASS_SPACING: Duration = Duration::from_mins(5);

/// What `crosswan keep` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    pub mode: Mode,
    /// Between two looks when nothing happens; ±20 % so that gateways do not act in step.
    pub interval: Duration,
    /// The managed swanctl file: a change of it, or of a file beside it (the keys), makes it look at once and forget its
    /// back-off.
    pub conf_file: PathBuf,
    /// charon's VICI socket.
    pub socket: PathBuf,
    /// The pass lock: held shared for each look with its actions; while a refresh holds it exclusively nothing is done.
    pub lock: PathBuf,
    /// Written when a pass is wanted; systemd watches it.
    pub wanted: PathBuf,
}

/// Runs until `shutdown` completes. charon being away is no error: it is waited for.
pub async fn run(cfg: Config, shutdown: impl Future) -> Result<()> {
    // A lock that can never be taken is better told at the start; one that is held just now is not.
    lock(&cfg.lock).map(drop).or_else(|e| if e.kind() == Kind::Busy { Ok(()) } else { Err(e) })?;
    notify(&[NotifyState::Ready, NotifyState::Status("waiting for charon")]);
    tokio::select! {
        _ = shutdown => {}
        never = forever(&cfg) => match never {},
    }
    notify(&[NotifyState::Stopping]);
    Ok(())
}

async fn forever(cfg: &Config) -> Infallible {
    let mut wait = FILE_POLL;
    let mut complained = false;
    let mut asked = None;
    loop {
        let mut met = false;
        let Err(gone) = while_charon_lives(cfg, &mut met, &mut asked).await;
        if met {
            (wait, complained) = (FILE_POLL, false);
        }
        if !complained {
            warn!(reason = %gone.chain(), "charon is away, waiting for it");
            complained = true;
        }
        notify(&[NotifyState::Watchdog, NotifyState::Status("waiting for charon")]);
        time::sleep(wait).await;
        wait = (wait * 2).min(MAX_RECONNECT);
    }
}

/// One charon's life. Its SAs' ids, and so all memory of them, end with it.
async fn while_charon_lives(cfg: &Config, met: &mut bool, asked: &mut Option<Instant>) -> Result<Infallible> {
    let mut vici = Vici::connect(&cfg.socket, VICI_TIMEOUT).await?;
    let mut events = Events::subscribe(&cfg.socket, &["ike-updown", "child-updown"], VICI_TIMEOUT).await?;
    let version = vici.version().await?;
    info!(version, mode = %cfg.mode, "keeping the tunnels up");
    *met = true;
    let start = Instant::now();
    let mut memory = Memory::default();
    let patience = patience(cfg.mode, cfg.interval, random()).as_millis() as u64;
    let mut file = stamps(&cfg.conf_file);
    let (mut in_file, mut unloaded) = (names(&cfg.conf_file), Unloaded::default());
    let mut file_poll = time::interval(FILE_POLL);
    file_poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut due, mut earliest) = (start, start);
    loop {
        tokio::select! {
            event = events.next() => {
                event?;
                events.settle(QUIET).await?;
                time::sleep_until(earliest).await;
            }
            () = time::sleep_until(due) => {}
            _ = file_poll.tick() => {
                let now = stamps(&cfg.conf_file);
                if now == file {
                    continue;
                }
                file = now;
                in_file = names(&cfg.conf_file);
                memory.forget_failures();
            }
        }
        let begun = Instant::now();
        let now = begun.duration_since(start).as_millis() as u64;
        let next = tick(cfg, &mut vici, &mut memory, now, |view| unloaded.look(now, &in_file, view.conns.keys()));
        let next = next.await?;
        notify(&[NotifyState::Watchdog, NotifyState::Status(&memory.to_string())]);
        if asked.is_none_or(|last| begun >= last + PASS_SPACING)
            && let Some((conn, why)) = wanted(&mut unloaded, &mut memory, now, cfg.interval, patience)
        {
            *asked = Some(begun);
            ask_for_a_pass(cfg, &conn, &why);
        }
        // Listing thousands of connections costs charon time: under a storm of events, at most a fifth of it.
        earliest = Instant::now() + begun.elapsed() * 4;
        due = Instant::now() + next.unwrap_or_else(|| jittered(cfg.interval));
    }
}

/// One look and its actions. Returns when to look again, if sooner than the interval.
async fn tick(
    cfg: &Config,
    vici: &mut Vici,
    memory: &mut Memory,
    now: u64,
    seen: impl FnOnce(&View),
) -> Result<Option<Duration>> {
    let _held = match lock(&cfg.lock) {
        Ok(held) => held,
        Err(e) if e.kind() == Kind::Busy => {
            debug!("a refresh is at work, skipping this look");
            return Ok(Some(SOON));
        }
        Err(e) => {
            warn!(reason = %e.chain(), "cannot take the lock, skipping this look");
            return Ok(None);
        }
    };
    let view = View { uptime: vici.uptime().await?, conns: vici.list_conns().await?, sas: vici.sas().await? };
    seen(&view);
    let actions = decide(now, &view, memory, Pace { mode: cfg.mode, interval: cfg.interval });
    for change in memory.take_transitions() {
        info!(conn = %change.conn, child = %change.child, attempts = change.attempts, "{change}");
    }
    for action in actions {
        act(vici, &action).await?;
        // A busy charon takes seconds for each of hundreds: a look that long is work, and no hang.
        notify(&[NotifyState::Watchdog]);
    }
    Ok(memory.unsure().then_some(SOON))
}

/// Does one thing and logs it. Only losing charon is an error; its refusals are logged and tried again later.
async fn act(vici: &mut Vici, action: &Action) -> Result<()> {
    let outcome = match action {
        Action::Prove { conn, .. } => vici.initiate(conn, None, None).await.map(|()| true),
        Action::Initiate { conn, child, .. } => vici.initiate(conn, Some(child), None).await.map(|()| true),
        Action::TerminateIke { id, .. } => vici.terminate(Target::IkeId(*id), false, None).await,
        Action::TerminateChild { id, .. } => vici.terminate(Target::ChildId(*id), false, None).await,
    };
    let (conn, child) = (action.conn(), action.child().unwrap_or_default());
    match outcome {
        Ok(true) => info!(conn, child, "{action}"),
        Ok(false) => info!(conn, child, "{action}: it was gone already"),
        Err(e) if e.kind() == Kind::Apply => warn!(conn, child, reason = %e.chain(), "{action}: charon refused"),
        Err(e) => return Err(e),
    }
    Ok(())
}

/// The connections that charon should have: those of the managed file. What cannot be read or understood names none.
fn names(conf_file: &Path) -> BTreeSet<String> {
    let parsed = fs::read_to_string(conf_file).ok().and_then(|text| swanctl::parse(&text).ok());
    parsed.map(|tree| swanctl::connections(tree).into_keys().collect()).unwrap_or_default()
}

/// The connection that a pass is wanted for, and why.
fn wanted(
    unloaded: &mut Unloaded,
    memory: &mut Memory,
    now: u64,
    interval: Duration,
    patience: u64,
) -> Option<(String, String)> {
    let seconds = |missing: u64| missing / 1000;
    if let Some((conn, missing)) = unloaded.take_wanted(now, interval.as_millis() as u64) {
        return Some((conn, format!("in its file and not in charon for {} s", seconds(missing))));
    }
    let missing = memory.take_wanted(now, patience);
    let missing = missing.map(|(conn, missing)| (conn, format!("missing for {} s", seconds(missing))));
    missing.or_else(|| Some((memory.take_proven()?, "has proved that it works".into())))
}

/// Nobody may be watching: then the next pass is the hourly one.
fn ask_for_a_pass(cfg: &Config, conn: &str, why: &str) {
    match fs::write(&cfg.wanted, "") {
        Ok(()) => info!(conn, "{why}: asked for a refresh"),
        Err(e) => warn!(conn, reason = %e, "{why}: cannot ask for a refresh in {}", cfg.wanted.display()),
    }
}

/// The pass lock, shared, without waiting. `Kind::Busy`: a refresh holds it.
pub(crate) fn lock(path: &Path) -> Result<Flock<File>> {
    let failed = || Error::new(Kind::Other, format!("lock {}", path.display()));
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).context(failed)?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(held) => Ok(held),
        Err((_, Errno::EWOULDBLOCK)) => Err(Error::new(Kind::Busy, format!("lock {}", path.display()))),
        Err((_, e)) => Err(failed().because(e)),
    }
}

/// Inode and time of change; `None` while there is no such file.
type Stamp = Option<(u64, i64, i64)>;

/// Changes whenever the file is edited, or it or one beside it is replaced: a rename is a change of the folder.
fn stamps(path: &Path) -> [Stamp; 2] {
    let stamp = |path: &Path| fs::metadata(path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
    [stamp(path), path.parent().and_then(stamp)]
}

/// The interval ±20 %.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.8 + 0.4 * random())
}

/// From 0 to 1, to keep gateways apart. Without random bytes from the kernel they act in step, which is no failure.
fn random() -> f64 {
    let mut bytes = [0; 8];
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_be_bytes(bytes) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_jittered_by_a_fifth() {
        let all: Vec<Duration> = (0..200).map(|_| jittered(Duration::from_secs(10))).collect();
        assert!(all.iter().all(|d| (8.0..=12.0).contains(&d.as_secs_f64())));
        assert!(all.iter().max().unwrap().abs_diff(*all.iter().min().unwrap()) > Duration::from_secs(1));
    }
}
