//! Reading, writing and locking files. This is the only module that writes any: each write is whole or does not happen, and is
//! durable before the call returns.

#![allow(clippy::disallowed_methods, reason = "edge: the one place that writes files")]

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
    unistd::geteuid,
};

use serde::{Serialize, de::DeserializeOwned};

use crosswan_core::error::{Context, Error, Kind, Result};

/// Far more than any managed file has, and little enough to read.
const LARGEST: u64 = 64 << 20;

/// Writes `bytes` to `path` atomically: a temporary file beside it, fsync, rename, fsync of the folder.
///
/// A reader sees the old file or the new one; a full disk or a kill leaves the old one. The folder is created if it is missing.
///
/// # Errors
/// [`Kind::Apply`], with the path.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let failed = || Error::apply(format!("write {}", path.display()));
    let folder = path.parent().ok_or_else(failed)?;
    fs::create_dir_all(folder).context(failed)?;
    let temporary = temporary(path);
    let written = (|| {
        // One writer at a time holds the lock of passes, so a file that a killed pass left is simply replaced.
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?; // The umask does not matter.
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

/// Writes `bytes` to a file that must not exist yet. One that is not written whole is removed.
///
/// # Errors
/// [`Kind::Other`], with the path.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let failed = || Error::new(Kind::Other, format!("write {}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).context(failed)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written.context(failed)
}

/// What [`write_json`] wrote, if it exists.
///
/// # Errors
/// [`Kind::Observe`]: it cannot be read, or holds something else.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let parse =
        |text: String| serde_json::from_str(&text).context(|| Error::observe(format!("understand {}", path.display())));
    read(path)?.map(|(text, _)| parse(text)).transpose()
}

/// Writes a value as JSON, by [`write_atomic`].
pub(crate) fn write_json(path: &Path, value: &impl Serialize, mode: u32) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).context(|| Error::new(Kind::Other, "encode as JSON"))?;
    write_atomic(path, &json, mode)
}

/// The name of the temporary file: hidden, and with an ending that `conf.d/*.conf` does not match.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Makes a file that has no content to lose: its time of change is the message.
pub(crate) fn touch(path: &Path) -> Result<()> {
    File::create(path).map(drop).context(|| Error::apply(format!("write {}", path.display())))
}

/// Renames a file over another one of the same folder, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    let failed = || Error::apply(format!("rename {} to {}", from.display(), to.display()));
    fs::rename(from, to).context(failed)?;
    sync_folder(to).context(failed)
}

/// Makes the names in the folder of `path` durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Removes a file if it is there, durably.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let failed = || Error::apply(format!("remove {}", path.display()));
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        // A read-only file system refuses even to remove a file that is not there.
        Err(_) if matches!(path.try_exists(), Ok(false)) => Ok(()),
        Err(e) => Err(failed().because(e)),
        Ok(()) => sync_folder(path).context(failed),
    }
}

/// A file's text and permission bits, or `None` if there is no such file. "Could not read" is an error, never `None`.
///
/// The bits are `None` if another user owns the file: its owner can change them at any time.
///
/// # Errors
/// [`Kind::Observe`], with the path.
pub(crate) fn read(path: &Path) -> Result<Option<(String, Option<u32>)>> {
    let found = read_bytes(path, LARGEST).context(|| Error::observe(format!("read {}", path.display())))?;
    Ok(found.map(|(bytes, meta)| {
        let mode = (meta.uid() == geteuid().as_raw()).then_some(meta.mode() & 0o7777);
        // crosswan writes only UTF-8. Other bytes compare unequal, and the file is replaced.
        let text = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        (text, mode)
    }))
}

/// The content of a regular file of at most `largest` bytes, with the metadata of this same open file; `None` if there is no
/// such file. Never blocks.
pub(crate) fn read_bytes(path: &Path, largest: u64) -> io::Result<Option<(Vec<u8>, Metadata)>> {
    // Without O_NONBLOCK the open of a FIFO would wait for a writer for ever.
    let file = match OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut content = Vec::new();
    file.take(largest + 1).read_to_end(&mut content)?;
    if content.len() as u64 > largest {
        return Err(io::Error::other(format!("larger than {} MiB", largest >> 20)));
    }
    Ok(Some((content, meta)))
}

/// A file's inode and time of change; `None` while there is no such file.
pub(crate) type Stamp = Option<(u64, i64, i64)>;

/// The stamps of the file and of its folder. One of them changes whenever the file is edited, or it or a file beside it is replaced:
/// a rename changes the folder.
pub(crate) fn stamps(path: &Path) -> [Stamp; 2] {
    let stamp = |path: &Path| fs::metadata(path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
    [stamp(path), path.parent().and_then(stamp)]
}

/// How a lock is held: by one process alone, or by any number that only keep those away that hold it alone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hold {
    /// For `refresh`: nobody else holds it.
    Alone,
    /// For a look of `keep` or `watch`: no refresh holds it.
    Shared,
}

/// Takes the lock at `path`. It is held until dropped, and the kernel releases it when the process dies in whatever way.
///
/// # Errors
/// [`Kind::Busy`] if it is not free within `patience`; the message blames `holder`, who else may hold it. [`Kind::Other`] if the
/// file cannot be opened or locked at all.
pub(crate) fn lock(path: &Path, hold: Hold, patience: Duration, holder: &str) -> Result<Flock<File>> {
    let failed = || Error::new(Kind::Other, format!("lock {}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context(failed)?;
    }
    let mut file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).context(failed)?;
    let kind = || match hold {
        Hold::Alone => FlockArg::LockExclusiveNonblock,
        Hold::Shared => FlockArg::LockSharedNonblock,
    };
    let deadline = Instant::now() + patience;
    loop {
        match Flock::lock(file, kind()) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                file = back;
                std::thread::sleep(Duration::from_millis(100));
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let what = format!("{holder} has held {} for {patience:?}; try again later", path.display());
                return Err(Error::new(Kind::Busy, what));
            }
            Err((_, e)) => return Err(failed().because(e)),
        }
    }
}

/// As [`lock`] alone, and leaves a text in the file for whoever finds it locked.
///
/// # Errors
/// Those of [`lock`], and of [`Kind::Other`] if the text cannot be written.
pub(crate) fn lock_saying(path: &Path, text: &str, patience: Duration, holder: &str) -> Result<Flock<File>> {
    let mut lock = lock(path, Hold::Alone, patience, holder)?;
    let written = lock.set_len(0).and_then(|()| lock.write_all(text.as_bytes()));
    written.context(|| Error::new(Kind::Other, format!("write {}", path.display())))?;
    Ok(lock)
}

/// Whether a look could ever take the lock at `path`. A resident loop asks at its start, so that a wrong folder is an error then
/// and not a warning at each look. It is fine if a refresh holds the lock now.
pub(crate) fn check_lock(path: &Path) -> Result<()> {
    match lock(path, Hold::Shared, Duration::ZERO, "a refresh") {
        Err(e) if e.kind() != Kind::Busy => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
