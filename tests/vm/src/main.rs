//! `crosswan-vm`: boots the three built images in regions of the lab, under QEMU, and checks what they do: one of each, then pairs. See
//! `make vm-test`.
//!
//! The images are not changed: what a site would bring (address, EC2's endpoint) comes as systemd credentials.

mod boot;
mod change;
mod disk;
mod key;
mod machine;
mod outage;
mod package;
mod pairs;
mod reach;
mod region;
mod report;
mod routing;
mod traffic;
mod version;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use crosswan_lab::{Arch, Image, Role, VpcSpec};

use region::{CLIENT, HUB, NAT, Region};
use report::Report;

/// Boots the images vpn-hub, nat-hub and nat-vpn under QEMU in a region made of network namespaces, and checks them; then pairs, in
/// another one.
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
    /// After the machines have booted, run only the steps with one of these words in their titles: `pair` is in those of the second region
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// Leave the machines of each region up until Enter and say how to look around, without the step that leaves nothing to look at
    #[arg(long)]
    keep: bool,
}

const AFTER: &str = "\
Exit codes: 0 all was seen, 1 something was not, 2 wrong arguments.

Environment:
  CROSSWAN_BIN    the agent, for the client VPC that is a namespace; otherwise `crosswan` beside this program";

/// Shows one thing; an error is a finding, too.
type Step = fn(&mut Region) -> Result<()>;

/// When a step is run.
#[derive(Clone, Copy, PartialEq)]
enum When {
    /// Its outcome may depend on the processor: on the disk and its boot loader, the kernel and its ESP, the programs or the package.
    /// So it is repeated with an image for another processor.
    Processor,
    Once,
    /// It leaves nothing that works, to look around in.
    Spoils,
    /// Only if a word of `--only` names it: all of it would take CI longer than it has.
    Asked,
}
use When::{Asked as ASKED, Once as ONCE, Processor as PROCESSOR, Spoils as SPOILS};

/// A region, and what is shown in it, in this order; each step needs the ones before. The one in which the machines boot is always run.
struct Part {
    vpcs: fn() -> Result<[VpcSpec; 2]>,
    /// The gateways that power comes on for in the first step with machines.
    first: &'static [&'static str],
    steps: &'static [(&'static str, Step, When)],
}
const BOOTS: &str = "Power on";

const PARTS: [Part; 2] = [
    Part { vpcs: one_of_each, first: &[HUB, NAT, CLIENT], steps: &ALONE },
    Part { vpcs: first_of_each, first: &[HUB, CLIENT], steps: &PAIRS },
];

fn one_of_each() -> Result<[VpcSpec; 2]> {
    Ok([
        VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?,
        VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16", "10.101.0.0/16"])?,
    ])
}

/// The gateways that pairs begin with. They take their routes themselves.
fn first_of_each() -> Result<[VpcSpec; 2]> {
    Ok([
        VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?.bare(),
        VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16"])?.bare(),
    ])
}

const ALONE: [(&str, Step, When); 19] = [
    ("The images as they were built", disk::clean, PROCESSOR),
    ("Power on: nothing private gets out before the guard stands", boot::boot, PROCESSOR),
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
    ("The package: purged from a working gateway, installed again", package::package, SPOILS),
];

const PAIRS: [(&str, Step, When); 4] = [
    ("Power on: a hub and a client that are each to be one of a pair", boot::boot, ONCE),
    ("A second nat-vpn makes a pair, which is upgraded", |region| pairs::show(region, &pairs::NAT_VPNS), ONCE),
    ("A second vpn-hub makes a pair, which is upgraded", |region| pairs::show(region, &pairs::VPN_HUBS), ASKED),
    ("Two nat-hubs make a pair, which is upgraded", |region| pairs::show(region, &pairs::NAT_HUBS), ASKED),
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

/// What each gateway boots.
fn images(cli: &Cli) -> BTreeMap<Role, Image> {
    let built = |role: Role| Image {
        disk: cli.images.join(role.as_str()).with_extension("raw"),
        extra: Some(cli.packages.clone()),
        arch: Arch::native(),
    };
    let mut images = BTreeMap::from([Role::VpnHub, Role::NatHub, Role::NatVpn].map(|role| (role, built(role))));
    if let Some([disk, packages]) = cli.arm64.as_deref() {
        images.insert(Role::NatVpn, Image { disk: disk.clone(), extra: Some(packages.clone()), arch: Arch::Arm64 });
    }
    images
}

/// The steps of a part that are asked for.
fn asked(part: &Part, cli: &Cli) -> Vec<(&'static str, Step)> {
    let named = |title: &str| cli.only.is_empty() || cli.only.iter().any(|word| title.contains(word.as_str()));
    let steps = part.steps.iter().filter(|(_, _, when)| match when {
        When::Processor => true,
        When::Once => cli.arm64.is_none(),
        When::Spoils => cli.arm64.is_none() && !cli.keep,
        When::Asked => cli.arm64.is_none() && !cli.only.is_empty(),
    });
    let steps: Vec<_> = steps.map(|(title, step, _)| (*title, *step)).collect();
    if !steps.iter().any(|(title, _)| named(title)) {
        return Vec::new();
    }
    steps.into_iter().filter(|(title, _)| title.starts_with(BOOTS) || named(title)).collect()
}

fn run(cli: &Cli) -> Result<bool> {
    if cli.arm64.is_some() && !cli.keep {
        std::thread::spawn(|| {
            std::thread::sleep(LIMIT);
            println!("crosswan-vm: not done within {} minutes: is the machine very busy?", LIMIT.as_secs() / 60);
            // The machines and namespaces end with this process.
            std::process::exit(1);
        });
    }
    let (images, mut report) = (images(cli), Report::new());
    let parts: Vec<_> =
        PARTS.iter().map(|part| (part, asked(part, cli))).filter(|(_, steps)| !steps.is_empty()).collect();
    ensure!(!parts.is_empty(), "no step has one of these words in its title: {}", cli.only.join(", "));
    for (part, steps) in parts {
        let mut region = Region::new((part.vpcs)()?, part.first, &images, report)?;
        show(&mut region, &steps)?;
        if cli.keep {
            region.look_around();
        }
        report = region.report;
    }
    Ok(report.close())
}

/// Runs these steps in their region, and judges what its capture has.
fn show(region: &mut Region, steps: &[(&str, Step)]) -> Result<()> {
    let before = region.report.failures();
    for (title, step) in steps {
        region.report.heading(title);
        if let Err(e) = step(region) {
            region.report.check(false, &format!("{e:#}"));
            // Without machines that boot there is nothing more to see.
            if !region.is_up() {
                break;
            }
        }
    }
    if let Err(e) = region.verdict() {
        region.report.check(false, &format!("{e:#}"));
    }
    // After all else of this region, because a log's end is what is read first.
    if region.report.failures() > before {
        region.logs()?;
    }
    Ok(())
}
