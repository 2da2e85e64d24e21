//! Two nat-vpn in one VPC that are a pair: the set-up that the tests, the faults and the benchmarks of pairs share.

pub mod hub_stage;
pub mod hubs;
pub mod stage;

use std::{cell::Cell, net::Ipv4Addr, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{AgentProcess, Auth, Builder, Capture, Gateway, Host, Lab, PingReport, Role, VpcSpec};

use crate::region::{Region, UP, agent, eventually, refresh, status};

pub const CLIENT: &str = "eu-west-1";
const DEFAULT: &str = "0.0.0.0/0";
const PRIVATE: &str = "10.0.0.0/8";

/// Of everything that takes milliseconds, or half a minute where EC2 has to be asked first, on a machine that is busy. Budgets are for
/// the judge's own tests, which have a clock of their own.
pub const SOON: Duration = Duration::from_mins(2);
/// Where the setting of a member is.
pub const SETTING: &str = "/etc/crosswan/conf.d/60-pair.toml";
/// Where it remembers when routes have moved.
const MOVES: &str = "/run/crosswan/pair-moves.json";
/// Whether a gateway that comes third takes a member's place by itself.
pub const REPLACES: &str = "CROSSWAN_PAIR_NEWCOMER_REPLACES";
/// What `crosswan pair` says of its own moves.
pub const TOOK: &str = "took over ";

/// All that arrives or leaves is dropped, and what runs goes on.
pub const CUT: &str = "table ip cut { chain in { type filter hook prerouting priority -400; iif != lo drop; }
    chain out { type filter hook output priority -400; oif != lo drop; }
}";

/// All that leaves is dropped: it hears, and is not heard.
pub const MUTE: &str = "table ip cut { chain out { type filter hook postrouting priority 400; oif != lo drop; }
}";

/// All that arrives is dropped: it is heard, and carries nothing.
pub const DEAF: &str = "table ip cut { chain in { type filter hook prerouting priority -400; iif != lo drop; }
}";

/// As [`CUT`], of all that comes from one address or goes there.
pub fn cut_from(address: Ipv4Addr) -> String {
    format!(
        "table ip cut {{ chain in {{ type filter hook prerouting priority -400; ip saddr {address} drop; }}
    chain out {{ type filter hook output priority -400; ip daddr {address} drop; }}
}}"
    )
}

/// Whether a route of this table leads to this gateway. EC2 shows its instance or its interface.
pub fn leads_to(lab: &Lab, region: &str, gateway: &Gateway, table: &str, to: &str) -> Result<bool> {
    let answer = lab.ec2().call(region, "DescribeRouteTables", &[("RouteTableId.1", table)])?.0;
    let route = answer.split("<item>").find(|item| item.contains(&format!("<destinationCidrBlock>{to}<")));
    let interface = lab.ec2().instance(region, &gateway.instance)?.interface;
    Ok(route.is_some_and(|route| [&gateway.instance, &interface].iter().any(|id| route.contains(&format!(">{id}<")))))
}

/// What a member says of the other one.
pub fn judgement(gateway: &Gateway) -> Result<String> {
    Ok(status(gateway)?["pair"]["judgement"].as_str().unwrap_or("no pair").to_owned())
}

/// Waits until a member says this of the other one.
pub fn believes(gateway: &Gateway, what: &str) -> Result<()> {
    eventually(SOON, &format!("{} believes: {what}", gateway.name), || Ok(judgement(gateway)?.starts_with(what)))
        .with_context(|| judgement(gateway).unwrap_or_default())
}

/// Whether both are well and know where the routes lead: to the first one.
pub fn are_well([active, standby]: [&Gateway; 2]) -> Result<bool> {
    let is = |gateway, role| {
        let pair = &status(gateway)?["pair"];
        Ok::<_, anyhow::Error>(pair["role"] == role && pair["own_health"] == "well")
    };
    Ok(is(active, "active")? && is(standby, "standby")?)
}

/// Starts `crosswan pair` of a member anew, of which `pair` is the one so far. It remembers no move, after which it would wait for a minute.
pub fn forget_moves(member: &Gateway, pair: &mut AgentProcess) -> Result<()> {
    // The one before it has the port.
    if pair.running() {
        member.sh(&format!("kill -9 {}", pair.pid()))?.ok()?;
        eventually(SOON, "its end", || Ok(!pair.running()))?;
    }
    member.sh(&format!("rm -f {MOVES}"))?.ok()?;
    *pair = member.spawn_agent(&["pair"])?;
    Ok(())
}

