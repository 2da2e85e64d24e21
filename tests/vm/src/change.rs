//! A refresh with nothing new changes nothing. That a VPC comes and goes, and that a gateway takes another's place, the lab shows.

use std::time::Duration;

use anyhow::Result;

use crate::region::{CLIENT, HUB, NAT, Region};
use crate::routing::SHOWN;

/// How often a gateway is tried. `keep` and charon may make or end one of two tunnels beside a refresh, after the outages before; what
/// the refresh itself has done is its report's.
const TRIES: usize = 3;

pub fn unchanged(region: &mut Region) -> Result<()> {
    for name in [HUB, NAT, CLIENT] {
        let held = |region: &Region| {
            region.vm(name)?.ok(&format!("iptables-save | grep ^-A; ip xfrm state | grep spi || true; {SHOWN}
                stat -c '%n %i %Y' 2>/dev/null /etc/swanctl/conf.d/crosswan* /var/lib/crosswan/{{iptables.rules,routing.batch}} || true"))
        };
        let mut before = held(region)?;
        for left in (0..TRIES).rev() {
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
            let idle = report["outcome"] == "unchanged" && report["steps"].as_array().is_some_and(Vec::is_empty);
            if !idle || same || left == 0 {
                let found = if same { "the same".into() } else { format!("NOT the same: {before}\nbut {after}") };
                let text = format!(
                    "{name}: {}, steps {}; rules, SAs and files are {found}",
                    report["outcome"], report["steps"]
                );
                region.check(idle && same, &text);
                break;
            }
        }
    }
    Ok(())
}
