//! `crosswan-lab`: a region on this machine, to be shown (`demo`) or to look around in (`demo --keep`, `up`).

mod demo;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

const HELP: &str = "\
A region of AWS on one machine, made of network namespaces: real strongSwan, iptables and crosswan, moto as EC2.
Nothing of this machine's own network or files is changed, and nothing is left when it ends.

Usage:
  crosswan-lab demo [--keep]   show crosswan's three modes at work, by real packets; about half a minute.
                               --keep leaves the region up at the end and says how to look around in it
  crosswan-lab up              the same region before any agent has run; ends with its standard input
  crosswan-lab moto            say which moto_server the lab uses; installs it if there is none

Needs root. Usually called by `make demo` and `make demo KEEP=1`.

Exit codes of demo: 0 every point was seen, 1 something failed, 2 wrong arguments, 130 interrupted.

Environment:
  CROSSWAN_BIN    the agent; otherwise `crosswan` beside this program
  CROSSWAN_MOTO   a moto_server; otherwise one is installed in ~/.cache/crosswan, once
  NO_COLOR        no colours, also on a terminal
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["demo"] => agent().and_then(|agent| demo::run(&agent, false)),
        ["demo", "--keep"] => agent().and_then(|agent| demo::run(&agent, true)),
        ["up"] => agent().and_then(|agent| up::run(&agent)).map(|()| ExitCode::SUCCESS),
        ["moto"] => crosswan_lab::moto_server().map(|path| {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }),
        ["-h" | "--help" | "help"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => {
            let wrong =
                if other.is_empty() { "what to do?".into() } else { format!("no such call: {}", other.join(" ")) };
            eprintln!("crosswan-lab: {wrong} Try: crosswan-lab --help");
            return ExitCode::from(2);
        }
    };
    result.unwrap_or_else(|e| {
        eprintln!("crosswan-lab: {e:#}");
        ExitCode::FAILURE
    })
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
