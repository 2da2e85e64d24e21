//! With interfaces, SAs or charon away, nothing leaves in the clear, and a host is told at once.

use anyhow::{Result, ensure};
use crosswan_faults::look::all_well;
use nix::libc::SIGTERM;

use super::told_at_once;
use crate::region::{Region, UP, refresh};

#[test]
fn without_interfaces_or_charon_nothing_leaves_in_the_clear_and_hosts_are_told_at_once() -> Result<()> {
    let mut region = Region::standard()?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let capture = region.lab.capture_internet()?;
    let before = [region.lab.leaks("a")?, region.lab.leaks("hub")?];
    for (gateway, from, to) in [(&spoke, "a/host", "hub/host"), (&hub, "hub/host", "a/host")] {
        let keep = region.keepers.remove(&gateway.name);
        for harm in [
            "ip link set cw1 down; ip link set cw2 down",
            "ip link del cw1; ip link del cw2",
            "ip xfrm state flush; ip xfrm policy flush",
            "ip route flush table 7105",
            "ip rule flush protocol 205",
            "ip xfrm state flush; ip xfrm policy flush; ip link del cw1; ip link del cw2; ip route flush table 7105; ip rule flush protocol 205",
        ] {
            gateway.sh(harm)?.ok()?;
            told_at_once(&region, from, to, gateway).map_err(|e| e.context(harm))?;
            ensure!(region.lab.host(from)?.whoami_tcp(region.lab.internet().address).is_ok(), "NAT goes on");
            refresh(gateway)?;
            if harm.contains("state flush") {
                gateway.start_charon()?;
                let again = gateway.spawn_agent(&["keep"])?;
                region.lab.host(from)?.wait_for(region.address(to)?, UP)?;
                drop(again);
            }
            region.lab.host(from)?.wait_for(region.address(to)?, UP)?;
        }
        gateway.kill_charon(SIGTERM)?;
        told_at_once(&region, from, to, gateway)?;
        gateway.sh("ip link del cw1; ip link del cw2")?.ok()?;
        told_at_once(&region, from, to, gateway)?;
        gateway.start_charon()?;
        refresh(gateway)?;
        drop(keep);
        region.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
        all_well(&region, UP)?;
    }
    let packets = capture.stop()?;
    ensure!(packets.clear_private().is_empty(), "{:?}", packets.clear_private());
    ensure!([region.lab.leaks("a")?, region.lab.leaks("hub")?] == before, "{:?}", region.lab.leaks("a")?);
    Ok(())
}
