//! moto is more lenient than AWS; the lab's proxy is not. Each of its rules is seen to hold here, and to be lived with.

use anyhow::{Result, ensure};
use crosswan_lab::Fault;

use crate::cloud::{Cloud, document};

#[test]
fn a_launch_whose_answer_is_lost_is_not_made_twice() -> Result<()> {
    let cloud = Cloud::new()?;
    // EC2 takes the launch, its answer is cut off, and the same token gives the same instance.
    cloud.lab.ec2_fault_times("*", "RunInstances", Fault::Cut, 2);
    cloud.cast(&[&document("client")])?;
    ensure!(cloud.census()?["DescribeInstances"] == 1, "{:?}", cloud.census()?);
    Ok(())
}

#[test]
fn what_has_no_client_token_is_looked_for_before_it_is_made_again() -> Result<()> {
    let cloud = Cloud::new()?;
    let before = cloud.census()?;
    for action in ["CreateVpc", "CreateInternetGateway", "AllocateAddress", "CreateSubnet", "CreateSecurityGroup"] {
        cloud.lab.ec2_fault_times("*", action, Fault::Cut, 1);
    }
    cloud.cast(&[&document("client")])?;
    let after = cloud.census()?;
    for (kind, more) in
        [("DescribeVpcs", 1), ("DescribeInternetGateways", 1), ("DescribeAddresses", 1), ("DescribeSubnets", 2)]
    {
        ensure!(after[kind] == before[kind] + more, "{kind}: {} and then {}", before[kind], after[kind]);
    }
    Ok(())
}

#[test]
fn what_was_just_made_may_be_unseen_for_some_calls() -> Result<()> {
    let cloud = Cloud::new()?;
    let before = cloud.census()?;
    for action in ["CreateVpc", "CreateSubnet", "CreateSecurityGroup", "CreateRouteTable", "CreateNetworkInterface"] {
        cloud.lab.faults().strict.hide(action, 2);
    }
    cloud.cast(&[&document("client")])?;
    let after = cloud.census()?;
    ensure!(after["DescribeVpcs"] == before["DescribeVpcs"] + 1, "{after:?}");
    ensure!(after["DescribeNetworkInterfaces"] == before["DescribeNetworkInterfaces"] + 1, "{after:?}");
    Ok(())
}

#[test]
fn throttling_and_server_errors_are_ridden_out() -> Result<()> {
    let cloud = Cloud::new()?;
    cloud.lab.ec2_fault_times("*", "AuthorizeSecurityGroupIngress", Fault::Throttle, 3);
    cloud.lab.ec2_fault_times("*", "CreateRoute", Fault::ServerError, 2);
    cloud.lab.ec2_fault_times("*", "DescribeSubnets", Fault::Throttle, 2);
    cloud.cast(&[&document("client")])?;
    Ok(())
}

#[test]
fn quotas_are_asked_and_nothing_is_tried_where_one_is_too_small() -> Result<()> {
    let cloud = Cloud::new()?;
    let before = cloud.census()?;
    cloud.lab.faults().strict.limit_scaling_groups(0);
    let output = cloud.run(&["cast", "--yes", &document("example")])?;
    ensure!(output.code == 2 && output.stderr.contains("1 Auto Scaling group must be made"), "{}", output.stderr);
    ensure!(cloud.census()? == before, "something was made");
    let calls = cloud.lab.ec2_calls();
    let asked = calls.iter().filter(|((_, action), _)| action == "DescribeAccountLimits").map(|(_, n)| n);
    ensure!(asked.sum::<u64>() == 2, "of Auto Scaling and of load balancers: {calls:?}");
    // A quota that cannot be asked for stops nothing.
    cloud.lab.faults().strict.limit_scaling_groups(99);
    cloud.lab.ec2_fault("*", "DescribeAccountLimits", Fault::Unauthorized);
    cloud.lab.ec2_fault("*", "DescribeAccountAttributes", Fault::Unauthorized);
    cloud.cast(&["--no-wait", &document("example")])?;
    Ok(())
}
