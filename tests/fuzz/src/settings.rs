//! Settings: TOML, environment and key file; and the 2014 tool's files. As the files they are, through the real reader.

use std::{collections::BTreeMap, path::Path};

use crosswan::settings::{self, PreSharedKeys};
use crosswan_core::{model::Mode, settings::Flags, state::State};

use crate::{fake, oracle};

/// `crosswan.toml`, a file of `conf.d`, the environment (`NAME=value` a line) and the shared key's file.
pub fn toml(data: &[u8]) {
    let [main, more, environment, key] = fake::parts(data);
    fake::put("etc/crosswan/crosswan.toml", Some(main));
    fake::put("etc/crosswan/conf.d/10-more.toml", Some(more).filter(|m| !m.is_empty()));
    fake::put("etc/crosswan/psk", Some(key).filter(|k| !k.is_empty()));
    let environment = String::from_utf8_lossy(environment);
    load(environment.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect());
}

/// `/etc/default/MODE`, the mode chosen by the first byte; with one more bit the mode is also set elsewhere.
pub fn legacy(data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let mode = Mode::ALL[usize::from(*first) % 3];
    for other in Mode::ALL {
        fake::put(&format!("etc/default/{other}"), Some(text).filter(|_| other == mode));
    }
    let set = (*first & 4 != 0).then(|| ("CROSSWAN_MODE".to_owned(), mode.to_string()));
    load(set.into_iter().collect());
}

fn load(environment: BTreeMap<String, String>) {
    let settings = match settings::load(fake::root(), &environment, &Flags::default()) {
        Ok(settings) => settings,
        Err(e) => return oracle::error(&e),
    };
    settings.warnings.iter().for_each(oracle::line);
    assert!(!settings.private_net.is_empty() && settings.private_net.iter().all(|n| *n == n.trunc()));
    let keys = match PreSharedKeys::load(&settings.auth, fake::root(), None::<&Path>) {
        Ok(keys) => keys,
        Err(e) => {
            oracle::error(&e);
            PreSharedKeys::none("none".into())
        }
    };
    keys.warnings.iter().for_each(oracle::line);
    let key = keys.shared().map_or(&b"any key will do here"[..], |(key, _)| key.bytes());
    oracle::pass(&settings, &fake::me(), &fake::answers(), &State::default(), key);
}
