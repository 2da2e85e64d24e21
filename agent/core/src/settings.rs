//! Settings: the texts of files, environment and flags into one checked value. Pure: the agent reads the files.
//!
//! Sources, weakest first: the 2014 tool's `/etc/default/{vpn-hub,nat-hub,nat-vpn}`, `/etc/crosswan/crosswan.toml`,
//! `/etc/crosswan/conf.d/*.toml` in byte order, `CROSSWAN_*` of the environment, flags. Each becomes items, the items fill a
//! draft by the rows of [`SETTINGS`], and the draft becomes [`Settings`]; nothing downstream checks a setting again. A wrong
//! value is an error even where a stronger source overrides it.
//!
//! One AMI's settings may be shared between modes, so a mode accepts and ignores the settings that it does not use
//! ([`Setting::modes`]).

use crate::{error::Result, model::Mode};

mod accounts;
mod check;
mod hubs;
mod item;
mod legacy;
mod names;
mod parse;
pub mod psk;
mod segments;
mod sources;
mod stored;
mod table;
#[cfg(test)]
mod tests;
mod values;

pub use accounts::{Account, is_external_id};
pub use hubs::HubKeys;
pub use parse::Tag;
pub use sources::{Flags, LegacyFile, Sources, TomlFile, below, show};
pub use stored::{Fetched, NoPsk, Service, StoreUnasked, StoredPsk};
pub use table::{IfUnset, SETTINGS, Setting};
pub use values::{
    AuthMethod, AuthSettings, Ec2, InlinePsk, Keep, Pairing, PskSource, Removal, Segmentation, Settings, WantedAddress,
};

impl Settings {
    /// Checks every source together.
    ///
    /// `legacy` gives the 2014 file of a mode, if there is one. It is asked only for the files that count: that of another
    /// mode need not even be readable.
    ///
    /// # Errors
    /// The first wrong setting: [`Kind::Settings`], one line that names the source, the setting, the value that was found and
    /// what is accepted.
    ///
    /// [`Kind::Settings`]: crate::error::Kind::Settings
    pub fn of(sources: &Sources, legacy: impl FnMut(Mode) -> Result<Option<LegacyFile>>) -> Result<Settings> {
        let mut items = Vec::new();
        for TomlFile { path, text } in &sources.toml {
            items.extend(sources::toml(path, text)?);
        }
        items.extend(sources::environment(sources.env)?);
        items.extend(sources.flags.items());
        // The mode decides which 2014 file counts. Only if nothing else sets the mode, the file does.
        let legacy = match check::mode_of(&items) {
            Ok(mode) => legacy::load(sources.root, mode, legacy)?,
            // `check` below reports it.
            Err(_) => legacy::Legacy::default(),
        };
        let mut draft = table::Draft::of_defaults()?;
        for item in legacy.items.into_iter().chain(items) {
            draft.put(item)?;
        }
        // A setting that is missing may be in one of the ignored lines.
        let mut settings = draft.check(sources.root, legacy.psk).map_err(|e| match &legacy.warnings[..] {
            [] => e,
            ignored => e.because(ignored.join("; ")),
        })?;
        settings.warnings.splice(0..0, legacy.warnings);
        Ok(settings)
    }

    /// The tag by which others find gateways of this mode.
    pub fn own_tag(&self) -> &Tag {
        if self.mode == Mode::VpnHub { &self.hub_tag } else { &self.gateway_tag }
    }

    /// One TOML file's text as the only source, for tests.
    #[cfg(test)]
    pub(crate) fn of_toml(text: &str) -> Settings {
        let toml = vec![TomlFile { path: "crosswan.toml".into(), text: text.into() }];
        let sources = Sources { root: "/".as_ref(), toml, env: &Default::default(), flags: &Flags::default() };
        Settings::of(&sources, |_| Ok(None)).unwrap()
    }
}
