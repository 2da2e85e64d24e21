//! Settings over real files below a temporary root: tables of what is accepted and of each error's exact line.

#![allow(clippy::disallowed_methods, reason = "settings come from real files")]

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use super::{AuthMethod, AuthSettings, Flags, PskSource, Settings};
use crate::error::Kind;

mod accepted;
mod keys;
mod legacy;
mod properties;
mod refused;

/// The files of one machine, each `(path, content)`.
struct Host(TempDir);

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let host = Host(TempDir::new().unwrap());
        for (path, content) in files {
            host.write(path, content.as_bytes(), 0o600);
        }
        host
    }
    fn root(&self) -> &Path {
        self.0.path()
    }
    fn write(&self, path: &str, content: &[u8], mode: u32) {
        let path = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    /// The settings, or the error's whole chain, which must be one line, without the temporary root.
    fn load(&self, env: &[(&str, &str)], flags: &Flags) -> Result<Settings, String> {
        let env: BTreeMap<String, String> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Settings::load(self.root(), &env, flags).map_err(|e| {
            assert_eq!(e.kind(), Kind::Settings);
            self.line(&e.chain())
        })
    }
    fn line(&self, text: &str) -> String {
        assert!(!text.contains('\n') && !text.contains('\r'), "{text:?} is more than one line");
        text.replace(self.root().to_str().unwrap(), "")
    }
}

/// Pre-shared keys from `psk`, and nothing else said of authentication.
fn auth(method: AuthMethod, psk: PskSource) -> AuthSettings {
    AuthSettings { method, hub_key: Vec::new(), max_key_age: None, psk }
}

const TOML: &str = "/etc/crosswan/crosswan.toml";
/// All that nat-hub needs.
const NAT_HUB: &str = "mode = \"nat-hub\"\nprivate_net = [\"10.0.0.0/8\"]\n";

/// nat-hub with `more` from line 3 on.
fn with(more: &str) -> Result<Settings, String> {
    Host::new(&[(TOML, &format!("{NAT_HUB}{more}\n"))]).load(&[], &Flags::default())
}

fn only(toml: &str) -> Result<Settings, String> {
    Host::new(&[(TOML, toml)]).load(&[], &Flags::default())
}
