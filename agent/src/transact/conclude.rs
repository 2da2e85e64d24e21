//! Carries out the conclusions of a pass once its steps are in force. Each depends on those before it. A failure is reported, and nothing
//! is rolled back.

#![allow(clippy::disallowed_methods, reason = "edge: waits for a tunnel, no longer than a constant")]

use std::{collections::BTreeMap, fmt, fs::File, time::Duration};

use futures_util::future::join_all;
use nix::fcntl::Flock;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::{
    files, keyring,
    observe::{
        ec2::{self, AnnounceError},
        imds, live,
    },
    paths::Paths,
};
use crosswan_core::{
    decide::{AddressIs, Needs, RouteIs, TakeAddress, TakeRoute},
    error::Result,
    model::{ConnName, InstanceId, PublicKey, Region, Tunnel},
    outcome::{Outcome, Verdict},
    plan::Conclusion,
    system::Sa,
};
use crosswan_vici::Vici;

/// How long a pass waits for the tunnels that a route needs. `crosswan keep` initiates them at once; where the far end is ready, that takes
/// a second or two.
const PATIENCE_TUNNEL: Duration = Duration::from_secs(10);
/// How long IMDS may take to show an address that EC2 already shows.
const PATIENCE_IMDS: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The pass that is to be concluded.
pub(super) struct Conclude<'a> {
    pub(super) outcome: &'a mut Outcome,
    pub(super) paths: &'a Paths,
    /// The tunnels that were decided on.
    pub(super) tunnels: &'a BTreeMap<ConnName, Tunnel>,
    pub(super) charon: Option<Vici>,
    pub(super) lock: Option<Flock<File>>,
    pub(super) ec2: ec2::Clients,
    pub(super) timeout: Duration,
}

