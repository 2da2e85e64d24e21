//! A cast that is killed at any call, and cast again.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use crosswan_lab::Side;

use crate::cloud::{Cloud, document};

const LIMIT: Duration = Duration::from_secs(60);
/// More than any document here has changes.
const MOST: usize = 200;

/// Casts, killed each time at one of its changing calls, until there is nothing left to change. Returns how often it was killed.
fn killed_all_along(cloud: &Cloud, document: &str, calls: u32, side: Side) -> Result<usize> {
    let stop = &cloud.lab.faults().stop;
    for n in 0..MOST {
        stop.at(calls, side);
        let (cast, log) = cloud.start("killed", &["cast", "--yes", document])?;
        let ended = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| stop.wait(LIMIT));
            // It ends by itself when there is nothing to change.
            while cast.running() && !waiter.is_finished() {
                std::thread::sleep(Duration::from_millis(10));
            }
            let ended = !cast.running();
            drop(cast);
            stop.lift();
            ended
        });
        if ended {
            return Ok(n);
        }
        if n + 1 == MOST {
            bail!("still not done after {MOST} kills:\n{}", std::fs::read_to_string(log)?);
        }
    }
    Ok(MOST)
}

fn ends_as_one_that_was_not(name: &str, calls: u32, side: Side) -> Result<()> {
    let (whole, cut) = (Cloud::new()?, Cloud::new()?);
    whole.cast(&[&document(name)])?;
    let kills = killed_all_along(&cut, &document(name), calls, side)?;
    cut.cast(&[&document(name)])?;
    let (expected, found) = (whole.census()?, cut.census()?);
    ensure!(expected == found, "after {kills} kills there is\n{found:?}\nand not\n{expected:?}");
    ensure!(kills > 10, "only {kills} kills: the stop does not work");
    Ok(())
}

#[test]
fn a_hub_that_is_killed_after_every_call_ends_as_one_that_was_not() -> Result<()> {
    ends_as_one_that_was_not("hub", 0, Side::After)
}

#[test]
fn a_client_that_is_killed_before_every_second_call_ends_as_one_that_was_not() -> Result<()> {
    ends_as_one_that_was_not("client", 1, Side::Before)
}

#[test]
fn load_balancers_and_groups_that_are_killed_after_every_call_end_as_those_that_were_not() -> Result<()> {
    ends_as_one_that_was_not("example", 0, Side::After)
}
