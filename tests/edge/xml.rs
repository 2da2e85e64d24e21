//! EC2's XML, and a region full of gateways to answer with.

use crate::server::{Reply, Request};

/// One running gateway, number `n` of a region: 10.n/256.n%256.0/24 is its VPC.
pub fn instance(n: usize) -> String {
    instance_of(&format!("i-{n:08x}"), &format!("vpc-{n:08x}"), &format!("10.{}.{}.10", n / 256, n % 256), "running")
}

pub fn instance_of(id: &str, vpc: &str, private: &str, state: &str) -> String {
    format!(
        "<item><instanceId>{id}</instanceId><instanceState><code>16</code><name>{state}</name></instanceState>\
         <launchTime>2026-01-02T03:04:05.000Z</launchTime><vpcId>{vpc}</vpcId>\
         <privateIpAddress>{private}</privateIpAddress><ipAddress>198.51.100.7</ipAddress></item>"
    )
}

/// A page of DescribeInstances.
pub fn instances(items: &[String], next: Option<&str>) -> String {
    let reservations: String = items
        .iter()
        .map(|i| format!("<item><reservationId>r-1</reservationId><instancesSet>{i}</instancesSet></item>"))
        .collect();
    answer("DescribeInstances", &format!("<reservationSet>{reservations}</reservationSet>"), next)
}

/// One VPC with `(cidr, state)` associations.
pub fn vpc(id: &str, cidrs: &[(&str, &str)]) -> String {
    let set: String = cidrs
        .iter()
        .map(|(cidr, state)| {
            format!(
                "<item><associationId>a</associationId><cidrBlock>{cidr}</cidrBlock>\
                 <cidrBlockState><state>{state}</state></cidrBlockState></item>"
            )
        })
        .collect();
    format!("<item><vpcId>{id}</vpcId><cidrBlockAssociationSet>{set}</cidrBlockAssociationSet></item>")
}

/// A page of DescribeVpcs.
pub fn vpcs(items: &[String], next: Option<&str>) -> String {
    answer("DescribeVpcs", &format!("<vpcSet>{}</vpcSet>", items.concat()), next)
}

/// The VPCs that [`instance`] puts its gateways in, for the ids a request asks for.
pub fn asked_vpcs(request: &Request) -> Reply {
    let items: Vec<String> = request
        .filter("vpc-id")
        .into_iter()
        .map(|id| {
            let n = usize::from_str_radix(&id[4..], 16).unwrap();
            vpc(id, &[(&format!("10.{}.{}.0/24", n / 256, n % 256), "associated")])
        })
        .collect();
    Reply::ok(vpcs(&items, None))
}

pub fn answer(action: &str, content: &str, next: Option<&str>) -> String {
    let next = next.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>r</requestId>{content}{next}</{action}Response>"
    )
}
