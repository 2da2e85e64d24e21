//! What follows the steps once they are in force. Each depends on those before it; what fails is reported, and nothing goes back.

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

/// See the module.
pub(super) struct Conclude<'a> {
    pub outcome: &'a mut Outcome,
    pub paths: &'a Paths,
    pub charon: Option<Vici>,
    pub lock: Option<Flock<File>>,
    pub ec2: ec2::Clients,
    pub timeout: Duration,
}

impl Conclude<'_> {
    pub(super) async fn all(&mut self, conclusions: &[Conclusion<'_>]) {
        // What is announced is what charon accepts.
        let mut may_announce = self.outcome.keys_in_use;
        self.outcome.announced = !conclusions.iter().any(|c| matches!(c, Conclusion::AnnounceKey { .. }));
        for conclusion in conclusions {
            match conclusion {
                Conclusion::PromoteKey { old, .. } => {
                    // A peer that failed still has a connection that signs with the key before.
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
                Conclusion::AnnounceKey { region, instance, tags } if may_announce => {
                    // Nothing from here on asks charon or changes it: `keep` may look, however long EC2 takes.
                    (self.charon, self.lock) = (None, None);
                    info!(step = %conclusion, "apply");
                    match ec2::announce(&self.ec2, region, instance, tags, self.timeout).await {
                        Ok(()) => {
                            self.outcome.announced = true;
                            self.took(conclusion);
                        }
                        Err(why) => self.outcome.unasked.push(format!("announce this gateway's key: {why}")),
                    }
                }
                Conclusion::AnnounceKey { .. } => {}
            }
        }
    }

    /// Whether the next key has taken over, and charon has forgotten the one before: that is gone from every file then.
    async fn promote(&mut self, old: &PublicKey, conclusion: &Conclusion<'_>) -> bool {
        let promoted: Result<()> = async {
            keyring::promote(self.paths)?;
            self.outcome.promoted = true;
            self.took(conclusion);
            if let Some(charon) = &mut self.charon {
                charon.unload_key(&old.charon_id()).await?;
            }
            Ok(())
        }
        .await;
        self.outcome.problems.extend(promoted.as_ref().err().map(|e| e.chain()));
        promoted.is_ok()
    }

    fn took(&mut self, conclusion: &Conclusion<'_>) {
        self.outcome.steps.push(conclusion.to_string());
        if self.outcome.verdict == Verdict::Unchanged {
            self.outcome.verdict = Verdict::Changed;
        }
    }
}
