//! A fleet moves from a pre-shared key to keys, gateway by gateway, and no packet is lost.

use anyhow::{Result, ensure};
use crosswan_core::model::KEY_TAG;
use crosswan_faults::look::{SECRETS, all_well, ask, sas, stream, unharmed};
use crosswan_lab::Gateway;
use serde_json::Value;

use super::{announced, reconnect, ring};
use crate::region::{Region, UP, eventually, lines, refresh};

/// Between every two private networks, also those that the step at hand has nothing to do with.
const PAIRS: [(&str, &str); 4] =
    [("a/host", "b/host"), ("b/host-2", "a/host"), ("hub/host", "a/host"), ("b/host", "hub/host")];

/// Makes one step while packets flow.
fn while_packets_flow<T>(region: &Region, what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
    let streams = PAIRS.map(|(from, to)| stream(region, from, to));
    let done = step()?;
    for stream in streams {
        unharmed(stream?, what)?;
    }
    Ok(done)
}

/// What cloud-init's `write_files` would bring.
fn uses_keys(gateway: &Gateway, regions: &str) -> Result<()> {
    let text = format!("{regions}[auth]\nmethod = \"key\"\n");
    gateway.write_file("/etc/crosswan/conf.d/60-keys.toml", &text, 0o644)
}

/// How a gateway's connections are authenticated at both ends, by name.
fn methods(gateway: &Gateway) -> Result<Vec<(String, String)>> {
    let conns = ask(gateway, async |vici| vici.list_conns().await)?;
    let tunnels = conns.into_iter().filter(|(name, _)| name != "crosswan-own");
    tunnels
        .map(|(name, conn)| {
            ensure!(conn.local_auth == conn.remote_auth, "{name}: {conn:?}");
            Ok((name, conn.remote_auth))
        })
        .collect()
}

fn by_key(gateway: &Gateway, vpc: &str) -> Result<bool> {
    let methods = methods(gateway)?;
    let of_vpc = methods.iter().find(|(name, _)| name.contains(vpc) || name.starts_with("crosswan-hub-"));
    Ok(of_vpc.is_some_and(|(_, method)| method == "pubkey"))
}

fn ike_sas(gateway: &Gateway) -> Result<Vec<(String, u32)>> {
    Ok(sas(gateway)?.into_iter().map(|sa| (sa.conn, sa.id)).collect())
}

