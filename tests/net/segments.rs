//! Segments: who reaches whom by TCP, UDP and ICMP, and what happens to everybody else while that changes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_core::model::Realm;
use crosswan_lab::{Fault, Gateway, INTERFACE};
use serde_json::Value;

use crate::{
    cloud::watch::Watch,
    region::{Region, UP, eventually, lines, refresh, refresh_with, show},
};

const FILE: &str = "/etc/crosswan/conf.d/60-segments.toml";
/// `a` and `b` may begin connections to the hub's VPC, which is in `shared`, and not to each other.
const ONE_WAY: &str = "segments = { prod = [\"shared\"], dev = [\"shared\"] }\n";
const KEY: &str = "crosswan-segment";
/// One of the networks of `b`.
const NET_B: &str = "10.2.0.0/16";
/// Empties the kernel's table of connections (`IPCTNL_MSG_CT_DELETE` without a filter), as on a hub that has just taken over.
const FLUSH: &str = "import socket, struct; s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12); \
    s.send(struct.pack('IHHIIBBH', 20, 0x102, 5, 1, 0, 0, 0, 0)); e = struct.unpack_from('i', s.recv(4096), 16)[0]; assert e == 0, e";

/// Sets the tag of a VPC of the lab, or removes it.
fn tag(region: &Region, vpc: &str, value: Option<&str>) -> Result<()> {
    region.lab.ec2().tag(&region.lab.region(vpc)?, &region.lab.vpc_id(vpc)?, KEY, value)
}

/// A region with `a` in `prod`, `b` in `dev` and the hub in `shared`, by their tags.
fn tagged() -> Result<(Region, std::sync::Arc<Gateway>)> {
    let region = Region::standard()?;
    for (vpc, segment) in [("a", "prod"), ("b", "dev"), ("hub", "shared")] {
        tag(&region, vpc, Some(segment))?;
    }
    let hub = region.gateway("hub/vpn-hub")?;
    Ok((region, hub))
}

/// By ICMP, TCP and UDP: whether one host reaches another. All three must agree.
fn reaches(region: &Region, from: &str, to: &str) -> Result<bool> {
    let (host, address) = (region.lab.host(from)?, region.address(to)?);
    let by = [host.reaches(address)?, host.whoami_tcp(address).is_ok(), host.whoami_udp(address).is_ok()];
    ensure!(by[0] == by[1] && by[1] == by[2], "{from} to {to}: ICMP, TCP, UDP {by:?}");
    Ok(by[0])
}

/// Fails unless these pairs, and no others of them all, reach each other.
fn ensure_only(region: &Region, reach: &[(&str, &str)], during: &str) -> Result<()> {
    for (from, to) in [("a", "hub"), ("hub", "a"), ("b", "hub"), ("hub", "b"), ("a", "b"), ("b", "a")] {
        let found = reaches(region, &format!("{from}/host"), &format!("{to}/host"))?;
        ensure!(found == reach.contains(&(from, to)), "{during}: {from} to {to}: {found}");
    }
    Ok(())
}

/// The hub's steps that move a route, and those that do anything else but write files.
fn steps(report: &Value) -> (Vec<String>, Vec<String>) {
    let all = lines(report, "steps").into_iter().filter(|step| !step.starts_with("write "));
    all.map(|step| step.to_string()).partition(|step| step.starts_with("route "))
}

fn realm(name: &str) -> String {
    Realm::of(&name.parse().unwrap()).to_string()
}

