//! Points 4, 5 and 6: a VPC comes, goes, and nothing changes. The new client is a namespace: Debian 12's charon, userspace ESP.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::region::{CLIENT, HUB, NAT, Region, UP};
use crate::report::seconds;

/// Between two looks at a tunnel that must not change any more.
const SETTLED: Duration = Duration::from_secs(5);

pub fn launch(region: &mut Region) -> Result<()> {
    settled(region)?;
    let (a, hub) = (region.lab.host("a/host")?, region.lab.host("hub/host")?);
    let streams = [a.ping_stream(hub.address)?, hub.ping_stream(a.address)?];
    region.lab.add_client("c", "eu-west-1", &["10.3.0.0/16"])?;
    let (c, gateway) = (region.lab.host("c/host")?, region.lab.gateway("c/nat-vpn")?);
    gateway.start_charon()?;
    gateway.agent(&["refresh"])?.ok().context("c/nat-vpn: refresh")?;
    let keep = gateway.spawn_agent(&["keep"])?;
    let started = Instant::now();
    let report = region.refresh(HUB)?;
    region.check(
        report["outcome"] == "changed",
        &format!("the hub's refresh: {}, {}", report["outcome"], seconds(started.elapsed())),
    );
    for from in [&a, &hub] {
        from.wait_for(c.address, UP)?;
        let seen = from.whoami_tcp(c.address)?;
        region.check(
            seen == from.address,
            &format!("{} reaches c/host and is seen as {seen}, {} after", from.name, seconds(started.elapsed())),
        );
    }
    for stream in streams {
        let report = stream.stop()?;
        region.check(
            report.lost == 0 && report.sent > 20,
            &format!(
                "client A and hub meanwhile: {} packets sent, {} lost, at most {} without an answer",
                report.sent,
                report.lost,
                seconds(report.longest_gap)
            ),
        );
    }
    drop(keep);
    Ok(())
}

/// Waits until what the restarts before left behind is gone: both ends may have initiated, and `keep` ends all tunnels but one. That
/// costs packets, which are not the new client's.
fn settled(region: &Region) -> Result<()> {
    let until = Instant::now() + UP * 2;
    let look = || {
        [HUB, CLIENT].map(|name| {
            let sas = region.vm(name)?.ok("swanctl --list-sas | sed -n 's/^\\(.*\\): #\\([0-9]*\\), .*/\\1 \\2/p'")?;
            Ok::<_, anyhow::Error>(sas.lines().map(str::to_owned).collect::<Vec<_>>())
        })
    };
    let mut last = Vec::new();
    loop {
        let now = look().into_iter().collect::<Result<Vec<_>>>()?;
        // One IKE_SA with one CHILD_SA for each of the two CIDRs, on both ends, the same at two looks.
        if now == last && now.iter().all(|sas| sas.len() == 3) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < until, "the tunnel does not settle: {now:?}");
        last = now;
        std::thread::sleep(SETTLED);
    }
}

pub fn delete(region: &mut Region) -> Result<()> {
    let id = region.lab.vpc_id("c")?;
    region.lab.delete_vpc("c")?;
    let held = |region: &Region| -> Result<usize> {
        let text = region.vm(HUB)?.ok("swanctl --list-conns; swanctl --list-sas; cat /etc/swanctl/conf.d/crosswan-secrets.conf; ip xfrm policy | grep -F 10.3. || true")?;
        Ok(text.lines().filter(|line| line.contains(&id) || line.contains("10.3.0.0/16")).count())
    };
    let before = held(region)?;
    for poll in 1..=2 {
        let report = region.refresh(HUB)?;
        region.report.say(&format!("poll {poll}: {}", report["outcome"]));
    }
    let after = held(region)?;
    region.check(
        before > 0 && after == 0,
        &format!("lines about {id} in connections, SAs, keys and kernel policies: {before} before, {after} after"),
    );
    Ok(())
}

pub fn unchanged(region: &mut Region) -> Result<()> {
    for name in [HUB, NAT, CLIENT] {
        let held = |region: &Region| {
            region.vm(name)?.ok("iptables-save | grep ^-A; ip xfrm state | grep spi || true; stat -c '%n %i %Y' 2>/dev/null /etc/swanctl/conf.d/crosswan* /var/lib/crosswan/iptables.rules || true")
        };
        let before = held(region)?;
        let report = region.refresh(name)?;
        let same = held(region)? == before;
        let steps = report["steps"].as_array().map_or(usize::MAX, Vec::len);
        let idle = report["outcome"] == "unchanged" && steps == 0;
        region.check(
            idle && same,
            &format!(
                "{name}: {}, {steps} steps; rules, SAs and files are {}",
                report["outcome"],
                if same { "the same" } else { "NOT the same" }
            ),
        );
    }
    Ok(())
}