/// The steps of `docs/upgrading.md`, "From a pre-shared key to keys":
///
/// 1. The roles: `vpn-hub.json` for the hub, its own region among the listed; `nat-vpn.json` for every `nat-vpn`.
/// 2. The hub: `auth.method = "key"`; its pre-shared key stays where it is. `crosswan refresh`.
/// 3. A spoke: `auth.method = "key"` and `regions` with the hub's region and its own; `hub` and its pre-shared key may stay.
///    `crosswan refresh` there, and then on the hub. Between these two its tunnel stays up, but would not come back if it
///    broke: so do not wait for the hub's hour. The other spokes go on with the pre-shared key.
/// 4. The next spoke.
/// 5. When `crosswan status` of the hub shows a key for every tunnel: remove `psk_file` and the files.
#[test]
fn a_fleet_moves_from_a_pre_shared_key_to_keys() -> Result<()> {
    let region = Region::standard()?;
    let (hub, a, b) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?, region.gateway("b/nat-vpn")?);
    let [vpc_a, vpc_b] = ["a", "b"].map(|name| region.lab.vpc_id(name));
    let (vpc_a, vpc_b) = (vpc_a?, vpc_b?);
    let hubs_region = format!("regions = [\"{}\"]\n", region.lab.region("hub")?);
    all_well(&region, UP)?;
    let at_first = ike_sas(&hub)?;

    while_packets_flow(&region, "the hub got a key", || {
        uses_keys(&hub, "")?;
        let report = refresh(&hub)?;
        // With keys it hears pairs, by a rule. No connection is touched.
        let steps: Vec<_> = lines(&report, "steps").into_iter().filter(|step| !step.contains("CROSSWAN-IN")).collect();
        let begins = ["load this gateway's key", "write iptables.rules", "announce "];
        ensure!(
            steps.iter().zip(begins).all(|(step, begin)| step.starts_with(begin)) && steps.len() == 3,
            "{report:#}"
        );
        ensure!(announced(&region.lab, &hub)? == [ring(&hub)?.current.public]);
        ensure!(!by_key(&hub, &vpc_a)? && !by_key(&hub, &vpc_b)?);
        ensure!(lines(&report, "refused").is_empty() && lines(&report, "unasked").is_empty(), "{report:#}");
        Ok(())
    })?;
    while_packets_flow(&region, "a spoke got a key", || {
        uses_keys(&a, &hubs_region)?;
        refresh(&a)?;
        ensure!(by_key(&a, &vpc_a)? && !by_key(&hub, &vpc_a)?);
        refresh(&hub)?;
        ensure!(by_key(&hub, &vpc_a)? && !by_key(&hub, &vpc_b)?);
        Ok(())
    })?;
    eventually(UP, "no tunnel is made anew", || Ok(ike_sas(&hub)? == at_first))?;
    let secrets = hub.read_file(SECRETS)?;
    ensure!(!secrets.contains(&vpc_a) && secrets.contains(&vpc_b), "only b's is still needed");

    // Mixed: tunnels of both kinds come up again, and neither kind affects the other.
    let others = [("b/host", "hub/host"), ("hub/host", "b/host-2")].map(|(from, to)| stream(&region, from, to));
    reconnect(&region, &a)?;
    for stream in others {
        unharmed(stream?, "a tunnel was made anew by keys")?;
    }
    let others = [("a/host", "hub/host"), ("hub/host", "a/host")].map(|(from, to)| stream(&region, from, to));
    reconnect(&region, &b)?;
    for stream in others {
        unharmed(stream?, "a tunnel was made anew by the pre-shared key")?;
    }
    for gateway in [&hub, &a, &b] {
        ensure!(lines(&refresh(gateway)?, "steps").is_empty(), "{} has settled", gateway.name);
    }
    never_back(&region, &hub, &a, &vpc_a)?;

    // Between its pass and the hub's the other spoke's tunnel breaks: it waits for the hub's.
    let others = [("a/host", "hub/host"), ("hub/host", "a/host")].map(|(from, to)| stream(&region, from, to));
    uses_keys(&b, &hubs_region)?;
    refresh(&b)?;
    for sa in sas(&b)? {
        b.swanctl(&["--terminate", "--ike-id", &sa.id.to_string(), "--timeout", "5"])?;
    }
    let (host, to) = (region.lab.host("b/host")?, region.address("hub/host")?);
    ensure!(!host.reaches(to)? && !host.reaches(to)?, "the hub still expects the pre-shared key");
    refresh(&hub)?;
    ensure!(by_key(&b, &vpc_b)? && by_key(&hub, &vpc_a)? && by_key(&hub, &vpc_b)?);
    all_well(&region, UP)?;
    for stream in others {
        unharmed(stream?, "the other spoke got a key")?;
    }
    while_packets_flow(&region, "the pre-shared key was taken away", || {
        for gateway in [&hub, &a, &b] {
            let settings = gateway.read_file("/etc/crosswan/crosswan.toml")?;
            gateway.write_settings(&settings.replace("psk_file = \"/etc/crosswan/psk\"\n", ""))?;
            std::fs::remove_file(gateway.path("/etc/crosswan/psk"))?;
            let report = refresh(gateway)?;
            ensure!(report["outcome"] == "unchanged" && lines(&report, "steps").is_empty(), "{report:#}");
            for list in ["refused", "kept", "problems", "unasked"] {
                ensure!(lines(&report, list).is_empty(), "{report:#}");
            }
            ensure!(!gateway.read_file(SECRETS)?.contains("ike-"), "{}", gateway.name);
            ensure!(ask(gateway, async |vici| vici.shared_ids().await)?.is_empty(), "{}", gateway.name);
        }
        Ok(())
    })?;
    [&a, &b].into_iter().try_for_each(|spoke| reconnect(&region, spoke))
}

/// The hub still has the pre-shared key, and the peer's announcement is gone, with and without what the hub remembers.
fn never_back(region: &Region, hub: &Gateway, peer: &Gateway, vpc: &str) -> Result<()> {
    let tag = region.lab.tag_of(peer, KEY_TAG)?;
    region.lab.tag(peer, KEY_TAG, None)?;
    for forget in [false, true] {
        if forget {
            std::fs::remove_file(hub.path("/var/lib/crosswan/state.json"))?;
        }
        let report: Value = refresh(hub)?;
        ensure!(report["kept"].to_string().contains("announces no key"), "{report:#}");
        ensure!(by_key(hub, vpc)? && !hub.read_file(SECRETS)?.contains(vpc), "back to the pre-shared key");
    }
    reconnect(region, peer)?;
    region.lab.tag(peer, KEY_TAG, tag.as_deref())?;
    ensure!(lines(&refresh(hub)?, "kept").is_empty());
    Ok(())
}
