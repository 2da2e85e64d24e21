//! The documents of 2014, cast unchanged.

use anyhow::{Result, ensure};
use crosswan_lab::Fault;

use crate::cloud::{Cloud, REGION, document};

#[test]
fn the_documents_of_2014_are_cast_unchanged_and_a_second_cast_changes_nothing() -> Result<()> {
    let cloud = Cloud::new()?;
    let (hub, client, example) = (document("hub"), document("client"), document("example"));
    let all = [hub.as_str(), &client, &example];
    let first = cloud.cast(&all)?;
    for read_back in ["38 steps done, and read back", "28 steps done, and read back", "53 steps done, and read back"] {
        ensure!(first.stdout.contains(read_back), "{read_back} is missing in\n{}", first.stdout);
    }
    let before = cloud.lab.ec2_calls();
    let second = cloud.cast(&all)?;
    ensure!(second.stdout.matches("nothing to do").count() == 3, "{}", second.stdout);
    let changed: Vec<_> = cloud
        .lab
        .ec2_calls()
        .into_iter()
        .filter(|(call, n)| before.get(call) != Some(n))
        .map(|((_, action), _)| action)
        .filter(|action| !["Describe", "List", "Get"].iter().any(|verb| action.starts_with(verb)))
        .collect();
    ensure!(changed.is_empty(), "the second cast called {changed:?}");
    Ok(())
}

#[test]
fn a_terminated_gateway_is_cast_again_with_the_same_address_and_routes() -> Result<()> {
    let cloud = Cloud::new()?;
    let client = document("client");
    cloud.cast(&[&client])?;
    let (old, interface, address) = (cloud.part("nat")?, cloud.part("nat/interface")?, cloud.part("nat/address")?);
    cloud.lab.ec2().call(REGION, "TerminateInstances", &[("InstanceId.1", &old)])?;
    let again = cloud.cast(&[&client])?;
    ensure!(again.stdout.contains(": 1 step done, and read back"), "{}{}", again.stderr, again.stdout);
    ensure!(cloud.part("nat/interface")? == interface && cloud.part("nat/address")? == address, "another place");
    let status = cloud.run(&["status", "--exit-code", &client])?;
    ensure!(status.code == 0, "exit {}\n{}", status.code, status.stdout);
    let routed = status.stdout.matches(&format!("203.0.113.0/24 to {interface}")).count();
    ensure!(routed == 2, "{routed} of both tables route the private network to {interface}:\n{}", status.stdout);
    Ok(())
}

#[test]
fn what_cannot_be_asked_is_exit_3_and_changes_nothing() -> Result<()> {
    let cloud = Cloud::new()?;
    let before = cloud.census()?;
    for action in ["DescribeSubnets", "ListInstanceProfiles", "DescribeAutoScalingGroups", "ListHostedZonesByName"] {
        cloud.lab.ec2_fault("*", action, Fault::Unauthorized);
        let output = cloud.run(&["cast", "--yes", &document("client")])?;
        cloud.lab.ec2_heal();
        ensure!(output.code == 3, "{action}: exit {}\n{}", output.code, output.stderr);
        ensure!(output.stderr.contains(action), "{action} is not named:\n{}", output.stderr);
    }
    ensure!(cloud.census()? == before, "something was made");
    Ok(())
}

#[test]
fn an_answer_that_is_not_aws_s_is_not_an_empty_region() -> Result<()> {
    let cloud = Cloud::new()?;
    for fault in [Fault::Garbage, Fault::Cut] {
        cloud.lab.ec2_fault("*", "DescribeVpcs", fault);
        let output = cloud.run(&["plan", &document("client")])?;
        cloud.lab.ec2_heal();
        ensure!(output.code == 3, "{fault:?}: exit {}\n{}{}", output.code, output.stdout, output.stderr);
    }
    Ok(())
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_done() -> Result<()> {
    let cloud = Cloud::new()?;
    let before = cloud.census()?;
    let output = cloud.run(&["cast", &document("client")])?;
    ensure!(output.code == 2 && output.stderr.contains("--yes"), "exit {}\n{}", output.code, output.stderr);
    ensure!(cloud.census()? == before, "something was made");
    Ok(())
}

#[test]
fn a_failed_step_is_named_and_the_next_cast_goes_on() -> Result<()> {
    let cloud = Cloud::new()?;
    cloud.lab.ec2_fault("*", "CreateNetworkInterface", Fault::Unauthorized);
    let output = cloud.run(&["cast", "--yes", &document("client")])?;
    ensure!(output.code == 4, "exit {}\n{}", output.code, output.stderr);
    ensure!(output.stdout.contains("failed: create interface for nat"), "{}", output.stdout);
    cloud.lab.ec2_heal();
    cloud.cast(&[&document("client")])?;
    Ok(())
}

#[test]
fn events_are_json_line_by_line() -> Result<()> {
    let cloud = Cloud::new()?;
    let output = cloud.cast(&["--json", &document("client")])?;
    let events: Vec<serde_json::Value> =
        output.stdout.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    // A slow machine also says what it waits for.
    let kinds: Vec<&str> =
        events.iter().filter_map(|e| e["event"].as_str()).filter(|kind| *kind != "waiting").collect();
    ensure!(kinds.first() == Some(&"plan") && kinds.last() == Some(&"end"), "{kinds:?}");
    ensure!(kinds.iter().filter(|kind| **kind == "done").count() == 28, "{kinds:?}");
    ensure!(output.stderr.is_empty(), "{}", output.stderr);
    Ok(())
}
