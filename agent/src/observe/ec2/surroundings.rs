//! What is around the own interface, for the doctor: its security groups, its subnet's network ACL, and the VPC's subnets with their
//! route tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_ec2::{
    Client,
    types::{IpPermission, NetworkAclEntry, RuleAction},
};
use futures_util::future::join3;
use ipnet::Ipv4Net;
use tokio::time::Instant;

use super::{
    Clients, filter, instances, next,
    own::{bounded, first_of},
    own_vpc::route,
    reason,
};
use crosswan_core::{
    doctor::{Subnet, Surroundings},
    model::{
        AclEntry, AskError, FarEnd, Identity, NetworkAcl, OwnInterface, Packets, RouteTableId, SecurityGroups,
        SubnetId, VpcRoute, Way,
    },
    settings::Tag,
};

/// Per page, where EC2 accepts no more.
const PAGE: i32 = 100;

/// Asks for everything around the interface `own`, at once, and for no longer than `timeout`. `tables` is the tag of the route tables that
/// gateways write into.
pub async fn surroundings(
    clients: &Clients,
    me: &Identity,
    own: &OwnInterface,
    tables: &Tag,
    timeout: Duration,
) -> Surroundings {
    let deadline = Instant::now() + timeout;
    let client = match clients.client(&me.region, timeout, deadline).await {
        Ok(client) => client,
        Err(why) => return Surroundings { groups: Err(why.clone()), acl: Err(why.clone()), subnets: Err(why) },
    };
    let (groups, acl, subnets) = join3(
        bounded(deadline, timeout, groups(&client, me)),
        bounded(deadline, timeout, acl(&client, me, own)),
        bounded(deadline, timeout, subnets(&client, me, tables)),
    )
    .await;
    Surroundings { groups, acl, subnets }
}

async fn groups(client: &Client, me: &Identity) -> Result<SecurityGroups, AskError> {
    const OPERATION: &str = "DescribeSecurityGroups";
    let mut ids = BTreeSet::new();
    instances(client, vec![filter("instance-id", [me.instance.to_string()])], &me.region, |instance| {
        let groups = first_of(instance).map(|interface| interface.groups()).unwrap_or_default();
        ids.extend(groups.iter().filter_map(|group| group.group_id().map(str::to_owned)));
    })
    .await?;
    let ids: Vec<String> = ids.into_iter().collect();
    if ids.is_empty() {
        return Err(reason::misfit("DescribeInstances", "the first interface has no security group in it"));
    }
    // An interface has at most 16 groups, so there is one page.
    let asked = client.describe_security_groups().set_group_ids(Some(ids.clone())).send().await;
    let answer = asked.map_err(|error| reason::failed(OPERATION, &me.region, error))?;
    let groups = answer.security_groups.ok_or_else(|| reason::misfit(OPERATION, "it has no securityGroupInfo"))?;
    let rules = groups.iter().flat_map(|group| {
        let each =
            |way, rules: &[IpPermission]| rules.iter().flat_map(move |rule| permission(way, rule)).collect::<Vec<_>>();
        [each(Way::In, group.ip_permissions()), each(Way::Out, group.ip_permissions_egress())].concat()
    });
    Ok(SecurityGroups { rules: rules.collect(), ids })
}

/// One rule of a group, for each of its far ends. A rule for IPv6 alone has none.
fn permission(way: Way, rule: &IpPermission) -> Vec<(Way, Packets, FarEnd)> {
    let Some(protocol) = protocol(rule.ip_protocol()) else { return Vec::new() };
    let packets = Packets { protocol, range: rule.from_port().zip(rule.to_port()) };
    let nets = rule.ip_ranges().iter().filter_map(|range| Some(FarEnd::Net(range.cidr_ip()?.parse().ok()?)));
    let groups = rule.user_id_group_pairs().iter().map(|_| FarEnd::Group);
    let lists = rule.prefix_list_ids().iter().map(|_| FarEnd::PrefixList);
    nets.chain(groups).chain(lists).map(|end| (way, packets, end)).collect()
}

/// A protocol's number out of EC2's text; inside, `None` for all of them. `None` outside if it is not IPv4's.
fn protocol(text: Option<&str>) -> Option<Option<u8>> {
    Some(match text? {
        "-1" => None,
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmp" => Some(1),
        number => Some(number.parse().ok()?),
    })
}