#[test]
fn each_reaches_what_settings_list_and_is_answered_while_segments_come_change_and_go() -> Result<()> {
    let (region, hub) = tagged()?;
    let all = [("a", "hub"), ("hub", "a"), ("b", "hub"), ("hub", "b"), ("a", "b"), ("b", "a")];
    ensure_only(&region, &all, "without segments")?;

    // Switched on: what stays allowed loses nothing.
    hub.write_file(FILE, ONE_WAY, 0o644)?;
    let watched = Watch::every(Duration::from_millis(20), &region, &[("a/host", "hub/host"), ("b/host", "hub/host")])?;
    let report = refresh(&hub)?;
    watched.undisturbed("segments were switched on")?;
    let (routes, _) = steps(&report);
    ensure!(routes.iter().any(|step| step.ends_with(&format!("realm {}", realm("prod")))), "{report:#}");
    ensure!(report["segments"]["own"]["segment"] == "shared", "{report:#}");
    ensure_only(&region, &[("a", "hub"), ("b", "hub")], "one way")?;
    ensure!(refresh(&hub)?["outcome"] == "unchanged");
    let refused = region.lab.host("hub/host")?.ping(region.address("a/host")?, 2)?;
    ensure!(refused.errors.contains(&(hub.address, 3, 13)), "it is told at once: {refused:?}");
    for (from, to, code, said) in [
        ("a/host", "hub/host", 0, ", as far as this gateway sees"),
        ("hub/host", "a/host", 7, "FAILED  segments"),
        ("a/host", "b/host", 7, "FAILED  segments"),
    ] {
        let [from, to] = [from, to].map(|name| region.address(name).map(|address| address.to_string()));
        let why = hub.agent(&["why", &from?, &to?])?;
        ensure!(why.code == code && why.stdout.contains(said), "{}", show(&why));
    }
    for (words, said) in [
        ("status", ", segment prod"),
        ("status", "dev may initiate to shared"),
        ("map", "segment prod</text>"),
        ("metrics", ",segment=\"prod\"} 1"),
    ] {
        let shown = hub.agent(&[words])?.ok()?.stdout;
        ensure!(shown.contains(said), "{words}: {shown}");
    }

    // A tag that changes moves its VPC by its routes, and disturbs nobody else.
    tag(&region, "b", Some("prod"))?;
    let watched = Watch::every(Duration::from_millis(20), &region, &[("a/host", "hub/host"), ("b/host", "hub/host")])?;
    let report = refresh(&hub)?;
    watched.undisturbed("a VPC moved to another segment")?;
    let (routes, others) = steps(&report);
    ensure!(routes.len() == 2 && others.is_empty(), "one route for each CIDR: {report:#}");
    ensure_only(&region, &[("a", "hub"), ("b", "hub"), ("a", "b"), ("b", "a")], "of one segment")?;

    // Relations and a tag change in one pass.
    tag(&region, "b", Some("dev"))?;
    hub.write_file(FILE, "segments = { prod = [\"shared\"], dev = [\"prod\"], shared = [\"prod\"] }\n", 0o644)?;
    let watched = Watch::every(Duration::from_millis(20), &region, &[("a/host", "hub/host")])?;
    let report = refresh(&hub)?;
    watched.undisturbed("settings and a tag changed at once")?;
    ensure!(steps(&report).0.iter().any(|step| step.ends_with("realm 0xffff")), "it is isolated meanwhile: {report:#}");
    ensure_only(&region, &[("a", "hub"), ("hub", "a"), ("b", "a")], "both ways, and one way")?;

    // No tag, a name that settings do not know, and one that is none.
    for (value, said) in [
        (None, None),
        (Some("lab"), Some("is in segment lab, which settings do not know")),
        (Some("no name"), Some("is in no segment and reaches nobody: its tag crosswan-segment is \"no name\"")),
    ] {
        tag(&region, "b", value)?;
        let report = refresh(&hub)?;
        ensure_only(&region, &[("a", "hub"), ("hub", "a")], &format!("{value:?}"))?;
        let notes = lines(&report, "notes").join("\n");
        ensure!(said.is_none_or(|said| notes.contains(said)), "{notes}");
        let doctor = hub.agent(&["doctor"])?.stdout;
        ensure!(doctor.contains("warning segments") == said.is_some(), "{value:?}: {doctor}");
    }

    // Switched off: everything is as before.
    hub.write_file(FILE, "", 0o644)?;
    let watched = Watch::every(Duration::from_millis(20), &region, &[("a/host", "hub/host"), ("hub/host", "a/host")])?;
    refresh(&hub)?;
    watched.undisturbed("segments were switched off")?;
    ensure_only(&region, &all, "without segments again")?;
    let left = hub.sh("iptables-save | grep -c SEG; ip route show table 7105 | grep -c realm")?;
    ensure!(left.stdout == "0\n0\n", "{left:?}");
    ensure!(refresh(&hub)?["outcome"] == "unchanged");
    Ok(())
}