impl Conclude<'_> {
    /// Carries out all `conclusions`, in order.
    pub(super) async fn all(&mut self, conclusions: &[Conclusion<'_>]) {
        // Only keys that charon accepts may be announced.
        let mut may_announce = self.outcome.keys_in_use;
        for conclusion in conclusions {
            match conclusion {
                Conclusion::PromoteKey { old, .. } => {
                    // A peer that failed still has a connection that signs with the old key.
                    may_announce &= self.outcome.failed.is_empty();
                    if may_announce {
                        may_announce = self.promote(old, conclusion).await;
                    }
                }
                Conclusion::RememberState(remember) => {
                    let state = remember.without(self.outcome.failed.keys());
                    let written = files::write_json(&self.paths.state, &state, 0o600);
                    may_announce &= written.is_ok();
                    self.outcome.problems.extend(written.err().map(|e| e.chain()));
                }
                Conclusion::StopSourceDestCheck { region, instance } => {
                    self.let_go();
                    info!(step = %conclusion, "apply");
                    let stopped = ec2::stop_source_dest_check(&self.ec2, region, instance, self.timeout).await;
                    if stopped.is_ok() {
                        self.record(conclusion);
                    }
                    self.outcome.check_stopped = Some(stopped.map_err(|why| why.to_string()));
                }
                Conclusion::AnnounceKey { region, instance, tags, needed } if may_announce => {
                    self.let_go();
                    info!(step = %conclusion, "apply");
                    match ec2::announce(&self.ec2, region, instance, tags, self.timeout).await {
                        Ok(()) => {
                            self.outcome.announced = true;
                            files::remove(&self.paths.may_not_announce).unwrap_or_default();
                            self.record(conclusion);
                        }
                        Err(AnnounceError::Unasked(why)) if !needed && why.is_about_rights() => {
                            self.outcome.unannounced = Some(why.to_string());
                            files::touch(&self.paths.may_not_announce).unwrap_or_default();
                        }
                        Err(why) => self.outcome.unasked.push(format!("announce this gateway's key: {why}")),
                    }
                }
                Conclusion::AnnounceKey { .. } => {}
                Conclusion::TakeAddress { region, instance, take } => {
                    self.address(region, instance, take, conclusion).await;
                }
                // All at once, after everything else.
                Conclusion::TakeRoute { .. } => {}
            }
        }
        self.routes(conclusions).await;
    }

    /// Takes an address, if this gateway works as far as that can be seen. EC2's connections end with the old one, so everything that asks
    /// EC2 afterwards begins anew.
    async fn address(
        &mut self,
        region: &Region,
        instance: &InstanceId,
        take: &TakeAddress,
        conclusion: &Conclusion<'_>,
    ) {
        let not_yet = match self.outcome.check_stopped {
            Some(Err(_)) => Some("EC2's source/destination check is on"),
            _ if take.needs_charon && !self.outcome.keys_in_use => Some("charon has not been seen to work"),
            _ => None,
        };
        if let Some(what) = not_yet {
            self.outcome.address = Some(AddressIs::Waits(what.into()));
            return;
        }
        self.let_go();
        info!(step = %conclusion, "apply");
        self.outcome.address = Some(match ec2::take_address(&self.ec2, region, instance, take, self.timeout).await {
            Ok(taken) if imds::shows(taken.address, PATIENCE_IMDS).await => {
                self.record(&format!("{conclusion}: it has {}", taken.address));
                AddressIs::Here(taken.allocation.clone())
            }
            Ok(taken) => AddressIs::Waits(format!("{} is associated, and IMDS does not show it yet", taken.allocation)),
            Err(why) => {
                self.outcome.unasked.push(format!("take an Elastic IP: {why}"));
                AddressIs::Waits("it could not be taken".into())
            }
        });
    }

    /// From here on nothing asks or changes charon, so `keep` may look, however long EC2 takes.
    fn let_go(&mut self) {
        (self.charon, self.lock) = (None, None);
    }

    /// Leads the routes here: those that need nothing more at once, the others as soon as a tunnel is up, or not in this pass.
    async fn routes(&mut self, conclusions: &[Conclusion<'_>]) {
        let all: Vec<_> = conclusions
            .iter()
            .filter_map(|conclusion| match conclusion {
                Conclusion::TakeRoute { region, route } => Some((region, *route)),
                _ => None,
            })
            .collect();
        if all.is_empty() {
            return;
        }
        // `keep` brings the tunnels up meanwhile.
        self.let_go();
        if let Some(Err(_)) = self.outcome.check_stopped {
            for (_, route) in all {
                self.waits(route, "EC2's source/destination check is on".into());
            }
            return;
        }
        let (now, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, route)| route.needs == Needs::Rules);
        self.take(&now).await;
        if later.is_empty() {
            return;
        }
        // Where no peer is known yet, another pass has to find one first.
        let patience = if self.tunnels.is_empty() { Duration::ZERO } else { PATIENCE_TUNNEL };
        let deadline = Instant::now() + patience;
        let mut sas = self.sas().await;
        let missing = |sas: &[Sa], route: &TakeRoute| route.needs.missing(self.tunnels, sas);
        while later.iter().any(|(_, route)| missing(&sas, route).is_some()) && Instant::now() < deadline {
            sleep(LOOK_AGAIN).await;
            sas = self.sas().await;
        }
        let (ready, not): (Vec<_>, Vec<_>) = later.into_iter().partition(|(_, route)| missing(&sas, route).is_none());
        for (_, route) in not {
            let what = missing(&sas, route).unwrap_or_default();
            self.waits(route, what);
        }
        self.take(&ready).await;
    }

    /// charon's SAs; none if it does not answer, as then no tunnel can be seen.
    async fn sas(&self) -> Vec<Sa> {
        let asked = async { live::connect(&self.paths.vici, Duration::ZERO).await?.sas().await };
        asked.await.unwrap_or_default()
    }

    fn waits(&mut self, route: &TakeRoute, what: String) {
        self.outcome.routes.insert((route.table.clone(), route.to), RouteIs::Waits(what));
    }

    /// Takes these routes, all at once.
    async fn take(&mut self, routes: &[(&Region, &TakeRoute)]) {
        let taken = routes.iter().map(async |(region, route)| {
            info!(step = %route, "apply");
            (*route, ec2::take_route(&self.ec2, region, route, self.timeout).await)
        });
        for (route, taken) in join_all(taken).await {
            match taken {
                Ok(()) => {
                    self.outcome.routes.insert((route.table.clone(), route.to), RouteIs::Here);
                    self.record(route);
                }
                Err(why) => {
                    self.outcome.routes.insert((route.table.clone(), route.to), RouteIs::Failed);
                    self.outcome.unasked.push(format!("lead {} of {} here: {why}", route.to, route.table));
                }
            }
        }
    }

    /// Makes the next key the current one, and unloads the old one, which no file has any more. Returns whether both succeeded.
    async fn promote(&mut self, old: &PublicKey, conclusion: &Conclusion<'_>) -> bool {
        let promoted: Result<()> = async {
            keyring::promote(self.paths)?;
            self.outcome.promoted = true;
            self.record(conclusion);
            if let Some(charon) = &mut self.charon {
                charon.unload_key(&old.charon_id()).await?;
            }
            Ok(())
        }
        .await;
        self.outcome.problems.extend(promoted.as_ref().err().map(|e| e.chain()));
        promoted.is_ok()
    }

    fn record(&mut self, done: &impl fmt::Display) {
        self.outcome.steps.push(done.to_string());
        if self.outcome.verdict == Verdict::Unchanged {
            self.outcome.verdict = Verdict::Changed;
        }
    }
}
