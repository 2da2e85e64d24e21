//! A short cut of `make faults` and `make churn`: what the other tests do not show, by the same code.

use anyhow::{Result, ensure};
use crosswan_faults::{campaign, churn};

#[test]
fn what_goes_wrong_around_a_gateway_harms_no_other_and_heals() -> Result<()> {
    let rows = campaign::run(true, |fault| fault.quick, &|text| println!("{text}"), &|_| Ok(()))?;
    ensure!(rows.len() >= 7 && rows.iter().all(campaign::Row::is_good), "{}", campaign::table(&rows));
    Ok(())
}

#[test]
fn peers_that_come_and_go_lose_others_nothing_and_leave_nothing() -> Result<()> {
    let churned = churn::run(20, 7, true, &mut |text| println!("{text}"))?;
    ensure!(churned.knocks > 1000 && churned.changing > 12 && churned.established > 0, "{churned:?}");
    ensure!(churned.is_good(), "{}", churned.to_markdown(7));
    Ok(())
}
