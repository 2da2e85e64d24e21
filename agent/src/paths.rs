//! Where crosswan's files are. They are one value, so that a test or `render --out` can have them elsewhere.

use std::path::{Path, PathBuf};

use crosswan_core::system::ManagedFile;

/// Every path that crosswan reads or writes, below one root (`/` in production).
#[derive(Debug, Clone)]
pub struct Paths {
    /// The managed file of connections, with the peers' public keys.
    pub connections: PathBuf,
    /// The managed file of pre-shared keys; mode 0600.
    pub secrets: PathBuf,
    /// The administrator's file, from which `swanctl --load-all` starts.
    pub swanctl_conf: PathBuf,
    /// This gateway's private key, in the folder where `swanctl --load-creds` looks for private keys.
    pub key: PathBuf,
    /// The next private key, during a rotation.
    pub next_key: PathBuf,
    /// The rules that were loaded last, as `iptables-restore` reads them.
    pub rules: PathBuf,
    /// The interfaces, policy rules and routes that were made last, as `ip -batch` reads them.
    pub routing: PathBuf,
    /// The members of the pair, which the last refresh found; none without a pair.
    pub pair: PathBuf,
    /// What `crosswan pair` hears of the other member, and what it thinks of that.
    pub pair_status: PathBuf,
    /// The lock that `crosswan handover` holds while it orders `crosswan pair` to hand over, with the reason as its text.
    pub handover: PathBuf,
    /// The file that says that this gateway stays whatever EC2 has told; `crosswan pair` removes it when it has taken note.
    pub stay: PathBuf,
    /// The file that says that the role does not let this gateway announce a key which it can do without.
    pub may_not_announce: PathBuf,
    /// The moves of the last minutes, for a `crosswan pair` that starts anew.
    pub pair_moves: PathBuf,
    /// What `crosswan pair` took over last.
    pub pair_taken: PathBuf,
    /// The far gateways that are followed by their own word.
    pub followed: PathBuf,
    /// The lock of that file.
    pub followed_lock: PathBuf,
    /// What is remembered between passes.
    pub state: PathBuf,
    /// A marker that exists while steps are taken. A pass that finds it at its start knows that the last one was cut off.
    pub unfinished: PathBuf,
    /// The last report, as JSON.
    pub status: PathBuf,
    /// The last pass's error, if it ended without a report.
    pub failure: PathBuf,
    /// The lock that a refresh holds for its whole pass, so that passes come one after another.
    pub lock: PathBuf,
    /// The lock on charon and the rules: `refresh` holds it alone from its look to its verification, `keep` and `watch` share it for
    /// each look. It is separate from `lock`, so that a slow EC2 never keeps `keep` from healing.
    pub charon_lock: PathBuf,
    /// The file that `keep` writes when it wants a pass.
    pub wanted: PathBuf,
    /// The marker that exists while this gateway waits for its Elastic IP.
    pub address_waits: PathBuf,
    /// The marker that exists while routes of the VPC wait for a tunnel.
    pub route_waits: PathBuf,
    /// The file in which `watch` records what it put back last.
    pub put_back: PathBuf,
    /// The file whose time of change says when a refresh last left everything in force.
    pub success: PathBuf,
    /// What tunnels have carried, as `watch` has summed it up.
    pub traffic: PathBuf,
    /// The measurements for node_exporter.
    pub metrics: PathBuf,
    /// charon's VICI socket.
    pub vici: PathBuf,
}

impl Paths {
    /// All paths below `root`.
    pub fn below(root: &Path) -> Self {
        Paths {
            connections: root.join("etc/swanctl/conf.d/crosswan.conf"),
            swanctl_conf: root.join("etc/swanctl/swanctl.conf"),
            secrets: root.join("etc/swanctl/conf.d/crosswan-secrets.conf"),
            key: root.join("etc/swanctl/private/crosswan.pem"),
            next_key: root.join("etc/swanctl/private/crosswan-next.pem"),
            rules: root.join("var/lib/crosswan/iptables.rules"),
            routing: root.join("var/lib/crosswan/routing.batch"),
            pair: root.join("var/lib/crosswan/pair.json"),
            pair_status: root.join("run/crosswan/pair.json"),
            handover: root.join("run/crosswan/handover.lock"),
            stay: root.join("run/crosswan/stay"),
            may_not_announce: root.join("run/crosswan/may-not-announce"),
            pair_moves: root.join("run/crosswan/pair-moves.json"),
            pair_taken: root.join("run/crosswan/pair-taken.json"),
            followed: root.join("run/crosswan/followed.json"),
            followed_lock: root.join("run/crosswan/followed.lock"),
            state: root.join("var/lib/crosswan/state.json"),
            unfinished: root.join("var/lib/crosswan/unfinished"),
            status: root.join("run/crosswan/status.json"),
            failure: root.join("run/crosswan/failure.json"),
            lock: root.join("run/crosswan/refresh.lock"),
            charon_lock: root.join("run/crosswan/charon.lock"),
            wanted: root.join("run/crosswan/refresh-wanted"),
            address_waits: root.join("run/crosswan/address-waits"),
            route_waits: root.join("run/crosswan/route-waits"),
            put_back: root.join("run/crosswan/put-back.json"),
            success: root.join("run/crosswan/last-success"),
            traffic: root.join("run/crosswan/traffic.json"),
            metrics: root.join("run/crosswan/crosswan.prom"),
            vici: root.join("run/charon.vici"),
        }
    }

    /// Where a managed file is.
    pub fn of(&self, file: ManagedFile) -> &Path {
        match file {
            ManagedFile::Connections => &self.connections,
            ManagedFile::Secrets => &self.secrets,
            ManagedFile::Routing => &self.routing,
            ManagedFile::Rules => &self.rules,
            ManagedFile::Pair => &self.pair,
        }
    }
}
