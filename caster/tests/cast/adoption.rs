//! A VPC as the tool of 2014 left it: no tags of this tool, NAT by its instance, the private network's route in the public table.

use anyhow::{Result, ensure};

use crate::cloud::{Cloud, REGION, document};

/// What 2014 made of the client's document. Returns the VPC's and the instance's id.
fn as_in_2014(cloud: &Cloud) -> Result<(String, String)> {
    let ec2 = cloud.lab.ec2();
    let get = |action: &str, parameters: &[(&str, &str)], element: &str| ec2.get(REGION, action, parameters, element);
    let vpc = get("CreateVpc", &[("CidrBlock", "203.0.113.128/26")], "vpcId")?;
    let on = [("VpcId", vpc.as_str()), ("EnableDnsHostnames.Value", "true")];
    ec2.call(REGION, "ModifyVpcAttribute", &on)?;
    let gateway = get("CreateInternetGateway", &[], "internetGatewayId")?;
    ec2.call(REGION, "AttachInternetGateway", &[("VpcId", &vpc), ("InternetGatewayId", &gateway)])?;
    let zone = ("AvailabilityZone", "us-west-2b");
    let private = get("CreateSubnet", &[("VpcId", &vpc), ("CidrBlock", "203.0.113.144/28"), zone], "subnetId")?;
    let public = get("CreateSubnet", &[("VpcId", &vpc), ("CidrBlock", "203.0.113.128/28"), zone], "subnetId")?;
    let group = [("VpcId", vpc.as_str()), ("GroupName", "nat-vpn"), ("GroupDescription", "nat-vpn")];
    let group = get("CreateSecurityGroup", &group, "groupId")?;
    let launch = [
        ("ImageId", "ami-00000102"),
        ("InstanceType", "t1.micro"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("NetworkInterface.1.DeviceIndex", "0"),
        ("NetworkInterface.1.SubnetId", &public),
        ("NetworkInterface.1.SecurityGroupId.1", &group),
        ("NetworkInterface.1.AssociatePublicIpAddress", "true"),
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "service"),
        ("TagSpecification.1.Tag.1.Value", "nat"),
        ("TagSpecification.1.Tag.2.Key", "env"),
        ("TagSpecification.1.Tag.2.Value", "prod"),
    ];
    let nat = get("RunInstances", &launch, "instanceId")?;
    let table = get("CreateRouteTable", &[("VpcId", &vpc)], "routeTableId")?;
    ec2.call(REGION, "AssociateRouteTable", &[("RouteTableId", &table), ("SubnetId", &public)])?;
    let of_vpc = [
        ("Filter.1.Name", "vpc-id"),
        ("Filter.1.Value.1", vpc.as_str()),
        ("Filter.2.Name", "association.main"),
        ("Filter.2.Value.1", "true"),
    ];
    let main = get("DescribeRouteTables", &of_vpc, "routeTableId")?;
    ec2.call(REGION, "AssociateRouteTable", &[("RouteTableId", &main), ("SubnetId", &private)])?;
    let route = |table: &str, to: &str, by: (&str, &str)| {
        ec2.call(REGION, "CreateRoute", &[("RouteTableId", table), ("DestinationCidrBlock", to), by])
    };
    route(&main, "0.0.0.0/0", ("InstanceId", &nat))?;
    route(&table, "0.0.0.0/0", ("GatewayId", &gateway))?;
    route(&table, "203.0.113.0/24", ("InstanceId", &nat))?;
    Ok((vpc, nat))
}

#[test]
fn adopt_tags_what_2014_made_and_changes_nothing_else() -> Result<()> {
    let cloud = Cloud::new()?;
    let (_, nat) = as_in_2014(&cloud)?;
    let before = cloud.census()?;
    let output = cloud.run(&["adopt", "--yes", &document("client")])?;
    ensure!(output.code == 0, "exit {}\n{}{}", output.code, output.stderr, output.stdout);
    ensure!(cloud.part("nat")? == nat, "another instance");
    ensure!(cloud.census()? == before, "something was made");
    let calls = cloud.lab.ec2_calls();
    let changes: Vec<&String> = calls
        .keys()
        .map(|(_, action)| action)
        .filter(|action| !["Describe", "List", "Get"].iter().any(|verb| action.starts_with(verb)))
        .collect();
    ensure!(changes == ["CreateTags"], "{changes:?}");
    let again = cloud.run(&["adopt", "--yes", &document("client")])?;
    ensure!(again.stdout.contains("nothing to do"), "{}", again.stdout);
    Ok(())
}

#[test]
fn a_cast_of_what_2014_made_launches_nothing_and_keeps_the_gateway() -> Result<()> {
    let cloud = Cloud::new()?;
    let (vpc, nat) = as_in_2014(&cloud)?;
    let before = cloud.census()?;
    cloud.cast(&[&document("client")])?;
    let after = cloud.census()?;
    ensure!(after["DescribeInstances"] == 1 && cloud.part("nat")? == nat, "another gateway");
    ensure!(cloud.part("vpc/adopted")? == vpc, "another VPC");
    ensure!(before == after, "{before:?} and then {after:?}");
    let status = cloud.run(&["status", "--exit-code", &document("client")])?;
    ensure!(status.code == 0, "exit {}\n{}", status.code, status.stdout);
    // 2014 left the private network's route out of the private table.
    ensure!(status.stdout.matches("203.0.113.0/24 to ").count() == 2, "{}", status.stdout);
    Ok(())
}

#[test]
fn two_vpcs_of_the_cidr_are_named_and_nothing_is_done() -> Result<()> {
    let cloud = Cloud::new()?;
    let ec2 = cloud.lab.ec2();
    let cidr = [("CidrBlock", "203.0.113.128/26")];
    let both = [ec2.get(REGION, "CreateVpc", &cidr, "vpcId")?, ec2.get(REGION, "CreateVpc", &cidr, "vpcId")?];
    let before = cloud.census()?;
    let output = cloud.run(&["cast", "--yes", &document("client")])?;
    ensure!(output.code == 5, "exit {}\n{}", output.code, output.stderr);
    ensure!(both.iter().all(|vpc| output.stdout.contains(vpc.as_str())), "{}", output.stdout);
    ensure!(cloud.census()? == before, "something was made");
    Ok(())
}
