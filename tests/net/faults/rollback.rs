//! A step fails, or only pretends to work: the former state is in force again, and others lose no packet.

use anyhow::{Result, ensure};

use super::{
    look::{CONNECTIONS, SECRETS, Snapshot, all_well, stream, unharmed},
    meddler::{Answer, Meddler},
};
use crate::region::{Region, UP, lines, refresh, refresh_with, show};

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
const CONF_D: &str = "/etc/swanctl/conf.d";
const STATE: &str = "/var/lib/crosswan";

#[test]
fn a_disk_that_takes_nothing_more() -> Result<()> {
    let region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    let others = [stream(&region, "a/host", "b/host")?, stream(&region, "b/host-2", "hub/host")?];
    let before = Snapshot::of(&hub)?;
    region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;

    let read_only = |folder: &str| format!("mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}");
    // There is room for the existing files, and for nothing else.
    let full = |folder: &str| {
        format!(
            "mount -t tmpfs -o size=64k tmpfs /mnt && cp -a {folder}/. /mnt && mount --move /mnt {folder} && \
             ! cat /dev/zero >{folder}/filler 2>/dev/null"
        )
    };
    for (fault, why) in [(read_only(CONF_D), "Read-only file system"), (full(CONF_D), "No space left on device")] {
        hub.sh(&fault)?.ok()?;
        let report = refresh_with(&hub, &[], 4)?;
        ensure!(report["outcome"] == "rolled-back", "{report:#}");
        let problems = lines(&report, "problems").concat();
        ensure!(problems.contains("crosswan-secrets.conf") && problems.contains(why), "{problems}");
        ensure!(!lines(&report, "steps").is_empty(), "what was tried is not said: {report:#}");
        Snapshot::of(&hub)?.must_be(&before, &format!("rolled back: {why}"))?;
        hub.sh(&format!("umount {CONF_D}"))?.ok()?;
    }

    // Without room for the marker the pass does not begin.
    for fault in [read_only(STATE), full(STATE)] {
        hub.sh(&fault)?.ok()?;
        let report = refresh_with(&hub, &[], 4)?;
        ensure!(report["outcome"] == "rolled-back", "{report:#}");
        ensure!(lines(&report, "problems").concat().contains("/var/lib/crosswan/unfinished"), "{report:#}");
        Snapshot::of(&hub)?.must_be(&before, "a full state folder")?;
        let status = hub.agent(&["status"])?;
        ensure!(status.stdout.contains("/var/lib/crosswan/unfinished"), "{}", show(&status));
        hub.sh(&format!("umount {STATE}"))?.ok()?;
    }

    let report = refresh(&hub)?;
    ensure!(report["outcome"] == "changed", "{report:#}");
    others.into_iter().try_for_each(|other| unharmed(other, "another tunnel").map(drop))
}

#[test]
fn rules_that_are_refused_or_silently_not_taken() -> Result<()> {
    let region = Region::standard()?;
    let spoke = region.gateway("a/nat-vpn")?;
    let own = stream(&region, "a/host", "hub/host")?;
    let before = Snapshot::of(&spoke)?;
    // A new CIDR changes rules and connection alike.
    let host = region.lab.add_cidr("a", "10.101.0.0/16")?;

    for (script, said) in [
        ("#!/bin/sh\ncat >/dev/null\necho 'line 2 failed' >&2\nexit 1\n", "line 2 failed"),
        ("#!/bin/sh\ncat >/dev/null\n", "read back: still to do"),
    ] {
        spoke.write_file("/etc/fake/iptables-restore", script, 0o755)?;
        spoke.set_env("PATH", &format!("/etc/fake:{PATH}"));
        let report = refresh_with(&spoke, &[], 4)?;
        ensure!(report["outcome"] == "rolled-back", "{report:#}");
        ensure!(lines(&report, "problems").concat().contains(said), "{report:#}");
        Snapshot::of(&spoke)?.must_be(&before, said)?;
        spoke.set_env("PATH", PATH);
    }
    unharmed(own, "its own tunnel, of which nothing could change")?;

    for gateway in [&spoke, &region.gateway("hub/vpn-hub")?] {
        let report = refresh(gateway)?;
        ensure!(report["outcome"] == "changed", "{report:#}");
    }
    host.wait_for(region.address("hub/host")?, UP)?;
    all_well(&region, UP)
}

