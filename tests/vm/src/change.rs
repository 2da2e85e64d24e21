//! Points 4, 5 and 6: a VPC comes, goes, and nothing changes. The new client is a namespace: Debian 12's charon, userspace ESP.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crosswan_lab::Role;

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
    // It stays up for the next step.
    region.keepers.push(keep);
    Ok(())
}

/// A younger gateway in VPC c. The hub's ESP is its kernel's, where of two children with equal selectors the newest takes the
/// traffic: a child made before the newcomer is to be used cuts the VPC off, and crosswan makes none.
pub fn newcomer(region: &mut Region) -> Result<()> {
    let (c, hub) = (region.lab.host("c/host")?, region.lab.host("hub/host")?);
    let old = region.lab.gateway("c/nat-vpn")?;
    let new = region.lab.add_gateway("c", Role::NatVpn)?;
    let name = region.lab.connection_to(&new)?;
    new.start_charon()?;
    new.agent(&["refresh"])?.ok().context("the newcomer: refresh")?;
    let stream = c.ping_stream(hub.address)?;
    // It ends with 6: a gateway waits.
    region.vm(HUB)?.sh("systemctl start crosswan-refresh.service")?;
    let report = region.status(HUB)?;
    // keep asks for a pass when it has authenticated, and the newcomer would take over before this has been looked at.
    region.vm(HUB)?.ok("systemctl stop crosswan-refresh.path")?;
    let waits = report["replacing"].to_string().contains(&new.instance);
    region.check(waits, &format!("the hub holds a place for the newcomer: {}", report["replacing"]));
    region.keepers.push(new.spawn_agent(&["keep"])?);
    let established = format!("swanctl --list-sas --ike {name} | grep -q ESTABLISHED");
    let until = Instant::now() + UP;
    while region.vm(HUB)?.sh(&established)?.code != 0 {
        anyhow::ensure!(Instant::now() < until, "the newcomer does not authenticate");
        std::thread::sleep(Duration::from_secs(1));
    }
    std::thread::sleep(SETTLED);
    let report = stream.stop()?;
    let children = region.vm(HUB)?.ok(&format!("swanctl --list-sas --ike {name} | grep -c INSTALLED || true"))?;
    region.check(
        report.lost == 0 && report.sent > 20 && children.trim() == "0",
        &format!(
            "it has authenticated, and has {} children; its VPC's packets meanwhile: {} sent, {} lost",
            children.trim(),
            report.sent,
            report.lost
        ),
    );

    // What a child would have done: the same connection, with one.
    let early = format!(
        "awk '/^    {name} \\{{/ {{ p = 1 }} p && /^    \\}}/ {{ exit }} p' /etc/swanctl/conf.d/crosswan.conf |
             sed 's/{name}/early/; 1i connections {{' >/etc/swanctl/conf.d/early.conf
         printf 'children {{ early {{ local_ts = 10.0.0.0/8\nremote_ts = 10.3.0.0/16\nesp_proposals = aes256gcm16-x25519\n}} }} }} }}\n' >>/etc/swanctl/conf.d/early.conf
         swanctl --load-conns >/dev/null && swanctl --initiate --ike early --child early --timeout 10 >/dev/null"
    );
    region.vm(HUB)?.ok(&early)?;
    let stream = c.ping_stream(hub.address)?;
    std::thread::sleep(SETTLED);
    let report = stream.stop()?;
    region.vm(HUB)?.ok("swanctl --terminate --ike early --timeout 5 >/dev/null; rm /etc/swanctl/conf.d/early.conf; swanctl --load-conns >/dev/null")?;
    c.wait_for(hub.address, UP)?;
    region.check(
        report.lost > 0,
        &format!("with a child made too early: {} packets sent, {} lost", report.sent, report.lost),
    );

    // Once it stands again, the next pass lets it take over.
    let until = Instant::now() + UP * 2;
    while region.vm(HUB)?.sh(&established)?.code != 0 {
        anyhow::ensure!(Instant::now() < until, "the newcomer does not authenticate again");
        std::thread::sleep(Duration::from_secs(1));
    }
    region.lab.route_through(&new)?;
    // Starts the path unit, too.
    let report = region.refresh(HUB)?;
    let took_over = report["steps"].to_string().contains("it takes over");
    region.check(took_over, &format!("the hub's refresh: {}", report["steps"]));
    let after = c.wait_for(hub.address, UP)?;
    region.check(true, &format!("its VPC is reached through it {} after", seconds(after)));
    let refused = report["refused"].to_string();
    region.check(refused.contains(&old.instance), "the older one stands by");
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
    region.keepers.clear();
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
