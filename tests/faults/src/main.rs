//! `crosswan-faults`: everything that goes wrong around a gateway, in the lab, as a table (`make faults`, `make churn`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, builder::PossibleValuesParser};
use crosswan_faults::{
    campaign::{self, Row},
    churn::{self, Churned},
    faults::{ALL, Fault, Others},
};
use crosswan_lab::kernel;

/// Everything that goes wrong around a gateway, in a region on this machine with real strongSwan, iptables and crosswan.
///
/// Between untouched peers packets flow all the while. Needs root.
#[derive(Parser)]
#[command(name = "crosswan-faults", after_help = AFTER, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: What,
}

const AFTER: &str = "\
Exit codes: 0 all good, 1 something was lost, left or not healed, 2 wrong arguments.

Environment:
  CROSSWAN_BIN    the agent; otherwise `crosswan` beside this program
  CROSSWAN_MOTO   a moto_server; otherwise one is installed in ~/.cache/crosswan, once";

#[derive(Subcommand)]
enum What {
    /// Every fault, one after the other; about 20 minutes
    Run {
        /// Only those that are over soon
        #[arg(long)]
        quick: bool,
        /// Only this one; may be given again
        #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(ALL.iter().map(|fault| fault.name)), hide_possible_values = true)]
        only: Vec<String>,
        /// Write the table to this file, too
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// What there is
    List,
    /// Refreshes while peers come, go and change
    Churn {
        /// How many refreshes
        #[arg(value_name = "N", default_value_t = 1000)]
        refreshes: u32,
        /// Of the random numbers that say what happens
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// A flood of knocks all the while, from addresses that the hub does not know
        #[arg(long)]
        knocks: bool,
        /// Write the result to this file, too
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    kernel::first_process();
    Cli::parse().command.main().unwrap_or_else(|e| {
        eprintln!("crosswan-faults: {e:#}");
        ExitCode::FAILURE
    })
}

impl What {
    /// Where the lab runs.
    fn main(&self) -> Result<ExitCode> {
        let writes: Vec<PathBuf> = match self {
            What::Run { write, .. } | What::Churn { write, .. } => write.iter().cloned().collect(),
            What::List => return self.run().map(|_| ExitCode::SUCCESS),
        };
        let here = || self.run().map(|good| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        kernel::enter(&writes, false)?.map_or_else(here, Ok)
    }

    /// Whether all was good.
    fn run(&self) -> Result<bool> {
        let started = Instant::now();
        let say = |text: &str| eprintln!("{:7.1}s  {text}", started.elapsed().as_secs_f64());
        let (text, good, path) = match self {
            What::Run { quick, only, write: path } => {
                let named = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
                let pick = |fault: &Fault| named(fault.name) && (!quick || fault.quick);
                // After each row: a campaign that is interrupted leaves what it knows.
                let rows = campaign::run(*quick, pick, &say, &|rows| write(path.as_deref(), &faults(rows, started)))?;
                (faults(&rows, started), rows.iter().all(Row::is_good), path)
            }
            What::Churn { refreshes, seed, knocks, write } => {
                let churned = churn::run(*refreshes, *seed, *knocks, &mut |text| say(text))?;
                (churned.to_markdown(*seed), Churned::is_good(&churned), write)
            }
            What::List => {
                ALL.iter().for_each(|fault| println!("{:<22}{}", fault.name, fault.what));
                return Ok(true);
            }
        };
        print!("{text}");
        write(path.as_deref(), &text)?;
        Ok(good)
    }
}

fn write(path: Option<&Path>, text: &str) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    path.parent().map(fs::create_dir_all).transpose()?;
    fs::write(path, format!("{text}\n{}", machine())).with_context(|| format!("write {}", path.display()))
}

fn faults(rows: &[Row], started: Instant) -> String {
    let good = rows.iter().filter(|row| row.is_good()).count();
    let untouched = rows.iter().filter(|row| row.fault.others == Others::Untouched);
    let slowest = untouched.map(|row| row.slowest).max().unwrap_or_default();
    let (sent, lost) = rows.iter().fold((0, 0), |sum, row| match row.fault.others {
        Others::Untouched => (sum.0 + row.sent, sum.1 + row.lost),
        Others::AllMeet => sum,
    });
    format!(
        "# Faults\n\n`make faults`: {good} of {} faults as they should be, {lost} of {sent} packets between untouched peers lost, \
         the slowest answer after {:.2} s, in {:.0} minutes.\n\n{}\n{NOTES}",
        rows.len(),
        slowest.as_secs_f64(),
        started.elapsed().as_secs_f64() / 60.0,
        campaign::table(rows)
    )
}

const NOTES: &str = "\
Packets: three streams of twenty pings a second between hosts of the hub's VPC and of two clients to which nothing is \
done; one that is not answered within twenty seconds is lost (a machine that is \
busy with other things delays packets). Within: the time of the healing pass, or the outage of the \
victim's own tunnel where that is what heals. Further pass: after each fault one more undisturbed pass on hub and victim \
must leave files with their modes and owners, connections, secrets and rules exactly as they were before it, the next one \
must find nothing to do on any gateway, and there must be exactly one SA of each. Kills: strace sends SIGKILL just before \
the call. The clock: a shim before libc, as CLOCK_REALTIME has no namespace. Of a pair, whose region is its own, the untouched \
peers are a host of the hub's VPC and one of another client; what its own hosts lost stands under \"healed by\", and \
\"within\" is what that ends with. After each fault the routes are led to the older member again, and `crosswan pair` is \
started anew on both, so that no hold-down of one fault is part of the next. In none of them may a private address be seen \
on the internet's router, nor a private packet in the clear at those of the VPCs.
";

/// Where it ran.
fn machine() -> String {
    let first = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        output.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    };
    format!(
        "{} cores, Linux {}, {}, {}.\n",
        std::thread::available_parallelism().map_or(0, usize::from),
        first("uname", &["-r"]),
        first("dpkg-query", &["-W", "-f", "strongSwan ${Version}\n", "charon-systemd"]),
        first("iptables", &["--version"]),
    )
}