#[test]
fn a_charon_that_refuses_or_only_says_yes() -> Result<()> {
    let mut region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    hub.set_env("CROSSWAN_AFTER_MISSES", "1");
    region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
    refresh(&hub)?;

    // A first boot: there is nothing to go back to, and NAT needs no tunnel.
    let spoke = region.gateway("c/nat-vpn")?;
    spoke.start_charon()?;
    let meddler =
        Meddler::between(&spoke, "load-conn", "crosswan-hub", Answer::Refuse("invalid value for: proposals"))?;
    let report = refresh_with(&spoke, &[], 4)?;
    ensure!(report["outcome"] == "partly" && meddler.met() > 0, "{report:#}");
    ensure!(report["failed"].to_string().contains("invalid value for: proposals"), "{report:#}");
    let after = Snapshot::of(&spoke)?;
    ensure!(after.connections.is_empty() && after.secrets.is_empty() && !after.unfinished, "{after:#?}");
    ensure!(!spoke.read_file(CONNECTIONS)?.contains("crosswan-hub") && !spoke.read_file(SECRETS)?.contains("ike-"));
    let host = region.lab.host("c/host")?;
    ensure!(Some(host.whoami_tcp(region.lab.internet().address)?) == spoke.public());
    drop(meddler);
    region.boot(&spoke)?;
    region.settle()?;

    // One change among others fails: nothing of it is done, all others are, and no unchanged connection is touched.
    let others = [stream(&region, "a/host", "b/host")?, stream(&region, "c/host", "hub/host")?];
    region.lab.add_client("d", "eu-west-1", &["10.4.0.0/16"])?;
    region.lab.add_client("e", "eu-west-1", &["10.5.0.0/16"])?;
    let name = region.lab.connection_to(&*region.gateway("d/nat-vpn")?)?;
    let mut with_e = None;
    for (command, answer, said) in [
        ("load-conn", Answer::Refuse("no"), "load connection"),
        ("load-conn", Answer::Silence, "no answer in 10 s"),
        ("load-conn", Answer::Pretend, "read back: still to do"),
        ("load-shared", Answer::Pretend, "read back: still to do"),
    ] {
        let meddler = Meddler::between(&hub, command, &name, answer)?;
        let logged = hub.charon_log().len();
        let report = refresh_with(&hub, &[], 4)?;
        ensure!(report["outcome"] == "partly" && meddler.met() > 0, "{command}: {report:#}");
        // "added vici connection: NAME", or "updated": what was not touched is not loaded again either.
        let log = hub.charon_log().split_off(logged);
        let bystander = format!("vici connection: crosswan-{}-", region.lab.vpc_id("a")?);
        ensure!(!log.contains(&bystander), "{command}: {log}");
        let failed = &report["failed"];
        ensure!(failed.as_object().is_some_and(|f| f.keys().eq([&name])), "{command}: {report:#}");
        ensure!(failed[&name]["restored"] == true, "{command}: {report:#}");
        ensure!(failed[&name]["why"].to_string().contains(said), "{command}: {report:#}");
        let now = Snapshot::of(&hub)?;
        let e = region.lab.connection_to(&*region.gateway("e/nat-vpn")?)?;
        ensure!(now.connections.contains_key(&e) && !now.connections.contains_key(&name), "{command}: {now:#?}");
        ensure!(!now.secrets.contains(&format!("ike-{name}")), "{command}: its key is left");
        for file in [CONNECTIONS, SECRETS] {
            ensure!(!hub.read_file(file)?.contains(&name), "{command}: it is in {file}");
        }
        ensure!(with_e.get_or_insert_with(|| now.clone()) == &now, "{command}: another failure, another system");
    }
    refresh(&hub)?;

    // A revocation that did not take effect is not reported as one, and what was removed stays removed.
    region.lab.delete_vpc("d")?;
    let meddler = Meddler::between(&hub, "unload-conn", &name, Answer::Pretend)?;
    let report = refresh_with(&hub, &[], 4)?;
    ensure!(report["outcome"] == "partly" && lines(&report, "removed").is_empty(), "{report:#}");
    ensure!(report["failed"][&name]["why"].to_string().contains(&format!("unload connection {name}")), "{report:#}");
    ensure!(report["failed"][&name]["restored"] == false, "{report:#}");
    let now = Snapshot::of(&hub)?;
    ensure!(now.connections.contains_key(&name) && !now.secrets.contains(&format!("ike-{name}")), "{now:#?}");
    ensure!(!hub.read_file(CONNECTIONS)?.contains(&name), "a charon that starts anew would have it again");
    drop(meddler);
    let report = refresh(&hub)?;
    ensure!(report["outcome"] == "changed" && !Snapshot::of(&hub)?.connections.contains_key(&name), "{report:#}");
    others.into_iter().try_for_each(|other| unharmed(other, "another tunnel").map(drop))
}
