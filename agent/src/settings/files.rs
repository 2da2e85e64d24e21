//! Reading a settings or key file, with "no such file" apart from "cannot read".

use std::{fs::Metadata, io, path::Path};

use nix::errno::Errno;

use crate::files::read_bytes;
use crosswan_core::{
    error::{Context, Error, Result},
    settings::show,
};

/// No settings or key file is near this size.
const LARGEST: u64 = 1 << 20;

/// The content of a file and its metadata; `None` if there is no such file.
///
/// # Errors
/// Those of [`read_bytes`], and a link that leads nowhere: somebody meant it to lead somewhere.
pub(super) fn read(path: &Path) -> io::Result<Option<(Vec<u8>, Metadata)>> {
    match read_bytes(path, LARGEST)? {
        None if path.is_symlink() => Err(Errno::ENOENT.into()),
        found => Ok(found),
    }
}

/// [`read`] for settings, which are UTF-8.
///
/// # Errors
/// Of kind `Settings`, with the file, and the line if the text is not UTF-8.
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
    // Windows editors begin a file with a byte order mark, which is not part of the first name.
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(Some((text, meta)))
}
