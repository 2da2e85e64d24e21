//! Makes the man pages and shell completions from the command line's own definition, into `OUT_DIR/share`.

#![allow(clippy::disallowed_methods, reason = "a build script writes what it makes")]

use std::{env, fs, io, path::Path};

use clap::{CommandFactory, ValueEnum};
use clap_complete::{Shell, generate_to};

#[path = "src/cli.rs"]
#[allow(dead_code)]
mod cli;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src/cli.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let Some(out) = env::var_os("OUT_DIR") else { return Ok(()) };
    let (man, completions) = (Path::new(&out).join("share/man"), Path::new(&out).join("share/completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let command = cli::Cli::command();
    clap_mangen::generate_to(command.clone(), &man)?;
    for shell in Shell::value_variants() {
        generate_to(*shell, &mut command.clone(), "cloudcaster", &completions)?;
    }
    println!("cargo::rustc-env=CLOUDCASTER_SHARE={}", Path::new(&out).join("share").display());
    Ok(())
}
