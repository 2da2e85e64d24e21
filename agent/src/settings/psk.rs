//! Pre-shared keys from their files or from a store in AWS. They are read once, and refused if anybody could guess or read
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use super::files::read;
use crosswan_core::{
    error::{Context, Error, Result},
    model::{Secret, VpcId, printable},
    settings::{AuthSettings, Fetched, NoPsk, StoreUnasked, StoredPsk, below, psk, show},
};

const SHARED: &str = "/etc/crosswan/psk";
const PER_PEER: &str = "/etc/crosswan/psk.d";
const CREDENTIAL: &str = "crosswan.psk";

/// Every pre-shared key this gateway may use. [`fmt::Debug`] shows none of them.
#[derive(Debug, Clone)]
pub struct PreSharedKeys {
    shared: Option<(Secret, String)>,
    peers: BTreeMap<VpcId, std::result::Result<Secret, String>>,
    /// In place of `shared`: where the key is stored in AWS, and the results of asking there in this pass.
    stored: Option<(StoredPsk, Fetched)>,
    dir: PathBuf,
    /// Files in `psk_dir` whose names are not VPC ids, one line each.
    pub warnings: Vec<String>,
    missing: Option<String>,
}

/// There is no pre-shared key at all, although nothing is wrong: an image without its secret may wait for it.
/// This is the source of the [`Error`] that [`PreSharedKeys::load`] returns in that case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPsk {
    /// The files that do not exist.
    pub looked_for: Vec<PathBuf>,
}

impl MissingPsk {
    /// Whether this is the source of `error`.
    pub fn is(error: &Error) -> bool {
        std::error::Error::source(error).is_some_and(|source| source.is::<MissingPsk>())
    }
}

impl fmt::Display for MissingPsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.looked_for.iter().map(|p| show(p)).collect();
        write!(f, "looked for {}, and found no such file; {} > FILE && chmod 600 FILE", places.join(", "), psk::REMEDY)
    }
}

impl std::error::Error for MissingPsk {}

impl PreSharedKeys {
    /// No pre-shared key at all, because of `why`, which every peer's refusal repeats.
    pub fn none(why: String) -> Self {
        Self { missing: Some(why), ..Self::in_folder(PathBuf::new()) }
    }

    fn in_folder(dir: PathBuf) -> Self {
        Self { shared: None, peers: BTreeMap::new(), stored: None, dir, warnings: Vec::new(), missing: None }
    }

    /// Why there is no key at all, if there is none.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Reads all pre-shared keys. Those of peers come from `psk_dir`. The shared one comes from `psk_file`; if that is not set, from the
    /// first of these that exists: the systemd credential `crosswan.psk` in `credentials_dir` (`$CREDENTIALS_DIRECTORY`),
    /// `/etc/crosswan/psk`, and `VPN_PSK` of a 2014 file. All paths except `credentials_dir` are below `root`. A key that is stored in
    /// AWS takes the place of the shared one, and is still to be fetched: [`PreSharedKeys::to_fetch`].
    ///
    /// # Errors
    /// The shared key is bad, or a folder cannot be read. [`MissingPsk::is`] recognises the error if there is no key at all, or none
    /// in a file that was named. A peer's bad key is that peer's refusal, see [`PreSharedKeys::for_peer`].
    pub fn load(auth: &AuthSettings, root: &Path, credentials_dir: Option<&Path>) -> Result<Self> {
        let source = &auth.psk;
        let missing = |looked_for| Error::settings("find the pre-shared key").because(MissingPsk { looked_for });
        let dir = below(root, source.dir.as_deref().unwrap_or(PER_PEER.as_ref()));
        let mut keys = Self::in_folder(dir.clone());
        if !keys.read_peers()? && source.dir.is_some() {
            return Err(missing(vec![dir]));
        }
        if let Some(stored) = &source.stored {
            keys.stored = Some((stored.clone(), Fetched::new()));
            return Ok(keys);
        }
        // systemd guards its credentials itself, by an ACL that looks group-readable for an unprivileged service.
        let candidates: Vec<(PathBuf, bool)> = match &source.file {
            Some(file) => vec![(below(root, file), true)],
            None => {
                let credential = credentials_dir.map(|dir| (dir.join(CREDENTIAL), false));
                credential.into_iter().chain([(below(root, SHARED), true)]).collect()
            }
        };
        for (path, guarded) in &candidates {
            if let Some(key) = key_file(path, *guarded).map_err(Error::settings)? {
                keys.shared = Some((key, show(path)));
                return Ok(keys);
            }
        }
        let mut looked_for: Vec<PathBuf> = candidates.into_iter().map(|(path, _)| path).collect();
        if source.file.is_some() {
            return Err(missing(looked_for));
        }
        if let Some(inline) = &source.inline {
            psk::check(inline.secret.bytes()).map_err(|e| Error::settings(format!("{}: {e}", inline.from)))?;
            keys.shared = Some((inline.secret.clone(), inline.from.clone()));
        } else if keys.peers.is_empty() {
            looked_for.push(dir.join("<VPC id>"));
            return Err(missing(looked_for));
        }
        Ok(keys)
    }

