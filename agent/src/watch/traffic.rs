//! Sums up what the kernel's SAs carry, for `crosswan metrics`. Nothing else depends on it, and its failures are only logged.

use std::{convert::Infallible, path::Path, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use crate::{files, host};
use crosswan_core::{
    error::{Error, Result},
    traffic::{KernelSa, Traffic},
};
use crosswan_netlink::Sas;

/// The time between two looks. The end of an SA is heard at once.
const INTERVAL: Duration = Duration::from_secs(5);
/// Ends that are remembered between two looks; a look follows at once when there are more.
const MOST: usize = 10_000;

/// The sums, and what they are made of.
#[derive(Debug)]
pub(super) struct Counter<'a> {
    file: &'a Path,
    traffic: Traffic,
    /// `None` while the kernel cannot be asked.
    sas: Option<Sas>,
    /// What has ended since the last look.
    ended: Vec<KernelSa>,
}

impl Counter<'_> {
    /// Goes on from the sums in the file, which the watch before this one has left there.
    pub(super) fn new(file: &Path) -> Counter<'_> {
        let anew = |e: &Error| warn!(reason = %e.chain(), "the counters of the tunnels start anew");
        let traffic = files::read_json(file).inspect_err(anew).ok().flatten().unwrap_or_default();
        Counter { file, traffic, sas: None, ended: Vec::new() }
    }

    /// Sums up until it is dropped.
    pub(super) async fn run(&mut self) -> Infallible {
        let mut logged = None;
        loop {
            let Err(e) = self.while_it_works().await;
            self.sas = None;
            let reason = e.chain();
            if logged.as_ref() == Some(&reason) {
                debug!(%reason, "what tunnels carry is not counted");
            } else {
                warn!(%reason, "what tunnels carry is not counted");
            }
            logged = Some(reason);
            sleep(INTERVAL).await;
        }
    }

    /// Looks a last time, so that the next watch knows what has ended until now.
    pub(super) async fn finish(mut self) {
        if self.sas.is_some()
            && let Err(e) = self.look().await
        {
            warn!(reason = %e.chain(), "what tunnels carried in the last seconds is not counted");
        }
    }

    async fn while_it_works(&mut self) -> Result<Infallible> {
        self.sas = Some(Sas::open()?);
        loop {
            self.look().await?;
            let due = Instant::now() + INTERVAL;
            while self.ended.len() < MOST {
                let Some(sas) = &mut self.sas else { break };
                tokio::select! {
                    () = sleep_until(due) => break,
                    changed = sas.changed() => changed?,
                }
                self.hear()?;
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        let Some(sas) = &self.sas else { return Ok(()) };
        let listed = sas.list().await?;
        // What ended meanwhile may be in the list, too.
        self.hear()?;
        self.traffic.look(host::now(), listed, &self.ended);
        self.ended.clear();
        files::write_json(self.file, &self.traffic, 0o600)
    }

    fn hear(&mut self) -> Result<()> {
        let Some(sas) = &mut self.sas else { return Ok(()) };
        let (more, missed) = sas.ended()?;
        self.ended.extend(more);
        self.traffic.missed += u64::from(missed);
        Ok(())
    }
}
