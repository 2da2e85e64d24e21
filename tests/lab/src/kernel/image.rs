//! The kernel's program: in the cache, or built by `tests/kernel/build.sh`.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// `CROSSWAN_KERNEL_LINUX`, else the one in the cache, which is built on first use. What the script has to say it says itself.
pub fn linux() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CROSSWAN_KERNEL_LINUX") {
        return Ok(path.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel/build.sh");
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