async fn acl(client: &Client, me: &Identity, own: &OwnInterface) -> Result<NetworkAcl, AskError> {
    const OPERATION: &str = "DescribeNetworkAcls";
    let of_subnet = filter("association.subnet-id", [own.subnet.to_string()]);
    let asked = client.describe_network_acls().filters(of_subnet).send().await;
    let answer = asked.map_err(|error| reason::failed(OPERATION, &me.region, error))?;
    let acls = answer.network_acls.ok_or_else(|| reason::misfit(OPERATION, "it has no networkAclSet"))?;
    // Every subnet has exactly one.
    let [acl] = &acls[..] else {
        return Err(reason::misfit(OPERATION, format!("it has {} network ACLs for {}", acls.len(), own.subnet)));
    };
    Ok(NetworkAcl {
        id: acl.network_acl_id().unwrap_or_default().to_owned(),
        entries: acl.entries().iter().filter_map(entry).collect(),
    })
}

/// One entry for IPv4; `None` for any other.
fn entry(entry: &NetworkAclEntry) -> Option<AclEntry> {
    let ports = entry.port_range().and_then(|range| range.from().zip(range.to()));
    let icmp = entry.icmp_type_code().and_then(|icmp| Some((icmp.r#type()?, icmp.code().unwrap_or(-1))));
    Some(AclEntry {
        number: entry.rule_number()?,
        way: if entry.egress()? { Way::Out } else { Way::In },
        packets: Packets { protocol: protocol(entry.protocol())?, range: ports.or(icmp) },
        net: entry.cidr_block()?.parse().ok()?,
        allows: *entry.rule_action()? == RuleAction::Allow,
    })
}

async fn subnets(client: &Client, me: &Identity, tag: &Tag) -> Result<BTreeMap<SubnetId, Subnet>, AskError> {
    const OPERATION: &str = "DescribeSubnets";
    let tables = tables(client, me, tag).await?;
    let mut found = BTreeMap::new();
    let mut token = None;
    loop {
        let of_vpc = filter("vpc-id", [me.vpc.to_string()]);
        let asked =
            client.describe_subnets().filters(of_vpc).max_results(PAGE).set_next_token(token.clone()).send().await;
        let page = asked.map_err(|error| reason::failed(OPERATION, &me.region, error))?;
        for subnet in page.subnets.ok_or_else(|| reason::misfit(OPERATION, "it has no subnetSet"))? {
            let misfit = |why: String| reason::misfit(OPERATION, why);
            let id: SubnetId = subnet.subnet_id().unwrap_or_default().parse().map_err(|e| misfit(format!("{e}")))?;
            // One for IPv6 alone has no such network.
            let Some(net) = subnet.cidr_block().and_then(|net| net.parse::<Ipv4Net>().ok()) else { continue };
            let (table, tagged, routes) =
                tables.of(&id).cloned().ok_or_else(|| misfit(format!("{id} has no route table")))?;
            found.insert(id, Subnet { net, table, tagged, routes });
        }
        if !next(OPERATION, &mut token, page.next_token)? {
            return Ok(found);
        }
    }
}

/// A table's id, whether it has the tag, and its routes.
type Table = (RouteTableId, bool, BTreeMap<Ipv4Net, VpcRoute>);

/// The VPC's route tables.
#[derive(Default)]
struct Tables {
    main: Option<Table>,
    by_subnet: BTreeMap<String, Table>,
}

impl Tables {
    /// The table of a subnet. One without an association of its own has the main table.
    fn of(&self, subnet: &SubnetId) -> Option<&Table> {
        self.by_subnet.get(subnet.as_str()).or(self.main.as_ref())
    }
}

async fn tables(client: &Client, me: &Identity, tag: &Tag) -> Result<Tables, AskError> {
    const OPERATION: &str = "DescribeRouteTables";
    let mut found = Tables::default();
    let mut token = None;
    loop {
        let of_vpc = filter("vpc-id", [me.vpc.to_string()]);
        let asked =
            client.describe_route_tables().filters(of_vpc).max_results(PAGE).set_next_token(token.clone()).send().await;
        let page = asked.map_err(|error| reason::failed(OPERATION, &me.region, error))?;
        for table in page.route_tables.ok_or_else(|| reason::misfit(OPERATION, "it has no routeTableSet"))? {
            let id = table.route_table_id().unwrap_or_default();
            let id = id.parse().map_err(|e| reason::misfit(OPERATION, format!("{e}")))?;
            let tagged = table.tags().iter().any(|t| t.key() == Some(&tag.key) && t.value() == Some(&tag.value));
            let one: Table = (id, tagged, table.routes().iter().filter_map(route).collect());
            for association in table.associations() {
                if association.main().unwrap_or_default() {
                    found.main = Some(one.clone());
                } else if let Some(subnet) = association.subnet_id() {
                    found.by_subnet.insert(subnet.to_owned(), one.clone());
                }
            }
        }
        if !next(OPERATION, &mut token, page.next_token)? {
            return Ok(found);
        }
    }
}
