//! The small resident loop that puts own rules, interfaces and routes back when another program removes them between two refreshes.
//!
//! It exists because `nft flush ruleset`, which Debian's nftables.service runs at every start and reload, removes NAT and
//! guard too, and systemd-networkd may remove routes; the next refresh may be an hour away. At boot it makes what the last refresh
//! had made. The loop looks at every change that the kernel announces, and at an interval because iptables-legacy sends no events. It
//! compares what is in force with what was loaded last, by the same plans as a refresh. It decides nothing anew: while no
//! refresh has written its files, or while a refresh is at work, it does nothing. While this gateway waits for its Elastic IP, it asks
//! for another refresh now and then, as only EC2 knows when one is free. Beside all this it sums up what tunnels carry.

#![allow(clippy::disallowed_methods, reason = "edge: the resident loop has a clock")]

mod asking;
mod both;
mod followed;
mod pace;
mod traffic;

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
    files::{self, Hold},
    host::{self, notify},
    observe::live,
};
use asking::Asking;
use both::{POLL, changed, in_words};
use crosswan_core::{
    error::{Error, Kind, Result},
    iptables::{Rules, plan},
    model::Timestamp,
    system::{Followed, Routing, RoutingChange},
};
use crosswan_netlink::{Events, Netlink, Topic};
use pace::Pace;

/// The time to the next look while a refresh is at work.
const SOON: Duration = Duration::from_millis(300);
/// The time after a start in which failures are normal: the kernel refuses a route whose source address DHCP has yet to bring.
const PATIENCE: Duration = Duration::from_secs(30);
/// The bound on `iptables-restore`, its own wait for the lock (5 s) included.
const RESTORE: Duration = Duration::from_secs(15);

/// What `crosswan watch` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file with the rules that the last refresh loaded. Without it there is nothing to put back.
    pub rules: PathBuf,
    /// The file with the interfaces, policy rules and routes that the last refresh made. Without it there are none.
    pub routing: PathBuf,
    /// The file with the far gateways that are followed by their own word.
    pub followed: PathBuf,
    /// The lock that a refresh holds from its look to its verification; held shared for each look.
    pub lock: PathBuf,
    /// The file that records what was put back last, and when.
    pub put_back: PathBuf,
    /// The marker that exists while this gateway waits for its Elastic IP.
    pub address_waits: PathBuf,
    /// The file that is written when a pass is wanted; systemd watches it.
    pub wanted: PathBuf,
    /// The file with what tunnels have carried.
    pub traffic: PathBuf,
}

/// What was put back last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutBack {
    /// When.
    pub at: Timestamp,
    /// The change, in a step's words.
    pub what: String,
}

/// The result of one look.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// All is in force, or no refresh has written any files.
    Well,
    /// A refresh is at work.
    Busy,
    /// Something was missing and was put back.
    PutBack,
}

/// Whether interfaces and routes are missing because the machine has just booted, and not because another program took them away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boot {
    /// Before the first look.
    Unknown,
    /// The first look found no interface of crosswan's, and not everything is there yet.
    Making,
    /// Everything has been there.
    Over,
}

/// Runs until `shutdown` completes.
///
/// # Errors
/// The lock can never be taken, for instance because its folder cannot be written.
pub async fn run(cfg: Config, shutdown: impl Future) -> Result<()> {
    files::check_lock(&cfg.lock)?;
    info!(rules = %cfg.rules.display(), routing = %cfg.routing.display(), "watching rules, interfaces and routes");
    let mut counter = traffic::Counter::new(&cfg.traffic);
    tokio::select! {
        _ = shutdown => {}
        never = forever(&cfg) => match never {},
        never = followed::run(&cfg.followed, &cfg.routing) => match never {},
        never = counter.run() => match never {},
    }
    notify(&[NotifyState::Stopping]);
    counter.finish().await;
    Ok(())
}

