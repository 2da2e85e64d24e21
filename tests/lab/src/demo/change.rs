//! Points 4 and 5: a VPC comes, a VPC goes, and the hub follows at its refreshes.

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Gateway, Role};

use super::Demo;
use super::act::{Show, go_on};
use super::boot::{BOOT, Booted, UP, boot};
use super::keys::{accepts, key_of, remembers};
use super::screen::{count, seconds};
use super::vici::loaded;

/// VPC C, while client A talks to client B.
pub fn launch(demo: &mut Demo) -> Result<String> {
    demo.screen.text("Client A's host pings client B's twenty times a second from here on, and every packet counts.");
    let hub = demo.lab.gateway("hub/vpn-hub")?;
    let (a, b) = (demo.lab.host("a/host")?, demo.lab.host("b/host")?);
    let stream = a.ping_stream(b.address)?;
    demo.screen.command("EC2", "CreateVpc 10.3.0.0/16 in eu-west-1, ... RunInstances nat-vpn, service=nat");
    demo.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
    let (c, gateway) = (demo.lab.host("c/host")?, demo.lab.gateway("c/nat-vpn")?);
    demo.screen.command(&gateway.name, BOOT);
    let Booted { passes, keeper } = boot(&gateway)?;
    demo.keepers.extend(keeper);
    for output in &passes {
        demo.said(&gateway, &["refresh"], output, Show::Verdict);
    }
    let code = passes.last().map_or(-1, |output| output.code);
    ensure!(code == 0, "c/nat-vpn: crosswan refresh ended with exit code {code}");
    let (own, given) = (loaded(&gateway, "get-keys")?.len(), loaded(&gateway, "get-shared")?.len());
    let known = accepts(&gateway, &key_of(demo, &hub)?)?;
    let text = format!("its charon has {}, made there, and {given} pre-shared ones", count(own as u64, "private key"));
    demo.check(own == 1 && given == 0 && known == 1, &format!("{text}; it found the hub's key in the hub's tag"));
    let early = a.reaches(c.address)?;
    demo.check(!early, &format!("not yet: the hub does not know it, and {} does not reach {}", a.name, c.name));

    demo.screen.text("The hub refreshes: hourly by its timer, here by hand. First what it would do, then it does.");
    demo.crosswan(&hub, &["refresh", "--dry-run"], Show::All)?;
    let before = demo.screen.elapsed();
    let report = demo.refresh(&hub, Show::Verdict)?;
    let outcome = report["outcome"].as_str().unwrap_or_default();
    demo.check(outcome == "changed", &format!("outcome in the hub's /run/crosswan/status.json: {outcome}"));
    a.wait_for(c.address, UP)?;
    let up = seconds(demo.screen.elapsed() - before);
    demo.check(true, &format!("{} reaches {} at {}, {up} after the refresh began", a.name, c.name, c.address));
    let pings = stream.stop()?;
    let text = format!("client A to client B meanwhile: {} packets sent, {} lost", pings.sent, pings.lost);
    demo.check(pings.lost == 0 && pings.received > 0, &text);
    Ok(format!("new VPC reachable in {up} from the hub's refresh; A to B lost {} of {}", pings.lost, pings.sent))
}

/// VPC B.
pub fn delete(demo: &mut Demo) -> Result<String> {
    let hub = demo.lab.gateway("hub/vpn-hub")?;
    let id = demo.lab.vpc_id("b")?;
    let gone = demo.lab.host("b/host")?.address;
    let key = key_of(demo, &*demo.lab.gateway("b/nat-vpn")?)?;
    let polls = after_misses(&hub)?;
    demo.screen.text(&format!(
        "One wrong answer of EC2 must not cost a tunnel: the hub's settings ask for {polls} polls without client B \
         (removal.after_misses) before it goes.",
    ));
    demo.screen.command("EC2", &format!("TerminateInstances, DeleteSubnet, ... DeleteVpc {id}"));
    demo.lab.delete_vpc("b")?;
    let before = Holds::of(&hub, &id, &key)?;
    let text = format!("before its next refresh the hub holds for {id}: {before}");
    demo.check(before.connections > 0 && before.keys_accepted > 0 && before.keys_known > 0, &text);
    for poll in 1..=polls {
        let report = demo.refresh(&hub, Show::Deeds)?;
        let now = Holds::of(&hub, &id, &key)?;
        if poll < polls {
            let kept = report["kept"].as_array().into_iter().flatten().any(|kept| kept["vpc"] == id.as_str());
            let said = if kept { "and says so" } else { "but does not say so" };
            demo.check(kept && now.connections > 0, &format!("poll {poll} of {polls}: it keeps {now}, {said}"));
        } else {
            demo.check(now == Holds::default(), &format!("poll {poll} of {polls}: it now holds {now}"));
        }
    }
    let from = demo.lab.host("a/host")?;
    let report = from.ping(gone, 3)?;
    let told = report.errors.first().is_some_and(|error| error.1 == 3);
    let text = format!(
        "{} to {gone}: {} of {} answered, {}",
        from.name,
        report.received,
        report.sent,
        if told { "\"network unreachable\" at once" } else { "and nobody said why" }
    );
    demo.check(report.received == 0 && told, &text);
    let Holds { connections, keys_accepted, keys_known, associations } = Holds::of(&hub, &id, &key)?;
    let keys = keys_accepted + keys_known;
    Ok(format!(
        "client B, at poll {polls} of {polls}: {connections} connections, {keys} keys, {associations} IKE_SAs left"
    ))
}

/// What a hub holds for a VPC: asked of charon and read from disk, not of the agent.
#[derive(Default, PartialEq, Eq)]
struct Holds {
    connections: usize,
    /// Connections that accept its key.
    keys_accepted: usize,
    /// Times its key is remembered for the next pass.
    keys_known: usize,
    associations: usize,
}

impl Holds {
    fn of(hub: &Gateway, vpc: &str, key: &str) -> Result<Holds> {
        go_on()?;
        let prefix = format!("crosswan-{vpc}-");
        let count = |text: &str| text.lines().filter(|line| line.starts_with(&prefix)).count();
        Ok(Holds {
            connections: count(&hub.swanctl(&["--list-conns"])?),
            keys_accepted: accepts(hub, key)?,
            keys_known: remembers(hub, key)?,
            associations: count(&hub.swanctl(&["--list-sas"])?),
        })
    }
}

impl std::fmt::Display for Holds {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Holds { connections, keys_accepted, keys_known, associations } = self;
        write!(
            f,
            "connections {connections}, IKE_SAs {associations}, mentions of its key {keys_accepted} in crosswan.conf and \
             {keys_known} in state.json"
        )
    }
}

/// The hub's own setting.
fn after_misses(hub: &Gateway) -> Result<u32> {
    ensure!(hub.role == Role::VpnHub, "only a hub removes peers");
    let settings = hub.read_file("/etc/crosswan/crosswan.toml")?;
    let value = settings.lines().find_map(|line| line.strip_prefix("after_misses = "));
    value.context("after_misses is not in the hub's settings")?.trim().parse().context("after_misses")
}
