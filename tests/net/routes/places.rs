//! Nothing but the live tunnels and the file of connections remembers places.

use anyhow::{Result, ensure};
use nix::libc::SIGTERM;

use super::{CIDR_A, carrier, is_up, pass, second_gateway, watch};
use crate::region::{Region, UP, eventually, lines, refresh};
use crosswan_faults::look::all_well;

#[test]
fn places_outlive_the_state_and_all_that_is_lost_comes_up_again() -> Result<()> {
    let mut region = Region::standard()?;
    let (hub, first) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let second = second_gateway(&mut region, "a")?;
    refresh(&hub)?;
    region.lab.route_through(&second)?;
    region.keepers.remove(&first.name);
    region.lab.terminate(&first)?;
    refresh(&hub)?;
    ensure!(carrier(&hub, CIDR_A)? == "cw2");

    // The live SAs tell.
    let watched = watch(&region)?;
    for lost in ["/var/lib/crosswan/state.json", "/var/lib/crosswan/routing.batch"] {
        std::fs::remove_file(hub.path(lost))?;
        let report = pass(&hub)?;
        let steps = lines(&report, "steps");
        ensure!(steps.iter().all(|step| step.starts_with("write ")), "{lost}: {report:#}");
        ensure!(carrier(&hub, CIDR_A)? == "cw2");
    }
    std::fs::remove_file(hub.path("/var/lib/crosswan/state.json"))?;
    std::fs::remove_file(hub.path("/etc/swanctl/conf.d/crosswan.conf"))?;
    let report = pass(&hub)?;
    ensure!(carrier(&hub, CIDR_A)? == "cw2", "{report:#}");
    ensure!(refresh(&hub)?["outcome"] == "unchanged");
    watched.undisturbed("state and files were lost")?;

    // Without SAs the file tells.
    let keep = region.keepers.remove(&hub.name);
    drop(keep);
    hub.kill_charon(SIGTERM)?;
    std::fs::remove_file(hub.path("/var/lib/crosswan/state.json"))?;
    hub.start_charon()?;
    let report = pass(&hub)?;
    ensure!(carrier(&hub, CIDR_A)? == "cw2", "{report:#}");
    region.keepers.insert(hub.name.clone(), hub.spawn_agent(&["keep"])?);
    all_well(&region, UP)?;

    // With all of it lost the tunnel may get another place; the network comes up all the same.
    region.keepers.remove(&hub.name);
    hub.kill_charon(SIGTERM)?;
    hub.sh("rm -f /var/lib/crosswan/*.json /var/lib/crosswan/*.batch /etc/swanctl/conf.d/crosswan*; ip link del cw1; ip link del cw2
            ip rule flush protocol 205; ip route flush table 7105; true")?.ok()?;
    hub.start_charon()?;
    let report = pass(&hub)?;
    ensure!(lines(&report, "steps").iter().any(|step| step == "make interface cw1"), "{report:#}");
    region.keepers.insert(hub.name.clone(), hub.spawn_agent(&["keep"])?);
    let connection = region.lab.connection_to(&second)?;
    eventually(UP, "the tunnel is up", || is_up(&hub, &connection))?;
    all_well(&region, UP)?;
    ensure!(refresh(&hub)?["outcome"] == "unchanged");
    Ok(())
}
