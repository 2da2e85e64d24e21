//! One cast of one environment at a time on this machine.
//!
//! AWS has no lock to take, so casts from two machines are kept apart by what EC2 itself refuses (see `apply`). On one machine the
//! second cast waits for the first, and then finds everything there.

#![allow(clippy::disallowed_methods, reason = "edge: a lock file")]

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

const PAUSE: Duration = Duration::from_millis(200);

impl Lock {
    /// Waits at most `longest` for the lock of `name`.
    ///
    /// # Errors
    /// Another cast has it all that time, or the lock file cannot be made; the text says what to do.
    pub async fn take(name: &str, longest: Duration) -> Result<Self, String> {
        let path = folder().map_err(|e| format!("the folder for lock files cannot be made: {e}"))?.join(plain(name));
        let shown = path.display();
        // It stays: a lock file that is removed can be held twice.
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|e| format!("{shown}: the lock file cannot be opened: {e}"))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if started.elapsed() < longest => sleep(PAUSE).await,
                Err(TryLockError::WouldBlock) => {
                    let seconds = longest.as_secs();
                    return Err(format!(
                        "another cast of {name} runs on this machine, for more than {seconds} s ({shown})"
                    ));
                }
                Err(TryLockError::Error(e)) => return Err(format!("{shown}: cannot be locked: {e}")),
            }
        }
    }
}

/// A folder that only this user can write to.
fn folder() -> io::Result<PathBuf> {
    let user = fs::metadata("/proc/self")?.uid();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
        Some(dir) => dir.join("cloudcaster"),
        None => std::env::temp_dir().join(format!("cloudcaster-{user}")),
    };
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let there = fs::symlink_metadata(&folder)?;
    if !there.is_dir() || there.uid() != user || there.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!("{} is not a folder of this user alone", folder.display())));
    }
    Ok(folder)
}

fn plain(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
    name.chars().map(safe).collect::<String>() + ".lock"
}
