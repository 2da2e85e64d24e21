//! The kernel's program: in the cache, or built by `tests/kernel/build.sh` or, for several processors, `several.sh`.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// `CROSSWAN_KERNEL_LINUX`, else the one in the cache for so many processors, which is built on first use. What the script has to say it
/// says itself.
pub fn linux(processors: usize) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CROSSWAN_KERNEL_LINUX") {
        return Ok(path.into());
    }
    let script = if processors == 1 { "build.sh" } else { "several.sh" };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel").join(script);
    let output = Command::new(&script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", script.display()))?;
    ensure!(output.status.success(), "there is no kernel for the lab; the reason is above");
    let mut path = output.stdout;
    while path.last() == Some(&b'\n') {
        path.pop();
    }
    Ok(PathBuf::from(std::ffi::OsString::from_vec(path)))
}
