//! The micro-benchmarks of the pure stages (`benches/stages.rs`), run by cargo, and their words.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::Setup;
use crate::results::Section;

/// Optimised are the agent and what is compiled into it, in cargo's dev profile: the EC2 SDK, which the pure stages never
/// meet and which takes ten minutes to build again, stays as it is.
const OPTIMISED: [&str; 4] = ["askama", "crosswan", "crosswan-bench", "ipnet"];

/// Builds and runs them.
pub fn bench(_: &Setup) -> Result<Section> {
    let mut cargo = Command::new("cargo");
    cargo.args(["bench", "--locked", "--package", "crosswan-bench", "--bench", "stages", "--profile", "dev"]);
    for package in OPTIMISED {
        cargo.arg("--config").arg(format!("profile.dev.package.{package}.opt-level=3"));
    }
    let output = cargo.stderr(Stdio::inherit()).output().context("run cargo bench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "cargo bench failed:\n{text}");
    Ok(Section {
        name: "stages",
        title: "Micro-benchmarks of the pure stages",
        budgets: Vec::new(),
        text: format!(
            "By [divan](https://docs.rs/divan), per number of peers in 8 regions; `opt-level = 3` without LTO. \"plan\" is a \
             pass with nothing to change, with the rendered text parsed back.\n\n```\n{}\n```\n",
            text.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n")
        ),
        plots: Vec::new(),
    })
}
