//! Reads an observation from a file, in the form of [`Seen`].

use std::path::Path;

use crate::{files, seen::Seen, text};

/// An observation of a large region is a few megabytes.
const LARGEST: u64 = 64 << 20;

/// # Errors
/// The file cannot be read, is not an observation, or is incomplete; the text names the file and the remedy.
pub fn from_file(path: &Path) -> Result<Seen, String> {
    let name = path.display();
    let bytes = files::read(path, LARGEST).map_err(|e| format!("{name}: cannot be read: {e}"))?;
    let seen: Seen = serde_json::from_slice(&bytes).map_err(|e| format!("{name}: is not an observation: {e}"))?;
    if seen.region.is_empty() {
        return Err(format!("{name}: says no region, so nothing can be planned against it"));
    }
    let gaps = seen.gaps();
    match gaps.first() {
        None => Ok(seen),
        Some(first) => {
            let more = if gaps.len() > 1 { format!(" (and {} more)", gaps.len() - 1) } else { String::new() };
            Err(format!("{name}: is incomplete: {}{more}; observe the region again", text::plain(first)))
        }
    }
}
