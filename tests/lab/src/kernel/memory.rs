//! Where a user-mode kernel's memory lies: it is a file without a name, which grows as the kernel uses it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::statvfs::{FsFlags, statvfs};

const MIB: u64 = 1 << 20;
const SHM: &str = "/dev/shm";

/// A folder with room for `size` bytes in which programs may be mapped; says so where it is not `/dev/shm`.
pub fn folder(size: u64) -> Result<PathBuf> {
    let temporary = std::env::temp_dir();
    let shm = fault(Path::new(SHM), size);
    let Some(shm) = shm else { return Ok(SHM.into()) };
    if let Some(other) = fault(&temporary, size) {
        bail!(
            "a user-mode kernel needs {} MiB for its memory, and {SHM} {shm}, {} {other}: set TMPDIR to a folder with more \
             room, or CROSSWAN_KERNEL_MEMORY to fewer MiB (a demo needs 600)",
            size / MIB,
            temporary.display()
        );
    }
    eprintln!("kernel: its memory lies in {}, which is slower, because {SHM} {shm}", temporary.display());
    Ok(temporary)
}

/// Why a folder will not do.
fn fault(folder: &Path, size: u64) -> Option<String> {
    let found = match statvfs(folder) {
        Ok(found) => found,
        Err(e) => return Some(format!("cannot be used ({})", e.desc())),
    };
    let free = found.blocks_available() as u64 * found.fragment_size() as u64;
    if found.flags().contains(FsFlags::ST_NOEXEC) {
        return Some("is mounted noexec".into());
    }
    (free < size).then(|| format!("has {} MiB free", free / MIB))
}

/// `CROSSWAN_KERNEL_MEMORY`, MiB, as bytes; otherwise `default` MiB.
pub fn size(default: u64) -> Result<u64> {
    let Some(value) = std::env::var_os("CROSSWAN_KERNEL_MEMORY") else { return Ok(default * MIB) };
    let number: Option<u64> = value.to_str().and_then(|value| value.parse().ok());
    let number = number.filter(|number| (128..=1 << 20).contains(number));
    let number = number
        .with_context(|| format!("CROSSWAN_KERNEL_MEMORY: expected a number of MiB from 128 on, found {value:?}"))?;
    Ok(number * MIB)
}
