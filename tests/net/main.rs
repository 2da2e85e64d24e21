//! Real packets through real charon and iptables, in a region on one machine. Needs root.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and waits")]

use std::time::Duration;

use anyhow::Result;
use crosswan_lab::Lab;

const AGENT: &str = env!("CARGO_BIN_EXE_crosswan");

#[test]
fn smoke() -> Result<()> {
    let t = std::time::Instant::now();
    let lab = Lab::standard(AGENT)?;
    eprintln!("lab {:?}", t.elapsed());
    let mut keeps = Vec::new();
    for g in lab.gateways() {
        if g.name != "hub/nat-hub" {
            g.start_charon()?;
        }
        let o = g.agent(&["refresh"])?;
        eprintln!("{} code {:?} {:?}\n{}\n{}", g.name, o.code, t.elapsed(), o.stdout, o.stderr);
        if g.name != "hub/nat-hub" {
            keeps.push(g.spawn_agent(&["keep"])?);
        }
    }
    let a = lab.host("a/host")?;
    for h in lab.hosts() {
        eprintln!("{} {}", h.name, h.address);
    }
    for h in lab.hosts() {
        if h.name == a.name {
            continue;
        }
        match a.wait_for(h.address, Duration::from_secs(20)) {
            Ok(d) => eprintln!("{} -> {} in {d:?}, seen as {:?}", a.name, h.name, a.whoami_tcp(h.address)),
            Err(e) => eprintln!("{e}"),
        }
    }
    for g in lab.gateways() {
        let o = g.agent(&["refresh"])?;
        eprintln!("{}\n{}", o.stdout, o.stderr);
        let o = g.agent(&["status"])?;
        eprintln!("{}\n{}", o.stdout, o.stderr);
    }
    for k in &keeps {
        eprintln!("{}", k.log());
    }
    Ok(())
}
