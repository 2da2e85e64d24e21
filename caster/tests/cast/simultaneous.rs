//! Two casts of one document at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use crosswan_lab::Fault;

use crate::cloud::{Cloud, document};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn two_casts_on_one_machine_make_nothing_twice() -> Result<()> {
    let (one, two) = (Cloud::new()?, Cloud::new()?);
    one.cast(&[&document("hub")])?;
    let casts = [
        two.start("run", &["cast", "--yes", &document("hub")])?,
        two.start("run", &["cast", "--yes", &document("hub")])?,
    ];
    for (cast, log) in &casts {
        ensure!(cast.wait(LIMIT)? == Some(0), "{}", std::fs::read_to_string(log)?);
    }
    ensure!(one.census()? == two.census()?, "{:?}\nand not\n{:?}", two.census()?, one.census()?);
    Ok(())
}

/// Both look before either makes something; so many of their calls for a VPC are answered late.
fn one_gives_way(late: u32) -> Result<()> {
    let (one, two) = (Cloud::new()?, Cloud::new()?);
    one.cast(&[&document("hub")])?;
    two.lab.ec2_fault_times("*", "CreateVpc", Fault::Slow(Duration::from_secs(2)), late);
    // Each with a folder of locks of its own, as on two machines.
    let casts = ["here", "there"].map(|machine| two.start(machine, &["cast", "--yes", &document("hub")]));
    let mut codes = Vec::new();
    for cast in casts {
        let (cast, log) = cast?;
        let code = cast.wait(LIMIT)?;
        ensure!(matches!(code, Some(0 | 4)), "{code:?}: {}", std::fs::read_to_string(log)?);
        codes.push(code);
    }
    two.lab.ec2_heal();
    two.cast(&[&document("hub")])?;
    let (expected, found) = (one.census()?, two.census()?);
    for kind in ["DescribeInstances", "DescribeSubnets", "DescribeNetworkInterfaces", "DescribeAddresses"] {
        // A spare VPC is empty; its own default group and table are the only other things twice.
        ensure!(expected[kind] == found[kind], "{kind}: {} and not {}, {codes:?}", found[kind], expected[kind]);
    }
    Ok(())
}

#[test]
fn of_two_casts_on_two_machines_one_gives_way_and_nothing_that_runs_is_there_twice() -> Result<()> {
    one_gives_way(2)
}

#[test]
fn the_later_of_two_casts_gives_way_to_one_that_has_long_looked_around() -> Result<()> {
    one_gives_way(1)
}
