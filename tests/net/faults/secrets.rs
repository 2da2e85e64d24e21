//! Keys appear only in their files; a peer that leaves is locked out; the report says what is wrong with a host's settings.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use crosswan_lab::INTERFACE;

use super::look::{SECRETS, Snapshot, ask, sas, stream, unharmed};
use crate::region::{Region, UP, eventually, lines, refresh, refresh_with, show};

#[test]
fn keys_show_nowhere() -> Result<()> {
    let mut region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    let key = region.lab.psk().to_owned();
    // As text, as the file has it, as Rust would print bytes, and in encodings; an excerpt counts, too.
    let hex: String = key.bytes().map(|b| format!("{b:02x}")).collect();
    let bytes: Vec<String> = key.bytes().map(|b| b.to_string()).collect();
    let traces = [key[8..24].to_owned(), hex[16..48].to_owned(), bytes[8..16].join(", ")];
    let shown = |text: &str| traces.iter().any(|trace| text.contains(trace.as_str()));
    ensure!(
        shown(&hub.read_file(SECRETS)?) && shown(&hub.read_file("/etc/crosswan/psk")?),
        "the check itself is blind"
    );

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Every command line on the machine, as often as possible.
        let watch = scope.spawn(|| {
            let (mut looks, mut bad) = (0, Vec::new());
            while !done.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                    bad.extend(Some(String::from_utf8_lossy(&line).into_owned()).filter(|line| shown(line)));
                }
                looks += 1;
                // All of the lab shares a processor. What the agent starts lives longer than this pause.
                thread::sleep(Duration::from_millis(2));
            }
            (looks, bad)
        });
        let output = (|| {
            region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
            drop(region.keepers.remove(&hub.name));
            let keep = hub.spawn_agent(&["keep", "-vv"])?;
            let mut said = String::new();
            // The new client has not booted: its tunnel is down, and status says so by its exit code.
            for (args, code) in [
                (&["refresh", "--dry-run", "-vv"][..], 0),
                (&["refresh", "--dry-run", "--json"], 0),
                (&["refresh", "-vv", "--log-json", "--json"], 0),
                (&["status", "-vv"], 8),
                (&["status", "--json"], 8),
            ] {
                let output = hub.agent(args)?;
                ensure!(output.code == code, "{args:?}: {}", show(&output));
                said += &show(&output);
            }
            keep.wait_for_log("initiate", UP)?;
            // A failing pass says more.
            hub.write_file(
                "/etc/swanctl/conf.d/crosswan-secrets.conf",
                &format!("secrets {{ ike-x {{ secret = {key} "),
                0o644,
            )?;
            said += &show(&hub.agent(&["refresh", "-vv"])?.ok()?);
            hub.write_file("/etc/crosswan/psk", &format!("{key}\nsecond line\n"), 0o600)?;
            said += &show(&hub.agent(&["refresh", "-vv"])?);
            hub.write_file("/etc/crosswan/psk", &format!("{key}\n"), 0o600)?;
            said += &keep.log();
            said += &hub.read_file("/run/crosswan/status.json")?;
            said += &hub.read_file("/var/lib/crosswan/state.json")?;
            Ok::<_, anyhow::Error>(said)
        })();
        done.store(true, Ordering::Relaxed);
        let (looks, bad) = watch.join().map_err(|_| anyhow!("the watcher panicked"))?;
        ensure!(bad.is_empty(), "in a command line: {bad:?}");
        let said = output?;
        ensure!(looks > 10 && said.contains("load secret"));
        let line = said.lines().find(|line| shown(line));
        ensure!(line.is_none(), "a key in the output: {line:?}");
        Ok(())
    })?;
    let mode = |path: &str| Ok::<_, anyhow::Error>(fs::metadata(hub.path(path))?.permissions().mode() & 0o7777);
    ensure!(mode(SECRETS)? == 0o600 && mode("/var/lib/crosswan/state.json")? == 0o600);
    Ok(())
}

#[test]
fn a_peer_that_left_is_locked_out_although_its_key_is_right() -> Result<()> {
    let mut region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    hub.set_env("CROSSWAN_AFTER_MISSES", "1");
    region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
    let spoke = region.gateway("c/nat-vpn")?;
    refresh(&hub)?;
    region.boot(&spoke)?;
    let (host, far) = (region.lab.host("c/host")?, region.address("hub/host")?);
    host.wait_for(far, UP)?;
    let others = stream(&region, "a/host", "b/host")?;
    let name = region.lab.connection_to(&spoke)?;

    region.lab.tag(&spoke, "service", Some("off"))?;
    let report = refresh(&hub)?;
    ensure!(lines(&report, "steps").concat().contains(&format!("end every IKE_SA of {name}")), "{report:#}");
    let after = Snapshot::of(&hub)?;
    ensure!(!after.connections.contains_key(&name) && !after.secrets.contains(&format!("ike-{name}")));
    // Its own keep goes on trying with the right key, and so does this test by hand.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let theirs = ask(&hub, async |vici| vici.sas().await)?;
        ensure!(theirs.iter().all(|sa| sa.conn != name && !(sa.is_established() && sa.conn.is_empty())), "{theirs:?}");
        ensure!(!host.reaches(far)?, "packets of a peer that left still pass");
    }
    let conn = spoke.swanctl(&["--list-conns"])?;
    let conn = conn.split(':').next().unwrap_or_default();
    let by_hand =
        spoke.run("swanctl", &["--initiate", "--ike", conn, "--child", "c-10-3-0-0-16", "--timeout", "10"], "")?;
    ensure!(by_hand.code != 0, "{}", show(&by_hand));
    ensure!(sas(&hub)?.iter().all(|sa| sa.conn != name));

    region.lab.tag(&spoke, "service", Some("nat"))?;
    refresh(&hub)?;
    host.wait_for(far, UP)?;
    unharmed(others, "the other tunnels").map(drop)
}

#[test]
fn wrong_sysctls_are_told_with_the_command_that_mends_them() -> Result<()> {
    let region = Region::standard()?;
    let spoke = region.gateway("a/nat-vpn")?;
    let before = Snapshot::of(&spoke)?;
    let redirects = format!("net.ipv4.conf.{INTERFACE}.send_redirects");
    for (key, wrong) in [
        ("net.ipv4.ip_forward", "0"),
        (redirects.as_str(), "1"),
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
    ] {
        spoke.sh(&format!("sysctl -w {key}={wrong}"))?.ok()?;
        // The rules are repaired all the same, and are not rolled back because of an unrelated fault.
        spoke.run("iptables", &["-t", "nat", "-F", "CROSSWAN-NAT"], "")?.ok()?;
        let report = refresh_with(&spoke, &[], 7)?;
        ensure!(report["outcome"] == "changed", "{report:#}");
        Snapshot::of(&spoke)?.must_be(&before, key)?;
        let problems = lines(&report, "stopped");
        ensure!(problems.len() == 1, "{problems:#?}");
        let command = problems[0].rsplit("; ").next().unwrap_or_default();
        ensure!(command.starts_with(&format!("sysctl -w {key}=")), "{problems:#?}");
        spoke.sh(command)?.ok()?;
        refresh(&spoke)?;
    }
    let host = region.lab.host("a/host")?;
    eventually(UP, "packets pass", || host.reaches(region.address("hub/host")?))
}