#[test]
fn a_hub_that_knows_no_flow_breaks_no_tcp_and_a_forged_source_does_not_pass() -> Result<()> {
    let (region, hub) = tagged()?;
    hub.write_file(FILE, ONE_WAY, 0o644)?;
    refresh(&hub)?;
    let (a, b, to) = (region.lab.host("a/host")?, region.address("b/host")?, region.address("hub/host")?);

    // One way, in both of its directions: data to the hub's VPC, acknowledgements back.
    let flush = || hub.run("python3", &["-c", FLUSH], "")?.ok().map(drop);
    let watched = Watch::every(Duration::from_millis(10), &region, &[("a/host", "hub/host")])?;
    let (sent, flushed) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| (0..8).try_for_each(|_| a.transfer(to, 4 << 20).map(drop)));
        let mut flushed = 0;
        while !sender.is_finished() {
            flush()?;
            flushed += 1;
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok::<_, anyhow::Error>((sender.join(), flushed))
    })?;
    sent.ok().context("the sender panicked")??;
    ensure!(flushed > 5, "flushed {flushed} times only");
    let gaps = watched.gaps()?;
    eprintln!("{flushed} times conntrack was flushed: TCP went on; of ICMP echo was lost {gaps:?}");

    // An answer that is under way belongs to no flow any more. Whoever asks again begins one.
    let slow = |delay| {
        let words = ["qdisc", "replace", "dev", INTERFACE, "root", "netem", "delay", delay];
        region.lab.host("hub/host")?.exec("tc", &words)?.ok().map(drop)
    };
    let answered = |flushed: bool| {
        std::thread::scope(|scope| {
            let by_udp = scope.spawn(|| a.whoami_udp(to).is_ok());
            let by_icmp = scope.spawn(|| a.ping(to, 1).is_ok_and(|report| report.lost == 0));
            std::thread::sleep(Duration::from_millis(250));
            if flushed {
                flush()?;
            }
            Ok::<_, anyhow::Error>([
                by_udp.join().ok().context("UDP panicked")?,
                by_icmp.join().ok().context("ICMP panicked")?,
            ])
        })
    };
    slow("500ms")?;
    // On a busy machine a request may come to the hub after the flush, or its answer too late.
    eventually(UP, "both answers are lost", || Ok(answered(true)? == [false; 2]))?;
    eventually(UP, "both are answered", || Ok(answered(false)? == [true; 2]))?;
    slow("0ms")?;

    // An instance of the hub's VPC without EC2's check that claims an address of `a`.
    let host = region.gateway("hub/nat-hub")?;
    host.sh(&format!("ip addr add 10.1.200.200/32 dev {INTERFACE}"))?.ok()?;
    let counted = |rule: &str| -> Result<u64> {
        let listed = hub.sh("iptables -nvxL CROSSWAN-SEGMENTS")?.ok()?.stdout;
        let line = listed.lines().find(|line| line.contains(rule)).with_context(|| format!("{rule}: {listed}"))?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
    };
    let forged = || counted("! realm");
    let before = forged()?;
    let ping = host.sh(&format!("ping -c 3 -i 0.2 -W 1 -I 10.1.200.200 {b}"))?;
    ensure!(ping.code != 0 && forged()? >= before + 3, "{ping:?}");

    // Somebody takes the realms away: every packet is of an unknown source, until a refresh.
    let bare = format!("ip route replace 10.1.0.0/16 dev cw1 src {} table 7105 proto 205 scope link", hub.address);
    hub.sh(&bare)?.ok()?;
    ensure!(!a.reaches(to)?, "a route without a realm lets nothing pass");
    ensure!(refresh(&hub)?["outcome"] == "changed" && a.reaches(to)?);
    hub.sh("ip addr flush dev cw1")?.ok()?;
    let report = refresh(&hub)?;
    ensure!(lines(&report, "steps").iter().any(|step| step.contains("give interface cw1 the address")), "{report:#}");
    Ok(())
}

#[test]
fn an_ec2_that_does_not_answer_changes_no_segment() -> Result<()> {
    let (region, hub) = tagged()?;
    hub.write_file(FILE, &format!("{ONE_WAY}[ec2]\ntimeout = \"6s\"\n"), 0o644)?;
    refresh(&hub)?;
    tag(&region, "b", Some("prod"))?;
    tag(&region, "hub", Some("dev"))?;
    region.lab.ec2_fault("*", "DescribeVpcs", Fault::Throttle);
    let report = refresh_with(&hub, &[], 3)?;
    ensure!(report["segments"]["own"]["segment"] == "shared", "{report:#}");
    let unasked = lines(&report, "unasked").join("\n");
    ensure!(unasked.contains("look up the segment of this hub's own VPC"), "{unasked}");
    ensure_only(&region, &[("a", "hub"), ("b", "hub")], "throttled")?;
    region.lab.ec2_heal();
    refresh(&hub)?;
    eventually(UP, "the tags count again", || reaches(&region, "a/host", "b/host"))?;
    ensure!(!reaches(&region, "a/host", "hub/host")?);
    let route = hub.sh(&format!("ip route show table 7105 {NET_B}"))?.ok()?.stdout;
    ensure!(route.contains("realm"), "{route}");
    Ok(())
}
