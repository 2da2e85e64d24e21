//! What the gateways hold instead of a secret that somebody gave them: seen in EC2, on disk and in charon.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use crosswan_lab::{Gateway, Role};

use super::Demo;
use super::act::go_on;
use super::vici::loaded;

/// The tag in which a gateway announces its key.
const TAG: &str = "crosswan-key";
const CONNECTIONS: &str = "/etc/swanctl/conf.d/crosswan.conf";
const STATE: &str = "/var/lib/crosswan/state.json";

/// Every gateway with tunnels has a key of its own, its peers accept that one, and there is no other secret.
pub fn announced(demo: &mut Demo) -> Result<()> {
    go_on()?;
    let gateways: Vec<Arc<Gateway>> =
        demo.lab.gateways().into_iter().filter(|gateway| gateway.role != Role::NatHub).collect();
    let a = demo.lab.gateway("a/nat-vpn")?;
    demo.screen.text("Client A's key, as its peers find it:");
    demo.screen.command("EC2", &format!("DescribeTags resource-id={} key={TAG}", a.instance));
    let mut keys: BTreeMap<String, &Gateway> = BTreeMap::new();
    for gateway in &gateways {
        keys.insert(key_of(demo, gateway)?, gateway);
    }
    let (key, _) = keys.iter().find(|(_, gateway)| gateway.name == a.name).context("client A announces no key")?;
    demo.screen.quote(key);

    let (mut wrong, mut given) = (Vec::new(), 0);
    for gateway in &gateways {
        // The hub's peers are all the others, a client's only peer is the hub; each accepts them and nobody else.
        let hub = gateway.role == Role::VpnHub;
        for (key, other) in keys.iter().filter(|(_, other)| other.name != gateway.name) {
            let peers = hub || other.role == Role::VpnHub;
            if accepts(gateway, key)? != usize::from(peers) {
                wrong.push(format!("{} and the key of {}", gateway.name, other.name));
            }
        }
        let private = loaded(gateway, "get-keys")?.len();
        if private != 1 {
            wrong.push(format!("{} has {private} private keys loaded", gateway.name));
        }
        let psk = ["/etc/crosswan/psk", "/etc/crosswan/psk.d"].iter().filter(|file| gateway.path(file).exists());
        given += loaded(gateway, "get-shared")?.len() + psk.count();
    }
    let text = format!(
        "{} gateways with tunnels, {} keys; each accepts those of its peers and no other {}",
        gateways.len(),
        keys.len(),
        wrong.join("; ")
    );
    demo.check(wrong.is_empty() && keys.len() == gateways.len(), text.trim_end());
    demo.check(given == 0, &format!("{given} pre-shared keys, in any charon and on any disk"));
    Ok(())
}

/// The key in a gateway's tag, as EC2 has it.
pub fn key_of(demo: &Demo, gateway: &Gateway) -> Result<String> {
    let tag = demo.lab.tag_of(gateway, TAG)?;
    let tag = tag.with_context(|| format!("{} announces no key", gateway.name))?;
    Ok(tag.split(' ').next().unwrap_or_default().to_owned())
}

/// Connections of a gateway that accept this key of their peer, as charon was told.
pub fn accepts(gateway: &Gateway, key: &str) -> Result<usize> {
    let text = gateway.read_file(CONNECTIONS)?;
    let remote = text.split("remote {").skip(1).filter_map(|section| section.split('}').next());
    Ok(remote.filter(|section| section.contains(&format!("0s{key}"))).count())
}

/// Places in a gateway's memory of the last passes that have this key: the peer's own entry, EC2's last answer.
pub fn remembers(gateway: &Gateway, key: &str) -> Result<usize> {
    Ok(gateway.read_file(STATE)?.matches(key).count())
}
