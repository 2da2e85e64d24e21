//! The man pages and completions that the build makes tell what the binary does. Tests only.

use std::{fs, path::Path};

use crate::cli::Cli;
use clap::CommandFactory;
use crosswan_core::{error::Kind, settings::SETTINGS};

fn share(file: &str) -> String {
    let path = Path::new(env!("CROSSWAN_SHARE")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_command_has_a_man_page_and_completions() {
    let command = Cli::command();
    for sub in command.get_subcommands().map(|s| s.get_name()).filter(|name| *name != "help") {
        assert!(share(&format!("man/crosswan-{sub}.1")).contains("SYNOPSIS"), "{sub}");
        for shell in ["crosswan.bash", "_crosswan", "crosswan.fish"] {
            assert!(share(&format!("completions/{shell}")).contains(sub), "{shell}: {sub}");
        }
    }
}

#[test]
fn the_exit_codes_in_the_manual_are_those_of_the_code() {
    let manual = share("man/crosswan.1");
    for kind in [Kind::Other, Kind::Settings, Kind::Observe, Kind::Apply, Kind::Busy] {
        assert!(manual.contains(&format!("\n  {}  ", kind.exit_code())), "{kind:?}\n{manual}");
    }
}

#[test]
fn every_setting_is_in_the_manual() {
    let manual = share("man/crosswan.1");
    assert!(manual.contains("\n.SH SETTINGS\n"), "{manual}");
    for setting in SETTINGS {
        assert!(manual.contains(&format!("\n\\fB{}\\fR, \\fB{}\\fR\n", setting.name, setting.env)), "{}", setting.name);
    }
}
