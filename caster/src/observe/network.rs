//! VPCs and what is in them, from EC2.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::{
    Client,
    types::{IpPermission, NetworkAclEntry, Route, RuleAction, Tag, VpcAttributeName},
};
use futures_util::future::try_join_all;
use ipnet::Ipv4Net;

use super::Query;
use crate::{
    aws::{Failure, listed, pages},
    part::{CAST, Tags},
    rule::{AclEntry, Peer, Rule},
    seen::{Acl, Group, Id, InternetGateway, RouteTable, Subnet, Tagged as _, Vpc},
};

pub(super) fn tags(tags: Option<Vec<Tag>>) -> Tags {
    tags.unwrap_or_default().into_iter().filter_map(|t| Some((t.key?, t.value.unwrap_or_default()))).collect()
}

/// A CIDR, its host bits cleared. `None` if it is missing or not an IPv4 CIDR, as in a subnet that has IPv6 only.
pub(super) fn cidr(text: Option<&str>) -> Option<Ipv4Net> {
    text?.parse::<Ipv4Net>().ok().map(|net| net.trunc())
}

/// Whether DNS hostnames are on is asked for those that a document may mean.
pub(super) async fn vpcs(ec2: &Client, query: &Query) -> Result<BTreeMap<Id, Vpc>, Failure> {
    let found = pages!("ec2:DescribeVpcs", ec2.describe_vpcs(), vpcs).await?;
    let all = found.into_iter().filter_map(|v| {
        let (cidr, tags) = (cidr(v.cidr_block.as_deref())?, tags(v.tags));
        Some((v.vpc_id?, Vpc { cidr, default: v.is_default.unwrap_or(false), dns_hostnames: false, tags }))
    });
    let with_names = all.map(|(id, vpc)| async move {
        let meant = query.vpcs.contains(&vpc.cidr) || vpc.tag(CAST).is_some_and(|cast| query.casts.contains(cast));
        let dns_hostnames = meant && dns_hostnames(ec2, &id).await?;
        Ok::<_, Failure>((id, Vpc { dns_hostnames, ..vpc }))
    });
    Ok(try_join_all(with_names).await?.into_iter().collect())
}

async fn dns_hostnames(ec2: &Client, vpc: &str) -> Result<bool, Failure> {
    let call = ec2.describe_vpc_attribute().vpc_id(vpc).attribute(VpcAttributeName::EnableDnsHostnames);
    let answer = call.send().await;
    let answer = answer.map_err(|e| Failure::of("ec2:DescribeVpcAttribute", &e))?;
    let value = answer.enable_dns_hostnames.and_then(|a| a.value);
    value.ok_or_else(|| Failure::misfit("ec2:DescribeVpcAttribute", "enableDnsHostnames"))
}

pub(super) async fn internet_gateways(ec2: &Client) -> Result<BTreeMap<Id, InternetGateway>, Failure> {
    let found = pages!("ec2:DescribeInternetGateways", ec2.describe_internet_gateways(), internet_gateways).await?;
    let gateway = |g: aws_sdk_ec2::types::InternetGateway| {
        let vpc = g.attachments.unwrap_or_default().into_iter().find_map(|a| a.vpc_id);
        Some((g.internet_gateway_id?, InternetGateway { vpc, tags: tags(g.tags) }))
    };
    Ok(found.into_iter().filter_map(gateway).collect())
}

pub(super) async fn subnets(ec2: &Client) -> Result<BTreeMap<Id, Subnet>, Failure> {
    let found = pages!("ec2:DescribeSubnets", ec2.describe_subnets(), subnets).await?;
    let subnet = |s: aws_sdk_ec2::types::Subnet| {
        let cidr = cidr(s.cidr_block.as_deref())?;
        let (vpc, zone) = (s.vpc_id?, s.availability_zone.unwrap_or_default());
        Some((s.subnet_id?, Subnet { vpc, cidr, zone, tags: tags(s.tags) }))
    };
    Ok(found.into_iter().filter_map(subnet).collect())
}

pub(super) async fn route_tables(ec2: &Client) -> Result<BTreeMap<Id, RouteTable>, Failure> {
    let found = pages!("ec2:DescribeRouteTables", ec2.describe_route_tables(), route_tables).await?;
    let table = |t: aws_sdk_ec2::types::RouteTable| {
        let associations = t.associations.unwrap_or_default();
        let table = RouteTable {
            vpc: t.vpc_id?,
            main: associations.iter().any(|a| a.main == Some(true)),
            subnets: associations.into_iter().filter_map(|a| a.subnet_id).collect(),
            routes: t.routes.unwrap_or_default().into_iter().filter_map(route).collect(),
            tags: tags(t.tags),
        };
        Some((t.route_table_id?, table))
    };
    Ok(found.into_iter().filter_map(table).collect())
}

