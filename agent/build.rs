//! Makes the man pages and shell completions from the definition of the command line, into `OUT_DIR/share`.

#![allow(clippy::disallowed_methods, reason = "a build script writes what it makes")]

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use clap::{CommandFactory, ValueEnum};
use clap_complete::{Shell, generate_to};

#[path = "src/cli.rs"]
#[allow(dead_code, unreachable_pub, reason = "the agent's library uses and exports what this script does not")]
mod cli;

/// The man page's section of settings. A test of crosswan-core writes it from the table of settings; otherwise that crate and its
/// dependencies would be built a second time, for this script.
const SETTINGS: &str = include_str!("settings.roff");

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=agent/src/cli.rs");
    println!("cargo::rerun-if-changed=agent/build.rs");
    let Some(out) = env::var_os("OUT_DIR") else { return Ok(()) };
    let (man, completions) = (Path::new(&out).join("share/man"), Path::new(&out).join("share/completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let command = cli::Cli::command();
    clap_mangen::generate_to(command.clone(), &man)?;
    OpenOptions::new().append(true).open(man.join("crosswan.1"))?.write_all(SETTINGS.as_bytes())?;
    for shell in Shell::value_variants() {
        generate_to(*shell, &mut command.clone(), "crosswan", &completions)?;
    }
    println!("cargo::rustc-env=CROSSWAN_SHARE={}", Path::new(&out).join("share").display());
    Ok(())
}
