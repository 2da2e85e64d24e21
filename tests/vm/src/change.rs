//! A refresh with nothing new changes nothing. That a VPC comes and goes, and that a gateway takes another's place, the lab shows.

use std::time::Duration;

use anyhow::Result;

use crate::region::{CLIENT, HUB, NAT, Region};
use crate::routing::SHOWN;

pub fn unchanged(region: &mut Region) -> Result<()> {
    for name in [HUB, NAT, CLIENT] {
        let held = |region: &Region| {
            region.vm(name)?.ok(&format!("iptables-save | grep ^-A; ip xfrm state | grep spi || true; {SHOWN}
                stat -c '%n %i %Y' 2>/dev/null /etc/swanctl/conf.d/crosswan* /var/lib/crosswan/{{iptables.rules,routing.batch}} || true"))
        };
        // `keep` may still be ending one of two tunnels, after the outages before.
        let mut before = held(region)?;
        for _ in 0..10 {
            std::thread::sleep(Duration::from_secs(3));
            let earlier = std::mem::replace(&mut before, held(region)?);
            if earlier == before {
                break;
            }
        }
        let report = region.refresh(name)?;
        let after = held(region)?;
        let same = after == before;
        let steps = report["steps"].as_array().map_or(usize::MAX, Vec::len);
        let idle = report["outcome"] == "unchanged" && steps == 0;
        region.check(
            idle && same,
            &format!(
                "{name}: {}, {steps} steps; rules, SAs and files are {}",
                report["outcome"],
                if same { "the same".into() } else { format!("NOT the same: {before}\nbut {after}") }
            ),
        );
    }
    Ok(())
}
