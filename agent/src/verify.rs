//! apply and verify: takes the steps, reads everything back, and restores what was there if that is not as planned.

use std::{collections::BTreeSet, time::Duration};

use tracing::{debug, info, warn};

use crate::{
    apply::apply,
    error::{Error, Result},
    files,
    iptables::Rules,
    model::ConnName,
    observe::{disk, live},
    paths::Paths,
    plan::{Current, Step, Target, Touched, plan},
    report::Outcome,
    vici::Vici,
};

/// How often the system is read back before a difference counts: SAs take a moment to go.
const LOOKS: u32 = 8;
/// Between two looks. charon leaves out of its list an SA that it is working on at that moment, so an SA is gone only
/// if two looks this far apart do not show it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Takes the steps from `before` to `target` and verifies them. [`Outcome::Changed`], or what went wrong, in order, and
/// whether the old state could be restored.
pub async fn carry_out(
    steps: &[Step],
    target: &Target,
    before: &Current,
    paths: &Paths,
    mut charon: Option<&mut Vici>,
) -> (Outcome, Vec<String>) {
    let touched = Touched::by(steps);
    let done = async {
        files::write_atomic(&paths.unfinished, touched.marker().as_bytes(), 0o600)?;
        apply(steps, paths, charon.as_deref_mut()).await?;
        debug!(stage = "apply", "done");
        let ends = |s: &Step| matches!(s, Step::Terminate { .. } | Step::TerminateChild { .. });
        verify(target, before, paths, charon.as_deref_mut(), steps.iter().any(ends)).await?;
        files::remove(&paths.unfinished)
    };
    let Err(e) = done.await else { return (Outcome::Changed, Vec::new()) };
    warn!(problem = %e.chain(), "rolling back");
    let mut problems = vec![e.chain()];
    let believed = touched.spare(before.believed.clone());
    let outcome = match roll_back(&roll_back_target(target, before), before, believed, paths, charon.is_some()).await {
        Ok(()) => Outcome::RolledBack,
        Err(e) => {
            problems.push(format!("while rolling back: {}", e.chain()));
            Outcome::RollBackFailed
        }
    };
    (outcome, problems)
}

/// Reads everything back: planning towards the same target must find nothing left to do; twice, where SAs were ended.
async fn verify(
    target: &Target,
    before: &Current,
    paths: &Paths,
    mut charon: Option<&mut Vici>,
    twice: bool,
) -> Result<()> {
    let mut clean = 0;
    let mut left = Vec::new();
    for _ in 0..LOOKS {
        let mut current = look(before, paths, charon.as_deref_mut()).await?;
        // The marker is ours here: what the files say is what was just loaded.
        current.believed = Target::of(current.files.clone()).unwrap_or_default();
        current.doubt = None;
        left = plan(target, &current);
        clean = if left.is_empty() { clean + 1 } else { 0 };
        if clean > u32::from(twice) {
            info!(stage = "verify", "read back as planned");
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    let left: BTreeSet<String> = left.iter().map(Step::to_string).collect();
    let left = left.into_iter().collect::<Vec<_>>().join("; ");
    Err(Error::apply(format!("read back: still to do after {LOOKS} looks: {left}")))
}

/// What to go back to: the files as they were, but nothing that worked goes for want of a record of it. A connection
/// that was loaded though no readable file says so stays as just loaded, and so do rules where there were none.
fn roll_back_target(target: &Target, before: &Current) -> Target {
    let mut files = before.files.clone();
    if files.rules.is_none() && before.rules == Rules::default() {
        files.rules = target.files.rules.clone();
    }
    let mut old = Target::of(files.clone()).unwrap_or(Target { files, ..Target::default() });
    old.keys = before.keys.clone();
    let loaded = before.charon.iter().flat_map(|c| c.connections.keys());
    for name in loaded.filter_map(|name| name.parse::<ConnName>().ok()) {
        if let Some(tree) = target.connections.get(&name).filter(|_| !old.connections.contains_key(&name)) {
            let id = format!("ike-{name}");
            old.secrets.extend(target.secrets.get(&id).map(|secret| (id, secret.clone())));
            old.connections.insert(name, tree.clone());
        }
    }
    old
}

/// Plans the way back from wherever the failure left things, and takes it, with a fresh connection to charon. `believed`
/// is what was loaded before and was not to be loaded anew.
async fn roll_back(old: &Target, before: &Current, believed: Target, paths: &Paths, with_charon: bool) -> Result<()> {
    let mut fresh = match with_charon {
        true => Some(live::connect(&paths.vici, live::PATIENCE).await?),
        false => None,
    };
    let mut current = look(before, paths, fresh.as_mut()).await?;
    current.believed = believed;
    apply(&plan(old, &current), paths, fresh.as_mut()).await?;
    verify(old, before, paths, fresh.as_mut(), false).await?;
    files::remove(&paths.unfinished)
}

/// Disk, charon and iptables as they are now, as far as they could be read before.
async fn look(before: &Current, paths: &Paths, charon: Option<&mut Vici>) -> Result<Current> {
    let mut current = disk::current(paths)?;
    if let Some(vici) = charon {
        current.charon = Some(live::charon(vici).await?);
    }
    current.rules = before.rules.again(live::rules().await)?;
    Ok(current)
}
