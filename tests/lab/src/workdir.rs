//! The lab's directory: one per lab, removed on drop; those of labs that were killed are swept by the next one.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

const PREFIX: &str = "crosswan-lab-";

/// A directory that is locked while its lab lives. A lock, unlike a process id, cannot be taken over by a stranger.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl WorkDir {
    /// Sweeps what dead labs left, then makes a new directory of mode 0700.
    pub fn new() -> Result<WorkDir> {
        static SEQUENCE: AtomicU32 = AtomicU32::new(0);
        // Short on purpose: the path of a Unix socket has 108 bytes.
        let base = std::env::temp_dir();
        let _gate = wait_lock(&base.join("crosswan-lab.lock"))?;
        sweep(&base);
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{PREFIX}{}-{sequence}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("make {}", path.display()))?;
        let lock = try_lock(&path).with_context(|| format!("lock {}", path.display()))?;
        Ok(WorkDir { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // For looking at logs after a failed test.
        if std::env::var_os("CROSSWAN_LAB_KEEP_DIR").is_none() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Waits for an exclusive lock on `path`, making the file when it is missing.
pub fn wait_lock(path: &Path) -> Result<Flock<File>> {
    let file =
        File::options().create(true).append(true).open(path).with_context(|| format!("open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).with_context(|| format!("lock {}", path.display()))
}

/// An exclusive lock on a directory; `None` while somebody has it.
pub fn try_lock(dir: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(dir).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let stale = entry.file_name().to_string_lossy().starts_with(PREFIX) && try_lock(&entry.path()).is_some();
        if stale {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
