//! A spoke with its own valid key claims to be another one, or asks for another's CIDR.

use anyhow::{Result, ensure};
use crosswan_faults::look::{policies, sas};

use super::{Claim, Evil, NOBODY, bystanders, identity, undisturbed};
use crate::region::Region;
use crosswan_lab::Auth;

const OTHERS: [(&str, &str); 3] = [("b/host", "hub/host"), ("hub/host", "b/host-2"), ("b/host-2", "hub/host")];

#[test]
fn a_spoke_that_claims_anothers_identity_or_cidr_gets_nothing() -> Result<()> {
    let mut region = Region::with(Auth::Key)?;
    let evil = Evil::takes_over(&mut region, "a")?;
    let b = identity(&region.lab.vpc_id("b")?, &*region.gateway("b/nat-vpn")?);
    let key = evil.own_key()?;
    let others = bystanders(&region, &OTHERS)?;
    let own = Claim { name: "honest", id: &evil.id, key, ts: "10.1.0.0/16" };
    evil.is_taken(&own)?;

    // Another's identity: with what that may have, with its own, with everything.
    for (name, ts) in [("id-theirs", "10.2.0.0/16"), ("id-own", "10.1.0.0/16"), ("id-all", "0.0.0.0/0")] {
        evil.is_refused(&Claim { name, id: &b, ts, ..own }, NOBODY)?;
    }
    // The hub's own, and that of a VPC the hub has never heard of.
    let hub = evil.hub.public().map(|address| address.to_string()).unwrap_or_default();
    for (name, id) in [
        ("id-hub", hub.as_str()),
        ("id-none", "vpc-0123456789abcdef0/i-0123456789abcdef0"),
        ("id-vpc", evil.vpc.as_str()),
    ] {
        evil.is_refused(&Claim { name, id, ..own }, NOBODY)?;
    }
    // Another's CIDR, one inside it, the hub's own.
    for (name, ts) in [("ts-theirs", "10.2.0.0/16"), ("ts-host", "10.2.1.10/32"), ("ts-hub", "10.0.0.0/16")] {
        evil.is_refused(&Claim { name, ts, ..own }, "TS_UNACCEPTABLE")?;
    }
    // All of it at once: narrowed to its own.
    evil.is_taken(&Claim { name: "ts-all", ts: "0.0.0.0/0", ..own })?;
    let conn = region.lab.connection_to(&evil.gateway)?;
    for sa in sas(&evil.hub)?.iter().filter(|sa| sa.conn == conn) {
        let got = sa.children.iter().map(|child| (&child.remote_ts[..], &child.local_ts[..]));
        for (remote, local) in got {
            ensure!(remote == ["10.1.0.0/16"] && local == ["10.0.0.0/8"], "{sa:?}");
        }
    }
    for cidr in ["10.2.0.0/16", "10.102.0.0/16"] {
        let all = policies(&evil.hub)?;
        let towards = all.iter().filter(|policy| policy.ends_with(cidr)).collect::<Vec<_>>();
        ensure!(towards == [&format!("out 10.0.0.0/8 {cidr}")], "{all:#?}");
    }
    undisturbed(others, "a spoke claimed to be another")
}
