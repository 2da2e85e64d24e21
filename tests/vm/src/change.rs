//! A refresh with nothing new changes nothing. That a VPC comes and goes, and that a gateway takes another's place, the lab shows.

use std::time::Duration;

use anyhow::Result;

use crate::region::{CLIENT, HUB, NAT, Region};
use crate::routing::SHOWN;

/// Rules, routes and files, which a refresh with nothing new leaves as they are.
const HELD: &str = "iptables-save | grep ^-A
    stat -c '%n %i %Y' 2>/dev/null /etc/swanctl/conf.d/crosswan* /var/lib/crosswan/{iptables.rules,routing.batch} || true";
/// The SAs. `keep` and charon may make or end one of two tunnels beside a refresh, after the outages before; then it is tried again.
const STATES: &str = "ip xfrm state | grep spi || true";
const TRIES: usize = 3;

pub fn unchanged(region: &mut Region) -> Result<()> {
    let seen = &*region;
    for (ok, text) in seen.on_each([HUB, NAT, CLIENT], |name| refreshed(seen, name))? {
        region.check(ok, &text);
    }
    Ok(())
}

fn refreshed(region: &Region, name: &str) -> Result<(bool, String)> {
    let mut left = TRIES;
    loop {
        left -= 1;
        let before = [settled(region, name)?, held(region, name)?];
        let report = region.refresh(name)?;
        let after = [region.vm(name)?.ok(STATES)?, held(region, name)?];
        let idle = report["outcome"] == "unchanged" && report["steps"].as_array().is_some_and(Vec::is_empty);
        if idle && after[1] == before[1] && after[0] != before[0] && left > 0 {
            continue;
        }
        let same = after == before;
        let found = if same { "the same".into() } else { format!("NOT the same: {before:#?}\nbut {after:#?}") };
        let said = format!("{}, steps {}", report["outcome"], report["steps"]);
        return Ok((idle && same, format!("{name}: {said}; rules, SAs and files are {found}")));
    }
}

fn held(region: &Region, name: &str) -> Result<String> {
    region.vm(name)?.ok(&format!("{SHOWN}\n{HELD}"))
}

/// The SAs once they have been the same for three seconds, or after half a minute.
fn settled(region: &Region, name: &str) -> Result<String> {
    let mut states = region.vm(name)?.ok(STATES)?;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_secs(3));
        let earlier = std::mem::replace(&mut states, region.vm(name)?.ok(STATES)?);
        if earlier == states {
            break;
        }
    }
    Ok(states)
}
