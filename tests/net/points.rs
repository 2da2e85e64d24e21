//! What the demo shows, with real packets: which hosts reach each other and from which address, an idle refresh, and status.

use std::time::Duration;

use anyhow::Result;
use crosswan_lab::{Gateway, Leaks, Role};

use crate::{
    region::{Region, lines, refresh, refresh_with, show, status},
    snapshot::{MANAGED, Snapshot, counters, managed, vici_loads},
};

/// Points 1, 2, 6 and 7 of the demo, in a region where everything works.
#[test]
fn private_hosts_reach_each_other_and_a_second_refresh_changes_nothing() -> Result<()> {
    let region = Region::standard()?;
    let capture = region.lab.capture_internet()?;
    source_addresses_are_kept(&region)?;
    gateways_speak_through_tunnels_too(&region)?;
    the_internet_sees_elastic_addresses(&region)?;

    let public = |name: &str| Ok::<_, anyhow::Error>(region.gateway(name)?.public().unwrap());
    let (hub, a, b) = (public("hub/vpn-hub")?, public("a/nat-vpn")?, public("b/nat-vpn")?);
    let packets = capture.stop()?;
    assert_eq!(packets.clear_private(), []);
    assert!(packets.ipsec_between(a, hub) > 0 && packets.ipsec_between(b, hub) > 0);
    assert_eq!(packets.ipsec_between(a, b), 0, "clients meet at the hub, never directly");
    for vpc in ["hub", "a", "b"] {
        assert_eq!(region.lab.leaks(vpc)?, Leaks::default(), "{vpc}");
    }
    // Only now: to the lab's counter a nat-hub is a gateway, though it sends by way of the vpn-hub as any host does.
    let report = region.gateway("hub/nat-hub")?.host()?.ping(region.address("a/host")?, 3)?;
    assert_eq!(report.lost, 0, "{report:?}");

    for gateway in region.lab.gateways() {
        an_idle_refresh_touches_nothing(&gateway)?;
    }
    status_tells(&region)?;
    dry_run_and_render_change_nothing(&region)
}

/// Every private host to every one of another VPC, by TCP and UDP: the far side sees the sender's own address.
fn source_addresses_are_kept(region: &Region) -> Result<()> {
    let hosts = region.lab.hosts();
    assert_eq!(hosts.len(), 4, "hub, a, b, and b's secondary CIDR");
    let vpc = |name: &str| name.split('/').next().unwrap().to_owned();
    for from in &hosts {
        for to in hosts.iter().filter(|to| vpc(&to.name) != vpc(&from.name)) {
            assert_eq!(from.whoami_tcp(to.address)?, from.address, "TCP {} -> {}", from.name, to.name);
            assert_eq!(from.whoami_udp(to.address)?, from.address, "UDP {} -> {}", from.name, to.name);
        }
    }
    Ok(())
}

/// Also a gateway's own packets: the capture around this sees none of them in the clear.
fn gateways_speak_through_tunnels_too(region: &Region) -> Result<()> {
    for (gateway, to) in [("hub/vpn-hub", "a/host"), ("hub/vpn-hub", "b/host-2"), ("a/nat-vpn", "b/host")] {
        let report = region.gateway(gateway)?.host()?.ping(region.address(to)?, 3)?;
        assert_eq!((report.received, report.lost), (3, 0), "{gateway} -> {to}: {report:?}");
    }
    Ok(())
}

fn the_internet_sees_elastic_addresses(region: &Region) -> Result<()> {
    let through =
        [("hub/host", "hub/nat-hub"), ("a/host", "a/nat-vpn"), ("b/host", "b/nat-vpn"), ("b/host-2", "b/nat-vpn")];
    for (host, gateway) in through {
        let (host, gateway) = (region.lab.host(host)?, region.gateway(gateway)?);
        let echo = region.lab.internet().address;
        assert_eq!(Some(host.whoami_tcp(echo)?), gateway.public(), "TCP {} through {}", host.name, gateway.name);
        assert_eq!(Some(host.whoami_udp(echo)?), gateway.public(), "UDP {} through {}", host.name, gateway.name);
    }
    Ok(())
}

