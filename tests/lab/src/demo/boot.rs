//! The region, and its gateways' boot.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crosswan_lab::{AgentProcess, Auth, Builder, Gateway, Lab, Output, Role, VpcSpec, internet};
use ipnet::Ipv4Net;

use super::act::{Show, report};
use super::keys;
use super::screen::{Screen, seconds};
use super::{Demo, signals};

/// The bound on tunnels coming up; a quiet machine takes about a second.
pub const UP: Duration = Duration::from_secs(30);
/// Until a refresh that awaits a key is made again; `crosswan-refresh.service` takes longer.
const AGAIN: Duration = Duration::from_secs(1);
/// As in `crosswan-refresh.service`.
const TRIES: usize = 8;

pub const PICTURE: &str = r"
crosswan joins the private networks of many VPCs through one hub. Here: a region on this machine.

   client A, eu-west-1            hub VPC, us-west-2            client B, ap-southeast-2
   10.1.0.0/16                    10.0.0.0/16                   10.2.0.0/16, 10.102.0.0/16

   [a/host]                       [hub/host]                    [b/host]  [b/host-2]
      |                            |      |                        |          |
   [a/nat-vpn]          [hub/vpn-hub]    [hub/nat-hub]          [b/nat-vpn]---'
      :  |                  :  |  :            |                   |  :
   ---:--+------------------:--+--:------------+-------------------+--:--- internet --- [192.0.2.80]
      '------- IPsec -------'     '---------------- IPsec ------------'    tells a caller which
                                                                           address it sees
Every machine is a network namespace; strongSwan, iptables and crosswan are the real programs. moto
plays EC2, and the VPC routers forward by its route tables. This machine's own network and files are
not touched.";

/// Brings the region up. Without agents there is nothing to show, so an error here ends the demo.
pub fn lab(agent: &Path, screen: Screen) -> Result<Demo> {
    screen.heading("The region comes up");
    screen.text(
        "Starting EC2, three VPCs with subnets, route tables and internet gateways, four gateways and four hosts. The tables of the \
         private subnets have no route out: each gateway makes its own, as the tables' tag crosswan-routes=managed allows it. And no \
         gateway has its Elastic IP: each takes one that carries its tag, crosswan-address=NAME.",
    );
    let before = screen.elapsed();
    let bare = Lab::standard_vpcs()?.into_iter().map(VpcSpec::bare);
    let lab = bare.fold(Lab::builder(agent).auth(Auth::Key).pools(), Builder::vpc).build();
    let lab = lab.context("the region did not come up")?;
    screen.finding(true, &format!("up after {}; the gateways, as EC2 has them:", seconds(screen.elapsed() - before)));
    screen.text(&format!("       {:<13} {:<22} {:<15} {:<10} {}", "gateway", "VPC", "region", "private", "public"));
    for gateway in lab.gateways() {
        let public = gateway.public().map_or("none".into(), |public| public.to_string());
        let Gateway { name, region, address, .. } = &*gateway;
        let vpc = lab.vpc_id(super::reach::vpc(name))?;
        screen.text(&format!("       {name:<13} {vpc:<22} {region:<15} {address:<10} {public}"));
    }
    // Before the first packet of a gateway, so that the capture has all of them.
    let capture = Some(lab.capture_internet()?);
    Ok(Demo {
        keepers: Vec::new(),
        capture,
        lab,
        screen,
        failures: Vec::new(),
        table: Vec::new(),
        journal: String::new(),
    })
}

/// All gateways at once, as after a power cut: both ends of every tunnel start at the same moment.
pub fn gateways(demo: &mut Demo) -> Result<String> {
    demo.screen.text(
        "All at once, as after a power cut. Each does what its systemd units do: charon starts, `crosswan refresh` finds \
         out who it is and what should be there, `crosswan keep` holds the tunnels up. Nobody gives them a secret: each \
         makes a key and announces the public half in its instance's tag. One that looks before its peer has done so \
         ends with exit code 3, and one whose routes wait for a tunnel with 6; systemd starts it again soon, here after a \
         second.",
    );
    let gateways = demo.lab.gateways();
    for gateway in &gateways {
        demo.screen.command(&gateway.name, if gateway.role == Role::NatHub { "crosswan refresh" } else { BOOT });
    }
    let (before, assigned) = (checked(demo)?, addresses(&gateways));
    let started = demo.screen.elapsed();
    let booted: Vec<Result<Booted>> = std::thread::scope(|scope| {
        let all: Vec<_> = gateways.iter().map(|gateway| scope.spawn(|| boot(gateway))).collect();
        all.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("the boot panicked"))).collect()
    });
    for (gateway, booted) in gateways.iter().zip(booted) {
        let Booted { passes, keeper } = booted?;
        demo.keepers.extend(keeper);
        came_up(demo, gateway, &passes);
    }
    if !demo.failures.is_empty() {
        bail!("without its gateways the region has nothing to show");
    }
    let (after, all) = (checked(demo)?, gateways.len());
    let text = format!("EC2's source/destination check is on at launch: on {before} of {all} gateways, now on {after}");
    demo.check(before == all && after == 0, &text);
    let elastic = addresses(&gateways);
    let text = format!("no gateway had its Elastic IP, now all do: {}", changed(&gateways, &assigned, &elastic));
    demo.check(assigned.iter().zip(&elastic).all(|(before, now)| before != now && is_elastic(*now)), &text);
    keys::announced(demo)?;
    let from = demo.lab.host("a/host")?;
    for to in demo.lab.hosts().iter().filter(|host| !host.name.starts_with("a/")) {
        from.wait_for(to.address, UP)?;
    }
    let took = seconds(demo.screen.elapsed() - started);
    demo.check(
        true,
        &format!("client A's host reaches the hub VPC and both networks of client B, {took} after power-on"),
    );
    Ok(format!("{} gateways booted at once; private hosts reached each other in {took}", gateways.len()))
}

