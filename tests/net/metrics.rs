//! What a real Prometheus scrapes from gateways is what hosts have really sent through their tunnels.

use std::{
    collections::BTreeMap,
    fs::File,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Auth, Gateway};
use serde_json::Value;

use crate::region::{Region, UP, agent, eventually, refresh, show, status};

mod alerts;
mod prometheus;

use prometheus::Prometheus;

/// The measurements by name and labels.
fn measured(gateway: &Gateway) -> Result<BTreeMap<String, f64>> {
    let output = gateway.agent(&["metrics"])?;
    ensure!(output.code == 0, "{}", show(&output));
    let values = output.stdout.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').with_context(|| format!("not a measurement: {line}"))?;
        Ok((name.to_owned(), value.parse()?))
    });
    values.collect()
}

/// The counters of a tunnel: bytes and packets received, then sent, once the kernel's have been read after this moment.
fn counters(gateway: &Gateway, labels: &str) -> Result<[f64; 4]> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let mut counters = [0.0; 4];
    eventually(UP, "watch reads the counters", || {
        let all = measured(gateway)?;
        let names = ["receive_bytes", "receive_packets", "transmit_bytes", "transmit_packets"];
        for (counter, name) in counters.iter_mut().zip(names) {
            let Some(value) = all.get(&format!("crosswan_peer_{name}_total{{{labels}}}")) else { return Ok(false) };
            *counter = *value;
        }
        Ok(all["crosswan_traffic_timestamp_seconds"] > now)
    })?;
    Ok(counters)
}

/// Whether the gateway's only tunnel, or all of them, are up.
fn is_up(gateway: &Gateway) -> Result<bool> {
    Ok(status(gateway)?["tunnels"].as_array().is_some_and(|all| all.iter().all(|tunnel| tunnel["up"] == true)))
}

const PACKETS: u32 = 20;
/// Of each packet, with its IP and ICMP headers.
const SIZE: u32 = 1000 + 8 + 20;

/// Sends packets of a known size through a tunnel, and gets as many back.
fn send(region: &Region) -> Result<()> {
    let to = region.address("hub/host")?.to_string();
    let output = region.lab.host("a/host")?.exec("ping", &["-c", "20", "-i", "0.02", "-s", "1000", "-q", &to])?;
    ensure!(output.stdout.contains("20 received"), "{}", show(&output));
    Ok(())
}

#[test]
fn counters_outlive_rekeying_and_the_end_of_tunnels_and_prometheus_raises_alerts() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let of_a = format!("peer_vpc=\"{}\",peer=\"{}\"", region.lab.vpc_id("a")?, spoke.instance);
    let of_hub = format!("peer_vpc=\"{}\",peer=\"{}\"", region.lab.vpc_id("hub")?, hub.instance);
    // Nobody has counted yet: that is not 0.
    let before = measured(&hub)?;
    ensure!(!before.keys().any(|name| name.contains("_bytes_total") || name.contains("traffic")), "{before:#?}");
    ensure!(before[&format!("crosswan_peer_up{{{of_a}}}")] == 1.0 && before["crosswan_rules_in_force"] == 1.0);
    let mut watch = hub.spawn_agent(&["watch"])?;
    let _other = spoke.spawn_agent(&["watch"])?;
    let (at_hub, at_a) = (counters(&hub, &of_a)?, counters(&spoke, &of_hub)?);

    let conn = region.lab.connection_to(&spoke)?;
    for (harm, args) in
        [("nothing", vec![]), ("a rekeying", vec!["--rekey", "--child"]), ("an end", vec!["--terminate", "--ike"])]
    {
        send(&region)?;
        let name = if harm == "a rekeying" { child(&hub, &conn)? } else { conn.clone() };
        if !args.is_empty() {
            hub.swanctl(&[&args[..], &[&name]].concat())?;
            eventually(UP, harm, || Ok(is_up(&hub)? && is_up(&spoke)?))?;
        }
        // The next one goes on from the sums of the one before. One that is killed may not have written what has just ended.
        if args.is_empty() {
            watch.kill()
        } else {
            ensure!(watch.stop()? == Some(0))
        }
        watch = hub.spawn_agent(&["watch"])?;
    }
    send(&region)?;
    let packets = f64::from(4 * PACKETS);
    let expected = [packets * f64::from(SIZE), packets, packets * f64::from(SIZE), packets];
    for (gateway, labels, base) in [(&hub, &of_a, at_hub), (&spoke, &of_hub, at_a)] {
        let now = counters(gateway, labels)?;
        let since: Vec<f64> = now.iter().zip(base).map(|(now, base)| now - base).collect();
        ensure!(since == expected, "{}: {since:?}, not {expected:?}", gateway.name);
    }

    let nat = region.gateway("hub/nat-hub")?;
    let prometheus = Prometheus::of(&region, &[&hub, &nat, &spoke])?;
    for gateway in [&hub, &nat, &spoke] {
        prometheus.measure(gateway)?;
    }
    // A port of a gateway can be reached from a tunnel only where the settings open it.
    prometheus.wait_for("sum(up)", 4.0)?;
    spoke.set_env("CROSSWAN_GUARD_INPUT", "tcp/9917,tcp/9100");
    refresh(&spoke)?;
    prometheus.wait_for("sum(up)", 6.0)?;
    let scraped = counters(&hub, &of_a)?;
    prometheus.measure(&hub)?;
    for job in ["crosswan", "node"] {
        let name = format!("crosswan_peer_receive_bytes_total{{job=\"{job}\",{of_a}}}");
        prometheus.wait_for(&name, scraped[0])?;
    }
    prometheus.wait_for(&format!("crosswan_peer_up{{job=\"crosswan\",{of_hub}}}"), 1.0)?;
    // The file's age is the collector's, too.
    prometheus.wait_for("count(time() - node_textfile_mtime_seconds < 60)", 3.0)?;
    // A hub that leads a route of its VPC to itself, for the dashboard and for what takes it away.
    let table = region.lab.managed_tables("hub")?;
    refresh(&hub)?;
    alerts::dashboard_has_data(&prometheus)?;
    // The watch would put back what is broken now.
    watch.stop()?;
    let alerts = alerts::Alerts::of(&region, &prometheus)?;
    alerts.none_where_all_is_well(&[&hub, &nat])?;
    alerts.of_what_ec2_says(&hub, &nat, &table[1])?;
    alerts.of_what_the_kernel_has_no_room_for(&hub)?;
    alerts.of_what_breaks(&hub)?;
    alerts.are_all_provoked()
}

