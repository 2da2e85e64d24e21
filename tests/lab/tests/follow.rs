//! Routers follow what is changed at the endpoint, and EC2's answers are as late as asked for.

#![allow(clippy::disallowed_methods, reason = "test code, outside the pure stages")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crosswan_lab::ec2::{Ec2, Target};
use crosswan_lab::{Gateway, Lab, Role, VpcSpec, internet::EC2};

const REGION: &str = "eu-west-1";
const LIMIT: Duration = Duration::from_secs(10);

/// A client VPC, and EC2 as its gateways see it.
fn region() -> Result<(Lab, Ec2)> {
    let lab = Lab::builder("/bin/true").vpc(VpcSpec::client("a", REGION, &["10.1.0.0/16"])?).build()?;
    let ec2 = Ec2::new(lab.internet().ns.clone(), SocketAddr::from((EC2, 80)));
    Ok((lab, ec2))
}

fn masquerade(gateway: &Gateway) -> Result<()> {
    gateway.sh("iptables -w 5 -t nat -A POSTROUTING -o ens5 -j MASQUERADE")?.ok().map(drop)
}

fn check(ec2: &Ec2, gateway: &Gateway, value: &str) -> Result<()> {
    let parameters = [("InstanceId", gateway.instance.as_str()), ("SourceDestCheck.Value", value)];
    ec2.call(REGION, "ModifyInstanceAttribute", &parameters).map(drop)
}

/// Sends a private subnet's default route to an instance or an interface.
fn route(ec2: &Ec2, table: &str, target: (&str, &str)) -> Result<()> {
    let parameters = [("RouteTableId", table), ("DestinationCidrBlock", "0.0.0.0/0"), target];
    ec2.call(REGION, "ReplaceRoute", &parameters).map(drop)
}

/// The one route of a table's XML to everywhere.
fn default_route(ec2: &Ec2, table: &str) -> Result<String> {
    let answer = ec2.call(REGION, "DescribeRouteTables", &[("RouteTableId.1", table)])?.0;
    let routes = answer.split("<destinationCidrBlock>").find(|part| part.starts_with("0.0.0.0/0"));
    Ok(routes.unwrap_or_default().split("</item>").next().unwrap_or_default().to_owned())
}

#[test]
fn packets_follow_a_check_and_a_route_that_are_changed_at_the_endpoint() -> Result<()> {
    let (lab, ec2) = region()?;
    let (one, host, internet) = (lab.gateway("a/nat-vpn")?, lab.host("a/host")?, lab.internet().address);
    let two = lab.add_gateway("a", Role::NatVpn)?;
    [&one, &two].into_iter().try_for_each(|gateway| masquerade(gateway))?;
    ensure!(!host.reaches(internet)?, "EC2 launches with the check off");
    for gateway in [&one, &two] {
        check(&ec2, gateway, "false")?;
    }
    ensure!(host.reaches(internet)?);
    check(&ec2, &one, "true")?;
    ensure!(!host.reaches(internet)?, "the check is on for the caller, and packets pass");
    let interface = lab.ec2().instance(REGION, &one.instance)?.interface;
    let off = [("NetworkInterfaceId", interface.as_str()), ("SourceDestCheck.Value", "false")];
    ec2.call(REGION, "ModifyNetworkInterfaceAttribute", &off)?;
    ensure!(host.reaches(internet)?, "the interface's check is that of its instance");
    ensure!(!lab.ec2().instance(REGION, &one.instance)?.source_dest_check);

    let [_, private] = lab.managed_tables("a")?;
    route(&ec2, &private, ("InstanceId", &two.instance))?;
    ensure!(Some(host.whoami_tcp(internet)?) == two.public());
    route(&ec2, &private, ("NetworkInterfaceId", &interface))?;
    ensure!(Some(host.whoami_tcp(internet)?) == one.public());
    lab.delete_routes("a")?;
    ensure!(!host.reaches(internet)?);
    let parameters =
        [("RouteTableId", private.as_str()), ("DestinationCidrBlock", "0.0.0.0/0"), ("InstanceId", &two.instance)];
    ec2.call(REGION, "CreateRoute", &parameters)?;
    ensure!(Some(host.whoami_tcp(internet)?) == two.public());
    let again = [parameters[0], parameters[1], ("NetworkInterfaceId", &interface)];
    let refused = ec2.call(REGION, "CreateRoute", &again).err().map(|error| format!("{error:#}"));
    ensure!(refused.as_ref().is_some_and(|why| why.contains("RouteAlreadyExists")), "{refused:?}");
    let main = lab.tables("a")?.into_iter().find(|table| table.id == private);
    let default = main.and_then(|table| table.routes.into_iter().find(|(to, _)| to.prefix_len() == 0));
    ensure!(default.map(|(_, target)| target) == Some(Target::Instance(two.instance.clone())));

    // Its VPC is not another's, nor one that is gone.
    lab.add_client("b", REGION, &["10.2.0.0/16"])?;
    let other = lab.gateway("b/nat-vpn")?;
    check(&ec2, &other, "false")?;
    lab.delete_vpc("b")?;
    route(&ec2, &private, ("InstanceId", &one.instance))?;
    ensure!(Some(host.whoami_tcp(internet)?) == one.public());
    Ok(())
}

