//! Where things are. One value, so that a test or `render --out` can have it elsewhere.

use std::path::{Path, PathBuf};

use crosswan_core::system::ManagedFile;

/// Every path of crosswan's own, below one root (`/` in production).
#[derive(Debug, Clone)]
pub struct Paths {
    pub connections: PathBuf,
    pub secrets: PathBuf,
    /// The administrator's file, from which `swanctl --load-all` starts.
    pub swanctl_conf: PathBuf,
    /// This gateway's private key, in the folder where `swanctl --load-creds` looks for such.
    pub key: PathBuf,
    /// The one that is to follow it, during a rotation.
    pub next_key: PathBuf,
    pub rules: PathBuf,
    pub state: PathBuf,
    /// Exists while an apply is under way: found at the start of a pass, it says the last one was cut off.
    pub unfinished: PathBuf,
    pub status: PathBuf,
    /// The last pass's error, if it came to no report.
    pub failure: PathBuf,
    /// Held by a refresh for its whole pass: passes come one after another.
    pub lock: PathBuf,
    /// Held by whoever is about to change what charon does: `refresh` from its look to its verification, `keep` for
    /// each look. Apart from `lock`, so that a slow EC2 never keeps `keep` from healing.
    pub charon_lock: PathBuf,
    /// Written by `keep` when it wants a pass.
    pub wanted: PathBuf,
    /// Written by `watch`: what it put back last.
    pub put_back: PathBuf,
    pub vici: PathBuf,
}

impl Paths {
    pub fn below(root: &Path) -> Self {
        Paths {
            connections: root.join("etc/swanctl/conf.d/crosswan.conf"),
            swanctl_conf: root.join("etc/swanctl/swanctl.conf"),
            secrets: root.join("etc/swanctl/conf.d/crosswan-secrets.conf"),
            key: root.join("etc/swanctl/private/crosswan.pem"),
            next_key: root.join("etc/swanctl/private/crosswan-next.pem"),
            rules: root.join("var/lib/crosswan/iptables.rules"),
            state: root.join("var/lib/crosswan/state.json"),
            unfinished: root.join("var/lib/crosswan/unfinished"),
            status: root.join("run/crosswan/status.json"),
            failure: root.join("run/crosswan/failure.json"),
            lock: root.join("run/crosswan/refresh.lock"),
            charon_lock: root.join("run/crosswan/charon.lock"),
            wanted: root.join("run/crosswan/refresh-wanted"),
            put_back: root.join("run/crosswan/put-back.json"),
            vici: root.join("run/charon.vici"),
        }
    }

    /// Where a managed file is.
    pub fn of(&self, file: ManagedFile) -> &Path {
        match file {
            ManagedFile::Connections => &self.connections,
            ManagedFile::Secrets => &self.secrets,
            ManagedFile::Rules => &self.rules,
        }
    }
}