/// `None` for the VPC's own route, and for those of IPv6 and of prefix lists.
fn route(route: Route) -> Option<(Ipv4Net, Id)> {
    let to = cidr(route.destination_cidr_block.as_deref())?;
    // Where there are an instance and an interface, the interface is what the route goes to.
    let target = [
        route.network_interface_id,
        route.instance_id,
        route.gateway_id,
        route.nat_gateway_id,
        route.transit_gateway_id,
        route.vpc_peering_connection_id,
        route.local_gateway_id,
        route.carrier_gateway_id,
        route.core_network_arn,
    ];
    let target = target.into_iter().flatten().find(|t| !t.is_empty()).unwrap_or_else(|| "unknown".to_owned());
    (target != "local").then_some((to, target))
}

/// The default ACL of each VPC.
pub(super) async fn acls(ec2: &Client) -> Result<BTreeMap<Id, Acl>, Failure> {
    let found = pages!("ec2:DescribeNetworkAcls", ec2.describe_network_acls(), network_acls).await?;
    let acl = |a: aws_sdk_ec2::types::NetworkAcl| {
        let entries = a.entries.unwrap_or_default().iter().filter_map(acl_entry).collect();
        Some((a.network_acl_id?, Acl { vpc: a.vpc_id?, entries }))
    };
    Ok(found.into_iter().filter(|a| a.is_default == Some(true)).filter_map(acl).collect())
}

/// Without the last one (32767), and without those of IPv6.
fn acl_entry(entry: &NetworkAclEntry) -> Option<AclEntry> {
    let number = u16::try_from(entry.rule_number?).ok().filter(|n| *n < 32767)?;
    let port = |port: Option<i32>| u16::try_from(port?).ok();
    let ports = entry.port_range.as_ref().and_then(|r| port(r.from).zip(port(r.to)));
    let code = |code: Option<i32>| i16::try_from(code?).ok();
    let icmp = entry.icmp_type_code.as_ref().and_then(|i| code(i.r#type).zip(code(i.code)));
    Some(AclEntry {
        egress: entry.egress.unwrap_or(false),
        number,
        protocol: entry.protocol.as_deref()?.parse().ok()?,
        allow: entry.rule_action == Some(RuleAction::Allow),
        cidr: cidr(entry.cidr_block.as_deref())?,
        ports,
        icmp,
    })
}

pub(super) async fn groups(ec2: &Client) -> Result<BTreeMap<Id, Group>, Failure> {
    let found = pages!("ec2:DescribeSecurityGroups", ec2.describe_security_groups(), security_groups).await?;
    let group = |g: aws_sdk_ec2::types::SecurityGroup| {
        let mut all = BTreeSet::new();
        g.ip_permissions.unwrap_or_default().iter().for_each(|p| rules(p, false, &mut all));
        g.ip_permissions_egress.unwrap_or_default().iter().for_each(|p| rules(p, true, &mut all));
        // A group of EC2-Classic has no VPC.
        Some((g.group_id?, Group { vpc: g.vpc_id?, name: g.group_name?, rules: all, tags: tags(g.tags) }))
    };
    Ok(found.into_iter().filter_map(group).collect())
}

/// A rule for each source of a permission. Prefix lists and IPv6 are not the document's, so they are left out.
fn rules(permission: &IpPermission, egress: bool, all: &mut BTreeSet<Rule>) {
    let Some(protocol) = permission.ip_protocol.clone() else { return };
    let every = protocol == "-1";
    let port = |port: Option<i32>| port.filter(|_| !every).unwrap_or(-1);
    let (from, to) = (port(permission.from_port), port(permission.to_port));
    let cidrs = permission.ip_ranges.iter().flatten().filter_map(|r| cidr(r.cidr_ip.as_deref())).map(Peer::Cidr);
    let pairs = permission.user_id_group_pairs.iter().flatten();
    let groups = pairs.filter_map(|p| p.group_id.clone()).map(Peer::Group);
    all.extend(cidrs.chain(groups).map(|peer| Rule { egress, protocol: protocol.clone(), from, to, peer }));
}

/// The zones that the account may use, with their kind.
pub(super) async fn zones(ec2: &Client) -> Result<BTreeMap<String, String>, Failure> {
    let call = ec2.describe_availability_zones();
    let found = listed!("ec2:DescribeAvailabilityZones", call, availability_zones).await?;
    let kind = |kind: Option<String>| kind.unwrap_or_else(|| "availability-zone".to_owned());
    Ok(found.into_iter().filter_map(|z| Some((z.zone_name?, kind(z.zone_type)))).collect())
}

/// Names of key pairs.
pub(super) async fn key_pairs(ec2: &Client) -> Result<BTreeSet<String>, Failure> {
    let found = listed!("ec2:DescribeKeyPairs", ec2.describe_key_pairs(), key_pairs).await?;
    Ok(found.into_iter().filter_map(|k| k.key_name).collect())
}
