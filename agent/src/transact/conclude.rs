//! Carries out the conclusions of a pass once its steps are in force. Each depends on those before it. A failure is reported, and nothing
//! is rolled back.

use std::{fs::File, time::Duration};

use nix::fcntl::Flock;
use tracing::info;

use crate::{files, keyring, observe::ec2, paths::Paths};
use crosswan_core::{
    error::Result,
    model::PublicKey,
    outcome::{Outcome, Verdict},
    plan::Conclusion,
};
use crosswan_vici::Vici;

/// The pass that is to be concluded.
pub(super) struct Conclude<'a> {
    pub(super) outcome: &'a mut Outcome,
    pub(super) paths: &'a Paths,
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
                    (self.charon, self.lock) = (None, None);
                    info!(step = %conclusion, "apply");
                    let stopped = ec2::stop_source_dest_check(&self.ec2, region, instance, self.timeout).await;
                    if stopped.is_ok() {
                        self.record(conclusion);
                    }
                    self.outcome.check_stopped = Some(stopped.map_err(|why| why.to_string()));
                }
                Conclusion::AnnounceKey { region, instance, tags } if may_announce => {
                    // From here on nothing asks or changes charon, so `keep` may look, however long EC2 takes.
                    (self.charon, self.lock) = (None, None);
                    info!(step = %conclusion, "apply");
                    match ec2::announce(&self.ec2, region, instance, tags, self.timeout).await {
                        Ok(()) => {
                            self.outcome.announced = true;
                            self.record(conclusion);
                        }
                        Err(why) => self.outcome.unasked.push(format!("announce this gateway's key: {why}")),
                    }
                }
                Conclusion::AnnounceKey { .. } => {}
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

    fn record(&mut self, conclusion: &Conclusion<'_>) {
        self.outcome.steps.push(conclusion.to_string());
        if self.outcome.verdict == Verdict::Unchanged {
            self.outcome.verdict = Verdict::Changed;
        }
    }
}
