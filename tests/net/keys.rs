//! Gateways with their own keys: there is no secret to distribute, and an impostor gets nothing.

mod hostile;
mod mixed;
pub mod rotation;

use anyhow::{Context, Result, ensure};
use crosswan::{
    keyring::{self},
    paths::Paths,
};
use crosswan_core::model::{KEY_TAG, KeyTags, Keyring, NEXT_KEY_TAG, PublicKey};
use crosswan_faults::look::{all_well, ask, stream, unharmed};
use crosswan_lab::{Auth, Fault, Gateway, Lab};

use crate::region::{Region, UP, lines, refresh, show, status};

/// A gateway's keys, as they are on its disk.
pub fn ring(gateway: &Gateway) -> Result<Keyring> {
    keyring::read(&Paths::below(&gateway.path("/")))?.with_context(|| format!("{} has no key", gateway.name))
}

/// The keys that its instance's tags announce: its key, and one that is to follow.
pub fn announced(lab: &Lab, gateway: &Gateway) -> Result<Vec<PublicKey>> {
    let (key, next) = (lab.tag_of(gateway, KEY_TAG)?, lab.tag_of(gateway, NEXT_KEY_TAG)?);
    let tags = KeyTags::of(key.as_deref(), next.as_deref());
    let key = tags.key.read().map(|proven| proven.key);
    let next = tags.next.read().map(|succession| succession.next).filter(|next| Some(*next) != key);
    Ok(key.into_iter().chain(next).collect())
}

/// Ends the SAs of a gateway, so that they have to be made anew.
pub fn reconnect(region: &Region, gateway: &Gateway) -> Result<()> {
    for sa in ask(gateway, async |vici| vici.sas().await)? {
        gateway.swanctl(&["--terminate", "--ike-id", &sa.id.to_string(), "--timeout", "5"])?;
    }
    all_well(region, UP)
}

#[test]
fn a_fleet_needs_no_secret() -> Result<()> {
    let region = Region::with(Auth::Key)?;
    let gateways = ["hub/vpn-hub", "a/nat-vpn", "b/nat-vpn"].map(|name| region.gateway(name));
    let gateways = gateways.into_iter().collect::<Result<Vec<_>>>()?;
    for gateway in &gateways {
        let key = ring(gateway)?.current;
        let report = refresh(gateway)?;
        ensure!(report["outcome"] == "unchanged" && lines(&report, "steps").is_empty(), "{report:#}");
        ensure!(report["key"]["fingerprint"] == key.public.fingerprint() && report["key"]["announced"] == true);
        ensure!(announced(&region.lab, gateway)? == [key.public], "the tag of {}", gateway.name);
        ensure!(!gateway.path("/etc/crosswan/psk").exists());
        let secrets = gateway.read_file("/etc/swanctl/conf.d/crosswan-secrets.conf")?;
        ensure!(!secrets.contains("ike-"), "{secrets}");

        // The private key is only in its file.
        let text = String::from_utf8(key.text.bytes().to_vec())?;
        let secret = &text.lines().nth(2).unwrap_or_default()[24..];
        let mut said = status(gateway)?.to_string() + &gateway.read_file("/var/lib/crosswan/state.json")?;
        for args in [&["refresh", "--dry-run", "-vv"][..], &["refresh", "-vv", "--json"], &["status"]] {
            said += &show(&gateway.agent(args)?.ok()?);
        }
        said += &gateway.read_file("/run/crosswan/status.json")?;
        said += &gateway.read_file("/etc/swanctl/conf.d/crosswan.conf")?;
        ensure!(
            text.contains(secret) && secret.len() >= 40 && !said.contains(secret),
            "{} shows its key",
            gateway.name
        );
    }
    // Each accepts the keys of its peers, and no other.
    let hub = gateways[0].read_file("/etc/swanctl/conf.d/crosswan.conf")?;
    for spoke in &gateways[1..] {
        let (own, hubs) = (ring(spoke)?.current.public, ring(&gateways[0])?.current.public);
        let theirs = spoke.read_file("/etc/swanctl/conf.d/crosswan.conf")?;
        ensure!(theirs.contains(&format!("pubkeys = 0s{own}\n")) && theirs.contains(&format!("pubkeys = 0s{hubs}\n")));
        ensure!(hub.contains(&format!("pubkeys = 0s{own}\n")));
    }
    Ok(())
}

/// It comes up with the keys it has, and a missing tag takes nothing down.
#[test]
fn a_reboot_without_ec2_and_a_tag_that_is_gone() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let (hub, a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    region.lab.tag(&a, KEY_TAG, None)?;
    let others = stream(&region, "a/host", "b/host")?;
    let report = refresh(&hub)?;
    ensure!(report["kept"].to_string().contains("announces no key"), "{report:#}");
    let report = refresh(&a)?;
    ensure!(lines(&report, "steps").iter().any(|step| step.starts_with("announce ")), "{report:#}");
    ensure!(refresh(&hub)?["kept"].as_array().is_some_and(Vec::is_empty));
    unharmed(others, "the tag was gone")?;

    region.lab.ec2_fault("*", "*", Fault::Reset);
    for gateway in [&hub, &a] {
        region.keepers.remove(&gateway.name);
        region.lab.stop_instance(gateway)?;
        region.lab.start_instance(gateway, false)?;
        gateway.start_charon()?;
        let output = gateway.agent(&["refresh"])?;
        ensure!(output.code == 3, "{}", show(&output));
        region.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
    }
    region.settle()
}
