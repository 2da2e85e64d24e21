//! The region, and its gateways' boot.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crosswan_lab::{AgentProcess, Auth, Gateway, Lab, Output, Role};

use super::Demo;
use super::act::{Show, report};
use super::screen::{Screen, seconds};

/// The bound on tunnels coming up; a quiet machine takes about a second.
pub const UP: Duration = Duration::from_secs(30);

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
plays EC2, and the VPC routers forward by its route tables. ESP runs inside charon and not in the
kernel, so that any machine can show this. This machine's own network and files are not touched.";

/// Brings the region up. Without agents there is nothing to show, so an error here ends the demo.
pub fn lab(agent: &Path, screen: Screen) -> Result<Demo> {
    screen.heading("The region comes up");
    screen.text(
        "Starting EC2, three VPCs with subnets, route tables and internet gateways, four gateways and four hosts.",
    );
    let before = screen.elapsed();
    let lab = Lab::standard(agent, Auth::Key)
        .context("the region did not come up (in a container: it has to be privileged, to make network namespaces)")?;
    screen.finding(true, &format!("up after {}; the gateways, as EC2 has them:", seconds(screen.elapsed() - before)));
    screen.text(&format!("       {:<13} {:<22} {:<15} {:<10} {}", "gateway", "VPC", "region", "private", "Elastic IP"));
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
         out who it is and what should be there, `crosswan keep` holds the tunnels up.",
    );
    let gateways = demo.lab.gateways();
    for gateway in &gateways {
        demo.screen.command(&gateway.name, if gateway.role == Role::NatHub { "crosswan refresh" } else { BOOT });
    }
    let started = demo.screen.elapsed();
    let booted: Vec<Result<Booted>> = std::thread::scope(|scope| {
        let all: Vec<_> = gateways.iter().map(|gateway| scope.spawn(|| boot(gateway))).collect();
        all.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("the boot panicked"))).collect()
    });
    for (gateway, booted) in gateways.iter().zip(booted) {
        let (output, keeper) = booted?;
        demo.keepers.extend(keeper);
        let hub = gateway.role == Role::VpnHub;
        let changed = output.code == 0 && report(gateway).is_ok_and(|report| report["outcome"] == "changed");
        let said = match output.stdout.trim_end().lines().last() {
            Some(verdict) if changed && hub => format!("{verdict}; in full:"),
            Some(verdict) if changed => verdict.to_owned(),
            _ => format!("crosswan refresh ended with exit code {} and did not change anything", output.code),
        };
        demo.check(changed, &format!("{}: {said}", gateway.name));
        demo.said(gateway, &["refresh"], &output, if hub { Show::All } else { Show::Nothing });
    }
    if !demo.failures.is_empty() {
        bail!("without its gateways the region has nothing to show");
    }
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

const BOOT: &str = "charon; crosswan refresh; crosswan keep &";

type Booted = (Output, Option<AgentProcess>);

/// What systemd does at boot.
pub fn boot(gateway: &Arc<Gateway>) -> Result<Booted> {
    let tunnels = gateway.role != Role::NatHub;
    if tunnels {
        gateway.start_charon()?;
    }
    let output = gateway.agent(&["refresh"])?;
    let keeper = tunnels.then(|| gateway.spawn_agent(&["keep"])).transpose()?;
    Ok((output, keeper))
}
