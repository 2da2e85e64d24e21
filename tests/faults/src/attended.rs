//! A gateway that is attended as systemd does it in an image: `keep`, a refresh at boot, again soon while a key is awaited, and a
//! refresh whenever somebody asks for one. The timer alone is left out.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, anyhow, ensure};
use crosswan_lab::{AgentProcess, Gateway, Role};

/// After a pass that ended with exit code 3, as `images/files/all` has it, the last of them again and again.
const AGAIN: [u64; 5] = [10, 19, 35, 65, 120];
/// What keep and watch write when they ask for a refresh.
const WANTED: &str = "/run/crosswan/refresh-wanted";
const LOOK: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(300);

/// What attends to one gateway, until it is dropped.
pub struct Attended {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Its `keep`, unless it is a nat-hub.
    pub keep: Option<AgentProcess>,
    ends: Arc<AtomicBool>,
    passes: Arc<Mutex<Vec<Instant>>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Attended {
    /// Boots it. `interval` is that of `keep`.
    pub fn boot(gateway: Arc<Gateway>, interval: Duration) -> Result<Attended> {
        let mut keep = None;
        if gateway.role != Role::NatHub {
            let setting = format!("keep.interval = \"{}s\"\n", interval.as_secs());
            gateway.write_file("/etc/crosswan/conf.d/50-interval.toml", &setting, 0o644)?;
            gateway.start_charon()?;
            keep = Some(gateway.spawn_agent(&["keep"])?);
        }
        let mut attended = Attended::refreshed(gateway);
        attended.keep = keep;
        Ok(attended)
    }

    /// Attends to one whose `keep` runs already.
    pub fn refreshed(gateway: Arc<Gateway>) -> Attended {
        let (ends, passes) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let its = (gateway.clone(), ends.clone(), passes.clone());
        let thread = Some(thread::spawn(move || attend(&its.0, &its.1, &its.2)));
        Attended { gateway, keep: None, ends, passes, thread }
    }

    /// When its passes ended.
    pub fn passes(&self) -> Vec<Instant> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the end of its first pass, and returns when that was.
    pub fn first_pass(&self) -> Result<Instant> {
        let start = Instant::now();
        loop {
            if let Some(first) = self.passes().first() {
                return Ok(*first);
            }
            ensure!(start.elapsed() < LIMIT, "{}: no pass has ended", self.gateway.name);
            thread::sleep(LOOK);
        }
    }

    /// Ends what attends to it, once a pass that is under way has ended. The gateway goes on.
    pub fn end(&mut self) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), |thread| thread.join().map_err(|_| anyhow!("what attends has panicked"))?)
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{}: {error:#}", self.gateway.name);
        }
    }
}

fn attend(gateway: &Gateway, ends: &AtomicBool, passes: &Mutex<Vec<Instant>>) -> Result<()> {
    let wanted = || std::fs::metadata(gateway.path(WANTED)).and_then(|file| file.modified()).ok();
    let mut tries = 0_usize;
    while !ends.load(Ordering::Relaxed) {
        let asked: Option<SystemTime> = wanted();
        let code = gateway.agent(&["refresh"])?.code;
        let ended = Instant::now();
        passes.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
        tries = if code == 3 { tries + 1 } else { 0 };
        let again = AGAIN.get(tries.saturating_sub(1)).or(AGAIN.last()).copied().map(Duration::from_secs);
        while !ends.load(Ordering::Relaxed) && wanted() == asked {
            if tries > 0 && again.is_some_and(|again| ended.elapsed() > again) {
                break;
            }
            thread::sleep(LOOK);
        }
    }
    Ok(())
}
