//! The own VPC: its segment, its route tables that carry the tag, and the instances that their routes lead to; and a route there that is
//! led to this gateway until that reads back.

#![allow(clippy::disallowed_methods, reason = "edge: bounded pauses between two reads")]

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_ec2::{
    Client,
    error::ProvideErrorMetadata as _,
    types::{Instance, InstanceStateName, Route, RouteState},
};
use futures_util::FutureExt as _;
use ipnet::Ipv4Net;
use tokio::time::{Instant, sleep};

use super::{
    Clients, FILTER_VALUES, PAGE,
    answer::{key_tags, launched, segment, tag},
    client, filter, instances, literal, next,
    own::{bounded, own_tags, pauses},
    reason, vpcs,
};
use crosswan_core::{
    decide::TakeRoute,
    model::{
        AskError, Identity, InstanceId, Member, Neighbour, OwnInterface, OwnTags, OwnVpc, Region, RouteTable,
        RouteTableId, RouteTarget, SegmentTag, SubnetId, VpcId, VpcRoute, Zone,
    },
    pair::Me,
    settings::{Settings, Tag},
};

/// Which route tables to look for, and what tells that an instance is a gateway of the own mode.
pub struct Tags<'a> {
    /// The tag of the route tables.
    pub tables: &'a Tag,
    /// The tag of gateways of the own mode.
    pub gateways: &'a Tag,
    /// The second tag of all gateways.
    pub environment: Option<&'a Tag>,
    /// Whether to look for the other gateways of the own mode as well, wherever routes lead.
    pub members: bool,
}

