//! Point 3, and failures of charon.

use std::time::{Duration, Instant};

use anyhow::Result;
use crosswan_lab::internet::ECHO;

use crate::region::{CLIENT, HUB, Region, UP, wait_for_tunnel};
use crate::report::{losses, seconds};

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

/// ESP's SAs are the kernel's. charon opens the port that they come in by, so they work again as soon as there is another charon, which
/// knows nothing of them. keep would make others.
fn old_sas(region: &mut Region) -> Result<()> {
    const SPIS: &str = "ip xfrm state | grep -o 'spi 0x[0-9a-f]*' | sort";
    let hub = region.lab.host("hub/host")?;
    for name in [HUB, CLIENT] {
        region.vm(name)?.ok("systemctl stop crosswan-keep.service")?;
    }
    let vm = region.vm(CLIENT)?;
    let before = vm.ok(SPIS)?;
    let stream = region.lab.host("a/host")?.ping_stream(hub.address)?;
    vm.ok("systemctl kill -s KILL strongswan.service")?;
    std::thread::sleep(Duration::from_secs(8));
    let answered = region.lab.host("a/host")?.whoami_tcp(hub.address);
    let report = stream.stop()?;
    let known = vm.ok("swanctl --list-sas | grep -c ESTABLISHED || true")?;
    let same = vm.ok(SPIS)? == before;
    for name in [HUB, CLIENT] {
        region.vm(name)?.ok("systemctl start crosswan-keep.service")?;
    }
    let text = format!(
        "{CLIENT}: charon was killed and started again, without keep: it knows {} IKE_SAs, the kernel has the same ESP SAs: {same}; {}",
        known.trim(),
        losses(&report)
    );
    let ok = answered.is_ok() && known.trim() == "0" && same && report.longest_gap < Duration::from_secs(6);
    region.report.check_figure(ok, text);
    wait_for_tunnel(region, UP)?;
    Ok(())
}

/// A crash on each end, then the restart that an upgraded package does.
pub fn charon(region: &mut Region) -> Result<()> {
    old_sas(region)?;
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
