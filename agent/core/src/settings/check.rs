//! Checks the settings against the mode and against each other.

use std::{collections::BTreeSet, net::Ipv4Addr, path::Path};

use ipnet::Ipv4Net;

use super::{
    accounts, hubs,
    item::Item,
    names, parse, segments,
    sources::{below, show},
    stored::{Service, StoredPsk},
    table::{self, Draft},
    values::{AuthMethod, AuthSettings, Ec2, InlinePsk, Keep, Pairing, PskSource, Removal, Settings, WantedAddress},
};
use crate::{
    error::{Error, Result},
    model::Mode,
};

/// The mode that `items` set; the last one counts.
pub(super) fn mode_of(items: &[Item]) -> Result<Option<Mode>> {
    let last = items.iter().rev().find(|item| item.name == "mode");
    last.map(|item| item.read(table::MODES, parse::word)).transpose()
}

impl Draft {
    /// Fills in the defaults that depend on other settings, and checks settings against each other. `root` is for messages.
    pub(super) fn check(self, root: &Path, inline: Option<InlinePsk>) -> Result<Settings> {
        let file = show(&below(root, "/etc/crosswan/crosswan.toml"));
        let stored = self.stored()?;
        let address = self.address()?;
        let at = |name: &str| self.origins.get(name).map_or("", String::as_str);
        let Some(mode) = self.mode else {
            let set = "mode = \"vpn-hub\", \"nat-hub\" or \"nat-vpn\" there, CROSSWAN_MODE or --mode";
            return Err(Error::settings(format!("{file}: mode: expected one in any source, found none; set {set}")));
        };
        let needs = |name: &str, example: &str| -> Error {
            let set = format!("set {example} in {file}, or {}", names::find(name).map_or("", |s| s.env));
            Error::settings(format!("{}: {name}: expected one for mode {mode}, found none; {set}", at("mode")))
        };
        let Some(private_net) = self.private_net else {
            return Err(needs("private_net", "private_net = [\"10.0.0.0/8\"]"));
        };
        if let Some(net) =
            self.guard_exclude.iter().find(|net| !private_net.iter().any(|private| private.contains(*net)))
        {
            return Err(Error::settings(format!(
                "{}: guard.exclude: expected networks inside private_net ({}), found {net}, which the guard lets pass anyway",
                at("guard.exclude"),
                private_net.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ")
            )));
        }
        let masquerade = self.masquerade.unwrap_or(mode != Mode::VpnHub);
        let mut regions = self.regions.unwrap_or_default();
        let listed = self.accounts.filter(|_| mode.has_ipsec()).unwrap_or_default();
        let mut accounts = accounts::checked(listed, &regions, &private_net).map_err(|found| {
            Error::settings(format!(
                "{}: accounts: expected each account once, with regions, found {found}",
                at("accounts")
            ))
        })?;
        let wrong = |found: String| {
            Error::settings(format!("{}: segments: expected names with a realm each, found {found}", at("segments")))
        };
        let segments = self.segments.filter(|_| mode == Mode::VpnHub);
        let segments = segments.map(|reach| segments::checked(reach, self.segment_tag)).transpose().map_err(wrong)?;
        if !self.own_account {
            regions.clear();
        }
        let asks_nobody = regions.is_empty() && (self.own_account || accounts.is_empty());
        // The 2014 tool only had pre-shared keys. A fleet that moves from it keeps them until settings say otherwise.
        let by_default = if inline.is_some() { AuthMethod::Psk } else { AuthMethod::Key };
        let method = self.method.unwrap_or(by_default);
        // All gateways may share one file, and a hub must not demand its own key of its clients.
        let hub_key = self.hub_key.filter(|_| mode == Mode::NatVpn).unwrap_or_default();
        let hub = self.hub.filter(|_| mode == Mode::NatVpn).unwrap_or_default();
        hubs::checked(&hub, &hub_key)
            .map_err(|why| Error::settings(format!("{}: auth.hub_key: expected {why}", at("auth.hub_key"))))?;
        let no_hub = |why: String| Error::settings(format!("{}: hub: expected {why}", at("hub")));
        match (mode, &hub[..]) {
            (Mode::VpnHub, _) if asks_nobody => {
                return Err(needs("regions", "regions = [\"us-west-2\"]"));
            }
            (Mode::VpnHub, _) => {}
            (Mode::NatHub, _) => (regions, accounts) = Default::default(),
            (Mode::NatVpn, [_, ..]) if method == AuthMethod::Psk && self.origins.contains_key("hub_tag") => {
                return Err(no_hub(format!("hub or hub_tag, found both (hub_tag is set in {})", at("hub_tag"))));
            }
            (Mode::NatVpn, [_, ..]) => {
                // Nearly always the hub's private address, which no other VPC can reach, instead of its Elastic IP.
                let inside = |ip: &Ipv4Addr| Some((*ip, private_net.iter().find(|net| net.contains(ip))?));
                if let Some((ip, net)) = hub.iter().find_map(inside) {
                    return Err(no_hub(format!("the hub's Elastic IP, found {ip}, which lies in private_net {net}")));
                }
                match method {
                    AuthMethod::Psk => (regions, accounts) = Default::default(),
                    AuthMethod::Key if asks_nobody && hub_key.is_unnamed() => {
                        return Err(no_hub(format!(
                            "a way to find its key, found none; set regions (those in which to look up the hub's tag), \
                             auth.hub_key, or auth.method = \"psk\" in {file}"
                        )));
                    }
                    AuthMethod::Key => {}
                }
            }
            (Mode::NatVpn, []) if asks_nobody => {
                let example = "hub = \"198.51.100.100\" (or regions in which to find it by hub_tag)";
                return Err(needs("hub", example));
            }
            (Mode::NatVpn, []) => {}
        }
        let asked = self.pair_enabled && self.origins.contains_key("pair.enabled");
        let unsigned = asked && method == AuthMethod::Psk;
        let warnings = unsigned.then(|| {
            format!(
                "{}: pair.enabled: no pair is made, as beats are signed with keys and auth.method is \"psk\"",
                at("pair.enabled")
            )
        });
        // The table's bounds are those of a port.
        let pair_port = u16::try_from(self.pair_port).unwrap_or(u16::MAX);
        Ok(Settings {
            mode,
            private_net,
            hub,
            hub_tag: self.hub_tag,
            regions,
            accounts,
            gateway_tag: self.gateway_tag,
            segments,
            environment_tag: self.environment_tag,
            routes_tag: self.routes_tag,
            routes_overrule: self.routes_overrule,
            address,
            masquerade,
            nat_sources: if masquerade { self.nat_sources } else { BTreeSet::new() },
            guard_input: self.guard_input,
            guard_exclude: self.guard_exclude,
            auth: AuthSettings {
                method,
                hub_key,
                max_key_age: self.max_key_age,
                psk: PskSource { file: self.psk_file, dir: self.psk_dir, stored, inline },
            },
            removal: Removal {
                after_misses: self.after_misses,
                spacing: self.spacing,
                hold_above: self.hold_above,
                hold_floor: self.hold_floor,
                confirmed_after: self.confirmed_after,
            },
            keep: Keep { interval: self.keep_interval },
            far_port: (method == AuthMethod::Key
                && (mode == Mode::VpnHub || self.pair_enabled && mode == Mode::NatVpn))
                .then_some(pair_port),
            pair: (self.pair_enabled && method == AuthMethod::Key).then_some(Pairing {
                asked,
                port: pair_port,
                interval: self.pair_interval,
                misses: self.pair_misses,
                newcomer_replaces: self.pair_newcomer_replaces,
            }),
            ec2: Ec2 { timeout: self.ec2_timeout },
            warnings: warnings.into_iter().collect(),
        })
    }

