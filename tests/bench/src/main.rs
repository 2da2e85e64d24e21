//! `crosswan-bench`: the budgets of the agent, each beside its baseline in the same run.

mod accounts;
mod asking;
mod cast;
mod cloud;
mod hub;
mod hubs;
mod joins;
mod key;
mod keys;
mod measure;
mod pair;
mod peers;
mod plot;
mod probes;
mod regions;
mod replacement;
mod restart;
mod results;
mod size;
mod stages;
mod takeover;
mod throughput;
mod vici;
mod xml;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crosswan_lab::kernel;

use crate::hub::Hub;
use crate::results::Section;

/// The budgets of crosswan as benchmarks, each beside its baseline in the same run: a canned EC2, real charon and iptables.
///
/// Without root, or where this machine's kernel has no ESP, it runs in a user-mode kernel. Usually called by `make bench`.
#[derive(Parser)]
#[command(name = "crosswan-bench", after_help = AFTER, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Tiny sizes, nothing is judged; a test that it works
    #[arg(long)]
    quick: bool,
    /// Other sizes than 10, 100, 1000, 2000, 5000 and 10000; budgets then hold for the largest at most as large
    #[arg(long, value_name = "N,N...", value_delimiter = ',')]
    peers: Option<Vec<usize>>,
    /// Where results.md and the plots go
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    out: PathBuf,
    /// Without a name all of them: about half an hour
    #[arg(value_name = "NAME", value_parser = ALL.map(|(name, _)| name))]
    names: Vec<String>,
}

impl Cli {
    /// The arguments of a run of these alone.
    fn arguments(&self, names: &[String]) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["--out".into(), self.out.clone().into()];
        all.extend(self.quick.then(|| "--quick".into()));
        let sizes = |peers: &Vec<usize>| peers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        all.extend(self.peers.iter().flat_map(|peers| ["--peers".into(), sizes(peers).into()]));
        all.extend(names.iter().map(OsString::from));
        all
    }
}

#[derive(Subcommand)]
enum Command {
    /// Runs one program and says what it cost
    #[command(hide = true)]
    Measure {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<String>,
    },
}

const AFTER: &str = "\
Benchmarks:
  size      the release binary
  peers     growth from 10 to 10,000 peers; beside swanctl --load-all and a boto3 script
  keys      raw keys against a pre-shared one: loading 1,000 and 5,000, and charon's memory
  regions   20 slow regions, beside one and beside the boto3 script
  asking    20 accounts with 10 slow regions each, beside one; on this machine's own kernel, as root
  accounts  20 accounts with 10 regions each and nothing to change, beside as many regions of one account
  restart   a hub killed with 1,000 tunnels up, beside charon alone
  replacement  a gateway that is gone before there is another: until packets pass again
  pair      the active one of two nat-vpn and of two nat-hub killed: seconds without packets; beside one that only stands by, and fck-nat's way
  hubs      one of a pair of vpn-hub killed, handed over, back: what two clients lose; beside one that only stands by
  hubs-many the same with 100 and 1,000 clients, and what a hub's crosswan pair takes for 1,000 and 5,000
  hubs-load an hour of full load, rekeyings, passes and other peers that come and go: no takeover, nothing lost
  joins     a VPC that is new to a running hub: from its gateway's first refresh until packets pass
  cast      cloudcaster, a hub and a client; beside a boto3 script that makes the same calls
  stages    micro-benchmarks of the pure stages, by cargo bench
  throughput  packets a second through NAT, one tunnel and a hub with 1,000; beside fck-nat, plain swanctl and WireGuard

Exit codes: 0 every budget was met, 1 one was not, or an error, 2 wrong arguments.

Environment:
  CROSSWAN_BIN    the agent, a release build
  CLOUDCASTER_BIN cloudcaster; otherwise the one beside this program
  CROSSWAN_HOURS  how long hubs are under load, otherwise 1; 0.05 is a try
  CROSSWAN_MOTO   a moto_server, for the lab and for the boto3 beside it";

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

