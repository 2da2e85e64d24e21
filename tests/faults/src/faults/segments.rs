//! A segment that changes: the victim's VPC moves between segments, and segments come and go.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::Healed;
use crate::{region::refresh, stage::Stage};

const FILE: &str = "/etc/crosswan/conf.d/60-segments.toml";
/// The others have no tag, and are in `default`.
const SETTINGS: [&str; 2] =
    ["segments = { default = [], cut = [\"default\"] }\n", "segments = { default = [\"cut\"], cut = [] }\n"];

/// Who is moved reaches what settings list, and the others reach each other all the while.
pub fn changing(stage: &mut Stage) -> Result<Healed> {
    let (hub, lab) = (&stage.hub, &stage.region.lab);
    let (vpc, region) = (lab.vpc_id("c")?, lab.region("c")?);
    let tag = |value| lab.ec2().tag(&region, &vpc, "crosswan-segment", value);
    let (host, to) = (lab.host("c/host")?, stage.region.address("hub/host")?);
    let mut passes = 0;
    for settings in SETTINGS.iter().cycle().take(if stage.quick { 1 } else { 10 }) {
        // The tag and the settings change in one pass.
        for (value, reaches) in
            [(Some("cut"), *settings == SETTINGS[0]), (Some("lab"), false), (Some("a b"), false), (None, true)]
        {
            tag(value)?;
            hub.write_file(FILE, settings, 0o644)?;
            let report = refresh(hub)?;
            passes += 1;
            ensure!(host.reaches(to)? == reaches, "{settings}, {value:?}: {report:#}");
            ensure!(refresh(hub)?["outcome"] == "unchanged");
        }
    }
    hub.write_file(FILE, "", 0o644)?;
    let began = Instant::now();
    stage.heal(hub, &stage.idle, "segments are off")?;
    Healed::by(format!("{passes} passes moved it; without segments the next pass"), began.elapsed())
}
