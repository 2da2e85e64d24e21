//! `crosswan-faults`: everything that goes wrong around a gateway, in the lab, as a table (`make faults`, `make churn`).

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use crosswan_faults::{
    campaign::{self, Row},
    churn::{self, Churned},
    faults::{ALL, Fault, Others},
};

const HELP: &str = "\
Everything that goes wrong around a gateway, in a region on this machine with real strongSwan, iptables and crosswan.
Between untouched peers packets flow all the while. Needs root.

Usage:
  crosswan-faults run [--quick] [--only NAME]... [--write FILE]   every fault, one after the other; about 20 minutes
  crosswan-faults list                                             what there is
  crosswan-faults churn [N] [--seed S] [--write FILE]              N refreshes (1000) while peers come, go and change

Exit codes: 0 all good, 1 something was lost, left or not healed, 2 wrong arguments.

Environment:
  CROSSWAN_BIN    the agent; otherwise `crosswan` beside this program
  CROSSWAN_MOTO   a moto_server; otherwise one is installed in ~/.cache/crosswan, once
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = match Options::parse(&args) {
        Ok(options) => options,
        Err(e) => {
            eprintln!("crosswan-faults: {e:#}. Try: crosswan-faults --help");
            return ExitCode::from(2);
        }
    };
    match options.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("crosswan-faults: {e:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Options {
    what: String,
    quick: bool,
    only: Vec<String>,
    write: Option<PathBuf>,
    refreshes: Option<u32>,
    seed: Option<u64>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Options> {
        let mut args = args.iter();
        let mut options = Options { what: args.next().context("what to do?")?.clone(), ..Options::default() };
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
            match (options.what.as_str(), arg.as_str()) {
                ("run", "--quick") => options.quick = true,
                ("run", "--only") => options.only.push(value()?.clone()),
                ("run" | "churn", "--write") => options.write = Some(value()?.into()),
                ("churn", "--seed") => options.seed = Some(value()?.parse().context("--seed")?),
                ("churn", n) if !n.starts_with('-') => options.refreshes = Some(n.parse().context("how many?")?),
                _ => bail!("no such argument: {arg}"),
            }
        }
        let unknown = options.only.iter().find(|name| ALL.iter().all(|fault| fault.name != **name));
        ensure!(unknown.is_none(), "no such fault: {unknown:?}");
        ensure!(
            ["run", "list", "churn", "--help", "-h"].contains(&options.what.as_str()),
            "no such call: {}",
            options.what
        );
        Ok(options)
    }

    /// Whether all was good.
    fn run(&self) -> Result<bool> {
        let started = Instant::now();
        let say = |text: &str| eprintln!("{:7.1}s  {text}", started.elapsed().as_secs_f64());
        let (text, good) = match self.what.as_str() {
            "run" => {
                let pick = |name: &str| self.only.is_empty() || self.only.iter().any(|only| only == name);
                let pick = |fault: &Fault| pick(fault.name) && (!self.quick || fault.quick);
                // After each row: a campaign that is interrupted leaves what it knows.
                let rows = campaign::run(self.quick, pick, &say, &|rows| self.write(&faults(rows, started)))?;
                (faults(&rows, started), rows.iter().all(Row::is_good))
            }
            "churn" => {
                let seed = self.seed.unwrap_or(1);
                let churned = churn::run(self.refreshes.unwrap_or(1000), seed, &mut |text| say(text))?;
                (churned.to_markdown(seed), Churned::is_good(&churned))
            }
            "list" => {
                ALL.iter().for_each(|fault| println!("{:<22}{}", fault.name, fault.what));
                return Ok(true);
            }
            _ => {
                print!("{HELP}");
                return Ok(true);
            }
        };
        print!("{text}");
        self.write(&text)?;
        Ok(good)
    }

    fn write(&self, text: &str) -> Result<()> {
        let Some(path) = &self.write else { return Ok(()) };
        path.parent().map(fs::create_dir_all).transpose()?;
        fs::write(path, format!("{text}\n{}", machine())).with_context(|| format!("write {}", path.display()))
    }
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
the call. The clock: a shim before libc, as CLOCK_REALTIME has no namespace. ESP is charon's own in the lab, so a hub \
whose charon is away carries nothing; kernel ESP would go on.
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