fn addresses(gateways: &[Arc<Gateway>]) -> Vec<Option<Ipv4Addr>> {
    gateways.iter().map(|gateway| gateway.public()).collect()
}

/// Whether it is one of those that the lab allocates.
fn is_elastic(address: Option<Ipv4Addr>) -> bool {
    let elastic: Result<Ipv4Net, _> = internet::PUBLIC.parse();
    address.zip(elastic.ok()).is_some_and(|(address, net)| net.contains(&address))
}

/// `hub/vpn-hub 54.214.1.2 -> 198.51.100.100, …`
fn changed(gateways: &[Arc<Gateway>], before: &[Option<Ipv4Addr>], now: &[Option<Ipv4Addr>]) -> String {
    let word = |address: Option<Ipv4Addr>| address.map_or("none".into(), |address| address.to_string());
    let each = gateways.iter().zip(before.iter().zip(now));
    let each = each.map(|(gateway, (before, now))| format!("{} {} -> {}", gateway.name, word(*before), word(*now)));
    each.collect::<Vec<_>>().join(", ")
}

/// How many gateways forward nothing yet, because EC2 checks source and destination.
fn checked(demo: &Demo) -> Result<usize> {
    let gateways = demo.lab.gateways();
    let check = |gateway: &Arc<Gateway>| demo.lab.ec2().instance(&gateway.region, &gateway.instance);
    let all: Vec<_> = gateways.iter().map(check).collect::<Result<_>>()?;
    Ok(all.iter().filter(|instance| instance.source_dest_check).count())
}

/// What each refresh of a boot said: which keys it awaited, and of the hub everything.
fn came_up(demo: &mut Demo, gateway: &Gateway, passes: &[Output]) {
    for (n, output) in passes.iter().enumerate() {
        let last = n + 1 == passes.len();
        let changed = output.code == 0 && report(gateway).is_ok_and(|report| report["outcome"] == "changed");
        let verdict = output.stdout.trim_end().lines().last().unwrap_or_default();
        let again = if n == 0 { "" } else { "again: " };
        let (show, said) = match (last, gateway.role) {
            (false, Role::VpnHub) if n == 0 => (Show::All, ", and something is awaited yet; in full:"),
            (false, _) => (Show::Awaited, ", and something is awaited yet:"),
            (true, Role::VpnHub) => (Show::All, "; in full:"),
            (true, _) => (Show::Nothing, ""),
        };
        let text = match last && !changed {
            true => format!("crosswan refresh ended with exit code {} and did not change anything", output.code),
            false => format!("{verdict}; exit code {}{said}", output.code),
        };
        demo.check(!last || changed, &format!("{}: {again}{text}", gateway.name));
        demo.said(gateway, &["refresh"], output, show);
    }
}

/// The units of a gateway with tunnels, as commands.
pub const BOOT: &str = "charon; crosswan keep & crosswan refresh";

/// What came of a boot.
pub struct Booted {
    /// Each refresh; all but the last one awaited a key.
    pub passes: Vec<Output>,
    pub keeper: Option<AgentProcess>,
}

/// What systemd does at boot, where a refresh that did not end well is made again.
pub fn boot(gateway: &Arc<Gateway>) -> Result<Booted> {
    let tunnels = gateway.role != Role::NatHub;
    if tunnels {
        gateway.start_charon()?;
    }
    let keeper = tunnels.then(|| gateway.spawn_agent(&["keep"])).transpose()?;
    let mut output = gateway.agent(&["refresh"])?;
    let mut passes = Vec::new();
    while passes.len() + 1 < TRIES && is_made_again(gateway, &output)? && !signals::interrupted() {
        passes.push(output);
        signals::sleep(AGAIN);
        output = gateway.agent(&["refresh"])?;
    }
    passes.push(output);
    Ok(Booted { passes, keeper })
}

/// Whether another pass follows soon: a key is awaited, or a route waits for a tunnel, of which `keep` tells when it is up.
fn is_made_again(gateway: &Gateway, output: &Output) -> Result<bool> {
    let report = report(gateway)?;
    let awaits = report["awaited"].as_array().is_some_and(|awaited| !awaited.is_empty());
    Ok(output.code == 3 && awaits || output.code == 6 && gateway.path("/run/crosswan/route-waits").exists())
}