fn an_idle_refresh_touches_nothing(gateway: &Gateway) -> Result<()> {
    let (files, loads, packets) = (managed(gateway)?, vici_loads(gateway), counters(gateway)?);
    assert!(packets.values().sum::<u64>() > 0, "{}: nothing was counted, so nothing could be reset", gateway.name);
    assert_eq!(loads.is_empty(), gateway.role == Role::NatHub, "{}: charon logs what it loads", gateway.name);

    let report = refresh(gateway)?;
    assert_eq!((report["outcome"].as_str(), lines(&report, "steps").len()), (Some("unchanged"), 0), "{report:#}");
    let words = gateway.agent(&["refresh"])?.ok()?;
    assert!(words.stdout.contains("nothing to do: everything read back as it should be"), "{}", show(&words));

    assert_eq!(managed(gateway)?, files, "{}: the same inodes and times", gateway.name);
    assert_eq!(vici_loads(gateway), loads, "{}: nothing was loaded", gateway.name);
    let now = counters(gateway)?;
    assert!(now.keys().eq(packets.keys()) && now.iter().all(|(rule, n)| *n >= packets[rule]), "{packets:?} => {now:?}");
    Ok(())
}

fn status_tells(region: &Region) -> Result<()> {
    let hub = region.gateway("hub/vpn-hub")?;
    let seen = status(&hub)?;
    let tunnels = seen["tunnels"].as_array().unwrap();
    assert_eq!(tunnels.iter().map(|t| t["up"].as_bool()).collect::<Vec<_>>(), [Some(true); 2], "{seen:#}");
    assert_eq!(seen["nat"]["in_force"], true, "{seen:#}");
    assert_eq!(seen["last_refresh"]["outcome"], "unchanged", "{seen:#}");

    let words = hub.agent(&["status"])?.ok()?;
    let b = region.lab.vpc_id("b")?;
    for expected in [&b, ": UP", "10.102.0.0/16", "rules     in force", "conntrack ", "last report", "nothing to do"] {
        assert!(words.stdout.contains(expected), "{expected:?} is missing\n{}", show(&words));
    }
    for gateway in region.lab.gateways() {
        let output = gateway.agent(&["status"])?;
        assert_eq!(output.code, 0, "{}: {}", gateway.name, show(&output));
        assert!(!output.stdout.contains("DOWN") && !output.stdout.contains("UNASKED"), "{}", show(&output));
        for outputs in [output.stdout, output.stderr, gateway.agent(&["status", "--json"])?.stdout] {
            assert!(!outputs.contains(region.lab.psk()), "{}: status shows a key", gateway.name);
        }
    }

    let watch = hub.spawn_agent(&["status", "--watch"])?;
    watch.wait_for_log("last report", Duration::from_secs(20))?;
    watch.wait_for_log("last report", Duration::from_secs(20))?;
    assert_eq!(watch.stop()?, Some(0));
    Ok(())
}

/// Point 7's neighbours: with nothing to do, and with a new CIDR that would be loaded.
fn dry_run_and_render_change_nothing(region: &Region) -> Result<()> {
    let hub = region.gateway("hub/vpn-hub")?;
    let before = Snapshot::of(&hub)?;
    assert_eq!(refresh_with(&hub, &["--dry-run"], 0)?["outcome"], "planned");
    let words = hub.agent(&["refresh", "--dry-run"])?.ok()?;
    assert!(words.stdout.contains("dry run: nothing to do"), "{}", show(&words));
    render_writes_what_is_in_force(&hub)?;

    region.lab.add_cidr("a", "10.101.0.0/16")?;
    let report = refresh_with(&hub, &["--dry-run"], 0)?;
    let steps = lines(&report, "steps");
    assert!(steps.iter().any(|s| s.starts_with("load connection") && s.contains("c-10-101-0-0-16")), "{report:#}");
    let words = hub.agent(&["refresh", "--dry-run"])?.ok()?;
    assert!(steps.iter().all(|step| words.stdout.contains(step)), "{}", show(&words));
    assert!(words.stdout.contains("planned, none taken"), "{}", show(&words));
    assert_eq!(Snapshot::of(&hub)?, before, "a dry run and a render change nothing at all");

    // And what was planned is what is done.
    assert_eq!(lines(&refresh(&hub)?, "steps"), steps);
    Ok(())
}

fn render_writes_what_is_in_force(gateway: &Gateway) -> Result<()> {
    let out = "/run/review";
    let output = gateway.agent(&["render", "--out", out])?.ok()?;
    for path in MANAGED {
        let rendered = format!("{out}{path}");
        assert!(output.stdout.contains(&rendered), "{}", show(&output));
        assert_eq!(gateway.read_file(&rendered)?, gateway.read_file(path)?, "{path}");
    }
    let mode = |path: &str| gateway.sh(&format!("stat -c %a {out}{path}")).map(|o| o.stdout.trim().to_owned());
    assert_eq!(mode(MANAGED[1])?, "600");
    assert_eq!(managed(gateway)?[MANAGED[1]].mode, 0o600);
    Ok(())
}
