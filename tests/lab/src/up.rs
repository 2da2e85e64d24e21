//! `crosswan-lab up`: the standard lab without agents, for tests and for trying things by hand.

use std::io::Read;
use std::path::Path;

use anyhow::Result;
use crosswan_lab::{Auth, Lab, Role};

/// Brings it up, says how to get in, and waits for the end of standard input.
pub fn run(agent: &Path) -> Result<()> {
    let lab = Lab::standard(agent, Auth::Key)?;
    for gateway in lab.gateways() {
        if gateway.role != Role::NatHub {
            gateway.start_charon()?;
        }
        println!("{:<14} {:<12} {}", gateway.name, gateway.address, gateway.enter_command()?);
    }
    for host in lab.hosts() {
        println!("{:<14} {:<12} nsenter --net={}", host.name, host.address, host.ns.path().display());
    }
    println!("files are in {}; the lab ends with its standard input (Ctrl-D) or with Ctrl-C", lab.dir().display());
    let namespaces: Vec<String> = lab.namespaces().iter().map(ToString::to_string).collect();
    println!("up {}", namespaces.join(" "));
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