    /// The Elastic IP to take, if settings name one. Two are an error, as it would not be clear which one counts.
    fn address(&self) -> Result<Option<WantedAddress>> {
        match (&self.address_allocation, &self.address_tag) {
            (Some(_), Some(_)) => Err(Error::settings(format!(
                "{}: address.tag: expected address.allocation or address.tag, found both (address.allocation is set in {})",
                self.origins["address.tag"], self.origins["address.allocation"]
            ))),
            (Some(id), None) => Ok(Some(WantedAddress::Allocation(id.clone()))),
            (None, tag) => Ok(tag.clone().map(WantedAddress::Tagged)),
        }
    }

    /// The pre-shared key that is in AWS, if settings name one. Two names are an error, as it would not be clear which one counts.
    fn stored(&self) -> Result<Option<StoredPsk>> {
        let mut named = ["auth.psk_file", "auth.psk_parameter", "auth.psk_secret"]
            .into_iter()
            .filter_map(|name| self.origins.get_key_value(name));
        if let (Some((first, at)), Some((second, there))) = (named.next(), named.next()) {
            return Err(Error::settings(format!(
                "{at}: {first}: expected one of auth.psk_file, auth.psk_parameter and auth.psk_secret, found two \
                 ({second} is set in {there})"
            )));
        }
        let (service, setting, name) = match (&self.psk_parameter, &self.psk_secret) {
            (Some(name), _) => (Service::Parameter, "auth.psk_parameter", name),
            (None, Some(name)) => (Service::Secret, "auth.psk_secret", name),
            (None, None) => return Ok(None),
        };
        let region = match (StoredPsk::region_of_arn(name), &self.psk_region) {
            (Some(own), Some(set)) if own != *set => {
                let (at, there) = (&self.origins["auth.psk_region"], &self.origins[setting]);
                return Err(Error::settings(format!(
                    "{at}: auth.psk_region: expected {own} of the ARN in {there}, found {set}"
                )));
            }
            (own, set) => own.or_else(|| set.clone()),
        };
        Ok(Some(StoredPsk { service, name: name.clone(), region }))
    }
}
