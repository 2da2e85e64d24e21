//! A wall clock that can be stepped. CLOCK_REALTIME has no namespace: a shim before libc adds seconds that it reads from
//! shared memory, so that programs that are running see the step, too. Monotonic clocks stay as they are, as they do
//! when a machine's clock is set.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Gateway, Lab};

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

    /// One for a gateway of this lab alone, which is given to it.
    pub fn of(lab: &Lab, gateway: &Gateway) -> Result<Clock> {
        let folder = lab.dir().join(format!("clock-{}", gateway.instance));
        fs::create_dir_all(&folder)?;
        let clock = Clock::new(&folder)?;
        clock.give(gateway);
        Ok(clock)
    }

    /// Gives it to all programs that are started on a gateway from now on.
    pub fn give(&self, gateway: &Gateway) {
        gateway.set_env("LD_PRELOAD", &self.shim.to_string_lossy());
        gateway.set_env("LAB_CLOCK_STEP", &self.step.to_string_lossy());
    }

    /// Seconds from the machine's own clock, from now on. In place and never shorter: the programs have it mapped, and one
    /// that looks at a page its file no longer reaches is killed (SIGBUS).
    pub fn set(&self, seconds: i64) -> Result<()> {
        let mut step = File::options().write(true).create(true).truncate(false).open(&self.step)?;
        Ok(step.write_all(&seconds.to_ne_bytes())?)
    }
}

#[test]
fn a_program_that_looks_at_the_clock_all_the_time_survives_its_being_set() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let clock = Clock::new(folder.path())?;
    let mut perl = Command::new("perl");
    perl.args(["-e", "1 while time < 4e9"]).env("LD_PRELOAD", &clock.shim).env("LAB_CLOCK_STEP", &clock.step);
    let mut program = perl.spawn().context("start perl")?;
    for step in 0..50_000 {
        clock.set(-step)?;
    }
    let ended = program.try_wait()?;
    clock.set(4_000_000_000)?;
    ensure!(ended.is_none(), "it ended while the clock was being set: {ended:?}");
    ensure!(program.wait()?.success());
    Ok(())
}
