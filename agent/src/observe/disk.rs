//! The disk: the managed files as they are, and the state of the last good pass.

use std::collections::BTreeSet;

use crate::{files, followed, keyring, paths::Paths};
use crosswan_core::{
    error::Result,
    model::{PrivateKey, Timestamp, plain},
    pair::PairStatus,
    state::State,
    swanctl::{peer_keys, place},
    system::{Configuration, Files, ManagedFile, System, Touched},
};

/// The managed files, their permissions, and what should be loaded according to them. charon and iptables are not asked here.
///
/// # Errors
/// A file exists and cannot be read.
pub fn system(paths: &Paths) -> Result<System> {
    let mut wrong_mode = BTreeSet::new();
    let mut text = |file: ManagedFile| -> Result<Option<String>> {
        Ok(files::read(paths.of(file))?.map(|(text, mode)| {
            if mode != Some(file.mode()) {
                wrong_mode.insert(file);
            }
            text
        }))
    };
    let files = Files {
        connections: text(ManagedFile::Connections)?,
        secrets: text(ManagedFile::Secrets)?,
        routing: text(ManagedFile::Routing)?,
        rules: text(ManagedFile::Rules)?,
        pair: text(ManagedFile::Pair)?,
    };
    let target = Configuration::of(files.clone());
    let connections = || target.iter().flat_map(|target| &target.connections);
    let places = connections().filter_map(|(name, conn)| Some((name.clone(), place(conn)?))).collect();
    let peer_keys = connections().map(|(name, conn)| (name.clone(), peer_keys(conn)));
    let peer_keys = peer_keys.filter(|(_, keys)| !keys.is_empty()).collect();
    let unfinished = files::read(&paths.unfinished)?.map(|(marker, _)| Touched::parse(&marker));
    let cut_off = |what: &str| {
        Some(format!("the last refresh was cut off, or something was left undone: {what} is loaded again"))
    };
    let (believed, doubt) = match target {
        Ok(target) => match unfinished {
            None => (target, None),
            Some(Some(touched)) => (touched.still_believed(target), cut_off("what it was loading")),
            Some(None) => (Configuration::default(), cut_off("all of it")),
        },
        Err(e) => (Configuration::default(), Some(format!("{}: was it edited by hand? It is written anew", e.chain()))),
    };
    let keys: Vec<PrivateKey> = keyring::read(paths)?.iter().flat_map(|ring| ring.keys().cloned()).collect();
    let believed = Configuration { keys: keys.clone(), ..believed };
    let followed = followed::read(paths);
    Ok(System { files, wrong_mode, believed, doubt, places, peer_keys, keys, followed, ..System::default() })
}

/// What `crosswan pair` hears of the other member, if it has just been written. What cannot be read says no more than what is not there.
pub fn heard(paths: &Paths, now: Timestamp) -> Option<PairStatus> {
    files::read_json(&paths.pair_status).ok().flatten().filter(|heard: &PairStatus| heard.is_fresh(now))
}

/// The state of the last good pass. If it cannot be used, an empty one with a note for the report: a pass works without it.
pub fn state(paths: &Paths) -> (State, Option<String>) {
    match files::read(&paths.state) {
        Ok(None) => (State::default(), None),
        Ok(Some((text, _))) => match serde_json::from_str(&text) {
            Ok(state) => (state, None),
            Err(e) => {
                // serde's message quotes what it found, however long that is.
                let why: String = plain(&e.to_string()).chars().take(200).collect();
                (
                    State::default(),
                    Some(format!("{} cannot be used, so this pass starts without it: {why}", paths.state.display())),
                )
            }
        },
        Err(e) => (State::default(), Some(e.chain())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_a_state_is_reported_in_plain_text() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        assert_eq!(state(&paths), (State::default(), None));
        let found = format!("\"\u{202e}\u{44f}\\u001b{}\"", "long".repeat(1000));
        files::write_atomic(&paths.state, found.as_bytes(), 0o600).unwrap();
        let (fresh, warning) = state(&paths);
        let warning = warning.unwrap();
        assert_eq!(fresh, State::default());
        assert!(
            warning.contains("cannot be used, so this pass starts without it: ")
                && warning.contains(r"\u{202e}\u{44f}"),
            "{warning}"
        );
        assert!(warning.len() < 600 && warning.bytes().all(|b| (b' '..=b'~').contains(&b)), "{warning}");
    }
}
