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
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use region::Region;

/// Boots the images vpn-hub, nat-hub and nat-vpn under QEMU in a region made of network namespaces, and checks them.
///
/// Needs root, QEMU and what the lab needs.
#[derive(Parser)]
#[command(name = "crosswan-vm", after_help = AFTER)]
struct Cli {
    /// A folder with MODE.raw of each image
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The package that is in the images
    #[arg(long, value_name = "FILE")]
    deb: PathBuf,
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

/// What is shown, in this order; each step needs the ones before.
const STEPS: [(&str, Step); 19] = [
    ("The images as they were built", disk::clean),
    ("Power on: nothing private gets out before the guard stands", region::boot),
    ("Each gateway made a key of its own, and nobody was given a secret", key::own),
    ("1. Private hosts reach each other, source address kept", reach::private),
    ("2. Private hosts reach the internet with their gateway's Elastic IP", reach::internet),
    ("Kernel ESP: policy matches, the own VPC passed by, path MTU, 50 MB", wire::kernel),
    ("3. Nothing private in the clear while a tunnel is down", outage::tunnel),
    ("charon crashes, and is restarted as by an upgrade", outage::charon),
    ("4. A new client VPC, and nobody else notices", change::launch),
    ("A second gateway in its VPC, on kernel ESP: it waits without a child, works, takes over", change::newcomer),
    ("5. It is deleted", change::delete),
    ("6. A refresh with nothing new changes nothing", change::unchanged),
    ("A gateway for pre-shared keys waits for one, and goes on by itself when it is there", key::pre_shared),
    ("The hourly timer", machine::timer),
    ("A refresh that keep asks for", machine::wanted),
    ("Power cut and reboot of everything, without EC2", machine::reboot),
    ("The machines as they are", machine::health),
    ("The package: a newer one on both ends of a tunnel in use", package::upgrade),
    ("The package: purged from a working gateway, installed again", package::package),
];

fn main() -> ExitCode {
    let Cli { images, deb, keep } = Cli::parse();
    match run(&images, &deb, keep) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("crosswan-vm: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(images: &Path, deb: &Path, keep: bool) -> Result<bool> {
    let mut region = Region::new(images, deb)?;
    for (title, step) in STEPS.into_iter().take(STEPS.len() - usize::from(keep)) {
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
    let passed = region.report.close();
    if !passed {
        region.logs()?;
    }
    if keep {
        region.look_around();
    }
    Ok(passed)
}
