//! Reads files that have an end.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

/// A whole file of at most `largest` bytes. A pipe or a device is refused, since it may never end; `/dev/stdin` is one on
/// purpose.
///
/// # Errors
/// What the system says, or that it is not a regular file, or that it is too large.
pub fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?;
    if !kind.is_file() && path != Path::new("/dev/stdin") {
        return Err(io::Error::other(if kind.is_dir() { "a folder" } else { "not a regular file" }));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::other(format!("larger than {largest} bytes")));
    }
    Ok(bytes)
}
