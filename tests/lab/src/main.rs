//! `crosswan-lab up`: the standard lab on this machine, to look around in. `CROSSWAN_BIN` is the agent to test.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use crosswan_lab::{Lab, Role};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("crosswan-lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if std::env::args().nth(1).as_deref() != Some("up") {
        bail!("usage: CROSSWAN_BIN=path/to/crosswan crosswan-lab up");
    }
    let agent = std::env::var_os("CROSSWAN_BIN").context("CROSSWAN_BIN is not set: the agent's binary")?;
    let lab = Lab::standard(agent)?;
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