#[test]
fn packets_follow_later_than_the_answers_where_asked() -> Result<()> {
    let (lab, ec2) = region()?;
    let (gateway, host, internet) = (lab.gateway("a/nat-vpn")?, lab.host("a/host")?, lab.internet().address);
    masquerade(&gateway)?;
    check(&ec2, &gateway, "false")?;
    ensure!(host.reaches(internet)?);
    lab.ec2_effect_delay(Duration::from_secs(2));
    let changed = Instant::now();
    check(&ec2, &gateway, "true")?;
    ensure!(ec2.instance(REGION, &gateway.instance)?.source_dest_check, "the answer waits, too");
    ensure!(host.reaches(internet)?, "packets did not wait");
    while host.reaches(internet)? {
        ensure!(changed.elapsed() < LIMIT, "packets do not follow at all");
    }
    Ok(())
}

#[test]
fn a_route_to_what_does_not_run_is_a_blackhole_for_packets_and_in_answers() -> Result<()> {
    let (lab, ec2) = region()?;
    let gateway = lab.gateway("a/nat-vpn")?;
    let interface = lab.ec2().instance(REGION, &gateway.instance)?.interface;
    let [_, private] = lab.managed_tables("a")?;
    let shows = |what: &[&str]| {
        let route = default_route(&ec2, &private)?;
        ensure!(what.iter().all(|one| route.contains(one)), "{what:?} in {route}");
        Ok(route)
    };
    let both = [format!("<instanceId>{}<", gateway.instance), format!("<networkInterfaceId>{interface}<")];
    for target in [("InstanceId", gateway.instance.as_str()), ("NetworkInterfaceId", &interface)] {
        route(&ec2, &private, target)?;
        shows(&[&both[0], &both[1], "<state>active<"])?;
    }
    lab.stop_instance(&gateway)?;
    shows(&[&both[0], &both[1], "<state>blackhole<"])?;
    lab.start_instance(&gateway, false)?;
    shows(&["<state>active<"])?;
    lab.terminate(&gateway)?;
    let route = shows(&[&both[1], "<state>blackhole<"])?;
    ensure!(!route.contains("instanceId"), "{route}");
    Ok(())
}

#[test]
fn answers_are_those_of_before_a_change_as_often_as_asked_for() -> Result<()> {
    let (lab, ec2) = region()?;
    let one = lab.gateway("a/nat-vpn")?;
    let two = lab.add_gateway("a", Role::NatVpn)?;
    let [_, private] = lab.managed_tables("a")?;
    lab.ec2_stale(REGION, "DescribeRouteTables", 2);
    lab.ec2_stale("*", "DescribeInstances", 1);
    ensure!(default_route(&ec2, &private)?.contains(&one.instance), "nothing has changed yet");
    route(&ec2, &private, ("InstanceId", &two.instance))?;
    for expected in [&one, &one, &two, &two] {
        let route = default_route(&ec2, &private)?;
        ensure!(route.contains(&expected.instance), "{route} and not {}", expected.instance);
    }
    check(&ec2, &one, "false")?;
    for expected in [true, false] {
        ensure!(ec2.instance(REGION, &one.instance)?.source_dest_check == expected, "not of before the first change");
    }
    Ok(())
}
