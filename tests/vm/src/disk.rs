//! The disks as they were built: they contain nothing of one machine, no secret, and nothing left over from the build.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crosswan_lab::Image;

use crate::region::Region;

/// Root's home. What SSH keeps there has to be empty, too.
const HOME: &str = "/root";

/// Folders, and all that may be in them.
const CLEAN: [(&str, &[&str]); 14] = [
    ("/etc/ssh", &["moduli", "ssh_config", "ssh_config.d", "sshd_config", "sshd_config.d"]),
    (HOME, &[".bashrc", ".profile", ".ssh"]),
    ("/home", &[]),
    ("/tmp", &[]),
    ("/var/tmp", &[]),
    ("/var/log", &["README", "apt", "journal", "private", "runit", "unattended-upgrades"]),
    ("/var/log/apt", &[]),
    ("/var/log/journal", &[]),
    ("/var/lib/apt/lists", &[]),
    ("/etc/crosswan", &["crosswan.toml", "conf.d"]),
    ("/etc/swanctl/conf.d", &["README"]),
    ("/etc/swanctl/private", &[]),
    ("/etc/credstore", &[]),
    ("/var/lib/crosswan", &[]),
];

/// Reads the images themselves: once booted it would be too late.
pub fn clean(region: &mut Region) -> Result<()> {
    let ssh = format!("{HOME}/.ssh");
    let folders = [&CLEAN[..], &[(&ssh, &[])]].concat();
    for (role, Image { disk, .. }) in region.images.clone() {
        let mut found = Vec::new();
        for (folder, expected) in &folders {
            let names = names(&disk, folder).with_context(|| format!("{}: {folder}", disk.display()))?;
            found
                .extend(names.into_iter().filter(|n| !expected.contains(&n.as_str())).map(|n| format!("{folder}/{n}")));
        }
        let id = debugfs(&disk, "cat /etc/machine-id")?;
        region.check(
            found.is_empty() && id.is_empty(),
            &format!(
                "the disk of {}: left behind in {} folders: {found:?}; machine-id {id:?}",
                role.as_str(),
                folders.len()
            ),
        );
    }
    Ok(())
}

/// The names in a folder; none where there is no such folder.
fn names(disk: &Path, folder: &str) -> Result<Vec<String>> {
    // /inode/mode/uid/gid/name/size/
    let text = debugfs(disk, &format!("ls -p {folder}"))?;
    let names = text.lines().filter_map(|line| line.split('/').nth(5)).filter(|name| !matches!(*name, "." | ".."));
    Ok(names.map(str::to_owned).collect())
}

fn debugfs(disk: &Path, request: &str) -> Result<String> {
    let partition = format!("{}?offset={}", disk.display(), 1 << 20);
    let output = Command::new("debugfs").args(["-R", request, &partition]).output().context("debugfs, of e2fsprogs")?;
    ensure!(output.status.success(), "debugfs: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
