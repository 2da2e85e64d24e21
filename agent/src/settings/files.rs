//! Reading a settings or key file: bounded in size, never blocking, and "no such file" apart from "cannot read".

#![allow(clippy::disallowed_methods, reason = "edge: opens to read, without blocking on a pipe")]

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;

use crosswan_core::{
    error::{Context, Error, Result},
    settings::show,
};

/// No settings or key file is near this size.
const MAX: u64 = 1 << 20;

/// The content of a regular file with the metadata of just this open file; `None` if there is no such file.
/// A link that leads nowhere is an error: somebody meant it to lead somewhere.
pub(super) fn read(path: &Path) -> io::Result<Option<(Vec<u8>, Metadata)>> {
    // Without O_NONBLOCK the open of a FIFO would wait for a writer for ever.
    let file: File = match OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound && !path.is_symlink() => return Ok(None),
        opened => opened?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut content = Vec::new();
    file.take(MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(Some((content, meta)))
}

/// [`read`] for settings, which are UTF-8.
pub(super) fn read_text(path: &Path) -> Result<Option<(String, Metadata)>> {
    let Some((content, meta)) = read(path).context(|| Error::settings(format!("read {}", show(path))))? else {
        return Ok(None);
    };
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Err(Error::settings(format!("{}: expected UTF-8 text, found UTF-16; save it as UTF-8", show(path))));
    }
    let mut text = String::from_utf8(content).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Error::settings(format!("{}:{line}: expected UTF-8 text, found other bytes", show(path)))
    })?;
    // Windows editors begin a file with a byte order mark; it is not part of the first name.
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(Some((text, meta)))
}
