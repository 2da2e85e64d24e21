//! The small resident loop that keeps the tunnels of the last refresh up.
//!
//! It exists because charon alone does not recover: after NO_PROPOSAL_CHOSEN, AUTHENTICATION_FAILED or TS_UNACCEPTABLE
//! it never tries again. The loop looks at an interval, on charon's events and when the managed file has changed;
//! [`decide`] says what to do, and this module does it. Initiations do not wait for their outcome: a waiting one holds
//! one of charon's threads, so a few dead peers would stop charon for everyone. The next look shows the outcome.
//! A tunnel that no initiation brings back may need what only EC2 knows, such as a new gateway or its key. The loop then asks for
//! a pass. It also asks for one when a gateway knocks that charon does not take in.

#![allow(clippy::disallowed_methods, reason = "edge: the resident loop has a clock")]

mod listener;
mod peers;

use std::{convert::Infallible, net::Ipv4Addr, path::PathBuf, time::Duration};

use ring::rand::{SecureRandom, SystemRandom};
use sd_notify::NotifyState;
use tokio::time::{self, Instant, MissedTickBehavior};
use tracing::{debug, info, warn};

use crate::{
    files::{self, Hold},
    host::notify,
};
use crosswan_core::{
    error::{Kind, Result},
    keep::{Action, Knocks, Known, Memory, Pace, Unloaded, View, decide, patience},
    model::Mode,
};
use crosswan_vici::{Events, Sas, Vici};
use listener::Listener;
use peers::{addresses, established, managed};

/// The bound on one VICI answer, however many connections it lists.
const VICI_TIMEOUT: Duration = Duration::from_secs(10);
/// A burst of events has ended when none came for this long. One look follows it.
const QUIET: Duration = Duration::from_millis(300);
/// The time to the next look when something was seen missing for the first time, and when a refresh held the lock.
const SOON: Duration = Duration::from_millis(600);
/// How often the managed file is checked for a change.
const FILE_POLL: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to reach charon.
const MAX_RECONNECT: Duration = Duration::from_secs(5);
/// The time between two passes that are asked for: the unit's start limit is meant for passes that fail.
const PASS_SPACING: Duration = Duration::from_mins(5);

/// When a pass was last asked for: for a tunnel, and for a route of the VPC; and who has knocked. None waits for another: a route's tunnel
/// may come up just after a pass was asked for in vain.
struct Asked {
    tunnel: Option<Instant>,
    route: Option<Instant>,
    knocks: Knocks,
    /// The start of the clock of `knocks`.
    start: Instant,
}

impl Asked {
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }
}

/// What `crosswan keep` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// What this gateway is: a hub waits for its spokes longer than a spoke for its hub.
    pub mode: Mode,
    /// The time between two looks when nothing happens; ±20 % so that gateways do not act in step.
    pub interval: Duration,
    /// The managed swanctl file. A change of it, or of a file beside it (the keys), causes a look at once and ends every back-off.
    pub conf_file: PathBuf,
    /// charon's VICI socket.
    pub socket: PathBuf,
    /// The lock on charon. It is held shared for each look with its actions; while a refresh holds it alone, nothing is done.
    pub lock: PathBuf,
    /// The file that is written when a pass is wanted; systemd watches it.
    pub wanted: PathBuf,
    /// The marker that exists while routes of the VPC wait for a tunnel.
    pub route_waits: PathBuf,
}

