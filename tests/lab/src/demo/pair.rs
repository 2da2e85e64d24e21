//! Point 9: a second hub makes a pair with the first one, and the active one of them is killed while two clients talk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crosswan_lab::{Gateway, PingStream, Role};
use serde_json::Value;

use super::act::{Show, go_on};
use super::boot::UP;
use super::screen::seconds;
use super::{Demo, signals};

/// The first passes wait for keys and tunnels, and a client's for the word of the hub that is to be used.
const TRIES: usize = 12;
const EVERY: Duration = Duration::from_millis(50);
/// More than are ever sent. A series with an end gives each answer a second, and not twenty.
const MOST: u32 = 10_000;

/// The gap that two clients' hosts see.
pub fn takeover(demo: &mut Demo) -> Result<String> {
    demo.screen.text(
        "A second hub boots in the hub's VPC. The two watch each other by signed beats, every client gets a tunnel to both, and the first \
         one stays the one that is used.",
    );
    let old = demo.lab.gateway("hub/vpn-hub")?;
    let clients = [demo.lab.gateway("a/nat-vpn")?, demo.lab.gateway("c/nat-vpn")?];
    let new = demo.lab.add_gateway("hub", Role::VpnHub)?;
    demo.screen.command(&new.name, "charon; crosswan keep &");
    new.start_charon()?;
    demo.crosswan(&new, &["refresh"], Show::Verdict)?;
    demo.keepers.push(new.spawn_agent(&["keep"])?);
    let all: Vec<_> = clients.iter().chain([&old, &new]).cloned().collect();
    for gateway in &all {
        demo.screen.command(&gateway.name, "crosswan pair & crosswan watch &");
        demo.keepers.push(gateway.spawn_agent(&["pair"])?);
        demo.keepers.push(gateway.spawn_agent(&["watch"])?);
    }
    let mut waits = all.clone();
    for _ in 0..TRIES {
        let mut left = Vec::new();
        for gateway in waits {
            if demo.crosswan(&gateway, &["refresh"], Show::Nothing)?.code != 0 {
                left.push(gateway);
            }
        }
        waits = left;
        if waits.is_empty() {
            break;
        }
        signals::sleep(Duration::from_secs(1));
    }
    ensure!(waits.is_empty(), "{}: crosswan refresh still has to wait for something", waits[0].name);
    is(&old, "active").and_then(|()| is(&new, "standby"))?;
    demo.check(true, &format!("{} is active, {} stands by, and each hears the other", old.name, new.name));

    let (from, to, inside) = (demo.lab.host("a/host")?, demo.lab.host("c/host")?, demo.lab.host("hub/host")?);
    demo.screen
        .text(&format!("{} pings {} twenty times a second, and {} loses its power.", from.name, to.name, old.name));
    let stream = PingStream::start(&from.ns, from.address, to.address, EVERY, MOST)?;
    signals::sleep(Duration::from_secs(1));
    demo.screen
        .command("EC2", &format!("StopInstances {}; its processes and its network are gone at once", old.instance));
    demo.lab.stop_instance(&old)?;
    from.wait_for(to.address, UP)?;
    signals::sleep(Duration::from_millis(500));
    let report = stream.stop()?;
    let gap = seconds(report.longest_gap);
    let text = format!("{} of {} packets were lost, in a gap of {gap}; nobody has refreshed", report.lost, report.sent);
    demo.check(report.lost > 0 && report.received > 0, &text);
    inside.wait_for(from.address, UP)?;
    demo.check(true, &format!("EC2's route leads to {} now: {} reaches {}", new.name, inside.name, from.name));
    Ok(format!("active hub killed: {} to {} silent for {gap}", from.name, to.name))
}

/// Waits until this is a member's role, and it is well.
fn is(gateway: &Arc<Gateway>, role: &str) -> Result<()> {
    let until = Instant::now() + UP;
    loop {
        go_on()?;
        let output = gateway.agent(&["status", "--json"])?;
        let status: Value = serde_json::from_str(&output.stdout)?;
        let pair = &status["pair"];
        if pair["role"] == role && pair["own_health"] == "well" && pair["state"] == "alive" {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{} is not {role}: {pair:#}", gateway.name);
        signals::sleep(Duration::from_millis(100));
    }
}
