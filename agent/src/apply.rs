//! Takes steps: one `match` over them. It decides nothing: the plan says what to do, and [`transact`] decides what a failure means.
//!
//! [`transact`]: crate::transact

use std::{path::PathBuf, time::Duration};

use crate::{files, followed, host, paths::Paths};
use crosswan_core::{
    error::{Error, Kind, Result},
    plan::Step,
    system::{Files, ManagedFile},
};
use crosswan_netlink::Netlink;
use crosswan_vici::{Sas, Vici};

/// The bound on ending an SA whose peer may be gone: with force charon waits for the answer this long, then drops it.
const TERMINATE: Duration = Duration::from_secs(2);
/// The bound on initiating a child anew over a live IKE_SA.
const INITIATE: Duration = Duration::from_secs(10);
/// The bound on `iptables-restore`, its own wait for the lock (5 s) included.
const RESTORE: Duration = Duration::from_secs(15);

/// Takes one step. `charon` may be absent only if the step does not need it.
///
/// # Errors
/// [`Kind::Observe`] if charon gave no answer, so that it is not known whether the step was taken; otherwise the step was refused.
pub async fn take(step: &Step, paths: &Paths, charon: Option<&mut Vici>) -> Result<()> {
    match step {
        Step::RestoreRules(change) => return host::iptables_restore(&change.input(), RESTORE).await,
        Step::Route { change, peer } => {
            let change = followed::as_said(paths, *change, peer.as_ref());
            return Netlink::open()?.change(&change).await;
        }
        Step::WriteFile { file, contents, .. } => {
            return files::write_atomic(paths.of(*file), contents.as_bytes(), file.mode());
        }
        Step::RemoveFile { file } => return files::remove(paths.of(*file)),
        _ => {}
    }
    let charon = charon.ok_or_else(|| Error::apply("charon is not connected"))?;
    match step {
        Step::LoadKey { key } => charon.load_key(&key.text).await,
        Step::UnloadKey { key } => charon.unload_key(&key.charon_id()).await.map(drop),
        Step::LoadSecret { id, secret, .. } => charon.load_shared(id, secret).await,
        Step::LoadConnection { name, tree, .. } => charon.load_conn(name.as_str(), tree).await,
        Step::RenewChild { connection, child, old, .. } => {
            // The old SA carries traffic until the new one is there; without a new one it stays.
            charon.initiate(connection.as_str(), Some(child), Some(INITIATE)).await?;
            for id in old {
                charon.terminate(Sas::Child(*id), false, Some(TERMINATE)).await?;
            }
            Ok(())
        }
        Step::TakeOver { connection, children } => {
            // One child is enough: `keep` brings up the others, as with any tunnel.
            let mut failed = None;
            for child in children {
                match charon.initiate(connection.as_str(), Some(child), Some(INITIATE)).await {
                    Ok(()) => failed = Some(Ok(())),
                    Err(e) if e.kind() == Kind::Apply => drop(failed.get_or_insert(Err(e))),
                    Err(e) => return Err(e),
                }
            }
            failed.unwrap_or(Ok(()))
        }
        // It is fine if the connection is gone already: another program, or a pass that was cut off, has unloaded it.
        Step::UnloadConnection { name } => charon.unload_conn(name).await.map(drop),
        Step::UnloadSecret { id } => charon.unload_shared(id).await,
        Step::TerminateChild { id, .. } => charon.terminate(Sas::Child(*id), true, Some(TERMINATE)).await.map(drop),
        Step::Terminate { connection, id, .. } => {
            let target = id.map_or(Sas::OfConnection(connection), Sas::Ike);
            charon.terminate(target, true, Some(TERMINATE)).await.map(drop)
        }
        Step::RestoreRules(_) | Step::Route { .. } | Step::WriteFile { .. } | Step::RemoveFile { .. } => Ok(()),
    }
}

/// Writes the managed files to their `paths` without loading anything, and returns the paths that were written.
///
/// # Errors
/// [`Kind::Apply`], with the file that could not be written.
pub fn write_files(files: &Files, paths: &Paths) -> Result<Vec<PathBuf>> {
    let all = [
        (ManagedFile::Connections, &files.connections),
        (ManagedFile::Secrets, &files.secrets),
        (ManagedFile::Routing, &files.routing),
        (ManagedFile::Rules, &files.rules),
        (ManagedFile::Pair, &files.pair),
    ];
    let mut written = Vec::new();
    for (file, contents) in all {
        if let Some(contents) = contents {
            files::write_atomic(paths.of(file), contents.as_bytes(), file.mode())?;
            written.push(paths.of(file).to_owned());
        }
    }
    Ok(written)
}
