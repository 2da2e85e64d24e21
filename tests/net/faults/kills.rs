//! The agent is killed at steps of an apply, and in `make faults` at every step: no other tunnel loses a packet, and one
//! more refresh repairs everything.

use anyhow::{Context, Result, ensure};
use crosswan_faults::{
    kills::{PASSES, at_every_step},
    peer::Peer,
    strace::{kill_at, record},
};
use nix::libc::SIGKILL;

use super::look::{Snapshot, all_well, stream, unharmed};
use crate::region::{Region, UP, lines, refresh};

#[test]
fn killed_at_any_step_of_an_apply_one_more_refresh_heals() -> Result<()> {
    let mut region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    drop(region.keepers.remove(&hub.name));
    hub.set_env("CROSSWAN_AFTER_MISSES", "1");
    let peer = Peer::launch(&region.lab)?;
    peer.first.start_charon()?;
    refresh(&peer.first)?;
    let others =
        [("a/host", "b/host"), ("b/host-2", "hub/host")].map(|(from, to)| stream(&region, from, to)).into_iter();
    let others = others.collect::<Result<Vec<_>>>()?;
    let mut kills = 0;
    for pass in PASSES {
        kills += at_every_step(&region, &hub, &peer, pass, 2, &mut |_| {})?;
    }
    for other in others {
        let report = unharmed(other, "another tunnel")?;
        println!("{kills} kills, {} pings through other tunnels, none lost", report.sent);
    }
    Ok(())
}

/// The new key is loaded, no file says so yet, and by the next pass the old one is wanted again: files and wish agree,
/// only the marker tells that charon may hold something else.
#[test]
fn a_key_that_was_changed_and_changed_back_around_a_kill() -> Result<()> {
    let mut region = Region::standard()?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let start = Snapshot::of(&hub)?;
    let psk = format!("/etc/crosswan/psk.d/{}", region.lab.vpc_id("a")?);
    hub.write_file(&psk, "another-key-for-this-spoke-alone\n", 0o600)?;
    let points = record(&hub)?;
    let end = Snapshot::of(&hub)?;
    ensure!(start != end);
    let old = format!("{}\n", region.lab.psk());
    hub.write_file(&psk, &old, 0o600)?;
    refresh(&hub)?;

    let loaded = points.iter().position(|point| point.line.contains("load-shared")).context("no load-shared")?;
    let point = points.get(loaded + 1).context("nothing after it")?;
    hub.write_file(&psk, "another-key-for-this-spoke-alone\n", 0o600)?;
    ensure!(kill_at(&hub, point, 0)?, "killed elsewhere");
    hub.write_file(&psk, &old, 0o600)?;
    let report = refresh(&hub)?;
    Snapshot::of(&hub)?.must_be(&start, "after the key was changed back")?;
    // Only a key exchange shows which key charon holds.
    spoke.kill_charon(SIGKILL)?;
    spoke.start_charon()?;
    drop(region.keepers.remove(&hub.name));
    region.lab.host("a/host")?.wait_for(region.address("hub/host")?, UP)?;
    ensure!(lines(&report, "notes").concat().contains("cut off"), "{report:#}");
    all_well(&region, UP)
}