async fn forever(cfg: &Config) -> Infallible {
    let subscribe = |topic: Topic| {
        let failed = |e: &Error| warn!(reason = %e.chain(), "cannot subscribe to the kernel's events; looking every {POLL:?} instead");
        Events::subscribe(topic).inspect_err(failed).ok()
    };
    let (mut of_rules, mut of_routing) = (subscribe(Topic::Nft), subscribe(Topic::Routing));
    let (start, mut pace) = (Instant::now(), Pace::default());
    let mut boot = Boot::Unknown;
    let (mut logged, mut asking) = (None, Asking(start));
    // Rules are read by a program, which takes longest: not after a change of routes alone, which each takeover of a far pair makes.
    let mut rules_due = start;
    loop {
        let begun = Instant::now();
        let and_rules = begun >= rules_due;
        if asking.is_due(begun, cfg.address_waits.exists()) {
            match files::touch(&cfg.wanted) {
                Ok(()) => info!("this gateway waits for its Elastic IP: asked for a refresh"),
                Err(e) => warn!(reason = %e.chain(), "cannot ask for a refresh"),
            }
        }
        let looked = look(cfg, &mut boot, and_rules).await;
        // Ready after the first look: at boot charon starts after that, and finds its interfaces.
        notify(&[NotifyState::Ready, NotifyState::Watchdog]);
        let failure = looked.as_ref().err().map(Error::chain);
        if begun.duration_since(start) < PATIENCE {
            debug!(reason = failure.as_deref().unwrap_or_default(), "looked");
        } else if failure.is_some() && failure != logged {
            warn!(reason = failure.as_deref().unwrap_or_default(), "rules, interfaces and routes could not be watched");
        }
        // A look that left the rules out does not tell that they can be read again.
        logged = failure.filter(|_| begun.duration_since(start) >= PATIENCE).or(logged.filter(|_| !and_rules));
        let wait = if looked.as_ref().ok() == Some(&Look::Busy) { SOON } else { POLL };
        let rest = match looked {
            Ok(Look::PutBack) => pace.put_back(begun.duration_since(start)),
            // Under a storm of events, looks take at most a fifth of a processor.
            _ => begun.elapsed() * 4,
        };
        sleep(rest).await;
        let now = Instant::now();
        if and_rules {
            rules_due = now + wait;
        }
        tokio::select! {
            () = sleep_until((now + wait).min(rules_due)) => {}
            () = changed(&mut of_rules) => rules_due = now,
            () = changed(&mut of_routing) => {}
        }
    }
}

/// Compares once, rules only where they are to be looked at, and puts back what is not as the last refresh left it.
async fn look(cfg: &Config, boot: &mut Boot, and_rules: bool) -> Result<Look> {
    let _held = match files::lock(&cfg.lock, Hold::Shared, Duration::ZERO, "a refresh") {
        Ok(held) => held,
        Err(e) if e.kind() == Kind::Busy => return Ok(Look::Busy),
        Err(e) => return Err(e),
    };
    // Neither waits for the other: iptables may fail for good where another program's rules are none that it can read.
    let of_rules = if and_rules { rules(cfg).await } else { Ok(None) };
    let looks = [of_rules, routing(cfg, boot).await];
    let put_back = looks.iter().flatten().flatten().map(String::as_str).collect::<Vec<_>>();
    if !put_back.is_empty()
        && let Err(e) = record(&cfg.put_back, put_back.join("; "))
    {
        debug!(reason = %e.chain(), "what was put back could not be recorded");
    }
    let found = if put_back.is_empty() { Look::Well } else { Look::PutBack };
    looks.into_iter().collect::<Result<Vec<_>>>().map(|_| found)
}

/// Puts the rules back, and returns what was changed.
async fn rules(cfg: &Config) -> Result<Option<String>> {
    let Some((text, _)) = files::read(&cfg.rules)? else { return Ok(None) };
    let want = Rules::parse(&text);
    // If the file was cut off or edited and holds no rules, the rules in force stay.
    if want == Rules::default() {
        return Err(Error::observe(format!(
            "{} holds no rules, so the rules in force are left alone; run crosswan refresh",
            cfg.rules.display()
        )));
    }
    let Some(change) = plan(&want, &live::rules().await?) else { return Ok(None) };
    let what = change.to_string();
    host::iptables_restore(&change.input(), RESTORE).await?;
    if let Some(left) = plan(&want, &live::rules().await?) {
        warn!(%what, left = %left, "the rules were put back, and are gone again");
    } else {
        warn!(%what, "another program changed this gateway's rules; they were put back");
    }
    Ok(Some(what))
}

/// Puts interfaces, policy rules and routes back, and returns what was changed; nothing for what a boot had taken away. What was
/// added to them is left to a refresh.
async fn routing(cfg: &Config, boot: &mut Boot) -> Result<Option<String>> {
    let Some((text, _)) = files::read(&cfg.routing)? else { return Ok(None) };
    let said: Followed = files::read_json(&cfg.followed).ok().flatten().unwrap_or_default();
    let want = said.over(Routing::parse(&text));
    let missing = |look: &Routing| -> Vec<RoutingChange> {
        want.changes_from(look).into_iter().filter(|change| !change.takes_away()).collect()
    };
    let netlink = Netlink::open()?;
    let before = netlink.look().await?.routing;
    if *boot == Boot::Unknown {
        *boot = if before.interfaces.is_empty() { Boot::Making } else { Boot::Over };
    }
    let changes = missing(&before);
    if changes.is_empty() {
        *boot = Boot::Over;
        return Ok(None);
    }
    netlink.changes(&changes).await.into_iter().collect::<Result<()>>()?;
    let left = missing(&netlink.look().await?.routing);
    let what = in_words(&changes);
    if !left.is_empty() {
        warn!(%what, left = %in_words(&left), "interfaces or routes were put back, and are gone again");
    } else if *boot == Boot::Making {
        info!(%what, "made the interfaces and routes of the last refresh");
        *boot = Boot::Over;
        return Ok(None);
    } else {
        warn!(%what, "another program changed this gateway's interfaces or routes; they were put back");
    }
    Ok(Some(what))
}

fn record(path: &Path, what: String) -> Result<()> {
    let put_back = PutBack { at: host::now(), what };
    files::write_json(path, &put_back, 0o644)
}
