//! Point 9: a second gateway makes a pair with client A's, and the active one of them is killed while hosts talk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Gateway, PingStream, Role};
use serde_json::Value;

use super::act::{Show, go_on};
use super::boot::UP;
use super::screen::seconds;
use super::{Demo, signals};

/// The newcomer's first passes wait for the hub, which accepts its key, and for its tunnel.
const TRIES: usize = 8;
const EVERY: Duration = Duration::from_millis(50);
/// More than are ever sent. A series with an end gives each answer a second, and not twenty.
const MOST: u32 = 10_000;

/// The gap that two hosts see.
pub fn takeover(demo: &mut Demo) -> Result<String> {
    demo.screen.text(
        "A second gateway boots in client A's VPC. They watch each other by signed beats; the routes stay with the older one.",
    );
    let (hub, old) = (demo.lab.gateway("hub/vpn-hub")?, demo.lab.gateway("a/nat-vpn")?);
    let new = demo.lab.add_gateway("a", Role::NatVpn)?;
    demo.screen.command(&new.name, "charon; crosswan keep & crosswan pair &");
    new.start_charon()?;
    demo.crosswan(&new, &["refresh"], Show::Verdict)?;
    demo.keepers.push(new.spawn_agent(&["keep"])?);
    demo.keepers.push(new.spawn_agent(&["pair"])?);
    demo.crosswan(&hub, &["refresh"], Show::Awaited)?;
    demo.refresh(&old, Show::Nothing)?;
    demo.screen.command(&old.name, "crosswan pair &");
    demo.keepers.push(old.spawn_agent(&["pair"])?);
    let mut code = -1;
    for _ in 0..TRIES {
        code = demo.crosswan(&new, &["refresh"], Show::Nothing)?.code;
        if code == 0 {
            break;
        }
    }
    ensure!(code == 0, "{}: crosswan refresh ended with exit code {code}", new.name);
    is(&old, "active").and_then(|()| is(&new, "standby"))?;
    // A hub that goes by its passes sends to the newer one, once it has found that tunnel up.
    for _ in 0..3 {
        demo.crosswan(&hub, &["refresh"], Show::Awaited)?;
        if hub.agent(&["status"])?.stdout.contains(&format!("{} in the same VPC is in use", new.instance)) {
            break;
        }
    }
    demo.check(true, &format!("{} is active, {} stands by, and each hears the other", old.name, new.name));

    let (from, to) = (demo.lab.host("a/host")?, demo.lab.host("hub/host")?);
    let public = new.public().with_context(|| format!("{} has no Elastic IP", new.name))?;
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
    let text = format!("{} of {} packets were lost, in a gap of {gap}", report.lost, report.sent);
    demo.check(report.lost > 0 && report.received > 0, &text);
    let seen = from.whoami_tcp(demo.lab.internet().address)?;
    demo.check(seen == public, &format!("a new connection is seen on the internet as {seen}, which is {}'s", new.name));
    Ok(format!("active one of a pair killed: {} to {} silent for {gap}", from.name, to.name))
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
