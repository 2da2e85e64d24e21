//! The size of the release binary.

use std::fs;

use anyhow::Result;

use crate::Setup;
use crate::results::{Budget, Section, megabytes};

/// Looks at the agent's file.
pub fn bench(setup: &Setup) -> Result<Section> {
    let size = fs::metadata(&setup.agent)?.len() as f64 / 1e6;
    Ok(Section {
        name: "size",
        title: "Binary",
        budgets: vec![Budget {
            work: "release binary, stripped".into(),
            budget: "at most 12 MB".into(),
            baseline: "–".into(),
            measured: megabytes(size),
            met: size <= 12.0,
        }],
        text: String::new(),
        plots: Vec::new(),
    })
}
