//! What is left of a demo that failed: the logs, out of the lab's directory, which goes with the lab. No secrets.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Demo;

/// Of each gateway, relative to its directory in the lab.
const LOGS: [&str; 5] =
    ["charon.log", "charon.out", "agent-keep.log", "run/crosswan/status.json", "etc/swanctl/conf.d/crosswan.conf"];

/// Copies them and returns where to.
pub fn save(demo: &Demo) -> Result<PathBuf> {
    let to = crosswan_lab::kernel::keep_dir().join(format!("crosswan-demo-{}", std::process::id()));
    fs::create_dir_all(&to).with_context(|| format!("make {}", to.display()))?;
    fs::write(to.join("refresh.log"), &demo.journal)?;
    let _ = fs::copy(demo.lab.dir().join("moto.log"), to.join("moto.log"));
    for gateway in demo.lab.gateways() {
        let own = to.join(gateway.name.replace('/', "-"));
        fs::create_dir_all(&own)?;
        let dir = gateway.path("/etc");
        let dir = dir.parent().context("a gateway without a directory")?;
        for log in LOGS {
            // Not every gateway has all of them.
            let _ = fs::copy(dir.join(log), own.join(log.rsplit('/').next().unwrap_or(log)));
        }
    }
    Ok(to)
}