/// Two members that hear each other, and a private host behind them. The second one is newer, and the default route leads to the first.
pub struct Two {
    pub region: Region,
    pub one: Arc<Gateway>,
    pub two: Arc<Gateway>,
    pub watch_one: AgentProcess,
    pub watch_two: AgentProcess,
    pub host: Arc<Host>,
    pub internet: Ipv4Addr,
    /// The calls of `moves` that were dry runs.
    pub dry: Cell<u64>,
}

impl Two {
    /// A hub and the pair's VPC, `a`.
    pub fn up() -> Result<Two> {
        Two::beside(Vec::new())
    }

    /// As [`Two::up`], with further VPCs.
    pub fn beside(others: Vec<VpcSpec>) -> Result<Two> {
        let hub = VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?.bare();
        let client = VpcSpec::client("a", CLIENT, &["10.1.0.0/16"])?.bare();
        let lab = [hub, client].into_iter().chain(others).fold(Lab::builder(agent()?).auth(Auth::Key), Builder::vpc);
        let mut region = Region::booted(lab.build()?)?;
        let one = region.gateway("a/nat-vpn")?;
        let internet = region.lab.internet().address;
        let host = region.lab.host("a/host")?;
        host.wait_for(internet, UP)?;
        // Where settings want no pair it ends at once, and alone it waits, without a rule or a connection.
        alone(&one)?;
        let report = refresh(&one)?;
        let output = one.agent(&["pair"])?;
        ensure!(output.code == 0 && output.stdout.contains("pair.enabled is false"), "{output:?}");
        one.write_file(SETTING, "", 0o644)?;
        ensure!(report["outcome"] == "unchanged" && refresh(&one)?["outcome"] == "unchanged", "{report:#}");
        let watch_one = one.spawn_agent(&["pair"])?;

        // The second one finds the first by its tags. The first one hears it, and asks for a refresh, which finds it, too.
        let two = region.lab.add_gateway("a", Role::NatVpn)?;
        two.start_charon()?;
        let _ = two.agent(&["refresh"])?;
        region.keepers.insert(two.name.clone(), two.spawn_agent(&["keep"])?);
        let watch_two = two.spawn_agent(&["pair"])?;
        watch_one.wait_for_log("sends beats, and is not known as a member of a pair: asked for a refresh", SOON)?;
        let heard = one.sh("ss -Hlun sport = 4795")?.ok()?.stdout;
        ensure!(heard.lines().count() == 1, "alone it hears nothing out of its tunnels: {heard}");
        refresh(&one)?;
        // The hub accepts the newcomer, which may have its tunnel then.
        let hub = region.gateway("hub/vpn-hub")?;
        eventually(SOON, "both members have all that they want", || {
            hub.agent(&["refresh"])?;
            Ok(two.agent(&["refresh"])?.code == 0)
        })?;
        believes(&one, "alive")?;
        believes(&two, "alive")?;
        // What EC2 has not told them yet they could not take, and could not see being taken.
        eventually(SOON, "both know where the routes lead and have a tunnel", || are_well([&one, &two]))?;
        let pair = Two { region, one, two, watch_one, watch_two, host, internet, dry: Cell::default() };
        ensure!(pair.leads_to(&pair.one)?, "the newer one does not take it from a member that lives");
        Ok(pair)
    }

    /// Whether all routes lead to this gateway: the default route of one table, and the private network's of two.
    pub fn leads_to(&self, gateway: &Gateway) -> Result<bool> {
        let lab = &self.region.lab;
        let [public, private] = lab.route_tables("a")?;
        let all = [(&private, DEFAULT), (&private, PRIVATE), (&public, PRIVATE)];
        all.into_iter().try_fold(true, |all, (table, to)| Ok(all && leads_to(lab, CLIENT, gateway, table, to)?))
    }

    /// The calls of EC2 that would move or make a route, by anybody. Where EC2 is slow, the SDK makes a call again that has worked.
    pub fn moves(&self) -> u64 {
        self.calls() - self.dry.get()
    }

    pub fn calls(&self) -> u64 {
        let calls = self.region.lab.ec2_calls();
        let of = |action: &str| calls.get(&(CLIENT.into(), action.into())).copied().unwrap_or_default();
        of("ReplaceRoute") + of("CreateRoute")
    }

    /// What becomes of a private host's pings to the internet during `what`.
    pub fn pings(&self, what: impl FnOnce() -> Result<()>) -> Result<PingReport> {
        let stream = self.host.ping_stream(self.internet)?;
        thread::sleep(Duration::from_secs(1));
        what()?;
        thread::sleep(Duration::from_secs(1));
        stream.stop()
    }

