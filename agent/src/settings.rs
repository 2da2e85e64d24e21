//! Settings: reads every source below a root for [`Settings::of`], which checks them together, and reads the pre-shared keys.

mod files;
mod psk;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::ErrorKind,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

pub use psk::{MissingPsk, PreSharedKeys};

use crosswan_core::{
    error::{Context, Error, Result},
    settings::{Flags, LegacyFile, Settings, Sources, TomlFile, below, show},
};

/// Reads every source below `root` (`/` in production) and checks them together, as [`Settings::of`] says. `env` is the whole
/// environment.
///
/// # Errors
/// Of kind `Settings`: a file cannot be read, or a setting is wrong, unknown or missing.
pub fn load(root: &Path, env: &BTreeMap<String, String>, flags: &Flags) -> Result<Settings> {
    let mut toml = Vec::new();
    for path in toml_files(root)? {
        toml.extend(files::read_text(&path)?.map(|(text, _)| TomlFile { path, text }));
    }
    Settings::of(&Sources { root, toml, env, flags }, |mode| {
        let path = below(root, format!("/etc/default/{mode}"));
        let file = files::read_text(&path)?;
        Ok(file.map(|(text, meta)| LegacyFile { path, text, open: meta.mode() & 0o077 != 0 }))
    })
}

/// The TOML files below `root`, each of which overrides the ones before: `crosswan.toml`, then `conf.d/*.toml` by name.
/// The first one need not exist. As in a shell, `*` does not match a leading dot.
fn toml_files(root: &Path) -> Result<Vec<PathBuf>> {
    let dir = below(root, "/etc/crosswan/conf.d");
    let context = || Error::settings(format!("read {}", show(&dir)));
    let mut found = Vec::new();
    match fs::read_dir(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        entries => {
            for entry in entries.context(context)? {
                let path = entry.context(context)?.path();
                let hidden = path.file_name().is_some_and(|n| n.as_bytes().starts_with(b"."));
                if path.extension() == Some(OsStr::new("toml")) && !hidden {
                    found.push(path);
                }
            }
        }
    }
    found.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    found.insert(0, below(root, "/etc/crosswan/crosswan.toml"));
    Ok(found)
}
