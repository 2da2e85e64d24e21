//! The moment in a fleet's move to keys in which one end of a tunnel has switched and the other has not looked yet.

use anyhow::{Result, ensure};
use crosswan_faults::look::{all_well, ask, stream, unharmed};
use crosswan_lab::{Auth, Gateway};

use crate::region::{Region, UP, refresh};

/// Switches a gateway to keys, and refreshes it.
fn switch(gateway: &Gateway, regions: &str) -> Result<()> {
    let text = format!("{regions}[auth]\nmethod = \"key\"\n");
    gateway.write_file("/etc/crosswan/conf.d/10-keys.toml", &text, 0o644)?;
    refresh(gateway).map(drop)
}

#[test]
fn a_live_tunnel_goes_on_and_one_that_breaks_waits_for_the_hub() -> Result<()> {
    let region = Region::with(Auth::Psk)?;
    let (hub, a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    switch(&hub, "")?;
    let live = stream(&region, "a/host", "hub/host")?;
    switch(&a, &format!("regions = [\"{}\"]\n", region.lab.region("hub")?))?;
    unharmed(live, "one end has switched")?;

    let (host, to) = (region.lab.host("a/host")?, region.address("hub/host")?);
    for sa in ask(&a, async |vici| vici.sas().await)? {
        a.swanctl(&["--terminate", "--ike-id", &sa.id.to_string(), "--timeout", "5"])?;
    }
    ensure!(!host.reaches(to)? && !host.reaches(to)?, "the hub still expects the pre-shared key");
    refresh(&hub)?;
    all_well(&region, UP)
}
