//! The fourth stage: takes the steps, reads everything back, and restores what was there where the system is not as planned.
//!
//! A peer's failure concerns that peer alone: its former tunnel is restored, and all other steps, rules and files go on
//! ([`peers`]). Only what is shared is restored as a whole: rules, files, this gateway's own keys. If charon stops
//! answering altogether, rules and NAT go on, and charon's files stay as they were.

mod conclude;
mod look;
mod peers;

use std::collections::BTreeSet;

use tracing::{debug, info, warn};

use crate::{
    apply::take,
    files, followed,
    observe::{Handles, disk, live},
    paths::Paths,
};
use conclude::Conclude;
use crosswan_core::{
    decide::Decided,
    error::{Error, Result},
    iptables::Rules,
    model::{ConnName, PublicKey},
    outcome::{Outcome, PeerFailure, Verdict},
    plan::{Planned, Step, plan, touched},
    system::{Configuration, System, Touched, secret_id},
};
use crosswan_vici::Vici;
use look::{CharonLink, Stop, read_back};
use peers::Peers;

/// Takes the planned steps towards what was decided, with `before` as the system to return to, verifies them, and concludes the pass. A failure is part of the
/// outcome.
pub async fn transact(
    planned: &Planned<'_>,
    decided: &Decided,
    before: &System,
    paths: &Paths,
    handles: Handles,
) -> Outcome {
    let Handles { mut charon, lock, ec2, timeout } = handles;
    let Planned { target, steps, conclusions } = planned;
    let tunnels = &decided.tunnels;
    let unsettled = followed::settle(paths, &decided.overruled, target).err();
    let mut outcome = match steps.is_empty() {
        true => nothing_to_do(before, paths),
        false => carry_out(steps, target, before, paths, charon.as_mut()).await,
    };
    outcome.problems.extend(unsettled.map(|e| e.chain()));
    if outcome.is_in_force() {
        let mut conclude = Conclude { outcome: &mut outcome, paths, tunnels, charon, lock: Some(lock), ec2, timeout };
        conclude.all(conclusions).await;
    }
    outcome
}

/// The outcome if `before` is as it should be; it was read just now, so it is verified. Removes the marker of a pass that was cut off.
fn nothing_to_do(before: &System, paths: &Paths) -> Outcome {
    let marker = match &before.charon {
        None if before.files.connections.is_some() => Ok(()),
        _ => files::remove(&paths.unfinished),
    };
    Outcome {
        problems: marker.err().iter().map(Error::chain).collect(),
        keys_in_use: before.charon.is_some() || before.files.connections.is_none(),
        ..Outcome::new(Verdict::Unchanged)
    }
}

/// Takes the steps from `before` to `target`, verifies them, and restores what failed. A failure is part of the outcome.
pub async fn carry_out(
    steps: &[Step],
    target: &Configuration,
    before: &System,
    paths: &Paths,
    charon: Option<&mut Vici>,
) -> Outcome {
    let touched = touched(steps);
    let with_charon = charon.is_some();
    let mut peers = charon.map(|vici| Peers::new(target, before, paths, CharonLink::new(vici)));
    let e = match attempt(steps, target, &touched, paths, peers.as_mut()).await {
        Ok(done) => return done,
        Err(e) => e,
    };
    warn!(problem = %e.chain(), "rolling back");
    let mut problems = vec![e.chain()];
    let believed = touched.still_believed(before.believed.clone());
    let undone = roll_back(&roll_back_target(target, before), believed, paths, with_charon).await;
    let verdict = if undone.is_ok() { Verdict::RolledBack } else { Verdict::RollBackFailed };
    problems.extend(undone.err().into_iter().flatten().map(|e| format!("while rolling back: {e}")));
    let failed = peers.map(|p| p.failed).unwrap_or_default();
    let restored = verdict == Verdict::RolledBack;
    Outcome {
        failed: failed.into_iter().map(|(name, why)| (name, PeerFailure { why, restored })).collect(),
        problems,
        steps: steps.iter().map(Step::to_string).collect(),
        ..Outcome::new(verdict)
    }
}

