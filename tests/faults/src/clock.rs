//! A wall clock that can be stepped. CLOCK_REALTIME has no namespace: a shim before libc adds seconds that it reads from
//! shared memory, so that programs that are running see the step, too. Monotonic clocks stay as they are, as they do
//! when a machine's clock is set.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use crosswan_lab::Gateway;

const SHIM: &str = include_str!("clock.c");

/// The clock of every gateway it was given to.
pub struct Clock {
    shim: PathBuf,
    step: PathBuf,
}

impl Clock {
    /// Builds the shim in a folder.
    pub fn new(folder: &Path) -> Result<Clock> {
        let (source, shim, step) = (folder.join("clock.c"), folder.join("clock.so"), folder.join("clock.step"));
        fs::write(&source, SHIM)?;
        let mut cc = Command::new("cc");
        let output = cc.args(["-shared", "-fPIC", "-O2", "-o"]).args([&shim, &source]).output().context("start cc")?;
        ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        let clock = Clock { shim, step };
        clock.set(0)?;
        Ok(clock)
    }

    /// Gives it to all programs that are started on a gateway from now on.
    pub fn give(&self, gateway: &Gateway) {
        gateway.set_env("LD_PRELOAD", &self.shim.to_string_lossy());
        gateway.set_env("LAB_CLOCK_STEP", &self.step.to_string_lossy());
    }

    /// Seconds from the machine's own clock, from now on. In place: the programs have it mapped.
    pub fn set(&self, seconds: i64) -> Result<()> {
        Ok(fs::write(&self.step, seconds.to_ne_bytes())?)
    }
}
