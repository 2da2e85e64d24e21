//! The endpoint is as strict as AWS where moto is more lenient.

#![allow(clippy::disallowed_methods, reason = "test code, outside the pure stages")]

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use crosswan_lab::ec2::Ec2;
use crosswan_lab::{Lab, internet::EC2};

const REGION: &str = "us-west-2";

/// A lab without VPCs, and its endpoint as callers see it.
fn endpoint() -> Result<(Lab, Ec2)> {
    let lab = Lab::builder("/bin/true").build()?;
    let ec2 = Ec2::new(lab.internet().ns.clone(), SocketAddr::from((EC2, 80)));
    Ok((lab, ec2))
}

fn subnet(ec2: &Ec2) -> Result<(String, String)> {
    let vpc = ec2.get(REGION, "CreateVpc", &[("CidrBlock", "10.0.0.0/16")], "vpcId")?;
    let subnet = ec2.get(REGION, "CreateSubnet", &[("VpcId", &vpc), ("CidrBlock", "10.0.0.0/24")], "subnetId")?;
    Ok((vpc, subnet))
}

#[test]
fn the_same_client_token_gives_the_same_instance() -> Result<()> {
    let (_lab, ec2) = endpoint()?;
    let (_, subnet) = subnet(&ec2)?;
    let launch = |token: &str| {
        let parameters = [
            ("ImageId", "ami-00000000000000000"),
            ("InstanceType", "t3.micro"),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("SubnetId", subnet.as_str()),
            ("ClientToken", token),
        ];
        ec2.get(REGION, "RunInstances", &parameters, "instanceId")
    };
    let (one, again, other) = (launch("a")?, launch("a")?, launch("b")?);
    ensure!(one == again && one != other, "{one}, {again} and {other}");
    Ok(())
}

#[test]
fn addresses_are_those_that_a_subnet_and_the_internet_have_free() -> Result<()> {
    let (_lab, ec2) = endpoint()?;
    let (_, subnet) = subnet(&ec2)?;
    let interface = || ec2.get(REGION, "CreateNetworkInterface", &[("SubnetId", subnet.as_str())], "privateIpAddress");
    ensure!([interface()?, interface()?] == ["10.0.0.4", "10.0.0.5"], "other private addresses");
    let elastic = || ec2.get(REGION, "AllocateAddress", &[("Domain", "vpc")], "publicIp");
    ensure!([elastic()?, elastic()?] == ["198.51.100.10", "198.51.100.11"], "other public addresses");
    Ok(())
}

#[test]
fn what_is_there_already_is_refused() -> Result<()> {
    let (_lab, ec2) = endpoint()?;
    let (vpc, subnet) = subnet(&ec2)?;
    let refused = |answer: Result<crosswan_lab::ec2::Answer>, code: &str| {
        let error = answer.err().map(|e| format!("{e:#}")).unwrap_or_default();
        ensure!(error.contains(code), "not {code}: {error}");
        Ok(())
    };
    let table = || ec2.get(REGION, "CreateRouteTable", &[("VpcId", vpc.as_str())], "routeTableId");
    let (one, two) = (table()?, table()?);
    let associate =
        |table: &str| ec2.call(REGION, "AssociateRouteTable", &[("RouteTableId", table), ("SubnetId", &subnet)]);
    associate(&one)?;
    refused(associate(&two), "Resource.AlreadyAssociated")?;
    let template = [
        ("LaunchTemplateName", "app"),
        ("LaunchTemplateData.ImageId", "ami-00000000000000000"),
        ("LaunchTemplateData.InstanceType", "t3.micro"),
    ];
    ec2.call(REGION, "CreateLaunchTemplate", &template)?;
    let group = || {
        let parameters = [
            ("AutoScalingGroupName", "app"),
            ("LaunchTemplate.LaunchTemplateName", "app"),
            ("LaunchTemplate.Version", "1"),
            ("MinSize", "0"),
            ("MaxSize", "1"),
            ("VPCZoneIdentifier", subnet.as_str()),
        ];
        ec2.query("autoscaling", "2011-01-01", REGION, "CreateAutoScalingGroup", &parameters)
    };
    group()?;
    refused(group(), "AlreadyExists")?;
    let balancer = || {
        let parameters = [("Name", "app"), ("Subnets.member.1", subnet.as_str()), ("Type", "network")];
        ec2.query("elasticloadbalancing", "2015-12-01", REGION, "CreateLoadBalancer", &parameters)
    };
    balancer()?;
    refused(balancer(), "DuplicateLoadBalancerName")
}

#[test]
fn what_is_new_is_hidden_for_as_many_calls_as_asked_for() -> Result<()> {
    let (lab, ec2) = endpoint()?;
    lab.faults().strict.hide("CreateVpc", 2);
    let vpc = ec2.get(REGION, "CreateVpc", &[("CidrBlock", "10.0.0.0/16")], "vpcId")?;
    let listed = || Ok::<_, anyhow::Error>(ec2.call(REGION, "DescribeVpcs", &[])?.0.contains(&vpc));
    let named = || ec2.call(REGION, "DescribeVpcs", &[("VpcId.1", &vpc)]);
    ensure!(!listed()?, "a list has it at once");
    let error = named().err().context("it is found at once")?;
    ensure!(format!("{error:#}").contains("NotFound"), "{error:#}");
    ensure!(listed()? && named().is_ok(), "it stays hidden");
    Ok(())
}

#[test]
fn an_instance_s_check_is_that_of_the_interface_it_is_launched_on() -> Result<()> {
    let (_lab, ec2) = endpoint()?;
    let (_, subnet) = subnet(&ec2)?;
    let interface =
        ec2.get(REGION, "CreateNetworkInterface", &[("SubnetId", subnet.as_str())], "networkInterfaceId")?;
    let off = [("NetworkInterfaceId", interface.as_str()), ("SourceDestCheck.Value", "false")];
    ec2.call(REGION, "ModifyNetworkInterfaceAttribute", &off)?;
    let launch = [
        ("ImageId", "ami-00000000000000000"),
        ("InstanceType", "t3.micro"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("NetworkInterface.1.DeviceIndex", "0"),
        ("NetworkInterface.1.NetworkInterfaceId", &interface),
    ];
    let instance = ec2.get(REGION, "RunInstances", &launch, "instanceId")?;
    ensure!(!ec2.instance(REGION, &instance)?.source_dest_check, "it is on");
    Ok(())
}
