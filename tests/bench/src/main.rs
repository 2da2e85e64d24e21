//! `crosswan-bench`: the budgets of the agent, each beside its baseline in the same run.

mod cloud;
mod hub;
mod key;
mod keys;
mod measure;
mod peers;
mod plot;
mod regions;
mod restart;
mod results;
mod size;
mod stages;
mod vici;
mod xml;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::hub::Hub;
use crate::results::Section;

const HELP: &str = "\
The budgets of crosswan as benchmarks, each beside its baseline in the same run: a canned EC2, real charon and iptables.

Usage: crosswan-bench [--quick] [--peers N,N...] [--out DIR] [NAME...]

  size      the release binary
  peers     growth from 10 to 10,000 peers; beside swanctl --load-all and a boto3 script
  keys      raw keys against a pre-shared one: loading 1,000 and 5,000, and charon's memory
  regions   20 slow regions, beside one and beside the boto3 script
  restart   a hub killed with 1,000 tunnels up, beside charon alone
  stages    micro-benchmarks of the pure stages, by cargo bench

Without a NAME all of them: about half an hour. --quick: tiny sizes, nothing is judged; a test that it works.
--peers: other sizes than 10, 100, 1000, 2000, 5000 and 10000; budgets then hold for the largest at most as large.
--out: where results.md and the plots go, otherwise tests/bench/results.
Needs root. Usually called by `make bench`. Exit codes: 0 every budget was met, 1 one was not, or an error.

Environment:
  CROSSWAN_BIN    the agent, a release build
  CROSSWAN_MOTO   a moto_server, for the lab and for the boto3 beside it
";

/// What a benchmark needs to know.
pub struct Setup {
    agent: PathBuf,
    out: PathBuf,
    quick: bool,
    /// Sizes of `peers`, ascending.
    peers: Vec<usize>,
    /// See [`results::circumstances`].
    circumstances: String,
    hub: OnceCell<Hub>,
}

impl Setup {
    /// The hub of all benchmarks, brought up when the first one asks for it.
    fn hub(&self) -> Result<&Hub> {
        if self.hub.get().is_none() {
            say("bringing up the lab");
            let _ = self.hub.set(Hub::new(&self.agent)?);
        }
        self.hub.get().context("no hub")
    }
}

type Bench = fn(&Setup) -> Result<Section>;
const ALL: [(&str, Bench); 6] = [
    ("size", size::bench),
    ("peers", peers::bench),
    ("keys", keys::bench),
    ("regions", regions::bench),
    ("restart", restart::bench),
    ("stages", stages::bench),
];

/// Progress, for a person who waits.
pub fn say(what: &str) {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    eprintln!("{:6.1}s  {what}", START.get_or_init(Instant::now).elapsed().as_secs_f64());
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("-h" | "--help") => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some("measure") => measure::wrapper(&args[1..]),
        _ => run(args),
    };
    result.unwrap_or_else(|e| {
        eprintln!("crosswan-bench: {e:#}");
        ExitCode::FAILURE
    })
}

fn run(args: Vec<String>) -> Result<ExitCode> {
    let (mut names, mut quick, mut peers) = (Vec::new(), false, vec![10, 100, 1000, 2000, 5000, 10_000]);
    let mut out = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/results"));
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => (quick, peers) = (true, vec![3, 20]),
            "--peers" => {
                let sizes = args.next().context("--peers needs numbers")?;
                peers = sizes.split(',').map(str::parse).collect::<Result<_, _>>().context("--peers needs numbers")?;
            }
            "--out" => out = args.next().context("--out needs a folder")?.into(),
            name if ALL.iter().any(|(known, _)| *known == name) => names.push(arg),
            _ => bail!("no such call: {arg}. Try: crosswan-bench --help"),
        }
    }
    ensure!(nix::unistd::geteuid().is_root(), "needs root, to make network namespaces");
    let agent = std::env::var_os("CROSSWAN_BIN").map(PathBuf::from).context("set CROSSWAN_BIN to the agent")?;
    let setup =
        Setup { circumstances: results::circumstances(&agent)?, agent, out, quick, peers, hub: OnceCell::new() };
    let order = ALL.map(|(name, _)| name);
    let mut missed = Vec::new();
    for (name, bench) in ALL.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)) {
        say(&format!("== {name}"));
        let section = bench(&setup).with_context(|| format!("benchmark {name}"))?;
        section.publish(&setup, &order)?;
        missed.extend(section.budgets.into_iter().filter(|b| !b.met && !quick).map(|b| b.work));
    }
    if missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("crosswan-bench: over budget: {}", missed.join("; "));
    Ok(ExitCode::FAILURE)
}
