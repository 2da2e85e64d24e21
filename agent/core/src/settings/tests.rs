//! Tables of what is accepted, and of each error's exact line.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    result::Result,
    time::Duration,
};

use ipnet::Ipv4Net;

use super::*;
use crate::{
    error::Kind,
    model::{Opening, PublicKey, Region, Secret, SegmentName},
};

mod accepted;
mod legacy;
mod properties;
mod refused;

/// The settings files of one machine, each `(path, content)`.
struct Host<'a>(&'a [(&'a str, &'a str)]);

impl Host<'_> {
    /// The settings, or the error's whole chain, which must be one line.
    fn load(&self, env: &[(&str, &str)], flags: &Flags) -> Result<Settings, String> {
        let env: BTreeMap<String, String> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut toml: Vec<_> = self.0.iter().filter(|(path, _)| path.starts_with("/etc/crosswan/")).collect();
        toml.sort_by_key(|(path, _)| (*path != TOML, *path));
        let toml = toml.into_iter().map(|(path, text)| TomlFile { path: path.into(), text: (*text).into() }).collect();
        let legacy = |mode| {
            let file = self.0.iter().find(|(path, _)| *path == format!("/etc/default/{mode}"));
            Ok(file.map(|(path, text)| LegacyFile { path: path.into(), text: (*text).into(), open: false }))
        };
        Settings::of(&Sources { root: Path::new("/"), toml, env: &env, flags }, legacy).map_err(|e| {
            assert_eq!(e.kind(), Kind::Settings);
            let line = e.chain();
            assert!(!line.contains(['\n', '\r']), "{line:?} is more than one line");
            line
        })
    }
}

/// Pre-shared keys from `psk`, and nothing else said of authentication.
fn auth(method: AuthMethod, psk: PskSource) -> AuthSettings {
    AuthSettings { method, hub_key: HubKeys::Unnamed, max_key_age: None, psk }
}

const TOML: &str = "/etc/crosswan/crosswan.toml";
/// All that nat-hub needs.
const NAT_HUB: &str = "mode = \"nat-hub\"\nprivate_net = [\"10.0.0.0/8\"]\n";

/// nat-hub with `more` from line 3 on.
fn with(more: &str) -> Result<Settings, String> {
    Host(&[(TOML, &format!("{NAT_HUB}{more}\n"))]).load(&[], &Flags::default())
}

fn only(toml: &str) -> Result<Settings, String> {
    Host(&[(TOML, toml)]).load(&[], &Flags::default())
}
