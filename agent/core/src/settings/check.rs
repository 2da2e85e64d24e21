//! The settings that were set, held against the mode and each other.

use std::{collections::BTreeSet, path::Path};

use ipnet::Ipv4Net;

use super::{
    AuthMethod, AuthSettings, Ec2, InlinePsk, Keep, PskSource, Removal, Service, Settings, StoredKey, names,
    sources::{Item, Sourced, below, show},
    table::Draft,
    wrong,
};
use crate::{
    error::{Error, Result},
    model::Mode,
};

/// The mode that `items` set, the last one counting.
pub(super) fn mode_of(items: &[Item]) -> Result<Option<Mode>> {
    let mut draft = Draft::of_defaults()?;
    if let Some(last) = items.iter().rev().find(|item| item.name == "mode") {
        last.put(&mut draft)?;
    }
    Ok(draft.mode.map(|mode| mode.value))
}

impl Draft {
    /// Fills in the defaults that depend on other settings, and checks what is between settings. `root` is for messages.
    pub(super) fn check(self, root: &Path, inline: Option<InlinePsk>) -> Result<Settings> {
        let file = show(&below(root, "/etc/crosswan/crosswan.toml"));
        let stored = self.stored()?;
        let Some(mode) = self.mode else {
            let set = "mode = \"vpn-hub\", \"nat-hub\" or \"nat-vpn\" there, CROSSWAN_MODE or --mode";
            return Err(wrong(format!("{file}: mode: expected one in any source, found none; set {set}")));
        };
        let needs = |key: &str, example: &str| -> Error {
            let set = format!("set {example} in {file}, or {}", names::find(key).map_or("", |s| s.env));
            wrong(format!("{}: {key}: expected one for mode {}, found none; {set}", mode.place, mode.value))
        };
        let Some(private_net) = self.private_net else {
            return Err(needs("private_net", "private_net = [\"10.0.0.0/8\"]"));
        };
        if let Some(Sourced { value, place }) = &self.guard_exclude
            && let Some(net) = value.iter().find(|net| !private_net.value.iter().any(|private| private.contains(*net)))
        {
            return Err(wrong(format!(
                "{place}: guard.exclude: expected networks inside private_net ({}), found {net}, which the guard lets pass \
                 anyway",
                private_net.value.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ")
            )));
        }
        let masquerade = self.masquerade.map_or(mode.value != Mode::VpnHub, |m| m.value);
        let mut regions = self.regions.map(|r| r.value).unwrap_or_default();
        // The 2014 tool knew pre-shared keys only; a fleet that moves from it goes on with them until told otherwise.
        let by_default = if inline.is_some() { AuthMethod::Psk } else { AuthMethod::Key };
        let method = self.method.map_or(by_default, |m| m.value);
        let hub_key = self.hub_key.map(|k| k.value).unwrap_or_default();
        let mut hub = None;
        match (mode.value, &self.hub, Some(&self.hub_tag).filter(|tag| tag.is_set())) {
            (Mode::VpnHub, ..) if regions.is_empty() => {
                return Err(needs("regions", "regions = [\"us-west-2\"]"));
            }
            (Mode::VpnHub, ..) => {}
            (Mode::NatHub, ..) => regions.clear(),
            (Mode::NatVpn, Some(ip), Some(tag)) if method == AuthMethod::Psk => {
                return Err(wrong(format!(
                    "{}: hub: expected hub or hub_tag, found both (hub_tag is set in {})",
                    ip.place, tag.place
                )));
            }
            (Mode::NatVpn, Some(ip), _) => {
                // Nearly always the hub's private address in place of its Elastic IP, which no other VPC reaches.
                if let Some(net) = private_net.value.iter().find(|net| net.contains(&ip.value)) {
                    return Err(wrong(format!(
                        "{}: hub: expected the hub's Elastic IP, found {}, which lies in private_net {net}",
                        ip.place, ip.value
                    )));
                }
                hub = Some(ip.value);
                match method {
                    AuthMethod::Psk => regions.clear(),
                    AuthMethod::Key if regions.is_empty() && hub_key.is_empty() => {
                        return Err(wrong(format!(
                            "{}: hub: expected a way to its key, found none; set regions (the hub's, where its tag \
                             tells it), auth.hub_key, or auth.method = \"psk\" in {file}",
                            ip.place
                        )));
                    }
                    AuthMethod::Key => {}
                }
            }
            (Mode::NatVpn, None, _) if regions.is_empty() => {
                let example = "hub = \"198.51.100.100\" (or regions in which to find it by hub_tag)";
                return Err(needs("hub", example));
            }
            (Mode::NatVpn, None, _) => {}
        }
        Ok(Settings {
            mode: mode.value,
            private_net: private_net.value,
            hub,
            hub_tag: self.hub_tag.value,
            regions,
            gateway_tag: self.gateway_tag.value,
            environment_tag: self.environment_tag.map(|t| t.value),
            masquerade,
            nat_sources: if masquerade { self.nat_sources.value } else { BTreeSet::new() },
            guard_input: self.guard_input.value,
            guard_exclude: self.guard_exclude.map(|n| n.value).unwrap_or_default(),
            ipsec_interface: self.ipsec_interface.map(|i| i.value),
            auth: AuthSettings {
                method,
                hub_key,
                max_key_age: self.max_key_age.map(|d| d.value),
                psk: PskSource {
                    file: self.psk_file.map(|p| p.value),
                    dir: self.psk_dir.map(|p| p.value),
                    stored,
                    inline,
                },
            },
            removal: Removal {
                after_misses: self.after_misses.value,
                spacing: self.spacing.value,
                hold_above: self.hold_above.value,
                hold_floor: self.hold_floor.value,
                confirmed_after: self.confirmed_after.value,
            },
            keep: Keep { interval: self.keep_interval.value },
            ec2: Ec2 { timeout: self.ec2_timeout.value },
            sources: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Where in AWS the shared key lies, if it does. One place only: which of two counts would be anybody's guess.
    fn stored(&self) -> Result<Option<StoredKey>> {
        let places = [
            self.psk_file.as_ref().map(|p| ("auth.psk_file", &p.place)),
            self.psk_parameter.as_ref().map(|p| ("auth.psk_parameter", &p.place)),
            self.psk_secret.as_ref().map(|p| ("auth.psk_secret", &p.place)),
        ];
        let mut places = places.into_iter().flatten();
        if let (Some((first, at)), Some((second, there))) = (places.next(), places.next()) {
            return Err(wrong(format!(
                "{at}: {first}: expected one of auth.psk_file, auth.psk_parameter and auth.psk_secret, found two \
                 ({second} is set in {there})"
            )));
        }
        let (service, name) = match (&self.psk_parameter, &self.psk_secret) {
            (Some(name), _) => (Service::Parameter, name),
            (None, Some(name)) => (Service::Secret, name),
            (None, None) => return Ok(None),
        };
        let region = match (StoredKey::region_of_arn(&name.value), &self.psk_region) {
            (Some(own), Some(set)) if own != set.value => {
                let (at, there) = (&set.place, &name.place);
                return Err(wrong(format!(
                    "{at}: auth.psk_region: expected {own} of the ARN in {there}, found {}",
                    set.value
                )));
            }
            (own, set) => own.or_else(|| set.as_ref().map(|region| region.value.clone())),
        };
        Ok(Some(StoredKey { service, name: name.value.clone(), region }))
    }
}
