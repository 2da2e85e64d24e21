//! The small resident loop that puts back own rules which somebody took away between two refreshes.
//!
//! It exists because `nft flush ruleset`, which Debian's nftables.service does at every start and reload, takes NAT and
//! guard along, and the next refresh may be an hour away. It looks at every change of nft's rules and at an interval, as
//! iptables-legacy tells of none, and compares what is there with the rules loaded last, by the same [`plan`] as a
//! refresh. It decides nothing anew: where no refresh has written rules, or where one is at work, it does nothing.

#![allow(clippy::disallowed_methods, reason = "edge: the resident loop has a clock")]

mod events;
mod pace;

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    time::Duration,
};

use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::{
    files,
    host::{self, notify},
    keep::lock,
    observe::live,
};
use crosswan_core::{
    error::{Context, Error, Kind, Result},
    iptables::{Rules, plan},
    model::Timestamp,
};
use events::Events;
use pace::Pace;

/// Between two looks when nothing happens.
const POLL: Duration = Duration::from_secs(3);
/// The next look while a refresh is at work.
const SOON: Duration = Duration::from_millis(300);
/// The bound on `iptables-restore`, its own wait for the lock (5 s) included.
const RESTORE: Duration = Duration::from_secs(15);

/// What `crosswan watch` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The rules that the last refresh loaded. Without them there is nothing to put back.
    pub rules: PathBuf,
    /// The lock that a refresh holds from its look to its verification; held shared for each look.
    pub lock: PathBuf,
    /// Where it is written what was put back last, and when.
    pub put_back: PathBuf,
}

/// What was put back last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutBack {
    pub at: Timestamp,
    pub what: String,
}

/// What one look came to.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// All is there, or there is nothing to keep.
    Well,
    /// A refresh is at work.
    Busy,
    PutBack,
}

/// Runs until `shutdown` completes.
pub async fn run(cfg: Config, shutdown: impl Future) -> Result<()> {
    // A lock that can never be taken is better told at the start; one that is held just now is not.
    lock(&cfg.lock).map(drop).or_else(|e| if e.kind() == Kind::Busy { Ok(()) } else { Err(e) })?;
    notify(&[NotifyState::Ready]);
    info!(rules = %cfg.rules.display(), "watching the rules");
    tokio::select! {
        _ = shutdown => {}
        never = forever(&cfg) => match never {},
    }
    notify(&[NotifyState::Stopping]);
    Ok(())
}

async fn forever(cfg: &Config) -> Infallible {
    let mut events = Events::subscribe()
        .inspect_err(|e| warn!(reason = %e.chain(), "nft's events cannot be had; looking every {POLL:?} instead"))
        .ok();
    let (start, mut pace) = (Instant::now(), Pace::default());
    let mut complaint = None;
    loop {
        let begun = Instant::now();
        let looked = look(cfg).await;
        notify(&[NotifyState::Watchdog]);
        let told = looked.as_ref().err().map(Error::chain);
        if told.is_some() && told != complaint {
            warn!(reason = told.as_deref().unwrap_or_default(), "the rules could not be watched");
        }
        complaint = told;
        let wait = if looked.as_ref().ok() == Some(&Look::Busy) { SOON } else { POLL };
        let rest = match looked {
            Ok(Look::PutBack) => pace.put_back(begun.duration_since(start)),
            // Under a storm of events, at most a fifth of a processor.
            _ => begun.elapsed() * 4,
        };
        sleep(rest).await;
        let due = Instant::now() + wait;
        tokio::select! {
            () = sleep_until(due) => {}
            () = changed(&mut events) => {}
        }
    }
}

/// Returns at the next change of nft's rules; never, where there are no events.
async fn changed(events: &mut Option<Events>) {
    let Some(open) = events else { return std::future::pending().await };
    if let Err(e) = open.next().await {
        warn!(reason = %e.chain(), "nft's events have ended; looking every {POLL:?} instead");
        *events = None;
    }
}

/// Compares, and puts back what is not as the last refresh left it.
async fn look(cfg: &Config) -> Result<Look> {
    let _held = match lock(&cfg.lock) {
        Ok(held) => held,
        Err(e) if e.kind() == Kind::Busy => return Ok(Look::Busy),
        Err(e) => return Err(e),
    };
    let Some((text, _)) = files::read(&cfg.rules)? else { return Ok(Look::Well) };
    let want = Rules::parse(&text);
    // A file that holds no rules, cut off or edited, is no reason to take those away that are in force.
    if want == Rules::default() {
        return Err(Error::observe(format!("{} holds no rules; crosswan refresh", cfg.rules.display())));
    }
    let Some(change) = plan(&want, &live::rules().await?) else { return Ok(Look::Well) };
    let what = change.to_string();
    host::iptables_restore(&change.input(), RESTORE).await?;
    if let Some(left) = plan(&want, &live::rules().await?) {
        warn!(%what, left = %left, "put back, and gone again");
    } else {
        warn!(%what, "somebody changed this agent's rules; put back");
    }
    if let Err(e) = record(&cfg.put_back, what) {
        debug!(reason = %e.chain(), "it could not be recorded");
    }
    Ok(Look::PutBack)
}

fn record(path: &Path, what: String) -> Result<()> {
    let put_back = PutBack { at: host::now(), what };
    let json = serde_json::to_vec(&put_back).context(|| Error::new(Kind::Other, "encode as JSON"))?;
    files::write_atomic(path, &json, 0o644)
}
