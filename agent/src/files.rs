//! Files, the only place that writes them: whole or not at all, and durable before anyone is told.

#![allow(clippy::disallowed_methods, reason = "edge: the one place that writes files")]

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};

use serde::Serialize;

use crosswan_core::error::{Context, Error, Kind, Result};

/// Writes `bytes` to `path` atomically: a temporary file beside it, fsync, rename, fsync of the folder.
///
/// A reader sees the old file or the new one; a full disk or a kill leaves the old one. The folder is made if missing.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let failed = || Error::apply(format!("write {}", path.display()));
    let folder = path.parent().ok_or_else(failed)?;
    fs::create_dir_all(folder).context(failed)?;
    let temporary = temporary(path);
    let written = (|| {
        // One writer at a time holds the pass lock, so a file left by a killed pass is simply replaced.
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?; // whatever the umask
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder(path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.context(failed)
}

/// [`write_atomic`] of a value as JSON.
pub fn write_json(path: &Path, value: &impl Serialize, mode: u32) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).context(|| Error::new(Kind::Other, "encode as JSON"))?;
    write_atomic(path, &json, mode)
}

/// The name of the temporary file: hidden, and with an ending that `conf.d/*.conf` does not match.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Puts a file in the place of another one of the same folder, durably.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    let failed = || Error::apply(format!("rename {} to {}", from.display(), to.display()));
    fs::rename(from, to).context(failed)?;
    sync_folder(to).context(failed)
}

/// Makes the names in the folder of `path` durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Removes a file if it is there, durably.
pub fn remove(path: &Path) -> Result<()> {
    let failed = || Error::apply(format!("remove {}", path.display()));
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        // A read-only file system says so even of a file that is not there.
        Err(_) if matches!(path.try_exists(), Ok(false)) => Ok(()),
        Err(e) => Err(failed().because(e)),
        Ok(()) => sync_folder(path).context(failed),
    }
}

/// A file's text and permission bits, or `None` if there is no such file. "Could not read" is an error, never `None`.
///
/// The bits are `None` if another user owns the file, who could give himself any.
pub fn read(path: &Path) -> Result<Option<(String, Option<u32>)>> {
    let failed = || Error::observe(format!("read {}", path.display()));
    match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed().because(e)),
        Ok(bytes) => {
            let meta = fs::metadata(path).context(failed)?;
            let mode = (meta.uid() == geteuid().as_raw()).then_some(meta.mode() & 0o7777);
            // Bytes that are no text were not written by us: they compare unequal and are replaced.
            let text = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
            Ok(Some((text, mode)))
        }
    }
}

/// The exclusive lock that makes passes one after another; held until dropped, released by the kernel on any death.
///
/// Waits for at most `patience`, then fails with [`Kind::Busy`].
pub fn lock(path: &Path, patience: Duration) -> Result<Flock<File>> {
    let failed = || Error::new(Kind::Other, format!("lock {}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context(failed)?;
    }
    let mut file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).context(failed)?;
    let deadline = Instant::now() + patience;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                file = back;
                std::thread::sleep(Duration::from_millis(100));
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let what = format!("another refresh has held {} for {patience:?}", path.display());
                return Err(Error::new(Kind::Busy, what));
            }
            Err((_, e)) => return Err(failed().because(e)),
        }
    }
}

#[cfg(test)]
mod tests;
