//! The kernel the lab runs on: this machine's own, or a user-mode kernel that is booted for one program and ends with it.
//!
//! [`enter`] is called first in `main` by every program that makes a lab. Outside of a user-mode kernel it decides; where one is
//! needed it boots it ([`outside`]) with the same program as its first process ([`inside`]), which starts the program again with its
//! arguments, environment and folder. Both halves speak by frames ([`wire`]) over the kernel's serial line.

mod choice;
mod files;
mod image;
mod inside;
mod job;
mod machine;
mod memory;
mod outside;
pub(crate) mod processors;
mod terminal;
mod wire;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

pub use choice::{Kernel, choose};
pub use job::Job;
pub use outside::{Limits, run};

/// Set inside of a user-mode kernel, to the folder outside whose files stay. The agent ignores names that begin like this.
pub const INSIDE: &str = "CROSSWAN_LAB_OUT";

/// Becomes the first process of a user-mode kernel, where this is it: then it does not return. The first line of every `main`.
pub fn first_process() {
    if std::process::id() == 1
        && let Some(job) = std::env::var_os(job::VARIABLE)
    {
        inside::main(&PathBuf::from(job));
    }
}

/// Runs this program again in a user-mode kernel and returns its exit code; `None` when it is to go on here, because it is inside
/// already or because this machine's own kernel will do. Files that it writes below `writes` stay, as do those of its checkout, of its
/// build folder and of the current folder. `on_terminal` is for a program that a person talks to: where this one is on a terminal, so is
/// that one.
pub fn enter(writes: &[PathBuf], on_terminal: bool) -> Result<Option<ExitCode>> {
    let terminal = if on_terminal { terminal::size() } else { None };
    enter_with(std::env::args_os().skip(1), writes, terminal, None)
}

/// As [`enter`], with these arguments, and in a kernel with so many processors, if it is one of its own.
pub fn enter_on(
    processors: usize,
    arguments: impl IntoIterator<Item = OsString>,
    writes: &[PathBuf],
) -> Result<Option<ExitCode>> {
    enter_with(arguments, writes, None, Some(processors))
}

fn enter_with(
    arguments: impl IntoIterator<Item = OsString>,
    writes: &[PathBuf],
    terminal: Option<(u16, u16)>,
    processors: Option<usize>,
) -> Result<Option<ExitCode>> {
    if !needed()? {
        return Ok(None);
    }
    let program = std::env::current_exe().context("where is this program?")?.into_os_string();
    let job = Job { terminal, ..Job::here(std::iter::once(program).chain(arguments).collect(), writes)? };
    let limits = Limits::from_environment()?;
    run(&job, &Limits { processors: processors.unwrap_or(limits.processors), ..limits }).map(Some)
}

/// Runs any program where the lab runs, and returns its exit code; in place of this one, where no kernel has to be booted for it.
pub fn run_program(argv: Vec<OsString>) -> Result<ExitCode> {
    if needed()? {
        return run(&Job::here(argv, &[])?, &Limits::from_environment()?);
    }
    exec(&argv)
}

/// Runs a test program of cargo's where the lab runs, as [`run_program`] does. Its user-mode kernels have one processor each, so there are as many
/// kernels as this machine has processors, each with its share of the tests.
pub fn run_tests(mut argv: Vec<OsString>) -> Result<ExitCode> {
    if !needed()? {
        return exec(&argv);
    }
    let (program, arguments) = argv.split_first().context("no program")?;
    let list = Command::new(program).args(arguments).args(["--list", "--format", "terse"]).output();
    let list = list.with_context(|| format!("start {}", program.display()))?;
    let tests: Vec<String> = String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter_map(|line| Some(line.strip_suffix(": test")?.into()))
        .collect();
    let kernels = machine::processors()?.len().min(tests.len());
    if kernels < 2 || !list.status.success() {
        return run(&Job::here(argv, &[])?, &Limits::from_environment()?);
    }
    if !argv.iter().any(|argument| argument == "--exact") {
        argv.push("--exact".into());
    }
    eprintln!("kernel: {kernels} of them share {} tests", tests.len());
    let share = |first| argv.iter().cloned().chain(tests.iter().skip(first).step_by(kernels).map(OsString::from));
    let jobs = (0..kernels).map(|first| Job::here(share(first).collect(), &[])).collect::<Result<Vec<_>>>()?;
    outside::run_all(&jobs, &Limits::from_environment()?)
}

/// Becomes the program.
fn exec(argv: &[OsString]) -> Result<ExitCode> {
    let (program, arguments) = argv.split_first().context("no program")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("start {}", program.display()))
}

/// Whether a kernel has to be booted. What a lab fetches from the network is fetched now: inside there is none.
fn needed() -> Result<bool> {
    if std::env::var_os(INSIDE).is_some() || choose()? == Kernel::Host {
        return Ok(false);
    }
    crate::moto::server()?;
    Ok(true)
}

/// Where something is kept that should outlive the lab: this machine's folder for temporary files, or what stands for it inside.
pub fn keep_dir() -> PathBuf {
    std::env::var_os(INSIDE).map_or_else(std::env::temp_dir, PathBuf::from)
}
