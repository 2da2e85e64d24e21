//! Two nat-vpn in one VPC: what each hears of the other, what it believes, and what moves when one of them is cut off.

mod far;
mod handover;
mod hubs;
mod liar;
mod make_way;
mod third;

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use crosswan_faults::pair::{CLIENT, CUT, SOON, Two, believes, cut_from};
use crosswan_lab::{Fault, Gateway};

use serde_json::Value;

use crate::region::{UP, eventually, status};

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
    if packet[9] == 17 and len(packet) == 28 + 114 and packet[16:20] == socket.inet_aton(to): break
beat = packet[28:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for datagram in [beat, beat[:20] + os.urandom(1) + beat[21:], beat[:-1], b'', beat[:8] + os.urandom(100), os.urandom(114)]:
    for _ in range(5): udp.sendto(datagram, (to, port))
"#;

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
    let flood = format!("import socket; [socket.socket(2, 2).sendto(bytes(114), ('{to}', 4795)) for _ in range(50)]");
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
        one.ns()?.nft(&cut_from(two.address))?;
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
