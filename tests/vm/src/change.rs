//! A refresh with nothing new changes nothing. That a VPC comes and goes, and that a gateway takes another's place, the lab shows.

use anyhow::Result;

use crate::region::{CLIENT, HUB, NAT, Region};
use crate::routing::SHOWN;

pub fn unchanged(region: &mut Region) -> Result<()> {
    for name in [HUB, NAT, CLIENT] {
        let held = |region: &Region| {
            region.vm(name)?.ok(&format!("iptables-save | grep ^-A; ip xfrm state | grep spi || true; {SHOWN}
                stat -c '%n %i %Y' 2>/dev/null /etc/swanctl/conf.d/crosswan* /var/lib/crosswan/{{iptables.rules,routing.batch}} || true"))
        };
        let before = held(region)?;
        let report = region.refresh(name)?;
        let same = held(region)? == before;
        let steps = report["steps"].as_array().map_or(usize::MAX, Vec::len);
        let idle = report["outcome"] == "unchanged" && steps == 0;
        region.check(
            idle && same,
            &format!(
                "{name}: {}, {steps} steps; rules, SAs and files are {}",
                report["outcome"],
                if same { "the same" } else { "NOT the same" }
            ),
        );
    }
    Ok(())
}
