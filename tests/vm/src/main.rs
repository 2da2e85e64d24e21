//! `crosswan-vm`: boots the three built images in the lab's region, under QEMU, and checks what they do. See `make vm-test`.
//!
//! The images are not changed: what a site would bring (address, EC2's endpoint) comes as systemd credentials.

mod change;
mod disk;
mod key;
mod machine;
mod outage;
mod package;
mod reach;
mod region;
mod report;
mod routing;
mod version;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use crosswan_lab::{Arch, Image};

use region::{CLIENT, HUB, NAT, Region};

/// Boots the images vpn-hub, nat-hub and nat-vpn under QEMU in a region made of network namespaces, and checks them.
///
/// Needs root, QEMU and what the lab needs.
#[derive(Parser)]
#[command(name = "crosswan-vm", after_help = AFTER)]
struct Cli {
    /// A folder with MODE.raw of each image
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// A tar archive with new.deb, the package that is in the images, and old.deb, the one of version 0.1.0; without old.deb the downgrade is left out
    #[arg(long, value_name = "TAR")]
    packages: PathBuf,
    /// Boot DISK, an arm64 nat-vpn with new.deb of TAR in it, in place of DIR's nat-vpn. Only the steps whose outcome may depend on
    /// the processor are run, for 20 minutes at most
    #[arg(long, num_args = 2, value_names = ["DISK", "TAR"])]
    arm64: Option<Vec<PathBuf>>,
    /// After the machines have booted, run only the steps with one of these words in their titles
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// Leave the machines up at the end and say how to look around, without the last step
    #[arg(long)]
    keep: bool,
}

const AFTER: &str = "\
Exit codes: 0 all was seen, 1 something was not, 2 wrong arguments.

Environment:
  CROSSWAN_BIN    the agent, for the client VPC that is a namespace; otherwise `crosswan` beside this program";

/// Shows one thing; an error is a finding, too.
type Step = fn(&mut Region) -> Result<()>;

/// Whether a step's outcome may depend on the processor: on the disk and its boot loader, the kernel and its ESP, the programs or
/// the package. Only such steps are repeated with an image for another processor.
type Again = bool;
const PROCESSOR: Again = true;
const ONCE: Again = false;

/// What is shown, in this order; each step needs the ones before.
const STEPS: [(&str, Step, Again); 19] = [
    ("The images as they were built", disk::clean, PROCESSOR),
    ("Power on: nothing private gets out before the guard stands", region::boot, PROCESSOR),
    ("Each gateway made a key of its own, and nobody was given a secret", key::own, PROCESSOR),
    ("1. Private hosts reach each other, source address kept", reach::private, PROCESSOR),
    ("2. Private hosts reach the internet with their gateway's Elastic IP", reach::internet, PROCESSOR),
    ("Kernel ESP: interfaces, the own VPC passed by, path MTU, 50 MB", wire::kernel, PROCESSOR),
    ("3. Nothing private in the clear while a tunnel is down", outage::tunnel, PROCESSOR),
    ("charon crashes, and is restarted as by an upgrade", outage::charon, ONCE),
    ("4. A refresh with nothing new changes nothing", change::unchanged, ONCE),
    ("A gateway for pre-shared keys waits for one, and goes on by itself when it is there", key::pre_shared, ONCE),
    ("The hourly timer", machine::timer, ONCE),
    ("A refresh that keep asks for", machine::wanted, ONCE),
    ("Measurements for Prometheus", machine::metrics, ONCE),
    ("Power cut and reboot of everything, without EC2", machine::reboot, PROCESSOR),
    ("systemd-networkd restarts and sets its links up again", routing::networkd, ONCE),
    ("The machines as they are", machine::health, PROCESSOR),
    ("The package: a newer one on both ends of a tunnel in use", package::upgrade, PROCESSOR),
    ("The package: back to 0.1.0 and to this version again, one end after the other", version::down_and_up, ONCE),
    ("The package: purged from a working gateway, installed again", package::package, ONCE),
];

/// The longest that the short form may take, on two busy cores.
const LIMIT: Duration = Duration::from_secs(20 * 60);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("crosswan-vm: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// What each gateway boots. nat-hub is never upgraded and needs no package.
fn images(cli: &Cli) -> BTreeMap<&'static str, Image> {
    let built = |mode: &str, packages: Option<&PathBuf>| Image {
        disk: cli.images.join(mode).with_extension("raw"),
        extra: packages.cloned(),
        arch: Arch::native(),
    };
    let client = match cli.arm64.as_deref() {
        Some([disk, packages]) => Image { disk: disk.clone(), extra: Some(packages.clone()), arch: Arch::Arm64 },
        _ => built("nat-vpn", Some(&cli.packages)),
    };
    BTreeMap::from([(HUB, built("vpn-hub", Some(&cli.packages))), (NAT, built("nat-hub", None)), (CLIENT, client)])
}

fn run(cli: &Cli) -> Result<bool> {
    let (keep, short) = (cli.keep, cli.arm64.is_some());
    let mut region = Region::new(images(cli))?;
    if short && !keep {
        std::thread::spawn(|| {
            std::thread::sleep(LIMIT);
            println!("crosswan-vm: not done within {} minutes: is the machine very busy?", LIMIT.as_secs() / 60);
            // The machines and namespaces end with this process.
            std::process::exit(1);
        });
    }
    let mut steps: Vec<_> = STEPS.into_iter().filter(|(_, _, again)| *again || !short).collect();
    let named = |title: &str| cli.only.is_empty() || cli.only.iter().any(|word| title.contains(word.as_str()));
    steps.retain(|(title, ..)| title.starts_with("Power on") || named(title));
    for (title, step, _) in steps.iter().take(steps.len() - usize::from(keep)) {
        region.report.heading(title);
        if let Err(e) = step(&mut region) {
            region.report.check(false, &format!("{e:#}"));
            // Without machines that boot there is nothing more to see.
            if region.vms.len() < 3 {
                break;
            }
        }
    }
    if let Err(e) = region.verdict() {
        region.report.check(false, &format!("{e:#}"));
    }
    // What failed comes last, where a log that is cut off at its start still has it.
    if region.report.any_failed() {
        region.logs()?;
    }
    let passed = region.report.close();
    if keep {
        region.look_around();
    }
    Ok(passed)
}