/// The name of a tunnel's only child.
fn child(gateway: &Gateway, conn: &str) -> Result<String> {
    let status = status(gateway)?;
    let tunnels = status["tunnels"].as_array().context("no tunnels")?;
    let tunnel = tunnels.iter().find(|tunnel| tunnel["connection"] == conn).context("no such tunnel")?;
    Ok(tunnel["children"][0]["name"].as_str().context("no child")?.to_owned())
}

#[test]
fn promtool_accepts_the_measurements_of_each_mode_and_the_map_shows_each_vpc() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    the_map_shows_each_vpc(&region)?;
    for gateway in region.lab.gateways() {
        let text = gateway.agent(&["metrics"])?.ok()?.stdout;
        let check = gateway.run("promtool", &["check", "metrics"], &text)?;
        ensure!(check.code == 0 && check.stdout.is_empty() && check.stderr.is_empty(), "{}\n{text}", show(&check));
    }
    // What promtool minds, to see that it looks.
    let gateway = region.gateway("hub/vpn-hub")?;
    let check = gateway.run("promtool", &["check", "metrics"], "# TYPE a_bytes counter\na_bytes 1\n")?;
    ensure!(check.code != 0, "{}", show(&check));
    gateway.sh(&format!("install -m 755 {} /run/agent", agent()?.display()))?.ok()?;
    // On a terminal, which `script` makes, status fits it.
    let watched = "stty cols 60 rows 9; timeout 5 /run/agent status --watch";
    let screen = gateway.run("script", &["-qec", watched, "/dev/null"], "")?.stdout;
    let last = screen.rsplit("\x1b[H\x1b[2J").next().unwrap_or_default();
    let lines: Vec<&str> = last.lines().map(str::trim_end).collect();
    ensure!(screen.matches("\x1b[H\x1b[2J").count() >= 2 && lines.len() < 9, "{screen}");
    ensure!(lines.iter().all(|line| line.chars().count() <= 60), "{screen}");
    ensure!(lines[0].starts_with("tunnels: 1 DOWN, 1 up") && last.contains("\nDOWN "), "{screen}");
    // Without root's rights nothing can be told, and nothing is.
    let nobody = gateway.run("setpriv", &["--reuid=65534", "/run/agent", "metrics"], "")?;
    ensure!(nobody.code == 3 && nobody.stdout.is_empty(), "{}", show(&nobody));
    Ok(())
}

/// Its tunnel, its traffic, and of one that is refused the reason.
fn the_map_shows_each_vpc(region: &Region) -> Result<()> {
    let hub = region.gateway("hub/vpn-hub")?;
    let _watch = hub.spawn_agent(&["watch"])?;
    region.lab.add_client("c", "eu-west-1", &["10.1.0.0/16"])?;
    refresh(&hub)?;
    region.gateway("b/nat-vpn")?.stop_charon()?;
    eventually(UP, "b is down", || Ok(!is_up(&hub)?))?;
    send(region)?;
    let map = || -> Result<Value> { Ok(serde_json::from_str(&hub.agent(&["map", "--json"])?.ok()?.stdout)?) };
    eventually(UP, "traffic is counted", || Ok(map()?.to_string().contains(r#""bytes":["#)))?;
    let (map, picture) = (map()?, hub.agent(&["map"])?.ok()?.stdout);
    let peers = |r: &str, key: &str| -> Vec<Value> {
        let group = map["groups"].as_array().into_iter().flatten().find(|group| group["region"] == r);
        group.and_then(|group| group["peers"].as_array()).into_iter().flatten().map(|peer| peer[key].clone()).collect()
    };
    ensure!(peers("eu-west-1", "is") == ["up", "refused"] && peers("ap-southeast-2", "is") == ["down"], "{map:#}");
    ensure!(peers("eu-west-1", "reason")[1].to_string().contains("10.1.0.0/16"), "{map:#}");
    for vpc in ["hub", "a", "b", "c"] {
        ensure!(picture.contains(&region.lab.vpc_id(vpc)?), "{vpc} is not in {picture}");
    }
    ensure!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    let graph = hub.agent(&["map", "--format", "dot"])?.ok()?.stdout;
    ensure!(graph.starts_with("graph crosswan {") && graph.matches(" -- ").count() == 2, "{graph}");
    Ok(())
}

/// A log file of a program.
fn log(region: &Region, name: &str) -> Result<File> {
    Ok(File::create(region.lab.dir().join(name))?)
}