    /// The pre-shared key for the tunnel of this spoke: on the hub the peer's, on a spoke its own. A key file of its VPC overrides the
    /// shared key.
    ///
    /// # Errors
    /// The reason for a refusal, for instance because the VPC's file is bad: nothing takes its place.
    pub fn for_peer(&self, vpc: &VpcId) -> std::result::Result<Secret, String> {
        if let (None, Some((stored, fetched))) = (self.peers.get(vpc), &self.stored) {
            let name = stored.name_for(vpc);
            return match fetched.get(&name) {
                Some(Ok(key)) => Ok(key.clone()),
                Some(Err(no_key)) => Err(no_key.to_string()),
                None => Err(format!("{} {name} was not asked for", stored.service)),
            };
        }
        match (self.peers.get(vpc), &self.shared, &self.missing) {
            (Some(own), _, _) => own.clone(),
            (None, Some((shared, _)), _) => Ok(shared.clone()),
            (None, None, Some(why)) => Err(why.clone()),
            (None, None, None) => Err(format!(
                "no pre-shared key: neither {} nor a shared key exists",
                show(&self.dir.join(vpc.as_str()))
            )),
        }
    }

    /// The store in AWS, and the names there that the tunnels of these client VPCs need. `None` if no store is configured.
    pub fn to_fetch(&self, vpcs: &BTreeSet<VpcId>) -> Option<(&StoredPsk, BTreeSet<String>)> {
        let (stored, _) = self.stored.as_ref()?;
        let names = match stored.per_peer() {
            true => vpcs.iter().filter(|vpc| !self.peers.contains_key(vpc)).map(|vpc| stored.name_for(vpc)).collect(),
            false => BTreeSet::from([stored.name.clone()]),
        };
        Some((stored, names))
    }

    /// These keys with the `fetched` ones. The second value is what could not be asked, each failure once.
    ///
    /// If the store refuses the only key of this gateway, the shared one or a spoke's own (`lone`), the gateway has none:
    /// [`PreSharedKeys::missing`].
    pub fn with(&self, fetched: Fetched, lone: bool) -> (Self, Vec<StoreUnasked>) {
        let mut keys = self.clone();
        let mut unasked = Vec::new();
        let Some((stored, slot)) = &mut keys.stored else { return (keys, unasked) };
        for no_key in fetched.values().filter_map(|found| found.as_ref().err()) {
            match no_key {
                NoPsk::Unasked(why) if unasked.contains(&**why) => {}
                NoPsk::Unasked(why) => unasked.push((**why).clone()),
                NoPsk::Refused(why) if lone || !stored.per_peer() => keys.missing = Some(why.clone()),
                NoPsk::Refused(_) => {}
            }
        }
        *slot = fetched;
        (keys, unasked)
    }

    /// The shared key, and the file or variable that it came from.
    pub fn shared(&self) -> Option<(&Secret, &str)> {
        self.shared.as_ref().map(|(key, from)| (key, from.as_str()))
    }

    /// Reads the keys of peers. Returns whether there is a `psk_dir`.
    fn read_peers(&mut self) -> Result<bool> {
        let context = || Error::settings(format!("read {}", show(&self.dir)));
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            entries => entries.context(context)?,
        };
        for entry in entries {
            let entry = entry.context(context)?;
            let (path, name) = (entry.path(), entry.file_name());
            match name.to_str().map(str::parse::<VpcId>) {
                Some(Ok(vpc)) => {
                    let key = key_file(&path, true).and_then(|k| k.ok_or(format!("{}: vanished", show(&path))));
                    self.peers.insert(vpc, key);
                }
                _ if name.as_encoded_bytes().starts_with(b".") => {}
                // Without the warning, its peer would silently get the shared key.
                _ => self.warnings.push(format!(
                    "{}: not a peer's key: expected a VPC id such as vpc-0a1b2c3d as the file's name, found {}",
                    show(&self.dir),
                    printable(&name.to_string_lossy())
                )),
            }
        }
        self.warnings.sort();
        Ok(true)
    }
}

/// The key in a key file without its trailing newline, or `None` if there is no file. The error begins with the file's name.
fn key_file(path: &Path, guarded: bool) -> std::result::Result<Option<Secret>, String> {
    let bad = |problem: String| format!("{}: {problem}", show(path));
    let Some((content, meta)) = read(path).map_err(|e| bad(format!("cannot be read: {e}")))? else { return Ok(None) };
    if guarded {
        // As with OpenSSH, the owner must be root or the user of this process (which on a gateway is root).
        if meta.uid() != 0 && meta.uid() != geteuid().as_raw() {
            return Err(bad(format!(
                "expected root as its owner, found uid {}; chown root {}",
                meta.uid(),
                show(path)
            )));
        }
        if meta.mode() & 0o077 != 0 {
            let mode = meta.mode() & 0o7777;
            return Err(bad(format!("other users may use this key (mode {mode:04o}); chmod 600 {}", show(path))));
        }
    }
    psk::parse(&content).map(Some).map_err(|e| bad(e.to_string()))
}
