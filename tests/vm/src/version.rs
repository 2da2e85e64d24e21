//! The package of version 0.1.0, which has kernel policies in the place of interfaces, in place of this one and back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::package::{self, UNPACK};
use crate::region::{CLIENT, HUB, Region, UP, wait_for_tunnel};
use crate::report::{GAP, losses, seconds};
use crate::routing::shown;

/// SAs of charon that belong to an interface, and those that do not.
const CHILDREN: &str = "swanctl --list-sas --raw | tr ' ' '\\n' | grep -c '^if-id-in=' || true
    swanctl --list-sas | grep -c ', INSTALLED,' || true";

pub fn down_and_up(region: &mut Region) -> Result<()> {
    if region.vm(HUB)?.sh(&format!("{UNPACK} && test -e /tmp/packages/old.deb"))?.code != 0 {
        region.report.figure("NOT RUN: the downgrade, because there is no package of version 0.1.0".into());
        return Ok(());
    }
    let before = [shown(region, HUB)?, shown(region, CLIENT)?];
    for name in [CLIENT, HUB] {
        install(region, name, "old")?;
        let left = shown(region, name)?;
        let children = region.vm(name)?.ok(CHILDREN)?;
        region.check(
            left.trim().is_empty() && children.starts_with("0\n") && !children.ends_with("\n0\n"),
            &format!(
                "{name}: left of interfaces, rules and routes: {:?}; CHILD_SAs with one, and all: {children:?}",
                left.trim()
            ),
        );
        let unchanged = region.refresh(name)?["outcome"] == "unchanged";
        // It looks at charon once, and one look leaves out an SA that charon is working on.
        let until = Instant::now() + UP;
        let mut status = region.vm(name)?.sh("crosswan status")?;
        while status.code != 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_secs(5));
            status = region.vm(name)?.sh("crosswan status")?;
        }
        let said = if status.code == 0 { "" } else { &status.stdout };
        region.check(
            unchanged && status.code == 0,
            &format!("{name}: 0.1.0 has nothing to do: {unchanged}; status ends with {} {said}", status.code),
        );
    }
    for (name, before) in [(HUB, &before[0]), (CLIENT, &before[1])] {
        install(region, name, "new")?;
        let after = shown(region, name)?;
        region.check(after == *before, &format!("{name}: {}", after.trim().replace('\n', "; ")));
        let children = region.vm(name)?.ok(CHILDREN)?;
        let [with, all] = [0, 1].map(|line| children.lines().nth(line).map(str::to_owned));
        region.check(with == all, &format!("{name}: CHILD_SAs with an interface, and all: {children:?}"));
    }
    Ok(())
}

/// Installs a package while private hosts send, and then refreshes, which an upgrade leaves to the next hour.
fn install(region: &mut Region, name: &str, package: &str) -> Result<()> {
    let (a, hub) = (region.lab.host("a/host")?, region.lab.host("hub/host")?);
    wait_for_tunnel(region, UP)?;
    let streams = [a.ping_stream(hub.address)?, hub.ping_stream(a.address)?];
    let started = Instant::now();
    region.vm(name)?.ok(&format!(
        "{UNPACK} && DEBIAN_FRONTEND=noninteractive dpkg -i --force-confnew /tmp/packages/{package}.deb"
    ))?;
    let took = seconds(started.elapsed());
    if package == "new" {
        let report = region.refresh(name)?;
        ensure!(report["outcome"] == "changed", "{name}: the refresh after the upgrade: {report}");
    }
    wait_for_tunnel(region, UP)?;
    // Both ends may have initiated, and keep ends all but one.
    std::thread::sleep(Duration::from_secs(20));
    let version = package::version(region.vm(name)?)?;
    for stream in streams {
        let report = stream.stop()?;
        let text = format!("{name} to {version}, dpkg took {took}: {}", losses(&report));
        region.report.check_figure(report.longest_gap < GAP, text);
    }
    Ok(())
}
