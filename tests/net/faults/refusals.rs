//! The peer refuses: that is reported, no storm of attempts follows, and the tunnel comes up by itself once the reason is gone.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crosswan_lab::{AgentProcess, Gateway};

use super::look::{CONNECTIONS, all_well, newest_ike, sas, stream, unharmed};
use crate::region::{Region, UP, eventually, refresh, show};

/// Three attempts and a look, 21 s measured on a quiet machine.
const GIVEN_UP: Duration = Duration::from_secs(120);
/// keep's interval is 2 s here and doubles: at 0, 2, 6, 14 and 30 s. The hub's end may try as often.
const TRIES: u32 = 12;

#[test]
fn wrong_keys_and_proposals_are_retried_gently_until_they_are_right() -> Result<()> {
    let region = Region::standard()?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let keeper = &region.keepers[&spoke.name];
    let others = stream(&region, "b/host", "hub/host")?;
    seen_up(keeper)?;

    // AUTHENTICATION_FAILED: a new key on one end only.
    let right = spoke.read_file("/etc/crosswan/psk")?;
    spoke.write_file("/etc/crosswan/psk", "Tr0ub4dor&3-is-not-the-key\n", 0o600)?;
    refresh(&spoke)?;
    let before = newest_ike(&spoke)?;
    let refused = spoke.charon_log().matches("AUTH_FAILED").count();
    end_tunnel(&spoke)?;
    // The fourth attempt; the next one is 16 s away.
    keeper.wait_for_log("(attempt 4)", UP)?;
    eventually(UP, "AUTHENTICATION_FAILED", || Ok(spoke.charon_log().matches("AUTH_FAILED").count() >= refused + 4))?;
    ensure!(tunnel_line(&spoke)?.contains("DOWN"));
    ensure!(!region.lab.host("a/host")?.reaches(region.address("hub/host")?)?);
    spoke.write_file("/etc/crosswan/psk", &right, 0o600)?;
    refresh(&spoke)?;
    // keep starts over as soon as the key changes, without waiting for the rest of its back-off.
    let since = Instant::now();
    keeper.wait_for_log("is up", Duration::from_secs(12))?;
    println!("after the key was right again: up in {:?}", since.elapsed());
    all_well(&region, UP)?;
    let tried = newest_ike(&spoke)? - before;
    ensure!(tried <= TRIES, "{tried} IKE_SAs");

    // NO_PROPOSAL_CHOSEN: somebody changed the hub's proposals by hand.
    let refused = spoke.charon_log().matches("NO_PROP").count();
    let edit = format!("sed -i /proposals/s/-x25519.*/-ecp521/ {CONNECTIONS}");
    hub.sh(&edit)?.ok()?;
    hub.swanctl(&["--load-conns"])?;
    end_tunnel(&spoke)?;
    eventually(UP, "NO_PROPOSAL_CHOSEN", || Ok(spoke.charon_log().matches("NO_PROP").count() >= refused + 2))?;
    let report = refresh(&hub)?;
    ensure!(report["outcome"] == "changed", "{report:#}");
    all_well(&region, UP)?;
    unharmed(others, "the other spoke's tunnel").map(drop)
}

#[test]
fn a_cidr_the_hub_does_not_know_leaves_no_childless_sa_and_no_storm() -> Result<()> {
    let mut region = Region::standard()?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);

    // All children: the IKE_SA comes up childless, and is given up after some attempts. The hub's own attempts, refused
    // by the spoke likewise, would hide that.
    drop(region.keepers.remove(&hub.name));
    seen_up(&region.keepers[&spoke.name])?;
    let before = newest_ike(&spoke)?;
    hub.sh(&format!("sed -i /remote_ts/s/10.1.0.0/10.8.0.0/ {CONNECTIONS}"))?.ok()?;
    hub.swanctl(&["--load-conns"])?;
    end_tunnel(&spoke)?;
    let keeper = &region.keepers[&spoke.name];
    keeper.wait_for_log("no child after 3 attempts", GIVEN_UP)?;
    ensure!(spoke.charon_log().contains("TS_UNACCEPT"));
    ensure!(tunnel_line(&spoke)?.contains("DOWN"));
    let report = refresh(&hub)?;
    ensure!(report["outcome"] == "changed", "{report:#}");
    // The spoke cannot know that; its next attempt succeeds.
    let since = Instant::now();
    all_well(&region, UP)?;
    let tried = newest_ike(&spoke)? - before;
    println!("childless: {tried} IKE_SAs until it worked again, {:?} after it could", since.elapsed());
    ensure!(tried <= TRIES, "{tried} IKE_SAs");

    // One child of two: the other goes on carrying packets, and no new IKE_SA is made.
    let packets = stream(&region, "a/host", "hub/host")?;
    let host = region.lab.add_cidr("a", "10.101.0.0/16")?;
    let before = newest_ike(&spoke)?;
    refresh(&spoke)?;
    keeper.wait_for_log("c-10-101-0-0-16 (attempt 3)", UP)?;
    ensure!(tunnel_line(&spoke)?.contains("DOWN") && show(&spoke.agent(&["status"])?).contains("up   10.1.0.0/16"));
    ensure!(newest_ike(&spoke)? == before, "a new IKE_SA for a child that was refused");
    unharmed(packets, "the child that both ends know")?;
    refresh(&hub)?;
    host.wait_for(region.address("hub/host")?, UP)?;
    all_well(&region, UP)
}

/// Packets may pass before keep has looked, and until it has, the attempts that brought them count on: the back-off
/// would start somewhere in the middle.
fn seen_up(keeper: &AgentProcess) -> Result<()> {
    keeper.wait_for_log("is up", UP)
}

/// Ends every IKE_SA of the spoke, as a rekey that fails would.
fn end_tunnel(spoke: &Gateway) -> Result<()> {
    for sa in sas(spoke)? {
        spoke.swanctl(&["--terminate", "--ike-id", &sa.id.to_string(), "--force", "--timeout", "5"])?;
    }
    Ok(())
}

/// What `crosswan status` says of the tunnel to the hub.
fn tunnel_line(spoke: &Gateway) -> Result<String> {
    let status = spoke.agent(&["status"])?;
    Ok(status.stdout.lines().find(|line| line.contains("crosswan-hub")).unwrap_or_default().to_owned())
}
