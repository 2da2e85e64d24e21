//! Disks that are full or read-only.

use anyhow::{Result, ensure};

use super::Healed;
use crate::{look::Snapshot, region::lines, stage::Stage};

/// There is room for the existing files, and for nothing else.
fn fill(folder: &str) -> String {
    format!(
        "mount -t tmpfs -o size=64k tmpfs /mnt && cp -a {folder}/. /mnt && mount --move /mnt {folder} && \
         ! cat /dev/zero >{folder}/filler 2>/dev/null"
    )
}

pub fn full(stage: &mut Stage, folder: &str) -> Result<Healed> {
    refused(stage, folder, &fill(folder), "No space left on device")
}

pub fn read_only(stage: &mut Stage, folder: &str) -> Result<Healed> {
    let command = format!("mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}");
    refused(stage, folder, &command, "Read-only file system")
}

/// The pass is rolled back and says why; the next one succeeds when there is room.
fn refused(stage: &mut Stage, folder: &str, fault: &str, why: &str) -> Result<Healed> {
    stage.hub.sh(fault)?.ok()?;
    stage.work(true)?;
    let report = stage.pass(4, &stage.idle, why)?;
    ensure!(report["outcome"] == "rolled-back", "{report:#}");
    ensure!(lines(&report, "problems").concat().contains(why), "{report:#}");
    stage.hub.sh(&format!("umount {folder}"))?.ok()?;
    Healed::by_a_pass(stage.heal_hub("there is room again")?)
}

/// Only the report finds no room: the work is done all the same, and the exit code says that something is wrong.
pub fn run_full(stage: &mut Stage) -> Result<Healed> {
    stage.hub.sh(&fill("/run/crosswan"))?.ok()?;
    stage.work(true)?;
    let output = stage.hub.agent(&["refresh"])?;
    ensure!(output.code != 0 && output.stderr.contains("No space left on device"), "{output:?}");
    Snapshot::of(&stage.hub)?.must_be(&stage.busy, "no room for the report")?;
    stage.hub.sh("umount /run/crosswan")?.ok()?;
    Healed::by_a_pass(stage.heal_hub("there is room for the report again")?)
}
