//! One key follows another: both count until the peers have accepted the next one, and no packet is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crosswan_core::model::PublicKey;
use crosswan_faults::look::{ask, sas, stream, unharmed};
use crosswan_lab::{Auth, Gateway, Role};
use serde_json::Value;

use super::{announced, reconnect, ring};
use crate::region::{Region, UP, eventually, lines, refresh, refresh_with};

/// Until charon has given the old address up (dead peer detection), and 32 s: keep's interval is 2 s here.
const NOTICED: Duration = Duration::from_mins(4);

pub fn rotate(gateway: &Gateway) -> Result<Value> {
    let output = gateway.agent(&["rotate-key", "--json"])?.ok()?;
    Ok(serde_json::from_str(&output.stdout)?)
}

/// The key that a gateway signs with, as loaded into charon.
fn signs_with(gateway: &Gateway) -> Result<String> {
    let text = gateway.read_file("/etc/swanctl/conf.d/crosswan.conf")?;
    let key = text.lines().find_map(|line| line.trim().strip_prefix("pubkeys = 0s"));
    Ok(key.unwrap_or_default().to_owned())
}

fn loaded(gateway: &Gateway, key: PublicKey) -> Result<bool> {
    Ok(ask(gateway, async |vici| vici.key_ids().await)?.contains(&key.charon_id()))
}

#[test]
fn a_spokes_and_the_hubs_key_are_rotated_without_a_lost_packet() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let (hub, a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let b = region.gateway("b/nat-vpn")?;
    let packets = [("a/host", "b/host"), ("b/host-2", "a/host"), ("hub/host", "a/host")];
    let packets = packets.map(|(from, to)| stream(&region, from, to));

    // The spoke: announced, accepted by the hub, proved by IKE, used, known alone.
    let old = ring(&a)?.current.public;
    let report = rotate(&a)?;
    let next = ring(&a)?.next.map(|key| key.public);
    ensure!(next.is_some_and(|next| report["key"]["next"] == next.fingerprint()), "{report:#}");
    let next = next.unwrap_or(old);
    ensure!(announced(&region.lab, &a)? == [old, next] && signs_with(&a)? == old.to_string());
    let report = refresh(&a)?;
    ensure!(report["key"]["waiting"].to_string().contains(&region.lab.vpc_id("hub")?), "{report:#}");
    ensure!(lines(&refresh(&hub)?, "steps").iter().any(|step| step.contains("peer's key")));
    proved(&a)?;
    let report = refresh(&a)?;
    ensure!(report["key"]["fingerprint"] == next.fingerprint() && report["key"]["next"].is_null(), "{report:#}");
    ensure!(announced(&region.lab, &a)? == [next] && signs_with(&a)? == next.to_string());
    ensure!(ring(&a)?.current.public == next && !loaded(&a, old)? && loaded(&a, next)?);
    refresh(&hub)?;
    ensure!(!hub.read_file("/etc/swanctl/conf.d/crosswan.conf")?.contains(&old.to_string()));
    ensure!(sas(&hub)?.iter().all(|sa| !sa.conn.contains("-next")), "a proof is left");

    // The hub waits for both.
    let old = ring(&hub)?.current.public;
    rotate(&hub)?;
    refresh(&a)?;
    let of_a = format!("{}-own-next", region.lab.connection_to(&a)?);
    eventually(UP, "a accepts the hub's next key", || {
        Ok(sas(&hub)?.iter().any(|sa| sa.conn == of_a && sa.is_established()))
    })?;
    let report = refresh(&hub)?;
    let waiting = report["key"]["waiting"].to_string();
    ensure!(waiting.contains(&region.lab.vpc_id("b")?) && !waiting.contains(&region.lab.vpc_id("a")?), "{report:#}");
    refresh(&b)?;
    proved(&hub)?;
    refresh(&hub)?;
    ensure!(ring(&hub)?.current.public != old && signs_with(&hub)? != old.to_string());
    for gateway in [&a, &b, &hub] {
        refresh(gateway)?;
        ensure!(lines(&refresh(gateway)?, "steps").is_empty(), "{} has settled", gateway.name);
    }
    for stream in packets {
        unharmed(stream?, "keys were rotated")?;
    }
    [&a, &b].into_iter().try_for_each(|spoke| reconnect(&region, spoke))
}

