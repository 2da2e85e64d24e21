//! What is around the gateway in its VPC and stops packets there: security groups, the network ACL, and route tables.

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Fault, Gateway};

use super::{checks, examine, healthy, ids, only, remedy_of, why_not};
use crate::region::Region;

/// A rule of the default group: protocol, port, and network.
type Rule<'a> = (&'a str, &'a str, &'a str);

pub(super) fn around(region: &Region, spoke: &Gateway) -> Result<()> {
    let hub = region.gateway("hub/vpn-hub")?;
    groups(region, &hub, ("udp", "500", "0.0.0.0/0"), "security-group-ike", 7)?;
    // A spoke initiates: what comes from the hub are answers, as a rule.
    groups(region, spoke, ("udp", "4500", "0.0.0.0/0"), "security-group-ike", 6)?;
    groups(region, spoke, ("-1", "-1", "10.0.0.0/8"), "security-group-private", 7)?;
    acl(region, spoke, &hub)?;
    routes(region, spoke)?;

    // A role from before these checks: they say what it lacks, and nothing else changes.
    for (action, unseen) in [
        ("DescribeSecurityGroups", &["security-group-ike", "security-group-private"][..]),
        ("DescribeNetworkAcls", &["nacl"]),
        ("DescribeSubnets", &["subnet-unrouted", "security-group-private"]),
    ] {
        region.lab.ec2_fault(&spoke.region, action, Fault::Unauthorized);
        let (code, said) = examine(spoke)?;
        ensure!(code == 0, "{action}: {said:#}");
        for id in unseen {
            let check = checks(&said).find(|check| check["id"] == **id).context("no such check")?;
            ensure!(ids(&said, "not-looked-at").contains(id), "{check:#}");
            let found = check["found"].as_str().unwrap_or_default();
            ensure!(found.contains(&format!("ec2:{action}")) && found.contains("LookAround"), "{check:#}");
        }
        region.lab.ec2_heal();
    }
    region.lab.ec2_fault(&spoke.region, "DescribeNetworkAcls", Fault::Garbage);
    only(spoke, "nacl", 3, "once EC2 answers")?;
    region.lab.ec2_heal();
    healthy(spoke)
}

/// Takes a rule away, which must fail this one check. What its remedy lets in makes it pass.
fn groups(region: &Region, gateway: &Gateway, (protocol, port, net): Rule<'_>, id: &str, code: i32) -> Result<()> {
    let vpc = gateway.name.split('/').next().context("no VPC")?;
    let group = region.lab.default_group(&gateway.region, &region.lab.vpc_id(vpc)?)?;
    let call = |action: &str, nets: &[String]| {
        let mut form = vec![("GroupId".to_owned(), group.clone())];
        for (name, value) in [("IpProtocol", protocol), ("FromPort", port), ("ToPort", port)] {
            form.push((format!("IpPermissions.1.{name}"), value.to_owned()));
        }
        form.extend(
            nets.iter().enumerate().map(|(n, net)| (format!("IpPermissions.1.IpRanges.{}.CidrIp", n + 1), net.clone())),
        );
        let form: Vec<_> = form.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        region.lab.ec2().call(&gateway.region, action, &form)
    };
    call("RevokeSecurityGroupIngress", &[net.to_owned()])?;
    let command = format!("authorize-security-group-ingress --region {} --group-id {group}", gateway.region);
    eprintln!("{id}: {}", only(gateway, id, code, &command)?);
    if id == "security-group-private" {
        why_not(gateway, region.address(&format!("{vpc}/host"))?, region.address("hub/host")?, code, &command)?;
    }
    let remedy = remedy_of(gateway, id)?;
    let nets: Vec<String> =
        remedy.split("{CidrIp=").skip(1).filter_map(|rest| Some(rest.split('}').next()?.to_owned())).collect();
    let nets: Vec<String> = std::collections::BTreeSet::from_iter(nets).into_iter().collect();
    ensure!(!nets.is_empty() && !nets.contains(&net.to_owned()), "{remedy}");
    call("AuthorizeSecurityGroupIngress", &nets)?;
    healthy(gateway)?;
    call("RevokeSecurityGroupIngress", &nets)?;
    call("AuthorizeSecurityGroupIngress", &[net.to_owned()])?;
    healthy(gateway)
}

