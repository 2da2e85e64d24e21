//! On which processor a program runs, inside of a user-mode kernel with several: what is measured on the first one, the other machines on
//! the second. Else the load of a hundred gateways would be the hub's own.
//!
//! Each virtual processor has one of this machine's for itself, and a process stays where it was started: a page fault that has to wake
//! another processor takes several times as long (docs/facts.md, "The lab's kernel").

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::INSIDE;

/// How long a kernel has to start its processors.
const START: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// One processor alone.
pub fn only(processor: usize) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    Ok(set)
}

/// Whether this is inside of a kernel that has several.
pub fn are_several() -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    *SEVERAL.get_or_init(|| std::env::var_os(INSIDE).is_some() && count() > 1)
}

/// How many this kernel has.
pub fn count() -> i64 {
    sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().unwrap_or(1)
}

/// Gives each thread of a user-mode kernel that is a virtual processor one of these of this machine.
pub fn pin(kernel: u32, processors: &[usize]) -> Result<()> {
    let deadline = Instant::now() + START;
    loop {
        // One that has ended already says why on its console.
        let Ok(threads) = fs::read_dir(format!("/proc/{kernel}/task")) else { return Ok(()) };
        let mut threads: Vec<i32> = threads.flatten().filter_map(|t| t.file_name().to_str()?.parse().ok()).collect();
        threads.sort_unstable();
        if threads.len() >= processors.len() {
            for (thread, processor) in threads.into_iter().zip(processors) {
                sched_setaffinity(Pid::from_raw(thread), &only(*processor)?).context("give a thread its processor")?;
            }
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the kernel has not started {} processors: was it built for that?",
            processors.len()
        );
        std::thread::sleep(LOOK);
    }
}

/// The command's process starts on the first processor or on the second.
pub fn start_on(command: &mut Command, first: bool) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let set = only(usize::from(!first))?;
    // SAFETY: one async-signal-safe system call.
    unsafe {
        command.pre_exec(move || Ok(sched_setaffinity(Pid::from_raw(0), &set)?));
    }
    Ok(())
}
