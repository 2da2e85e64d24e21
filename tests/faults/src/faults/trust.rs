//! An attacker who may launch and tag, without a valid key: no tunnel is taken over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_core::model::{Holder, KEY_TAG, NEXT_KEY_TAG, PrivateKey, Timestamp};
use crosswan_lab::{Auth, Gateway};

use super::Healed;
use crate::{
    look::{sas, stream, unharmed},
    region::{Region, lines, refresh, refresh_with},
    stage::Stage,
};

/// What the hub remembers.
const STATE: &str = "/var/lib/crosswan/state.json";

/// A second instance in the victim's VPC, with the tag and an address, and nothing on it that works.
pub fn dead_newcomer(stage: &mut Stage) -> Result<Healed> {
    let (hub, lab) = (&stage.hub, &stage.region.lab);
    let own = stage.own_stream()?;
    let newcomer = stage.peer.second.clone();
    lab.tag(&newcomer, "service", Some("nat"))?;
    let before = with_children(hub)?;
    for _ in 0..if stage.quick { 2 } else { 10 } {
        let report = refresh_with(hub, &[], 6)?;
        ensure!(report["replacing"].to_string().contains(&newcomer.instance), "{report:#}");
        ensure!(with_children(hub)? == before, "a tunnel was made anew: {report:#}");
    }
    lab.tag(&newcomer, "service", Some("off"))?;
    let took = stage.heal(hub, &stage.idle, "the newcomer is gone")?;
    unharmed(own, "a newcomer that never works")?;
    Healed::by("never broken, the victim's own tunnel neither; once it is gone, the next pass", took)
}

/// A region whose gateways have keys, and an attacker's key pair with all that it can sign about a client.
fn with_forged_tags(stage: &Stage, state_too: bool) -> Result<Duration> {
    let region = Region::with(Auth::Key)?;
    let (hub, victim) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let pairs = [("a/host", "hub/host"), ("b/host", "a/host"), ("hub/host", "b/host-2")];
    let streams = pairs.map(|(from, to)| stream(&region, from, to)).into_iter().collect::<Result<Vec<_>>>()?;
    let (vpc, instance) = (region.lab.vpc_id("a")?.parse()?, victim.instance.parse()?);
    let holder = Holder { vpc: &vpc, instance: &instance };
    let key = |seed| PrivateKey::from_seed(&[seed; 32], &instance, Timestamp(0)).context("a key pair");
    let (one, two) = (key(0x5a)?, key(0x5b)?);
    let forged = one.proven(&holder).context("a proof")?.to_string();
    let follows = one.succeeded_by(&two, &holder).context("a succession")?.to_string();
    let before = with_children(&hub)?;
    for n in 0..if stage.quick { 2 } else { 8 } {
        region.lab.tag(&victim, KEY_TAG, Some(&forged))?;
        region.lab.tag(&victim, NEXT_KEY_TAG, Some(if n % 2 == 0 { &follows } else { "none" }))?;
        if state_too {
            let lost = ["", "{\"peers\":", "\u{0}\u{0}", "{\"identity\":null,\"regions\":{},\"peers\":7}"][n % 4];
            hub.write_file(STATE, lost, 0o600)?;
        }
        let report = refresh(&hub)?;
        ensure!(lines(&report, "refused").concat().contains(&victim.instance), "{report:#}");
        ensure!(lines(&report, "steps").is_empty() && with_children(&hub)? == before, "{report:#}");
    }
    let began = Instant::now();
    refresh(&victim)?;
    let report = refresh(&hub)?;
    let took = began.elapsed();
    ensure!(lines(&report, "refused").is_empty(), "its owner has written the tags anew: {report:#}");
    streams.into_iter().try_for_each(|stream| unharmed(stream, "key tags were forged").map(drop))?;
    Ok(took)
}

pub fn forged_tags(stage: &mut Stage) -> Result<Healed> {
    let took = with_forged_tags(stage, false)?;
    Healed::by("never broken, the victim neither; the next pass of the tags' owner, and the hub's", took)
}

pub fn state_lost(stage: &mut Stage) -> Result<Healed> {
    let took = with_forged_tags(stage, true)?;
    Healed::by("never broken, the victim neither; the next pass of the tags' owner, and the hub's", took)
}

/// The IKE_SAs that carry something, by connection.
fn with_children(hub: &Gateway) -> Result<Vec<(String, u32)>> {
    let carrying = sas(hub)?.into_iter().filter(|sa| !sa.children.is_empty());
    let mut all: Vec<_> = carrying.map(|sa| (sa.conn, sa.id)).collect();
    all.sort();
    Ok(all)
}
