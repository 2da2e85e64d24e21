//! Two nat-vpn in one VPC: what each hears of the other, what it believes, and what moves when one of them is cut off.

use std::{cell::Cell, net::Ipv4Addr, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{AgentProcess, Auth, Fault, Gateway, Host, Lab, PingReport, Role, VpcSpec};

use serde_json::Value;

use crate::region::{Region, UP, agent, eventually, refresh, status};

const CLIENT: &str = "eu-west-1";
const DEFAULT: &str = "0.0.0.0/0";
const PRIVATE: &str = "10.0.0.0/8";
/// Of everything that takes milliseconds, or half a minute where EC2 has to be asked first, on a machine that is busy. Budgets are for
/// the judge's own tests, which have a clock of their own.
const SOON: Duration = Duration::from_mins(2);
/// What `crosswan pair` says of its own moves.
const TOOK: &str = "took over ";
/// All that arrives or leaves is dropped, and what runs goes on.
const CUT: &str = "table ip cut { chain in { type filter hook prerouting priority -400; iif != lo drop; }
    chain out { type filter hook output priority -400; oif != lo drop; }
}";
/// Records one beat, sends it again, changed, cut short and as it was, and sends what only looks like one. It runs on the other member, whose
/// address it so has.
const HOSTILE: &str = r#"
import os, socket, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
raw.settimeout(20)
to, port = sys.argv[1], int(sys.argv[2])
out = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
out.settimeout(20)
while True:
    packet = out.recv(2000)
    if packet[9] == 17 and len(packet) == 28 + 104 and packet[16:20] == socket.inet_aton(to): break
