//! Items of all sources into one value per key, and those into [`Settings`] that fit the mode.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::Ipv4Net;

use super::{
    AuthMethod, AuthSettings, Ec2, InlinePsk, Keep, PskSource, Removal, Service, Settings, StoredKey, Tag, parse,
    sources::{Item, Sourced, below, show},
    stored, table, wrong,
};
use crate::{
    error::{Error, Result},
    model::{Interface, Mode, Opening, PublicKey, Region},
};

/// The strongest value of each key so far.
#[derive(Debug, Default)]
pub(super) struct Merged {
    mode: Option<Sourced<Mode>>,
    private_net: Option<Sourced<BTreeSet<Ipv4Net>>>,
    hub: Option<Sourced<Ipv4Addr>>,
    hub_tag: Option<Sourced<Tag>>,
    regions: Option<Sourced<BTreeSet<Region>>>,
    gateway_tag: Option<Sourced<Tag>>,
    environment_tag: Option<Sourced<Tag>>,
    masquerade: Option<Sourced<bool>>,
    nat_sources: Option<Sourced<BTreeSet<Ipv4Net>>>,
    guard_input: Option<Sourced<BTreeSet<Opening>>>,
    guard_exclude: Option<Sourced<BTreeSet<Ipv4Net>>>,
    ipsec_interface: Option<Sourced<Interface>>,
    method: Option<Sourced<AuthMethod>>,
    hub_key: Option<Sourced<Vec<PublicKey>>>,
    max_key_age: Option<Sourced<Duration>>,
    psk_file: Option<Sourced<PathBuf>>,
    psk_dir: Option<Sourced<PathBuf>>,
    psk_parameter: Option<Sourced<String>>,
    psk_secret: Option<Sourced<String>>,
    psk_region: Option<Sourced<Region>>,
    after_misses: Option<Sourced<u32>>,
    spacing: Option<Sourced<Duration>>,
    hold_above: Option<Sourced<u8>>,
    hold_floor: Option<Sourced<u32>>,
    confirmed_after: Option<Sourced<u32>>,
    keep_interval: Option<Sourced<Duration>>,
    ec2_timeout: Option<Sourced<Duration>>,
}

/// The mode that `items` set, the last one counting.
pub(super) fn mode_of(items: &[Item]) -> Result<Option<Mode>> {
    let last = items.iter().rev().find(|item| item.name == "mode");
    last.map(|item| Ok(item.read(parse::word)?.value)).transpose()
}

impl Merged {
    /// Takes an item of a source at least as strong as those before.
    pub fn set(&mut self, item: &Item) -> Result<()> {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        match item.name.as_str() {
            "mode" => self.mode = Some(item.read(parse::word)?),
            "private_net" => self.private_net = Some(item.read(parse::networks)?),
            "hub" => self.hub = Some(item.read(parse::unicast)?),
            "hub_tag" => self.hub_tag = Some(item.read(parse::tag)?),
            "regions" => self.regions = Some(item.read(parse::set)?),
            "gateway_tag" => self.gateway_tag = Some(item.read(parse::tag)?),
            "environment_tag" => self.environment_tag = Some(item.read(parse::tag)?),
            "masquerade" => self.masquerade = Some(item.read(parse::boolean)?),
            "nat.sources" => self.nat_sources = Some(item.read(parse::any_networks)?),
            "guard.input" => self.guard_input = Some(item.read(parse::set)?),
            "guard.exclude" => self.guard_exclude = Some(item.read(parse::any_networks)?),
            "ipsec_interface" => self.ipsec_interface = Some(item.read(parse::word)?),
            "auth.method" => self.method = Some(item.read(parse::word)?),
            "auth.hub_key" => self.hub_key = Some(item.read(parse::hub_key)?),
            "auth.max_key_age" => {
                let age = item.read(|raw| parse::duration_from(raw, minutes(24 * 60), minutes(10 * 366 * 24 * 60)))?;
                self.max_key_age = Some(age);
            }
            "auth.psk_file" => self.psk_file = Some(item.read(parse::path)?),
            "auth.psk_dir" => self.psk_dir = Some(item.read(parse::path)?),
            "auth.psk_parameter" => self.psk_parameter = Some(item.read(stored::parameter)?),
            "auth.psk_secret" => self.psk_secret = Some(item.read(stored::secret)?),
            "auth.psk_region" => self.psk_region = Some(item.read(parse::word)?),
            "removal.after_misses" => self.after_misses = Some(item.read(|raw| parse::count(raw, 1..=1000))?),
            "removal.spacing" => {
                let spacing = item.read(|raw| parse::duration_from(raw, Duration::ZERO, minutes(24 * 60)))?;
                self.spacing = Some(spacing);
            }
            "removal.hold_above" => self.hold_above = Some(item.read(parse::percent)?),
            "removal.hold_floor" => self.hold_floor = Some(item.read(|raw| parse::count(raw, 0..=100))?),
            "removal.confirmed_after" => self.confirmed_after = Some(item.read(|raw| parse::count(raw, 1..=1000))?),
            "keep.interval" => self.keep_interval = Some(item.read(|raw| parse::duration(raw, minutes(1)))?),
            "ec2.timeout" => self.ec2_timeout = Some(item.read(|raw| parse::duration(raw, minutes(10)))?),
            _ => return Err(item.unknown()),
        }
        Ok(())
    }

    /// Fills in the defaults, and holds the keys against the mode and each other. `root` is for messages.
    pub fn check(self, root: &Path, inline: Option<InlinePsk>) -> Result<Settings> {
        let file = show(&below(root, "/etc/crosswan/crosswan.toml"));
        let stored = self.stored()?;
        let Some(mode) = self.mode else {
            let set = "mode = \"vpn-hub\", \"nat-hub\" or \"nat-vpn\" there, CROSSWAN_MODE or --mode";
            return Err(wrong(format!("{file}: mode: expected one in any source, found none; set {set}")));
        };
        let needs = |key: &str, example: &str| -> Error {
            let set = format!("set {example} in {file}, or {}", table::env_of(key));
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
        match (mode.value, &self.hub, &self.hub_tag) {
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
        let service = |value: &str| Tag { key: "service".into(), value: value.into() };
        Ok(Settings {
            mode: mode.value,
            private_net: private_net.value,
            hub,
            hub_tag: self.hub_tag.map_or_else(|| service("vpn-hub"), |t| t.value),
            regions,
            gateway_tag: self.gateway_tag.map_or_else(|| service("nat"), |t| t.value),
            environment_tag: self.environment_tag.map(|t| t.value),
            masquerade,
            nat_sources: self.nat_sources.map(|n| n.value).filter(|_| masquerade).unwrap_or_default(),
            guard_input: self.guard_input.map(|i| i.value).unwrap_or_default(),
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
                after_misses: self.after_misses.map_or(2, |n| n.value),
                spacing: self.spacing.map_or(Duration::from_secs(600), |d| d.value),
                hold_above: self.hold_above.map_or(50, |p| p.value),
                hold_floor: self.hold_floor.map_or(2, |n| n.value),
                confirmed_after: self.confirmed_after.map_or(24, |n| n.value),
            },
            keep: Keep { interval: self.keep_interval.map_or(Duration::from_secs(15), |d| d.value) },
            ec2: Ec2 { timeout: self.ec2_timeout.map_or(Duration::from_secs(60), |d| d.value) },
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
