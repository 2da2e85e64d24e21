//! Which packets go through tunnels, and which do not.

use anyhow::{Result, ensure};
use crosswan_lab::{Auth, Gateway, Lab};

use crate::region::{Region, agent, refresh};

/// Packets sent and received by the interfaces for tunnels so far.
fn through_tunnels(gateway: &Gateway) -> Result<u64> {
    let all = gateway.sh("cat /sys/class/net/cw?/statistics/[rt]x_packets")?.ok()?.stdout;
    Ok(all.lines().filter_map(|line| line.parse::<u64>().ok()).sum())
}

/// The device by which the kernel would send a packet, `unreachable` included.
fn device(gateway: &Gateway, words: &str) -> Result<String> {
    let said = gateway.sh(&format!("ip route get {words}"))?;
    let words: Vec<&str> = said.stdout.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "dev").and_then(|at| words.get(at + 1));
    Ok(at.map_or(format!("none: {}", said.stderr.trim()), |device| (*device).to_owned()))
}

#[test]
fn the_own_vpc_what_is_excluded_and_nats_sources_go_in_the_clear_and_all_else_into_tunnels() -> Result<()> {
    let lab = Lab::standard(agent()?, Auth::Psk)?;
    let spoke = lab.gateway("b/nat-vpn")?;
    spoke.write_file(
        "/etc/crosswan/conf.d/50-test.toml",
        "[guard]\nexclude = [\"10.9.0.0/16\"]\n[nat]\nsources = [\"10.50.0.0/16\"]\n",
        0o644,
    )?;
    let region = Region::booted(lab)?;
    region.settle()?;

    // The own VPC, its secondary CIDR too: by the VPC's router, and through no tunnel.
    let before = through_tunnels(&spoke)?;
    for host in ["b/host", "b/host-2"] {
        ensure!(spoke.host()?.ping(region.address(host)?, 5)?.lost == 0, "{host}");
    }
    ensure!(region.lab.host("b/host")?.ping(region.address("b/host-2")?, 5)?.lost == 0);
    ensure!(through_tunnels(&spoke)? == before, "packets of the own VPC went through a tunnel");
    // Without the rule they would, and none would come back.
    spoke.sh("ip rule del pref 7104 to 10.102.0.0/16")?.ok()?;
    ensure!(spoke.host()?.ping(region.address("b/host-2")?, 2)?.received == 0);
    refresh(&spoke)?;
    ensure!(spoke.host()?.ping(region.address("b/host-2")?, 2)?.lost == 0);

    let host = region.address("b/host")?;
    let forwarded = |to: &str, from: &str| device(&spoke, &format!("{to} from {from} iif ens5"));
    let host = host.to_string();
    for (what, is, should) in [
        ("what is excluded, of this gateway", device(&spoke, "10.9.0.5")?, "ens5"),
        ("what is excluded, of a host behind it", forwarded("10.9.0.5", &host)?, "cw1"),
        ("another part, of this gateway", device(&spoke, "10.8.0.5")?, "cw1"),
        ("an answer from the internet to one of nat.sources", forwarded("10.50.0.7", "192.0.2.80")?, "ens5"),
        ("a private host to one of nat.sources", forwarded("10.50.0.7", &host)?, "cw1"),
        ("one of nat.sources to the internet", forwarded("192.0.2.80", "10.50.0.7")?, "ens5"),
        ("a private host to the internet", forwarded("192.0.2.80", &host)?, "ens5"),
        ("the internet, of this gateway", device(&spoke, "192.0.2.80")?, "ens5"),
    ] {
        ensure!(is == should, "{what}: {is}, not {should}");
    }
    Ok(())
}

#[test]
fn packets_that_come_late_and_large_ones_pass_and_replayed_ones_do_not() -> Result<()> {
    let region = Region::standard()?;
    for name in ["hub/vpn-hub", "a/nat-vpn"] {
        let states = region.gateway(name)?.sh("ip xfrm state")?.ok()?.stdout;
        ensure!(states.contains("replay_window 1024"), "{states}");
    }
    for (from, to) in [("a/host", "hub/host"), ("hub/host", "a/host"), ("a/host", "b/host-2")] {
        let (from, to) = (region.lab.host(from)?, region.address(to)?);
        for size in [1439 - 28, 8000] {
            let probe = from.udp_df(to, size)?;
            ensure!(probe.too_big && probe.mtu == 1438 && !probe.answered, "{} {size}: {probe:?}", from.name);
        }
        ensure!(from.udp_df(to, 1438 - 28)?.answered, "{}", from.name);
        // Without DF a large datagram is fragmented before it is encrypted.
        let large = from.exec("ping", &["-n", "-c", "3", "-i", "0.2", "-M", "dont", "-s", "8000", &to.to_string()])?;
        ensure!(large.stdout.contains(" 0% packet loss"), "{}", large.stdout);
    }
    // Late by 30 ms of 5, so that a window of 32 would drop some at this rate, and each tenth twice.
    let internet = region.lab.internet();
    let links = internet.exec("ip", &["-br", "link"])?.ok()?.stdout;
    for link in links.lines().filter_map(|line| line.split('@').next()).filter(|name| name.starts_with("vpc")) {
        let words =
            ["qdisc", "replace", "dev", link, "root", "netem", "delay", "5ms", "reorder", "50%", "duplicate", "10%"];
        internet.exec("tc", &words)?.ok()?;
    }
    let hub = region.gateway("hub/vpn-hub")?;
    let flood = region
        .lab
        .host("a/host")?
        .exec("ping", &["-n", "-q", "-c", "500", "-f", &region.address("hub/host")?.to_string()])?;
    ensure!(flood.stdout.contains(" 0% packet loss") && !flood.stdout.contains("duplicates"), "{}", flood.stdout);
    let replayed = statistic(&hub, "XfrmInStateSeqError")?;
    eprintln!("replayed and dropped: {replayed}");
    ensure!(replayed > 20, "{replayed}");
    Ok(())
}

/// A counter of the kernel's.
pub fn statistic(gateway: &Gateway, name: &str) -> Result<u64> {
    let all = gateway.sh("cat /proc/net/xfrm_stat")?.ok()?.stdout;
    let value = all.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.trim().parse().ok());
    Ok(value.unwrap_or(0))
}