beat = packet[28:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for datagram in [beat, beat[:20] + os.urandom(1) + beat[21:], beat[:-1], b'', beat[:8] + os.urandom(96), os.urandom(104)]:
    for _ in range(5): udp.sendto(datagram, (to, port))
"#;

/// Whether a route of this table leads to this gateway. EC2 shows its instance or its interface.
fn leads_to(lab: &Lab, gateway: &Gateway, table: &str, to: &str) -> Result<bool> {
    let answer = lab.ec2().call(CLIENT, "DescribeRouteTables", &[("RouteTableId.1", table)])?.0;
    let route = answer.split("<item>").find(|item| item.contains(&format!("<destinationCidrBlock>{to}<")));
    let interface = lab.ec2().instance(CLIENT, &gateway.instance)?.interface;
    Ok(route.is_some_and(|route| [&gateway.instance, &interface].iter().any(|id| route.contains(&format!(">{id}<")))))
}

fn judgement(gateway: &Gateway) -> Result<String> {
    Ok(status(gateway)?["pair"]["judgement"].as_str().unwrap_or("no pair").to_owned())
}

/// What doctor says on a gateway of the other one of its pair. It asks by a dry run whether the role may move routes, which is no move.
fn checked(pair: &Two, gateway: &Gateway, other: &Gateway) -> Result<String> {
    let before = pair.calls();
    let output = gateway.agent(&["doctor", "--json"])?;
    pair.dry.set(pair.dry.get() + pair.calls() - before);
    let said: Value = serde_json::from_str(&output.stdout)?;
    let id = format!("pair-{}", other.instance);
    let check = said["checks"].as_array().into_iter().flatten().find(|check| check["id"] == *id);
    Ok(check.with_context(|| format!("no {id} in {said:#}"))?["state"].as_str().unwrap_or_default().to_owned())
}

fn refused(gateway: &Gateway, why: &str) -> Result<u64> {
    Ok(status(gateway)?["pair"]["refused"][why].as_u64().unwrap_or(0))
}

fn believes(gateway: &Gateway, what: &str) -> Result<()> {
    eventually(SOON, &format!("{} believes: {what}", gateway.name), || Ok(judgement(gateway)?.starts_with(what)))
        .with_context(|| judgement(gateway).unwrap_or_default())
}

/// Two members that hear each other, and a private host behind them. The second one is newer, and the default route leads to the first.
struct Two {
    region: Region,
    one: Arc<Gateway>,
    two: Arc<Gateway>,
    watch_one: AgentProcess,
    watch_two: AgentProcess,
    host: Arc<Host>,
    internet: Ipv4Addr,
    /// The calls of `moves` that were dry runs.
    dry: Cell<u64>,
}

impl Two {
    fn up() -> Result<Two> {
        let hub = VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?.bare();
        let client = VpcSpec::client("a", CLIENT, &["10.1.0.0/16"])?.bare();
        let mut region = Region::booted(Lab::builder(agent()?).auth(Auth::Key).vpc(hub).vpc(client).build()?)?;
        let one = region.gateway("a/nat-vpn")?;
        let internet = region.lab.internet().address;
        let host = region.lab.host("a/host")?;
        host.wait_for(internet, UP)?;
        // Without the setting it ends at once, and alone it waits.
        let output = one.agent(&["pair"])?;
        ensure!(output.code == 0 && output.stdout.contains("pair.enabled is false"), "{output:?}");
        enable(&one)?;
        let report = refresh(&one)?;
        ensure!(report["outcome"] == "unchanged", "one alone is as it was: {report:#}");
        let watch_one = one.spawn_agent(&["pair"])?;

        // The second one finds the first by its tags. The first one hears it, and asks for a refresh, which finds it, too.
        let two = region.lab.add_gateway("a", Role::NatVpn)?;
        enable(&two)?;
        two.start_charon()?;
        let _ = two.agent(&["refresh"])?;
        region.keepers.insert(two.name.clone(), two.spawn_agent(&["keep"])?);
        let watch_two = two.spawn_agent(&["pair"])?;
        watch_one.wait_for_log("sends beats, and is not known as a member of a pair: asked for a refresh", SOON)?;
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
        eventually(SOON, "both know where the routes lead and have a tunnel", || {
            let is = |gateway, role| {
                let pair = &status(gateway)?["pair"];
                Ok::<_, anyhow::Error>(pair["role"] == role && pair["own_health"] == "well")
            };
            Ok(is(&one, "active")? && is(&two, "standby")?)
        })?;
        let pair = Two { region, one, two, watch_one, watch_two, host, internet, dry: Cell::default() };
        ensure!(pair.leads_to(&pair.one)?, "the newer one does not take it from a member that lives");
        Ok(pair)
    }

    /// Whether all routes lead to this gateway: the default route of one table, and the private network's of two.
    fn leads_to(&self, gateway: &Gateway) -> Result<bool> {
        let lab = &self.region.lab;
        let [public, private] = lab.route_tables("a")?;
        let all = [(&private, DEFAULT), (&private, PRIVATE), (&public, PRIVATE)];
        all.into_iter().try_fold(true, |all, (table, to)| Ok(all && leads_to(lab, gateway, table, to)?))
    }

    /// The calls of EC2 that would move or make a route, by anybody. Where EC2 is slow, the SDK makes a call again that has worked.
    fn moves(&self) -> u64 {
        self.calls() - self.dry.get()
    }

    fn calls(&self) -> u64 {
        let calls = self.region.lab.ec2_calls();
        let of = |action: &str| calls.get(&(CLIENT.into(), action.into())).copied().unwrap_or_default();
        of("ReplaceRoute") + of("CreateRoute")
    }

    /// What becomes of a private host's pings to the internet during `what`.
    fn pings(&self, what: impl FnOnce() -> Result<()>) -> Result<PingReport> {
        let stream = self.host.ping_stream(self.internet)?;
        thread::sleep(Duration::from_secs(1));
        what()?;
        thread::sleep(Duration::from_secs(1));
        stream.stop()
    }

    /// The address as which a new connection of the private host is seen in the internet.
    fn seen_as(&self) -> Result<Option<Ipv4Addr>> {
        self.host.whoami_tcp(self.internet).map(Some)
    }

    /// Lets the gateway that has the routes die in this way, and shows that the other one takes over; the gap.
    fn dies(&self, how: &str, survivor: &Gateway, die: impl FnOnce() -> Result<()>) -> Result<PingReport> {
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
    fn took_once(&self, gateway: &Gateway, before: u64) -> Result<()> {
        let [one, two] = [&self.watch_one, &self.watch_two].map(AgentProcess::log);
        let others = if gateway.name == self.one.name { &two } else { &one };
        let good = self.leads_to(gateway)? && self.moves() >= before + 3;
        ensure!(good && !others.contains(TOOK), "{} moves\n{one}\n---\n{two}", self.moves() - before);
        Ok(())
    }

    /// Both refresh, and nothing moves and nothing is lost.
    fn refreshes_disturb_nobody(&self, active: &Gateway) -> Result<()> {
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

fn enable(gateway: &Gateway) -> Result<()> {
    gateway.write_file("/etc/crosswan/conf.d/60-pair.toml", "pair.enabled = true\n", 0o644)
}

#[test]
fn two_members_that_live_move_nothing_whatever_is_sent_to_them_and_whatever_becomes_of_their_agents() -> Result<()> {
    let pair = Two::up()?;
    let Two { one, two, host, .. } = &pair;
    let left = two.agent(&["refresh", "--json"])?.stdout;
    ensure!(left.contains(&format!("leads to {}, the other member of the pair", one.instance)), "{left}");
    let moves = pair.moves();
    let quiet = host.ping_stream(pair.internet)?;
    let began = std::time::Instant::now();
    pair.refreshes_disturb_nobody(one)?;

    // Nothing but the other one's own beats counts, from nobody else's address.
    let rules = one.sh("iptables-save")?.stdout;
    ensure!(rules.contains(&format!("-s {}/32 ! -i cw+ -p udp -m udp --dport 4795 -j RETURN", two.address)), "{rules}");
    two.write_file("/etc/hostile.py", HOSTILE, 0o644)?;
    let output = two.sh(&format!("python3 /etc/hostile.py {} 4795", one.address))?;
    ensure!(output.code == 0, "{output:?}");
    eventually(SOON, "replays, forgeries and rubbish are refused", || {
        let all = ["repeated", "forged", "unreadable"].map(|why| refused(one, why));
        Ok(all.into_iter().all(|times| times.is_ok_and(|times| times >= 5)))
    })?;
    believes(one, "alive")?;
    let before = status(one)?["pair"]["refused"].clone();
    let to = one.address;
    let flood = format!("import socket; [socket.socket(2, 2).sendto(bytes(104), ('{to}', 4795)) for _ in range(50)]");
    host.exec("python3", &["-c", &flood])?;
    thread::sleep(Duration::from_secs(2));
    ensure!(status(one)?["pair"]["refused"] == before, "a stranger's datagrams reach nobody");

    // charon is gone on the one that has the route: its NAT works, and is left alone.
    one.kill_charon(9)?;
    believes(two, "alive, and its charon is away")?;
    thread::sleep(Duration::from_secs(2));
    one.start_charon()?;
    believes(two, "alive")?;

    // An agent that hangs, and one that is dead: its kernel answers, and nothing moves.
    let agent_dead = "its crosswan pair is silent and its kernel answers";
    let signal = |signal: &str| one.sh(&format!("kill -{signal} {}", pair.watch_one.pid()))?.ok().map(drop);
    signal("STOP")?;
    believes(two, agent_dead)?;
    thread::sleep(Duration::from_secs(3));
    signal("CONT")?;
    believes(two, "alive")?;
    ensure!(checked(&pair, one, two)? == "ok" && checked(&pair, two, one)? == "ok");
    signal("KILL")?;
    believes(two, agent_dead)?;
    ensure!(checked(&pair, two, one)? == "warning");
    eventually(SOON, "status says that nobody watches", || {
        Ok(one.agent(&["status"])?.stdout.contains("crosswan pair does not run"))
    })?;
    ensure!(checked(&pair, one, two)? == "failure");
    let _watch_one = one.spawn_agent(&["pair"])?;
    believes(two, "alive")?;
    believes(one, "alive")?;
    thread::sleep(Duration::from_secs(60).saturating_sub(began.elapsed()));
    let (lasted, report) = (began.elapsed(), quiet.stop()?);
    let moves = pair.moves() - moves;
    println!("pair: in {lasted:.0?} of all this {moves} moves, {} of {} pings lost", report.lost, report.sent);
    ensure!(report.lost == 0 && moves == 0 && pair.leads_to(one)?, "{report:?}");
    Ok(())
}

#[test]
fn the_one_that_lives_takes_the_routes_and_the_one_that_returns_takes_nothing_back() -> Result<()> {
    let pair = Two::up()?;
    let Two { one, two, .. } = &pair;
    // The hub sends to the newer one, which has proved that it works, and the VPC by the older one.
    let (hub, far) = (pair.region.gateway("hub/vpn-hub")?, pair.region.address("hub/host")?);
    eventually(UP, "the hub uses the newer one", || {
        hub.agent(&["refresh"])?;
        Ok(hub.agent(&["status"])?.stdout.contains(&format!("stands by: {} in the same VPC is in use", two.instance)))
    })?;
    pair.host.wait_for(far, UP)?;
    let private = pair.host.ping_stream(far)?;
    // Its whole machine is cut off, and what runs there goes on.
    let report = pair.dies("the older one is cut off", two, || one.ns()?.nft(CUT))?;
    let private = private.stop()?;
    println!("pair: meanwhile nothing reached the hub VPC for {:?} ({} lost)", private.longest_gap, private.lost);
    ensure!(private.lost > 0, "{private:?}");
    ensure!([&private, &report].into_iter().all(|report| report.longest_gap < SOON), "{private:?}, {report:?}");
    pair.watch_two.wait_for_log(&format!("from {}, ", one.instance), SOON)?;

    // It is back: it sees who has the route, stands by, and takes nothing back, nor does a refresh.
    let back = pair.pings(|| {
        one.ns()?.nft("delete table ip cut")?;
        pair.watch_one.wait_for_log("this gateway stands by", SOON)?;
        believes(one, "alive")?;
        believes(two, "alive")
    })?;
    ensure!(back.lost == 0, "{back:?}");
    pair.refreshes_disturb_nobody(two)?;

    // The standby one is lost: that is said, and nothing moves.
    let (moves, began) = (pair.moves(), std::time::Instant::now());
    one.ns()?.nft(CUT)?;
    believes(two, "dead: neither its crosswan pair nor its kernel answers; no route leads to it")?;
    println!("pair: the loss of the one that stands by was said {:?} later", began.elapsed());
    ensure!(pair.moves() == moves && pair.leads_to(two)? && pair.host.reaches(pair.internet)?);
    Ok(())
}

#[test]
fn the_newer_one_that_returns_does_not_take_the_routes_back_by_a_refresh() -> Result<()> {
    let pair = Two::up()?;
    let Two { one, two, .. } = &pair;
    // An operator has led the route to the newer one, which dies: its programs are killed, and its link is down.
    pair.region.lab.route_through(two)?;
    // They ask EC2 each half a minute.
    eventually(SOON, "both have seen that", || {
        Ok(status(one)?["pair"]["role"] == "standby" && status(two)?["pair"]["role"] == "active")
    })?;
    // A minute after that move.
    thread::sleep(Duration::from_secs(60));
    pair.region.lab.ec2_effect_delay(Duration::from_secs(2));
    let report = pair.dies("the newer one is killed, and EC2 takes 2 s to act", one, || {
        two.sh(&format!("kill -9 {}", pair.watch_two.pid()))?.ok()?;
        two.kill_charon(9)?;
        two.ns()?.nft(CUT)
    })?;
    ensure!(report.longest_gap > Duration::from_secs(2) && report.longest_gap < SOON, "{report:?}");
    pair.region.lab.ec2_effect_delay(Duration::ZERO);

    // It boots again, and its first refresh finds a route at an older gateway.
    let moves = pair.moves();
    let back = pair.pings(|| {
        two.ns()?.nft("delete table ip cut")?;
        two.start_charon()?;
        two.agent(&["refresh"])?;
        let _watch_two = two.spawn_agent(&["pair"])?;
        believes(one, "alive")?;
        believes(two, "alive")?;
        two.agent(&["refresh"]).map(drop)
    })?;
    ensure!(back.lost == 0 && pair.moves() == moves && pair.leads_to(one)?, "{back:?}");
    println!("pair: the newer one returned: 0 of {} pings lost, 0 moves", back.sent);
    Ok(())
}

#[test]
fn a_takeover_waits_for_ec2_and_says_so() -> Result<()> {
    let pair = Two::up()?;
    let Two { one, two, .. } = &pair;
    let lab = &pair.region.lab;
    // The instance is stopped and all of it is gone. EC2 refuses the move, and then answers nothing at all.
    lab.ec2_fault(CLIENT, "ReplaceRoute", Fault::Throttle);
    lab.stop_instance(one)?;
    pair.watch_two.wait_for_log("a route was not taken over", SOON)?;
    ensure!(pair.leads_to(one)?);
    lab.ec2_fault("*", "*", Fault::Silent);
    believes(two, "dead: neither its crosswan pair nor its kernel answers; EC2 is asked")?;
    pair.watch_two.wait_for_log("cannot ask EC2 for the routes", SOON)?;
    let healed = std::time::Instant::now();
    lab.ec2_heal();
    eventually(SOON, "the route has moved", || pair.leads_to(two))?;
    println!("pair: the route moved {:?} after EC2 answered again", healed.elapsed());
    pair.host.wait_for(pair.internet, SOON)?;
    ensure!(pair.seen_as()? == two.public());
    Ok(())
}

#[test]
fn two_that_live_and_cannot_hear_each_other_move_the_routes_once() -> Result<()> {
    let pair = Two::up()?;
    let Two { one, two, .. } = &pair;
    let moves = pair.moves();
    let report = pair.pings(|| {
        one.ns()?.nft(&format!(
            "table ip cut {{ chain in {{ type filter hook prerouting priority -400; ip saddr {0} drop; }}
            chain out {{ type filter hook output priority -400; ip daddr {0} drop; }}
}}",
            two.address
        ))?;
        eventually(SOON, "the route has moved", || pair.leads_to(two))?;
        pair.watch_one.wait_for_log("this gateway stands by", SOON)?;
        believes(one, "has not been heard")?;
        // Longer than the time in which nothing moves after a move.
        thread::sleep(Duration::from_secs(70));
        Ok(())
    })?;
    println!("pair: while the two could not hear each other, {} of {} pings were lost", report.lost, report.sent);
    pair.took_once(two, moves)
}