/// Waits until every peer of a gateway has accepted its next key, by an IKE_SA that it has initiated.
pub fn proved(gateway: &Gateway) -> Result<()> {
    // An attempt that came before the peer's own pass is repeated after twice as long each time.
    eventually(NOTICED, "every proof of the next key", || {
        let conns = ask(gateway, async |vici| vici.list_conns().await)?;
        let stands = sas(gateway)?;
        let proved = |name: &String| stands.iter().any(|sa| sa.conn == *name && sa.is_established() && sa.initiator);
        let mut proofs = conns.keys().filter(|name| name.ends_with("-own-next")).peekable();
        // A pass that comes right after the last proof has promoted the key by now.
        Ok(ring(gateway)?.next.is_none() || (proofs.peek().is_some() && proofs.all(proved)))
    })
    .with_context(|| {
        let log = gateway.charon_log();
        let last: Vec<&str> = log.lines().rev().filter(|line| line.contains("next")).take(40).collect();
        format!("{}: {:#?}\nfrom the last line on:\n{}", gateway.name, sas(gateway), last.join("\n"))
    })
}

/// At every step of a rotation a tunnel that breaks comes up again.
#[test]
fn a_tunnel_that_breaks_in_the_middle_comes_up_again() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let (hub, a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    rotate(&a)?;
    reconnect(&region, &a)?;
    rotate(&hub)?;
    reconnect(&region, &a)?;
    let b = region.gateway("b/nat-vpn")?;
    for gateway in [&a, &hub, &b] {
        refresh(gateway)?;
        reconnect(&region, &a)?;
    }
    for gateway in [&a, &hub] {
        // One whose proofs stood early enough has changed its key in the passes above.
        if ring(gateway)?.next.is_some() {
            proved(gateway)?;
        }
        refresh(gateway)?;
        reconnect(&region, &a)?;
    }
    for gateway in [&a, &b, &hub] {
        refresh(gateway)?;
        reconnect(&region, &a)?;
    }
    ensure!(ring(&a)?.next.is_none() && ring(&hub)?.next.is_none());
    Ok(())
}

/// By age: the next key is made when the current one is old, and not before.
#[test]
fn a_key_that_is_old_is_followed() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let a = region.gateway("a/nat-vpn")?;
    a.write_file("/etc/crosswan/conf.d/60-age.toml", "[auth]\nmax_key_age = \"90days\"\n", 0o644)?;
    ensure!(refresh(&a)?["key"]["next"].is_null(), "it is new");
    let (file, made) = ("/etc/swanctl/private/crosswan.pem", ring(&a)?.current.made.0);
    let older = a.read_file(file)?.replace(&format!("at {made}."), &format!("at {}.", made - 91 * 86_400));
    a.write_file(file, &older, 0o600)?;
    ensure!(!refresh(&a)?["key"]["next"].is_null(), "it is old");
    ensure!(announced(&region.lab, &a)?.len() == 2);
    let hub = region.gateway("hub/vpn-hub")?;
    refresh(&hub)?;
    proved(&a)?;
    let report = refresh(&a)?;
    ensure!(report["key"]["next"].is_null() && ring(&a)?.current.made.0 >= made, "{report:#}");
    Ok(())
}

/// A new instance has its own key, and gets the tunnel at the hub's next pass. An instance that merely announces another key is
/// not believed until an operator accepts it.
#[test]
fn a_replaced_instance_takes_over_and_a_key_out_of_nowhere_does_not() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let (hub, old) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let others = stream(&region, "b/host", "hub/host")?;
    region.keepers.remove(&old.name);
    let new = region.lab.replace_gateway(&old)?;
    ensure!(new.role == Role::NatVpn);
    region.boot(&new)?;
    // Nobody waits for the hour: the hub's keep asks for a pass when the tunnel stays down, and systemd starts it.
    eventually(NOTICED, "the hub's keep wants a pass", || Ok(hub.path("/run/crosswan/refresh-wanted").exists()))?;
    region.keepers[&hub.name].wait_for_log("asked for a refresh", UP)?;
    refresh(&hub)?;
    region.settle()?;

    let known = ring(&new)?.current.public;
    std::fs::remove_file(new.path("/etc/swanctl/private/crosswan.pem"))?;
    refresh(&new)?;
    let stranger = ring(&new)?.current.public;
    let report = refresh(&hub)?;
    let refused = report["refused"].to_string();
    ensure!(refused.contains(&known.fingerprint()) && refused.contains(&stranger.fingerprint()), "{report:#}");
    ensure!(hub.read_file("/etc/swanctl/conf.d/crosswan.conf")?.contains(&known.to_string()));
    let right = format!("{}={}", region.lab.vpc_id("a")?, stranger.fingerprint());
    refresh_with(&hub, &["--accept-key", &right], 0)?;
    unharmed(others, "another VPC's gateway was replaced")?;
    reconnect(&region, &new)
}
