//! Points 1 and 2: which hosts reach each other, and with which address.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use crosswan_lab::{Gateway, Host, Role, WHOAMI, internet::ECHO};

use super::Demo;

/// Private hosts of different VPCs, every direction.
pub fn private(demo: &mut Demo) -> Result<String> {
    demo.screen.text(&format!(
        "Client A's host pings a host in the hub VPC and both hosts of client B, then connects to each; port {WHOAMI} \
         answers with the address it saw.",
    ));
    let hosts = demo.lab.hosts();
    let (mut pairs, mut good) = (0, 0);
    let from = demo.lab.host("a/host")?;
    for to in hosts.iter().filter(|to| vpc(&to.name) != vpc(&from.name)) {
        let address = to.address;
        let output = demo.on_host(&from, &format!("ping -n -c 3 -i 0.2 -W 2 {address}; {}", whoami(address)))?;
        let answers = output.stdout.lines().filter(|line| line.contains("bytes from")).count();
        let saw = output.stdout.lines().last().unwrap_or_default();
        let ok = answers == 3 && saw == from.address.to_string();
        (pairs, good) = (pairs + 1, good + u32::from(ok));
        demo.check(ok, &format!("{} answered {answers} of 3 pings and saw the caller as {saw}", to.name));
    }
    demo.screen.text("The other directions, the same way:");
    let mut wrong = Vec::new();
    let (mut more, mut same) = (0, 0);
    for from in hosts.iter().filter(|from| vpc(&from.name) != "a") {
        for to in hosts.iter().filter(|to| vpc(&to.name) != vpc(&from.name)) {
            more += 1;
            match seen_by(from, to.address) {
                Ok(saw) if saw == from.address => same += 1,
                other => wrong.push(format!("{} to {}: {other:?}", from.name, to.name)),
            }
        }
    }
    let text = format!("{same} of {more} more pairs answered and saw the caller's own address {}", wrong.join("; "));
    demo.check(same == more, text.trim_end());
    Ok(format!("{} of {} pairs of private hosts reach each other, source address kept", good + same, pairs + more))
}

/// Every private host calls the internet host.
pub fn internet(demo: &mut Demo) -> Result<String> {
    demo.screen.text(&format!("Every private host connects to {ECHO} and reads which address was seen there."));
    let (mut good, hosts) = (0, demo.lab.hosts());
    for host in &hosts {
        let gateway = nat_of(demo, host)?;
        let public = gateway.public().with_context(|| format!("{} has no Elastic IP", gateway.name))?;
        let output = demo.on_host(host, &whoami(ECHO))?;
        let saw = output.stdout.trim();
        let ok = saw == public.to_string();
        let whose = if ok { format!("the Elastic IP of {}", gateway.name) } else { format!("not {public}") };
        demo.check(ok, &format!("{} is seen as {saw}: {whose}", host.address));
        good += u32::from(ok);
    }
    Ok(format!("{good} of {} private hosts seen on the internet as their gateway's Elastic IP", hosts.len()))
}

/// A shell line that prints the address the other side saw; it works in the lab's hosts at any time.
fn whoami(at: Ipv4Addr) -> String {
    format!("cat </dev/tcp/{at}/{WHOAMI}")
}

/// As `whoami`, from the lab itself.
pub fn seen_by(from: &Host, to: Ipv4Addr) -> Result<Ipv4Addr> {
    from.ping(to, 1)?;
    from.whoami_tcp(to)
}

/// The gateway that masquerades a host.
pub fn nat_of(demo: &Demo, host: &Host) -> Result<Arc<Gateway>> {
    let gateways = demo.lab.gateways().into_iter();
    gateways
        .filter(|gateway| gateway.role != Role::VpnHub)
        .find(|gateway| vpc(&gateway.name) == vpc(&host.name))
        .with_context(|| format!("{} has no NAT gateway", host.name))
}

/// The VPC's name in that of a machine.
pub fn vpc(machine: &str) -> &str {
    machine.split('/').next().unwrap_or_default()
}