impl<'a> Tags<'a> {
    /// Those of the settings.
    pub fn of(settings: &'a Settings) -> Tags<'a> {
        let (tables, gateways) = (&settings.routes_tag, settings.own_tag());
        Tags { tables, gateways, environment: settings.environment_tag.as_ref(), members: settings.pair.is_some() }
    }
}

/// Asks for the own instance and, once it is known which interface is its own, for its VPC; for no longer than `timeout` in all. There is
/// no answer about the VPC where there is none about the instance.
pub async fn own_place(
    clients: &Clients,
    me: &Identity,
    about: &Tags<'_>,
    timeout: Duration,
) -> (Result<OwnTags, AskError>, Option<Result<OwnVpc, AskError>>) {
    let deadline = Instant::now() + timeout;
    let tags = own_tags(clients, &me.region, &me.instance, timeout).await;
    let vpc = match tags.as_ref().ok().and_then(|tags| tags.interface.as_ref()) {
        Some(own) => Some(own_vpc(clients, me, own, about, deadline.saturating_duration_since(Instant::now())).await),
        None => None,
    };
    (tags, vpc)
}

/// Asks for the segment of the own VPC by the tag with this key, for no longer than `timeout`.
///
/// # Errors
/// Why EC2 could not be asked, or did not show the VPC.
pub async fn own_segment(
    clients: &Clients,
    me: &Identity,
    key: &str,
    timeout: Duration,
) -> Result<SegmentTag, AskError> {
    let deadline = Instant::now() + timeout;
    let client = clients.client(&me.region, timeout, deadline).await?;
    let asked = async {
        let found = vpcs(&client, &[me.vpc.to_string()], &me.region).await?;
        let own = found.iter().find(|vpc| vpc.vpc_id() == Some(me.vpc.as_str()));
        own.map(|vpc| segment(vpc, key)).ok_or_else(|| reason::misfit("DescribeVpcs", "it does not show the own VPC"))
    };
    bounded(deadline, timeout, asked).await.map_err(|why| clients.with_tries(why))
}

/// Asks for the own VPC's route tables with the tag, and for the instances that they lead to, for no longer than `timeout`.
///
/// # Errors
/// Why EC2 could not be asked.
pub async fn own_vpc(
    clients: &Clients,
    me: &Identity,
    own: &OwnInterface,
    tags: &Tags<'_>,
    timeout: Duration,
) -> Result<OwnVpc, AskError> {
    let deadline = Instant::now() + timeout;
    let client = clients.client(&me.region, timeout, deadline).await?;
    let asked = async {
        let Tables { tagged, subnets, main } = tables(&client, &me.region, (&me.vpc, &own.subnet), tags.tables).await?;
        let mut vpc = OwnVpc { tables: tagged, ..OwnVpc::default() };
        let others: Vec<String> =
            vpc.instances().into_iter().filter(|id| **id != me.instance).map(ToString::to_string).collect();
        for ids in others.chunks(FILTER_VALUES) {
            let by_id = vec![filter("instance-id", ids.iter().cloned())];
            let note = |instance: &Instance| vpc.neighbours.extend(neighbour(instance, tags.gateways));
            instances(&client, by_id, &me.region, note).await?;
        }
        if tags.members {
            let with = |tag: &Tag| filter(format!("tag:{}", tag.key), [literal(&tag.value)]);
            let mut filters = vec![filter("vpc-id", [me.vpc.to_string()]), with(tags.gateways)];
            filters.push(filter("instance-state-name", ["running".to_owned()]));
            filters.extend(tags.environment.map(with));
            let mut members = BTreeMap::new();
            instances(&client, filters, &me.region, |instance| members.extend(member(instance))).await?;
            members.remove(&me.instance);
            // Alone it has nobody to share with.
            let zones = match members.is_empty() {
                true => BTreeMap::new(),
                false => zones(&client, &me.region, &me.vpc).await.unwrap_or_else(|why| {
                    vpc.zones_unasked = Some(why);
                    BTreeMap::new()
                }),
            };
            vpc.zone = zones.get(&own.subnet).cloned();
            // A subnet without an association of its own has the main table.
            for (subnet, zone) in &zones {
                let table = subnets.get(subnet).or(main.as_ref());
                if let Some(table) = table.and_then(|id| vpc.tables.get_mut(id)) {
                    table.zones.insert(zone.clone());
                }
            }
            let placed = |(id, (subnet, member))| (id, Member { zone: zones.get(&subnet).cloned(), ..member });
            vpc.members = Some(members.into_iter().map(placed).collect());
        }
        Ok(vpc)
    };
    bounded(deadline, timeout, asked).await.map_err(|why| clients.with_tries(why))
}

/// The route tables of a VPC.
struct Tables {
    /// Those with the tag.
    tagged: BTreeMap<RouteTableId, RouteTable>,
    /// Which table each subnet has, of those that are associated with one.
    subnets: BTreeMap<SubnetId, RouteTableId>,
    /// The table of all other subnets.
    main: Option<RouteTableId>,
}

/// The tables of the own VPC with this tag. All are asked for, as the own subnet may have one without it.
async fn tables(
    client: &Client,
    region: &Region,
    (vpc, subnet): (&VpcId, &SubnetId),
    with: &Tag,
) -> Result<Tables, AskError> {
    const OPERATION: &str = "DescribeRouteTables";
    let mut found = Tables { tagged: BTreeMap::new(), subnets: BTreeMap::new(), main: None };
    let mut token = None;
    loop {
        let page = client
            .describe_route_tables()
            .filters(filter("vpc-id", [vpc.to_string()]))
            .max_results(PAGE.min(100))
            .set_next_token(token.clone())
            .send()
            .await
            .map_err(|error| reason::failed(OPERATION, region, error))?;
        for table in page.route_tables.ok_or_else(|| reason::misfit(OPERATION, "it has no routeTableSet"))? {
            let misfit = |why: String| reason::misfit(OPERATION, why);
            // A tag may name another VPC's table; the filter leaves it out, and so does this.
            if table.vpc_id().and_then(|vpc| vpc.parse::<VpcId>().ok()).as_ref() != Some(vpc) {
                continue;
            }
            let id: RouteTableId =
                table.route_table_id().unwrap_or_default().parse().map_err(|e| misfit(format!("{e}")))?;
            for association in table.associations() {
                let subnet = association.subnet_id().and_then(|of| of.parse().ok());
                found.subnets.extend(subnet.map(|subnet| (subnet, id.clone())));
                found.main = found.main.or_else(|| association.main().unwrap_or_default().then(|| id.clone()));
            }
            if table.tags().iter().any(|tag| tag.key() == Some(&with.key) && tag.value() == Some(&with.value)) {
                let routes = table.routes().iter().filter_map(route).collect();
                found.tagged.insert(id, RouteTable { routes, ..RouteTable::default() });
            }
        }
        if !next(OPERATION, &mut token, page.next_token)? {
            // A subnet without an association of its own has the main table.
            let own = found.subnets.get(subnet).or(found.main.as_ref());
            if let Some(table) = own.and_then(|own| found.tagged.get_mut(own)) {
                table.own = true;
            }
            return Ok(found);
        }
    }
}

/// A route for IPv4, with its destination; `None` for any other.
pub(super) fn route(route: &Route) -> Option<(Ipv4Net, VpcRoute)> {
    let to = route.destination_cidr_block()?.parse().ok()?;
    let interface = route.network_interface_id();
    let instance = route.instance_id();
    let other = [
        route.nat_gateway_id(),
        route.transit_gateway_id(),
        route.vpc_peering_connection_id(),
        route.local_gateway_id(),
        route.carrier_gateway_id(),
        route.core_network_arn(),
    ];
    let target = match (route.gateway_id(), other.into_iter().flatten().next()) {
        (Some("local"), _) => RouteTarget::Local,
        (Some(id), _) if id.starts_with("igw-") => RouteTarget::InternetGateway(id.into()),
        (Some(id), _) | (None, Some(id)) => RouteTarget::Other(id.into()),
        (None, None) if interface.is_some() || instance.is_some() => RouteTarget::Interface {
            interface: interface.and_then(|id| id.parse().ok()),
            instance: instance.and_then(|id| id.parse().ok()),
        },
        (None, None) => RouteTarget::Other("a target that EC2 does not name".into()),
    };
    Some((to, VpcRoute { target, blackhole: route.state() == Some(&RouteState::Blackhole) }))
}

/// The zone of each subnet of a VPC. What EC2 shows of a subnet in another form than its own is passed over: it has no zone then.
async fn zones(client: &Client, region: &Region, vpc: &VpcId) -> Result<BTreeMap<SubnetId, Zone>, AskError> {
    const OPERATION: &str = "DescribeSubnets";
    let mut found = BTreeMap::new();
    let mut token = None;
    loop {
        let request = client.describe_subnets().filters(filter("vpc-id", [vpc.to_string()])).max_results(PAGE.min(100));
        let asked = request.set_next_token(token.clone()).send().await;
        let page = asked.map_err(|error| reason::failed(OPERATION, region, error))?;
        for subnet in page.subnets.ok_or_else(|| reason::misfit(OPERATION, "it has no subnetSet"))? {
            let id = subnet.subnet_id().and_then(|id| id.parse().ok());
            found.extend(id.zip(subnet.availability_zone().and_then(|zone| zone.parse().ok())));
        }
        if !next(OPERATION, &mut token, page.next_token)? {
            return Ok(found);
        }
    }
}

/// A gateway with a private address, an interface, the subnet of that, and perhaps a key; `None` if the answer lacks one of the first
/// three. Its zone is its subnet's.
fn member(instance: &Instance) -> Option<(InstanceId, (SubnetId, Member))> {
    let first = |device: Option<i32>| device.is_none_or(|index| index == 0);
    let interface =
        instance.network_interfaces().iter().find(|i| first(i.attachment().and_then(|a| a.device_index())))?;
    let member = Member {
        address: instance.private_ip_address()?.parse().ok()?,
        interface: interface.network_interface_id()?.parse().ok()?,
        zone: None,
        launched: launched(instance)?,
        tags: key_tags(instance),
    };
    Some((instance.instance_id()?.parse().ok()?, (interface.subnet_id()?.parse().ok()?, member)))
}

/// The tables with this tag in the VPC of a member of a pair, as [`own_vpc`] shows them, for no longer than `timeout`.
///
/// # Errors
/// Why EC2 could not be asked.
pub async fn tables_of(
    clients: &Clients,
    me: &Me,
    with: &Tag,
    timeout: Duration,
) -> Result<BTreeMap<RouteTableId, RouteTable>, AskError> {
    let deadline = Instant::now() + timeout;
    let client = clients.client(&me.region, timeout, deadline).await?;
    bounded(deadline, timeout, tables(&client, &me.region, (&me.vpc, &me.subnet), with))
        .await
        .map(|tables| tables.tagged)
}

fn neighbour(instance: &Instance, gateways: &Tag) -> Option<(InstanceId, Neighbour)> {
    let id = instance.instance_id()?.parse().ok()?;
    let state = instance.state().and_then(|state| state.name())?;
    let neighbour = Neighbour {
        // One that is starting may be about to work.
        running: matches!(state, InstanceStateName::Running | InstanceStateName::Pending),
        launched: launched(instance)?,
        same_mode: tag(instance, &gateways.key) == Some(gateways.value.as_str()),
    };
    Some((id, neighbour))
}

/// Why a route does not lead here, or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// EC2 could not be asked, or it refused.
    #[error("{0}")]
    Unasked(#[from] AskError),
    /// EC2 accepted it, and could not be asked for it afterwards.
    #[error("it was written, but could not be read back: {0}")]
    Unread(AskError),
    /// EC2 accepted it, and shows another target or none.
    #[error("it was written, but reads back as {}", .0.as_deref().unwrap_or("no route"))]
    Elsewhere(Option<String>),
}

/// Leads a route to this gateway, and returns once that reads back. Takes no longer than `timeout`.
///
/// # Errors
/// See [`TakeError`].
pub async fn take_route(
    clients: &Clients,
    region: &Region,
    take: &TakeRoute,
    timeout: Duration,
) -> Result<(), TakeError> {
    let deadline = Instant::now() + timeout;
    let client = client(clients.shared(region, timeout, deadline).await?, region);
    bounded(deadline, timeout, write(&client, region, take)).await?;
    let mut pauses = pauses(deadline);
    loop {
        let found = bounded(deadline, timeout, target(&client, region, take)).await.map_err(TakeError::Unread)?;
        match found {
            Some(RouteTarget::Interface { interface: Some(interface), .. }) if interface == take.interface => {
                return Ok(());
            }
            found => {
                let elsewhere = || TakeError::Elsewhere(found.map(|target| target.to_string()));
                sleep(pauses.next().ok_or_else(elsewhere)?).await;
            }
        }
    }
}

/// Replaces the route or creates it. Somebody may have done the other thing since it was looked at, so both are tried.
async fn write(client: &Client, region: &Region, take: &TakeRoute) -> Result<(), AskError> {
    let (table, to, interface) = (take.table.as_str(), take.to.to_string(), take.interface.as_str());
    let replace = async {
        let request = client.replace_route().route_table_id(table).destination_cidr_block(&to);
        let error = request.network_interface_id(interface).send().await.err()?;
        Some((error.code() == Some("InvalidRoute.NotFound"), reason::failed("ReplaceRoute", region, error)))
    };
    let create = async {
        let request = client.create_route().route_table_id(table).destination_cidr_block(&to);
        let error = request.network_interface_id(interface).send().await.err()?;
        Some((error.code() == Some("RouteAlreadyExists"), reason::failed("CreateRoute", region, error)))
    };
    let (first, second) = match take.exists {
        true => (replace.boxed(), create.boxed()),
        false => (create.boxed(), replace.boxed()),
    };
    match first.await {
        Some((true, _)) => second.await.map_or(Ok(()), |(_, why)| Err(why)),
        Some((false, why)) => Err(why),
        None => Ok(()),
    }
}

/// Where the route leads now; `None` if there is none.
async fn target(client: &Client, region: &Region, take: &TakeRoute) -> Result<Option<RouteTarget>, AskError> {
    const OPERATION: &str = "DescribeRouteTables";
    let request = client.describe_route_tables().route_table_ids(take.table.as_str());
    let answer = request.send().await.map_err(|error| reason::failed(OPERATION, region, error))?;
    let tables = answer.route_tables.ok_or_else(|| reason::misfit(OPERATION, "it has no routeTableSet"))?;
    let mut routes = tables.iter().flat_map(|table| table.routes()).filter_map(route);
    Ok(routes.find(|(to, _)| *to == take.to).map(|(_, route)| route.target))
}
