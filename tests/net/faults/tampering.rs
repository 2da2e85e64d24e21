//! The next pass repairs what other programs and people changed between two passes, and reports it.

use anyhow::{Result, ensure};
use crosswan_faults::faults::tampering::{EDITED, OWNERS, STATE, put_right};

use super::look::{stream, unharmed};
use crate::region::Region;

#[test]
fn what_others_changed_between_two_passes_is_put_right_and_told() -> Result<()> {
    let region = Region::standard()?;
    let spoke = region.gateway("a/nat-vpn")?;
    let packets = stream(&region, "a/host", "hub/host")?;
    for all in [&EDITED[..], &OWNERS, &STATE] {
        put_right(&spoke, all)?;
    }
    unharmed(packets, "a tunnel that nobody wanted to change")?;
    let host = region.lab.host("a/host")?;
    ensure!(Some(host.whoami_tcp(region.lab.internet().address)?) == spoke.public());
    Ok(())
}