/// Entries that deny what the default ACL lets pass.
fn acl(region: &Region, spoke: &Gateway, hub: &Gateway) -> Result<()> {
    let ec2 = |action: &str, form: &[(&str, &str)]| region.lab.ec2().call(&spoke.region, action, form);
    let own = region.lab.ec2().instance(&spoke.region, &spoke.instance)?.subnet;
    let filter = [("Filter.1.Name", "association.subnet-id"), ("Filter.1.Value.1", own.as_str())];
    let acl = region.lab.ec2().get(&spoke.region, "DescribeNetworkAcls", &filter, "networkAclId")?;
    let hub = format!("{}/32", hub.public().context("no public address")?);
    for (egress, protocol, port, to, net) in [
        ("false", "17", "4500", "4500", hub.as_str()),
        ("true", "17", "500", "500", "0.0.0.0/0"),
        // Answers of the internet, which an ACL does not know as answers.
        ("false", "6", "1024", "65535", "0.0.0.0/0"),
        ("false", "-1", "", "", "10.1.1.0/24"),
    ] {
        let entry = |number: &str, action: &str| {
            let base = [("NetworkAclId", acl.as_str()), ("RuleNumber", number), ("Egress", egress)];
            let what = [("Protocol", protocol), ("RuleAction", action), ("CidrBlock", net)];
            let ports = [("PortRange.From", port), ("PortRange.To", to)];
            let ports = if port.is_empty() { &[][..] } else { &ports };
            ec2("CreateNetworkAclEntry", &[&base[..], &what, ports].concat())
        };
        entry("50", "deny")?;
        let way = if egress == "true" { "--egress" } else { "--ingress" };
        let command =
            format!("create-network-acl-entry --region {} --network-acl-id {acl} {way} --rule-number 49", spoke.region);
        eprintln!("{}", only(spoke, "nacl", 7, &command)?);
        entry("49", "allow")?;
        healthy(spoke)?;
        for number in ["49", "50"] {
            ec2("DeleteNetworkAclEntry", &[("NetworkAclId", &acl), ("RuleNumber", number), ("Egress", egress)])?;
        }
        healthy(spoke)?;
    }
    Ok(())
}

/// A subnet that nobody has given a route table, and a network that somebody leads elsewhere inside the private one.
fn routes(region: &Region, spoke: &Gateway) -> Result<()> {
    let ec2 = |action: &str, form: &[(&str, &str)]| region.lab.ec2().call(&spoke.region, action, form);
    let [_, table] = region.lab.managed_tables("a")?;
    healthy(spoke)?;
    let vpc = region.lab.vpc_id("a")?;
    let subnet = ec2("CreateSubnet", &[("VpcId", &vpc), ("CidrBlock", "10.1.77.0/24")])?.first("subnetId")?;
    let found = only(spoke, "subnet-unrouted", 6, "--tags 'Key=crosswan-routes,Value=managed' && crosswan refresh")?;
    ensure!(found.contains(&subnet), "{found}");
    ec2("DeleteSubnet", &[("SubnetId", &subnet)])?;
    healthy(spoke)?;
    let view = region.lab.ec2().vpc(&spoke.region, &vpc)?;
    let other = view.instances.iter().find(|i| i.id != spoke.instance).context("another instance")?;
    let route = [("RouteTableId", table.as_str()), ("DestinationCidrBlock", "10.200.0.0/16")];
    ec2("CreateRoute", &[&route[..], &[("NetworkInterfaceId", other.interface.as_str())]].concat())?;
    let look = format!("describe-route-tables --route-table-ids {table}");
    let found = only(spoke, &format!("route-{table}-10.0.0.0/8"), 6, &look)?;
    ensure!(found.contains("10.200.0.0/16"), "{found}");
    ec2("DeleteRoute", &route)?;
    healthy(spoke)
}