/// Runs until `shutdown` completes. The loop waits for a charon that is away.
///
/// # Errors
/// The lock can never be taken, for instance because its folder cannot be written.
pub async fn run(cfg: Config, shutdown: impl Future) -> Result<()> {
    files::check_lock(&cfg.lock)?;
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
    let knocks = Knocks::new(cfg.mode, cfg.interval, random());
    let mut asked = Asked { tunnel: None, route: None, knocks, start: Instant::now() };
    loop {
        let mut reached = false;
        let Err(gone) = while_charon_lives(cfg, &mut reached, &mut asked).await;
        if reached {
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

/// Keeps tunnels up while one charon process lives. The ids of its SAs, and so all memory of them, end with it.
///
/// `reached` becomes true once it has answered.
async fn while_charon_lives(cfg: &Config, reached: &mut bool, asked: &mut Asked) -> Result<Infallible> {
    let mut vici = Vici::connect(&cfg.socket, VICI_TIMEOUT).await?;
    let mut events = Events::subscribe(&cfg.socket, &["ike-updown", "child-updown"], VICI_TIMEOUT).await?;
    let mut listener = Listener::start(&cfg.socket, VICI_TIMEOUT).await?;
    let version = vici.version().await?;
    info!(version, mode = %cfg.mode, "keeping the tunnels up");
    *reached = true;
    let start = Instant::now();
    let mut memory = Memory::default();
    let patience = patience(cfg.mode, cfg.interval, random()).as_millis() as u64;
    let mut file = files::stamps(&cfg.conf_file);
    let (mut in_file, addresses) = managed(&cfg.conf_file);
    let (mut unloaded, mut known) = (Unloaded::default(), Known { addresses, ..Known::default() });
    let mut file_poll = time::interval(FILE_POLL);
    file_poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut due, mut earliest) = (start, start);
    let mut up_when_asked = 0;
    loop {
        if let Some((from, others)) = asked.knocks.take_wanted(asked.now(), &known) {
            ask_for_a_pass(cfg, "", &knocked(from, others));
        }
        tokio::select! {
            (from, knock) = listener.next() => {
                let now = asked.now();
                asked.knocks.heard(now, from, knock);
                continue;
            }
            event = events.next() => {
                event?;
                events.settle(QUIET).await?;
                time::sleep_until(earliest).await;
            }
            () = time::sleep_until(due) => {}
            _ = file_poll.tick() => {
                notify(&[NotifyState::Watchdog]);
                let now = files::stamps(&cfg.conf_file);
                if now == file {
                    continue;
                }
                file = now;
                (in_file, known.addresses) = managed(&cfg.conf_file);
                memory.forget_failures();
            }
        }
        let begun = Instant::now();
        let now = begun.duration_since(start).as_millis() as u64;
        let expects = |address| asked.knocks.expects(asked.now(), address);
        let next = tick(cfg, &mut vici, &mut memory, now, expects, |view| {
            unloaded.look(now, &in_file, view.conns.keys());
            known.established = established(&view.sas, asked.now());
        });
        let next = next.await?;
        notify(&[NotifyState::Watchdog, NotifyState::Status(&memory.to_string())]);
        up_when_asked = up_when_asked.min(memory.up());
        let spaced = |last: Option<Instant>| last.is_none_or(|last| begun >= last + PASS_SPACING);
        if spaced(asked.tunnel)
            && let Some((conn, why)) = wanted(&mut unloaded, &mut memory, now, cfg.interval, patience)
        {
            asked.tunnel = Some(begun);
            ask_for_a_pass(cfg, &conn, &why);
        // A route that waits for all tunnels is worth another pass with each that comes up, and no other.
        } else if spaced(asked.route) && memory.up() > up_when_asked && cfg.route_waits.exists() {
            (asked.route, up_when_asked) = (Some(begun), memory.up());
            ask_for_a_pass(cfg, "", "a route of the VPC waits for the tunnels, and more of them are up");
        }
        // Listing thousands of connections costs charon time. Under a storm of events, looks take at most a fifth of it.
        earliest = Instant::now() + begun.elapsed() * 4;
        due = Instant::now() + next.unwrap_or_else(|| jittered(cfg.interval));
    }
}

/// Looks once and acts. Returns when to look again, if sooner than the interval.
async fn tick(
    cfg: &Config,
    vici: &mut Vici,
    memory: &mut Memory,
    now: u64,
    expects: impl Fn(Ipv4Addr) -> bool,
    seen: impl FnOnce(&View),
) -> Result<Option<Duration>> {
    let _held = match files::lock(&cfg.lock, Hold::Shared, Duration::ZERO, "a refresh") {
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
    let (uptime, conns, sas) = (vici.uptime().await?, vici.list_conns().await?, vici.sas().await?);
    let expected =
        conns.iter().filter(|(_, conn)| addresses(conn).any(&expects)).map(|(name, _)| name.clone()).collect();
    let view = View { uptime, conns, sas, expected };
    seen(&view);
    let actions = decide(now, &view, memory, Pace { mode: cfg.mode, interval: cfg.interval });
    for change in memory.take_transitions() {
        info!(conn = %change.conn, child = %change.child, attempts = change.attempts, "{change}");
    }
    for action in actions {
        act(vici, &action).await?;
        // A busy charon takes seconds for each of hundreds of actions. A look that takes that long does not hang.
        notify(&[NotifyState::Watchdog]);
    }
    Ok(memory.unsure().then_some(SOON))
}

/// Takes one action and logs it. Only the loss of charon is an error; its refusals are logged and tried again later.
async fn act(vici: &mut Vici, action: &Action) -> Result<()> {
    let outcome = match action {
        Action::Prove { conn, .. } => vici.initiate(conn, None, None).await.map(|()| true),
        Action::Initiate { conn, child, .. } => vici.initiate(conn, Some(child), None).await.map(|()| true),
        Action::TerminateIke { id, .. } => vici.terminate(Sas::Ike(*id), false, None).await,
        Action::TerminateChild { id, .. } => vici.terminate(Sas::Child(*id), false, None).await,
    };
    let (conn, child) = (action.conn(), action.child().unwrap_or_default());
    match outcome {
        Ok(true) => info!(conn, child, "{action}"),
        Ok(false) => info!(conn, child, "{action}: the SA was gone already"),
        Err(e) if e.kind() == Kind::Apply => warn!(conn, child, reason = %e.chain(), "{action}: charon refused"),
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Who has knocked, as the reason for a pass.
fn knocked(from: Ipv4Addr, others: usize) -> String {
    let others = if others == 0 { String::new() } else { format!(" and {others} more") };
    format!("{from}{others} wants a tunnel, and is not known by that address and key")
}

/// The connection for which a pass is wanted, and why.
fn wanted(
    unloaded: &mut Unloaded,
    memory: &mut Memory,
    now: u64,
    interval: Duration,
    patience: u64,
) -> Option<(String, String)> {
    let seconds = |missing: u64| missing / 1000;
    if let Some((conn, missing)) = unloaded.take_wanted(now, interval.as_millis() as u64) {
        return Some((conn, format!("it has been in its file and not in charon for {} s", seconds(missing))));
    }
    let missing = memory.take_wanted(now, patience);
    let missing = missing.map(|(conn, missing)| (conn, format!("it has been missing for {} s", seconds(missing))));
    missing.or_else(|| Some((memory.take_proven()?, "it has proved that it works".into())))
}

/// Asks systemd for a pass. If its path unit does not run, the next pass is the hourly one.
fn ask_for_a_pass(cfg: &Config, conn: &str, why: &str) {
    match files::touch(&cfg.wanted) {
        Ok(()) => info!(conn, "{why}: asked for a refresh"),
        Err(e) => warn!(conn, reason = %e.chain(), "{why}: cannot ask for a refresh"),
    }
}

/// The interval, varied by ±20 %.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.8 + 0.4 * random())
}

/// A number from 0 to 1, to keep gateways apart. Without random bytes from the kernel they act in step, which still works.
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
