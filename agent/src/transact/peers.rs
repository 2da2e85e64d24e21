//! charon's part of a transaction: each peer's steps are separate from the other peers'.
//!
//! A peer whose step fails, or does not read back, gets its former tunnel back ([`standing`]); the other peers' steps go on.

#![allow(clippy::disallowed_methods, reason = "edge: bounds what renewals may take")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

use super::look::{CharonLink, Stop, look, read_back, still_to_do};
use crate::{apply::take, paths::Paths};
use crosswan_core::{
    error::{Error, Result},
    model::ConnName,
    outcome::PeerFailure,
    plan::{Standing, Step, plan, standing},
    system::{Configuration, System, secret_id},
};

/// How often former tunnels of peers that have just failed are restored, and everything is read back again.
const ROUNDS: u32 = 4;
/// The time that failing renewals may take in all. A renewal waits for its peer, and a thousand peers that do not answer would
/// delay the others for hours.
const RENEWALS: Duration = Duration::from_secs(60);

/// The peers of one transaction, with charon to carry out their steps.
pub(super) struct Peers<'a> {
    target: &'a Configuration,
    before: &'a System,
    paths: &'a Paths,
    charon: CharonLink<'a>,
    /// What should be in force once a peer has failed; before that it is the target.
    goal: Option<Configuration>,
    /// The peers that have failed, and why.
    pub(super) failed: BTreeMap<ConnName, String>,
    /// Those of them whose former tunnel is not in force again.
    unrestored: BTreeSet<ConnName>,
    renewals: Duration,
}

