//! Points 1 and 2 of the demo: which hosts reach each other, and which address is seen.

use anyhow::Result;
use crosswan_lab::internet::ECHO;

use crate::region::Region;

/// Every private host to every one of the other VPC, by TCP and UDP.
pub fn private(region: &mut Region) -> Result<()> {
    let hosts = region.lab.hosts();
    for from in &hosts {
        for to in hosts.iter().filter(|to| vpc(&to.name) != vpc(&from.name)) {
            let (tcp, udp) = (from.whoami_tcp(to.address)?, from.whoami_udp(to.address)?);
            let text = format!(
                "{} {} -> {} {}: seen as {tcp} by TCP, {udp} by UDP",
                from.name, from.address, to.name, to.address
            );
            region.check(tcp == from.address && udp == from.address, &text);
        }
    }
    Ok(())
}

/// Every private host to the internet, through the gateway that has its VPC's default route.
pub fn internet(region: &mut Region) -> Result<()> {
    for host in region.lab.hosts() {
        let gateway = region.leads_to(vpc(&host.name), "0.0.0.0/0")?;
        let (tcp, udp) = (host.whoami_tcp(ECHO)?, host.whoami_udp(ECHO)?);
        let ok = Some(tcp) == gateway.public() && Some(udp) == gateway.public();
        region.check(ok, &format!("{} is seen as {tcp}, through {}", host.name, gateway.name));
    }
    Ok(())
}

fn vpc(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}