/// Takes the steps and verifies them.
///
/// # Errors
/// Something shared has failed, and everything must be restored.
async fn attempt(
    steps: &[Step],
    target: &Configuration,
    touched: &Touched,
    paths: &Paths,
    mut peers: Option<&mut Peers<'_>>,
) -> Result<Outcome> {
    // Rules are loaded as a whole, so only what charon has can be in doubt. Without charon, an earlier marker stays as it is.
    if peers.is_some() {
        files::write_atomic(&paths.unfinished, touched.marker().as_bytes(), 0o600)?;
    }
    let is_rules = |step: &&Step| matches!(step, Step::RestoreRules(_));
    take_all(steps.iter().take_while(is_rules), paths).await?;
    if peers.is_none() {
        debug!(stage = "apply", "done");
    }
    let (mut current, mut gone) = (None, None);
    if let Some(peers) = &mut peers {
        match peers.carry_out(steps).await {
            Ok(read) => current = Some(read),
            Err(Stop::Shared(e)) => return Err(e),
            Err(Stop::Charon(e)) => {
                gone = Some(e);
                // Rules that were to wait for charon wait no longer.
                take_all(steps.iter().skip_while(is_rules).filter(is_rules), paths).await?;
            }
        }
    }
    let mut current = match current {
        Some(current) => current,
        None => without_charon(target, paths).await?,
    };

    let goal = peers.as_ref().filter(|_| gone.is_none()).map_or(target, |peers| peers.goal());
    let unwritten = |current: &System| plan(goal, current).into_iter().filter(Step::is_file).collect::<Vec<_>>();
    let written = unwritten(&current);
    take_all(written.iter(), paths).await?;
    let disk = disk::system(paths)?;
    (current.files, current.wrong_mode) = (disk.files, disk.wrong_mode);
    if let Some(step) = unwritten(&current).first() {
        return Err(Error::apply(format!("read back: still to do: {step}")));
    }

    let still_signing: Vec<PublicKey> = goal.keys.iter().map(|key| key.public).collect();
    let mut done = Outcome {
        keys_in_use: match peers {
            Some(_) => gone.is_none() && goal.keys.len() == target.keys.len(),
            None => target.files.connections.is_none(),
        },
        ..Outcome::new(Verdict::Changed)
    };
    if let Some(peers) = peers {
        match gone {
            None => done.problems.extend(settle_marker(&peers.in_doubt(), paths).err().map(|e| e.chain())),
            // The marker stays as it is.
            Some(_) => peers.charon_is_gone(steps),
        }
        done.failed = peers.failures();
    }
    let stands = |step: &&Step| match (step, step.peer()) {
        (_, Some(name)) => !done.failed.contains_key(&name),
        (Step::RestoreRules(_), _) => true,
        (Step::UnloadKey { key }, _) => gone.is_none() && !still_signing.contains(key),
        (step, None) => gone.is_none() && !step.is_file(),
    };
    done.steps = steps.iter().filter(stands).chain(&written).map(Step::to_string).collect();
    if !done.failed.is_empty() || gone.is_some() {
        done.verdict = Verdict::Partly;
    }
    done.problems.extend(gone.map(|e| format!("{}; the tunnels' files were left as they are", e.chain())));
    info!(stage = "verify", failed = done.failed.len(), "read back");
    Ok(done)
}

/// Takes steps that need no charon.
///
/// # Errors
/// A step has failed; those after it are not taken.
async fn take_all(steps: impl Iterator<Item = &Step>, paths: &Paths) -> Result<()> {
    for step in steps {
        info!(step = %step, "apply");
        take(step, paths, None).await.map_err(|e| Error::apply(step.to_string()).because(e))?;
    }
    Ok(())
}

/// Leaves a marker of what is in doubt to the next pass. Most often nothing is.
fn settle_marker(in_doubt: &BTreeSet<ConnName>, paths: &Paths) -> Result<()> {
    match in_doubt.is_empty() {
        true => files::remove(&paths.unfinished),
        false => files::write_atomic(&paths.unfinished, Touched::peers(in_doubt).marker().as_bytes(), 0o600),
    }
}

/// Reads the rules back if there is no charon to ask.
async fn without_charon(target: &Configuration, paths: &Paths) -> Result<System> {
    let read = read_back(target, paths, None, false).await;
    let (current, left) = read.map_err(Stop::into_error)?;
    match look::still_to_do(&left) {
        None => Ok(current),
        Some(e) => Err(e),
    }
}

/// The configuration to return to: the files as they were. What worked without a record is kept, too: a connection that was loaded
/// although no readable file has it stays as just loaded, and so do the rules if there were none.
fn roll_back_target(target: &Configuration, before: &System) -> Configuration {
    let mut files = before.files.clone();
    if files.rules.is_none() && before.rules == Rules::default() {
        files.rules = target.files.rules.clone();
    }
    let mut old = Configuration::of(files.clone()).unwrap_or(Configuration { files, ..Configuration::default() });
    old.keys = before.keys.clone();
    old.rules.unknown_as(&before.rules);
    // What no file records stays as it was.
    if old.files.routing.is_none() {
        old.routing = before.routing.clone();
    }
    let loaded = before.charon.iter().flat_map(|c| c.connections.keys());
    for name in loaded.filter_map(|name| name.parse::<ConnName>().ok()) {
        if let Some(tree) = target.connections.get(&name).filter(|_| !old.connections.contains_key(&name)) {
            let id = secret_id(&name);
            old.secrets.extend(target.secrets.get(&id).map(|secret| (id, secret.clone())));
            old.connections.insert(name, tree.clone());
        }
    }
    old
}

/// Plans the way back from the system as the failure left it, and takes all steps that can be taken, with a new
/// connection to charon. `believed` is what was loaded before and was not to be loaded anew.
///
/// # Errors
/// Each step that failed, or what is left to do.
async fn roll_back(
    old: &Configuration,
    believed: Configuration,
    paths: &Paths,
    with_charon: bool,
) -> std::result::Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    let mut fresh = None;
    if with_charon {
        match live::connect(&paths.vici, live::PATIENCE).await {
            Ok(vici) => fresh = Some(vici),
            Err(e) => wrong.push(e.chain()),
        }
    }
    let one = |e: Error| vec![e.chain()];
    let mut current = look::look(&old.rules, paths, fresh.as_mut()).await.map_err(one)?;
    current.believed = believed;
    for step in &plan(old, &current) {
        info!(step = %step, "roll back");
        let taken = take(step, paths, fresh.as_mut()).await;
        wrong.extend(taken.err().map(|e| Error::apply(step.to_string()).because(e).chain()));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut link = fresh.as_mut().map(CharonLink::new);
    let (current, left) = read_back(old, paths, link.as_mut(), false).await.map_err(|stop| one(stop.into_error()))?;
    let left: Vec<Step> = left.into_iter().chain(plan(old, &current).into_iter().filter(Step::is_file)).collect();
    if let Some(e) = look::still_to_do(&left) {
        return Err(one(e));
    }
    files::remove(&paths.unfinished).map_err(one)
}
