//! `crosswan-lab`: a region on this machine, to be shown (`demo`) or to look around in (`demo --keep`, `up`).

mod cast_demo;
mod demo;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use crosswan_lab::kernel;

/// A region of AWS on one machine, made of network namespaces: real strongSwan, iptables and crosswan, moto as EC2.
///
/// Nothing of this machine's own network or files is changed, and nothing is left when it ends.
/// Without root, or where this machine's kernel has no ESP, it all runs in a user-mode kernel. Usually called by `make demo`, `make demo KEEP=1` and `make cast-demo`.
#[derive(Parser)]
#[command(name = "crosswan-lab", verbatim_doc_comment, after_help = AFTER, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Exit codes of the demos: 0 every point was seen, 1 something failed, 2 wrong arguments, 130 interrupted.

Environment:
  CROSSWAN_BIN    the agent; otherwise `crosswan` beside this program
  CLOUDCASTER_BIN cloudcaster; otherwise `cloudcaster` beside this program
  CROSSWAN_MOTO   a moto_server; otherwise one is installed in ~/.cache/crosswan, once
  NO_COLOR        no colours, also on a terminal
  CROSSWAN_KERNEL         host or uml: this machine's kernel or a user-mode one; otherwise what is possible
  CROSSWAN_KERNEL_LIMIT   seconds that a program may take in a user-mode kernel; otherwise as long as it likes
  CROSSWAN_KERNEL_MEMORY  MiB of a user-mode kernel; otherwise 2048, which it takes as it needs them
  CROSSWAN_KERNEL_LINUX   a user-mode kernel; otherwise one is built in ~/.cache/crosswan, once";

#[derive(Subcommand)]
enum Command {
    /// Show crosswan's three modes at work, by real packets; about half a minute
    Demo {
        /// Leave the region up at the end and say how to look around in it
        #[arg(long)]
        keep: bool,
    },
    /// Show cloudcaster at work: a hub and clients cast from documents, then crossed by real packets; under a minute
    CastDemo,
    /// The same region before any agent has run; it ends with its standard input
    Up,
    /// Say which moto_server the lab uses; installs it if there is none
    Moto,
    /// Run a test program of cargo's where the lab runs; in user-mode kernels, one on each processor, each has its share of the tests
    Tests {
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
        argv: Vec<OsString>,
    },
    /// Run any program where the lab runs: in a user-mode kernel, unless this machine's own will do
    Kernel {
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
        argv: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    kernel::first_process();
    let in_kernel =
        |on_terminal, run: &dyn Fn() -> Result<ExitCode>| kernel::enter(&[], on_terminal)?.map_or_else(run, Ok);
    let result = match Cli::parse().command {
        Command::Demo { keep } => in_kernel(keep, &|| demo::run(&agent()?, keep)),
        Command::CastDemo => in_kernel(false, &|| cast_demo::run(&agent()?, &cloudcaster()?)),
        Command::Up => in_kernel(true, &|| up::run(&agent()?).map(|()| ExitCode::SUCCESS)),
        Command::Tests { argv } => kernel::run_tests(argv),
        Command::Kernel { argv } => kernel::run_program(argv),
        Command::Moto => crosswan_lab::moto_server().map(|path| {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }),
    };
    result.unwrap_or_else(|e| {
        eprintln!("crosswan-lab: {e:#}");
        ExitCode::FAILURE
    })
}

/// cloudcaster, once it is clear that it can be run.
fn cloudcaster() -> Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("cloudcaster"));
    let program =
        std::env::var_os("CLOUDCASTER_BIN").map(PathBuf::from).or_else(beside).context("where is cloudcaster?")?;
    ensure!(
        program.exists(),
        "{} does not exist: build it with `make build`, or set CLOUDCASTER_BIN",
        program.display()
    );
    Ok(program)
}

/// The agent to run, once it is clear that it can be.
fn agent() -> Result<PathBuf> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "needs root, to make network namespaces. Become root (su -, or sudo -i) and run the same command again"
    );
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("crosswan"));
    let agent = std::env::var_os("CROSSWAN_BIN").map(PathBuf::from).or_else(beside).context("where is crosswan?")?;
    ensure!(agent.exists(), "{} does not exist: build it with `make build`, or set CROSSWAN_BIN", agent.display());
    Ok(agent)
}
