//! Point 3, and failures of charon.

use std::time::{Duration, Instant};

use anyhow::Result;
use crosswan_lab::internet::ECHO;

use crate::region::{CLIENT, HUB, Region, UP, wait_for_tunnel};
use crate::report::seconds;

/// strongSwan is stopped on the client, private hosts go on sending. The capture judges.
pub fn tunnel(region: &mut Region) -> Result<()> {
    let (a, hub) = (region.lab.host("a/host")?, region.lab.host("hub/host")?);
    region.vm(CLIENT)?.ok("systemctl stop strongswan.service")?;
    let streams = [a.ping_stream(hub.address)?, hub.ping_stream(a.address)?];
    std::thread::sleep(Duration::from_secs(3));
    let seen = a.whoami_tcp(ECHO)?;
    for (stream, name) in streams.into_iter().zip(["a/host -> hub/host", "hub/host -> a/host"]) {
        let report = stream.stop()?;
        let told = report.errors.len();
        region.check(
            report.sent > 20 && report.received == 0,
            &format!("{name}: {} sent, {} answered, {told} told \"unreachable\"", report.sent, report.received),
        );
    }
    let public = region.lab.gateway(CLIENT)?.public();
    region.check(Some(seen) == public, &format!("NAT goes on: a/host is seen as {seen}"));
    region.vm(CLIENT)?.ok("systemctl start strongswan.service")?;
    let back = wait_for_tunnel(region, UP)?;
    region.check(true, &format!("strongSwan started again: the tunnel is back after {}", seconds(back)));
    Ok(())
}

/// A crash on each end, then the restart that an upgraded package does.
pub fn charon(region: &mut Region) -> Result<()> {
    for (name, line, what) in [
        (HUB, "systemctl kill -s SEGV strongswan.service", "crashed"),
        (CLIENT, "systemctl kill -s KILL strongswan.service", "was killed"),
        (HUB, "systemctl restart strongswan.service", "was restarted"),
    ] {
        let vm = region.vm(name)?;
        let pid = |vm: &crosswan_lab::Vm| {
            vm.ok("systemctl show -P MainPID strongswan.service").map(|pid| pid.trim().to_owned())
        };
        let before = pid(vm)?;
        let started = Instant::now();
        vm.ok(line)?;
        // Until there is another charon the old tunnel may still answer.
        while matches!(pid(vm)?.as_str(), now if now == before || now == "0") {
            anyhow::ensure!(started.elapsed() < UP, "{name}: charon {what} and did not come back");
        }
        wait_for_tunnel(region, UP)?;
        let took = seconds(started.elapsed());
        region.check(true, &format!("{name}: charon {what}; private hosts reach each other after {took}"));
    }
    Ok(())
}