impl<'a> Peers<'a> {
    pub(super) fn new(
        target: &'a Configuration,
        before: &'a System,
        paths: &'a Paths,
        charon: CharonLink<'a>,
    ) -> Peers<'a> {
        Peers {
            target,
            before,
            paths,
            charon,
            goal: None,
            failed: BTreeMap::new(),
            unrestored: BTreeSet::new(),
            renewals: Duration::ZERO,
        }
    }

    /// What is in force if [`Peers::carry_out`] succeeded.
    pub(super) fn goal(&self) -> &Configuration {
        self.goal.as_ref().unwrap_or(self.target)
    }

    /// Takes charon's steps, reads them back, and returns the last look. The caller takes care of files and rules.
    ///
    /// # Errors
    /// Something shared has failed, or charon no longer answers.
    pub(super) async fn carry_out(&mut self, steps: &[Step]) -> std::result::Result<System, Stop> {
        // Rules at the head have been restored already; any others wait for tunnels to get their interfaces.
        let steps_here =
            steps.iter().skip_while(|step| matches!(step, Step::RestoreRules(_))).filter(|step| !step.is_file());
        let (taking, adding): (Vec<&Step>, Vec<&Step>) = steps_here.partition(|step| step.takes_away());
        self.take_each(&adding).await?;
        // Before anything is removed, it must be known which removals are cancelled.
        let mut new: BTreeSet<ConnName> = self.failed.keys().cloned().collect();
        new.extend(self.settle_goal().map_err(Stop::Shared)?);
        let before: BTreeSet<ConnName> = self.failed.keys().cloned().collect();
        self.take_each(&taking).await?;
        debug!(stage = "apply", "done");
        new.extend(self.failed.keys().filter(|name| !before.contains(*name)).cloned());
        let mut twice = steps.iter().any(Step::ends);
        let mut round = 1;
        loop {
            new.extend(self.settle_goal().map_err(Stop::Shared)?);
            if !new.is_empty() {
                self.restore(&new).await?;
                twice = true;
            }
            let goal = self.goal.as_ref().unwrap_or(self.target);
            let (current, left) = read_back(goal, self.paths, Some(&mut self.charon), twice).await?;
            new = self.judge(left).map_err(Stop::Shared)?;
            if round == ROUNDS {
                self.unrestored.append(&mut new);
                self.settle_goal().map_err(Stop::Shared)?;
            }
            if new.is_empty() {
                return Ok(current);
            }
            round += 1;
        }
    }

    /// Notes that every peer with a step has failed, because charon no longer answers.
    pub(super) fn charon_is_gone(&mut self, steps: &[Step]) {
        let why = || "charon gave no answer, so it is not known what it has loaded for this peer".to_owned();
        for name in steps.iter().filter_map(Step::peer) {
            self.unrestored.insert(name.clone());
            self.failed.entry(name).or_insert_with(why);
        }
        self.unrestored.extend(self.failed.keys().cloned());
    }

    /// The connections whose state in charon cannot be read from it. A connection that should not be loaded is not in doubt: it shows.
    pub(super) fn in_doubt(&self) -> BTreeSet<ConnName> {
        self.unrestored.iter().filter(|name| self.goal().connections.contains_key(*name)).cloned().collect()
    }

    /// The peers that failed, for the report.
    pub(super) fn failures(&self) -> BTreeMap<ConnName, PeerFailure> {
        let failure = |(name, why): (&ConnName, &String)| {
            let going = !self.target.connections.contains_key(name) && !self.goal().connections.contains_key(name);
            let stays = if going { "; the parts that were removed stay removed" } else { "" };
            let restored = !self.unrestored.contains(name);
            (name.clone(), PeerFailure { why: format!("{why}{stays}"), restored })
        };
        self.failed.iter().map(failure).collect()
    }

    /// Takes steps in order. A failure concerns a peer, or everything that is shared, or charon.
    async fn take_each(&mut self, steps: &[&Step]) -> std::result::Result<(), Stop> {
        for step in steps {
            let peer = step.peer();
            let stays = |name: &ConnName| self.failed.contains_key(name) && self.goal().connections.contains_key(name);
            let signing = |key| self.goal().keys.iter().any(|k| k.public == key);
            // A peer that has failed gets nothing more. Of one that is removed, as much is removed as can be.
            let has_failed = |name: &ConnName| self.failed.contains_key(name) && !step.takes_away();
            if peer.as_ref().is_some_and(|name| stays(name) || has_failed(name))
                || matches!(step, Step::UnloadKey { key } if signing(*key))
            {
                continue;
            }
            let Err(e) = self.take(step).await else { continue };
            if !self.charon.still_answers(&e).await {
                return Err(Stop::Charon(e));
            }
            let Some(name) = peer else { return Err(Stop::Shared(e)) };
            warn!(peer = %name, problem = %e.chain(), "this peer has failed");
            self.failed.entry(name).or_insert(e.chain());
        }
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Result<()> {
        info!(step = %step, "apply");
        let renewal = matches!(step, Step::RenewChild { .. });
        if renewal && self.renewals > RENEWALS {
            let why = format!("not tried, as other renewals have failed for {} s", self.renewals.as_secs());
            return Err(Error::apply(step.to_string()).because(why));
        }
        let began = Instant::now();
        let taken = take(step, self.paths, Some(&mut *self.charon.vici)).await;
        if renewal && taken.is_err() {
            self.renewals += began.elapsed();
        }
        taken.map_err(|e| Error::apply(step.to_string()).because(e))
    }

    /// Decides what should be in force now that some peers have failed. Returns the peers that fail with them.
    fn settle_goal(&mut self) -> Result<BTreeSet<ConnName>> {
        if self.failed.is_empty() {
            return Ok(BTreeSet::new());
        }
        let Standing { target, failed, unknown } =
            standing(self.target, self.before, &self.failed.keys().cloned().collect())?;
        self.goal = Some(target);
        self.unrestored.extend(unknown);
        let more: BTreeSet<ConnName> = failed.into_iter().filter(|name| !self.failed.contains_key(name)).collect();
        let some = self.failed.keys().take(3).map(ConnName::to_string).collect::<Vec<_>>().join(", ");
        for name in &more {
            let why = format!("postponed, because its replacement has failed (of {some})");
            self.failed.insert(name.clone(), why);
        }
        Ok(more)
    }

    /// Restores the former tunnels of peers that have just failed.
    async fn restore(&mut self, new: &BTreeSet<ConnName>) -> std::result::Result<(), Stop> {
        let mut current = match look(&self.target.rules, self.paths, Some(&mut *self.charon.vici)).await {
            Ok(current) => current,
            Err(e) if self.charon.still_answers(&e).await => {
                look(&self.target.rules, self.paths, Some(&mut *self.charon.vici)).await.map_err(Stop::Charon)?
            }
            Err(e) => return Err(Stop::Charon(e)),
        };
        let mut believed = self.goal().clone();
        believed.connections.retain(|name, _| !new.contains(name));
        new.iter().for_each(|name| drop(believed.secrets.remove(&secret_id(name))));
        current.believed = believed;
        (current.doubt, current.peer_keys) = (None, BTreeMap::new());
        let theirs = |step: &Step| match step.peer() {
            Some(name) => new.contains(&name) && !self.unrestored.contains(&name),
            None => matches!(step, Step::LoadKey { .. } | Step::Route { .. }),
        };
        let steps: Vec<Step> = plan(self.goal(), &current).into_iter().filter(theirs).collect();
        for step in &steps {
            let Err(e) = self.take(step).await else { continue };
            if !self.charon.still_answers(&e).await {
                return Err(Stop::Charon(e));
            }
            let Some(name) = step.peer() else { return Err(Stop::Shared(e)) };
            self.note_unrestored(&name, &e);
        }
        Ok(())
    }

    /// Assigns what is left to do to the peers, which fail by it or are not restored. Returns those that have failed just now.
    fn judge(&mut self, left: Vec<Step>) -> Result<BTreeSet<ConnName>> {
        let mut of_peers: BTreeMap<ConnName, Vec<Step>> = BTreeMap::new();
        let mut shared = Vec::new();
        for step in left {
            match step.peer() {
                Some(name) => of_peers.entry(name).or_default().push(step),
                None => shared.push(step),
            }
        }
        if let Some(e) = still_to_do(&shared) {
            return Err(e);
        }
        let mut new = BTreeSet::new();
        for (name, steps) in &of_peers {
            let Some(e) = still_to_do(steps) else { continue };
            if self.failed.contains_key(name) {
                self.note_unrestored(name, &e);
            } else {
                warn!(peer = %name, problem = %e.chain(), "this peer has failed");
                self.failed.insert(name.clone(), e.chain());
                new.insert(name.clone());
            }
        }
        // A removal that reads back has succeeded, whatever charon answered.
        let (goal, target) = (self.goal.as_ref().unwrap_or(self.target), self.target);
        let gone = |name: &ConnName| !goal.connections.contains_key(name) && !target.connections.contains_key(name);
        self.failed.retain(|name, _| !gone(name) || of_peers.contains_key(name));
        self.unrestored.retain(|name| self.failed.contains_key(name));
        Ok(new)
    }

    /// Notes that the former tunnel of a failed peer is not in force again.
    fn note_unrestored(&mut self, name: &ConnName, e: &Error) {
        warn!(peer = %name, problem = %e.chain(), "this peer is neither as planned nor as it was");
        self.unrestored.insert(name.clone());
        if let Some(why) = self.failed.get_mut(name).filter(|why| !why.contains(&e.chain())) {
            *why = format!("{why}; {}", e.chain());
        }
    }
}