    /// The address as which a new connection of the private host is seen in the internet.
    pub fn seen_as(&self) -> Result<Option<Ipv4Addr>> {
        self.host.whoami_tcp(self.internet).map(Some)
    }

    /// Lets the gateway that has the routes die in this way, and shows that the other one takes over; the gap.
    pub fn dies(&self, how: &str, survivor: &Gateway, die: impl FnOnce() -> Result<()>) -> Result<PingReport> {
        let moves = self.moves();
        let report = self.pings(|| {
            die()?;
            eventually(SOON, "the route has moved", || self.leads_to(survivor))?;
            self.host.wait_for(self.internet, SOON).map(drop)
        })?;
        ensure!(self.seen_as()? == survivor.public(), "a new connection leaves by the survivor");
        let taken = || Ok(!status(survivor)?["pair"]["taken"].is_null());
        eventually(SOON, "the takeover is shown", taken)?;
        let taken = status(survivor)?["pair"]["taken"].clone();
        println!(
            "pair: {how}: nothing reached the internet for {:?} ({} of {} pings lost); decided {} ms after the last beat, calls of EC2 {} ms",
            report.longest_gap, report.lost, report.sent, taken["silent_ms"], taken["calls_ms"]
        );
        self.took_once(survivor, moves)?;
        ensure!(report.lost > 0, "{report:?}");
        Ok(report)
    }

    /// All routes lead to this gateway since there were so many calls, and nobody took one back.
    pub fn took_once(&self, gateway: &Gateway, before: u64) -> Result<()> {
        let [one, two] = [&self.watch_one, &self.watch_two].map(AgentProcess::log);
        let others = if gateway.name == self.one.name { &two } else { &one };
        let good = self.leads_to(gateway)? && self.moves() >= before + 3;
        ensure!(good && !others.contains(TOOK), "{} moves\n{one}\n---\n{two}", self.moves() - before);
        Ok(())
    }

    /// Both refresh, and nothing moves and nothing is lost.
    pub fn refreshes_disturb_nobody(&self, active: &Gateway) -> Result<()> {
        let moves = self.moves();
        let report = self.pings(|| {
            for gateway in [&self.one, &self.two, &self.one, &self.two] {
                gateway.agent(&["refresh"])?;
            }
            Ok(())
        })?;
        ensure!(report.lost == 0 && self.moves() == moves, "{report:?}, {} moves", self.moves() - moves);
        ensure!(self.leads_to(active)? && self.seen_as()? == active.public());
        println!("pair: both refreshed twice: 0 of {} pings lost, 0 moves", report.sent);
        Ok(())
    }
}

/// It is one of no pair from its next pass on, and takes the routes of an older gateway as soon as it works.
pub fn alone(gateway: &Gateway) -> Result<()> {
    gateway.write_file(SETTING, "pair.enabled = false\n", 0o644)
}

/// Waits until a pass of this gateway finds nothing to do. What is awaited comes by itself: a tunnel, after which a route waits no longer.
fn finds_nothing_to_do(gateway: &Gateway) -> Result<()> {
    let mut said = String::new();
    eventually(SOON, "a pass finds nothing to do", || {
        let output = gateway.agent(&["refresh", "--json"])?;
        let report: serde_json::Value = serde_json::from_str(&output.stdout)?;
        said = output.stdout;
        Ok(output.code == 0 && report["outcome"] == "unchanged")
    })
    .with_context(|| format!("{}: {said}", gateway.name))
}

/// What these gateways say of themselves, for the message of a failure.
fn told<'g>(gateways: impl IntoIterator<Item = &'g Arc<Gateway>>) -> String {
    let told = |gateway: &'g Arc<Gateway>| {
        let said = gateway.agent(&["status"]).map_or_else(|error| format!("{error:#}"), |output| output.stdout);
        format!("{} ({}):\n{said}", gateway.name, gateway.instance)
    };
    gateways.into_iter().map(told).collect::<Vec<_>>().join("\n")
}

/// An error if something private was in the clear since the last time, at the internet's router or at those of the VPCs.
fn nothing_in_the_clear(lab: &Lab, capture: &mut Capture) -> Result<()> {
    let packets = std::mem::replace(capture, lab.capture_internet()?).stop()?;
    let clear = packets.clear_private();
    ensure!(
        !packets.all.is_empty() && clear.is_empty(),
        "{} of {} packets in the clear: {:?}",
        clear.len(),
        packets.all.len(),
        clear.first()
    );
    for vpc in ["hub", "a", "b"] {
        let leaks = lab.leaks(vpc)?;
        ensure!(leaks.private_out + leaks.clear_from_gateway == 0, "{vpc}: {leaks:?}");
    }
    Ok(())
}
