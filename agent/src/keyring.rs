//! This gateway's own key pairs: they are made here, and are kept nowhere but in charon's folder of private keys.
//!
//! A key belongs to the instance that made it. A key that came with an image or a moved disk is replaced, so that no two
//! gateways share a key. A rotation makes the next key beside the current one, and later renames it over that one.

use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use crate::{files, paths::Paths};
use crosswan_core::{
    decide::{Request, rotation::is_old},
    error::{Error, Kind, Result},
    model::{Identity, InstanceId, Keyring, PrivateKey, Timestamp},
    settings::Settings,
};

/// Only root may read or write a private key.
const MODE: u32 = 0o600;

/// The keys on disk; `None` if there is none.
///
/// # Errors
/// [`Kind::Observe`]: a file cannot be read, or holds something else than a key written by crosswan. It is not replaced, because charon
/// may still use what was in it.
pub fn read(paths: &Paths) -> Result<Option<Keyring>> {
    let key = |path: &Path| -> Result<Option<PrivateKey>> {
        let Some((text, mode)) = files::read(path)? else { return Ok(None) };
        let Some(key) = PrivateKey::parse(&text) else {
            let what = format!("read {}: not a private key written by crosswan", path.display());
            return Err(Error::observe(what).because("restore it, or remove it, and the next refresh makes a new key"));
        };
        Ok(Some(PrivateKey { guarded: mode == Some(MODE), ..key }))
    };
    let next = key(&paths.next_key)?;
    Ok(key(&paths.key)?.map(|current| Keyring { current, next }))
}

/// The keys of `instance`. They are made now if there are none; if `rotate` says so of the current key, the next one is made too,
/// unless it exists. Also returns a note for the report on what was made or mended.
///
/// # Errors
/// As [`read`]; or [`Kind::Apply`] if a key cannot be written.
pub fn ensure(
    paths: &Paths,
    instance: &InstanceId,
    now: Timestamp,
    rotate: impl FnOnce(&PrivateKey) -> bool,
) -> Result<(Keyring, Option<String>)> {
    let make = |path: &Path| -> Result<PrivateKey> {
        let key = generate(instance, now)?;
        files::write_atomic(path, key.text.bytes(), MODE)?;
        Ok(key)
    };
    let found = read(paths)?;
    let Some(mut ring) = found.clone().filter(|ring| ring.current.instance == *instance) else {
        files::remove(&paths.next_key)?;
        let current = make(&paths.key)?;
        let of = found.map_or(String::new(), |old| format!(", in place of the one {} had made", old.current.instance));
        let note = format!("made this gateway's key {}{of}", current.public.fingerprint());
        return Ok((Keyring { current, next: None }, Some(note)));
    };
    let mut open = None;
    for (path, key) in [&paths.key, &paths.next_key].into_iter().zip(ring.keys()).filter(|(_, key)| !key.guarded) {
        files::write_atomic(path, key.text.bytes(), MODE)?;
        let remedy = "if they may have read it, run crosswan rotate-key";
        open =
            Some(format!("{}: other users could read or change this key, and no longer can; {remedy}", path.display()));
    }
    if ring.next.is_some() || !rotate(&ring.current) {
        return Ok((ring, open));
    }
    let next = make(&paths.next_key)?;
    let note =
        format!("made the next key {}: it takes over when the peers have accepted it", next.public.fingerprint());
    ring.next = Some(next);
    Ok((ring, Some(note)))
}

/// This gateway's keys for a pass.
#[derive(Debug, Default)]
pub struct Ready {
    /// `None` where this gateway needs no key, or has none and cannot make one now.
    pub ring: Option<Keyring>,
    /// What was made or mended, or would be made without `--dry-run`; one line each for the report.
    pub notes: Vec<String>,
    /// Why no key could be made.
    pub problem: Option<String>,
}