/// The one that runs on this machine's own kernel; see [`asking`].
const ASKING: &str = "asking";
/// The one that measures hubs beside many other machines: it runs in a user-mode kernel with a processor for each of the two.
const MANY: &str = "hubs-many";

type Bench = fn(&Setup) -> Result<Section>;
const ALL: [(&str, Bench); 16] = [
    ("size", size::bench),
    ("peers", peers::bench),
    ("keys", keys::bench),
    ("regions", regions::bench),
    (ASKING, asking::bench),
    ("accounts", accounts::bench),
    ("restart", restart::bench),
    ("replacement", replacement::bench),
    ("pair", pair::bench),
    ("hubs", hubs::few),
    (MANY, hubs::many),
    ("hubs-load", hubs::load),
    ("joins", joins::bench),
    ("cast", cast::bench),
    ("stages", stages::bench),
    ("throughput", throughput::bench),
];

/// Progress, for a person who waits.
pub fn say(what: &str) {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    eprintln!("{:6.1}s  {what}", START.get_or_init(Instant::now).elapsed().as_secs_f64());
}

fn main() -> ExitCode {
    kernel::first_process();
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(Command::Measure { argv }) => measure::wrapper(argv),
        None => each_where_it_belongs(&cli),
    };
    result.unwrap_or_else(|e| {
        eprintln!("crosswan-bench: {e:#}");
        ExitCode::FAILURE
    })
}

/// Runs [`ASKING`] on this machine's own kernel, and the others where the lab runs: in user-mode kernels that run this again.
fn each_where_it_belongs(cli: &Cli) -> Result<ExitCode> {
    let all = || ALL.map(|(name, _)| name.to_owned()).to_vec();
    let names = if cli.names.is_empty() { all() } else { cli.names.clone() };
    let code = |met| if met { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if std::env::var_os(kernel::INSIDE).is_some() {
        return run(cli, &names).map(code);
    }
    let (here, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name == ASKING);
    let (many, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|name| name == MANY);
    let mut met = true;
    // Without root one cannot run here, and the others can.
    let mut told = |done: Result<bool>| {
        met &= done.unwrap_or_else(|e| {
            eprintln!("crosswan-bench: {e:#}");
            false
        });
    };
    if !here.is_empty() {
        told(run(cli, &here));
    }
    for (names, processors) in [(others, 1), (many, 2)].into_iter().filter(|(names, _)| !names.is_empty()) {
        let entered = kernel::enter_on(processors, cli.arguments(&names), std::slice::from_ref(&cli.out));
        told(
            entered.and_then(|entered| entered.map_or_else(|| run(cli, &names), |code| Ok(code == ExitCode::SUCCESS))),
        );
    }
    Ok(code(met))
}

/// Runs these, and returns whether every budget was met.
fn run(cli: &Cli, names: &[String]) -> Result<bool> {
    let quick = cli.quick;
    let sizes = || if quick { vec![3, 20] } else { vec![10, 100, 1000, 2000, 5000, 10_000] };
    let peers = cli.peers.clone().unwrap_or_else(sizes);
    let agent = std::env::var_os("CROSSWAN_BIN").map(PathBuf::from).context("set CROSSWAN_BIN to the agent")?;
    let circumstances = results::circumstances(&agent)?;
    let setup = Setup { circumstances, agent, out: cli.out.clone(), quick, peers, hub: OnceCell::new() };
    let order = ALL.map(|(name, _)| name);
    let mut missed = Vec::new();
    for (name, bench) in ALL.iter().filter(|(name, _)| names.iter().any(|n| n == name)) {
        say(&format!("== {name}"));
        let section = bench(&setup).with_context(|| format!("benchmark {name}"))?;
        section.publish(&setup, &order)?;
        missed.extend(section.budgets.into_iter().filter(|b| !b.met && !quick).map(|b| b.work));
    }
    if !missed.is_empty() {
        eprintln!("crosswan-bench: over budget: {}", missed.join("; "));
    }
    Ok(missed.is_empty())
}