/// The keys of this instance, if it needs any. Unless this is a dry run, they are made if there are none, and so is the next one when
/// it is time for it.
///
/// # Errors
/// As [`read`].
pub fn ready(settings: &Settings, paths: &Paths, me: &Identity, now: Timestamp, request: &Request) -> Result<Ready> {
    if !settings.has_key() {
        return Ok(Ready::default());
    }
    let rotate = |key: &PrivateKey| {
        request.rotate || settings.auth.max_key_age.is_some_and(|age| is_old(key.made, now, age, &me.instance))
    };
    let on_disk = || -> Result<_> { Ok(read(paths)?.filter(|ring| ring.current.instance == me.instance)) };
    if request.dry_run {
        let ring = on_disk()?;
        let missing = ring.is_none().then(|| "a refresh would make this gateway's key first".to_owned());
        return Ok(Ready { ring, notes: missing.into_iter().collect(), problem: None });
    }
    match ensure(paths, &me.instance, now, rotate) {
        // Nobody has asked it for a key: it works alone, as ever.
        Err(e) if !settings.needs_key() => {
            Ok(Ready { notes: vec![format!("no pair: {}", e.chain())], ..Ready::default() })
        }
        Ok((ring, note)) => Ok(Ready { ring: Some(ring), notes: note.into_iter().collect(), problem: None }),
        // A full disk must not take a tunnel down.
        Err(e) if e.kind() == Kind::Apply => {
            Ok(Ready { ring: on_disk()?, notes: Vec::new(), problem: Some(e.chain()) })
        }
        Err(e) => Err(e),
    }
}

/// Makes the next key the current one, and so deletes that. It is one rename, so there always is exactly one current key.
///
/// # Errors
/// [`Kind::Apply`]: the current key stays.
pub fn promote(paths: &Paths) -> Result<()> {
    files::rename(&paths.next_key, &paths.key)
}

/// A new key pair, from the kernel's random bytes.
fn generate(instance: &InstanceId, made: Timestamp) -> Result<PrivateKey> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| Error::apply("make a key: the kernel returns no random bytes"))?;
    PrivateKey::from_seed(&seed, instance, made).ok_or_else(|| Error::apply("make a key: it does not read back"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    fn id(n: u32) -> InstanceId {
        format!("i-{n:08x}").parse().unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_followed_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        assert_eq!(read(&paths).unwrap(), None);
        let (first, note) = ensure(&paths, &id(1), Timestamp(5), |_| false).unwrap();
        assert!(note.unwrap().contains(&first.current.public.fingerprint()));
        let mode = std::fs::metadata(&paths.key).unwrap().permissions().mode();
        assert_eq!((mode & 0o7777, first.current.made), (0o600, Timestamp(5)));
        assert_eq!(ensure(&paths, &id(1), Timestamp(6), |_| false).unwrap(), (first.clone(), None));

        let (both, note) = ensure(&paths, &id(1), Timestamp(7), |key| key.made == Timestamp(5)).unwrap();
        let next = both.next.clone().unwrap();
        assert!(both.current == first.current && next != first.current && note.is_some());
        assert_eq!(ensure(&paths, &id(1), Timestamp(8), |_| true).unwrap(), (both, None), "one rotation at a time");
        promote(&paths).unwrap();
        assert_eq!(read(&paths).unwrap(), Some(Keyring { current: next, next: None }));
    }

    #[test]
    fn no_instance_uses_the_key_of_another() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let (old, _) = ensure(&paths, &id(1), Timestamp(5), |_| false).unwrap();
        ensure(&paths, &id(1), Timestamp(5), |_| true).unwrap();
        let (new, note) = ensure(&paths, &id(2), Timestamp(6), |_| false).unwrap();
        assert!(new.current.public != old.current.public && new.next.is_none());
        assert!(note.unwrap().ends_with("in place of the one i-00000001 had made"));
        assert_eq!(read(&paths).unwrap(), Some(new));
    }

    #[test]
    fn a_key_that_others_could_read_is_reported_and_closed() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let (ring, _) = ensure(&paths, &id(1), Timestamp(5), |_| false).unwrap();
        files::write_atomic(&paths.key, ring.current.text.bytes(), 0o644).unwrap();
        let (_, note) = ensure(&paths, &id(1), Timestamp(6), |_| false).unwrap();
        assert!(note.unwrap().contains("crosswan.pem: other users could read"));
        assert_eq!(ensure(&paths, &id(1), Timestamp(7), |_| false).unwrap(), (ring, None));
    }

    #[test]
    fn a_file_that_is_not_a_key_of_crosswan_stays_and_is_reported() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        for garbage in
            ["", "-----BEGIN PRIVATE KEY-----\n", "# The private key of i-1, made by crosswan at 5. It\nx\ny\nz"]
        {
            files::write_atomic(&paths.key, garbage.as_bytes(), 0o600).unwrap();
            let error = ensure(&paths, &id(1), Timestamp(5), |_| false).unwrap_err().chain();
            assert!(error.contains("crosswan.pem: not a private key written by crosswan: restore it"), "{error}");
        }
    }
}
