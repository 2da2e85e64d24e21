//! The own VPC's route tables: what EC2's answer says becomes the model's, whatever else is in it, and a route is written until it reads
//! back.

use crosswan::observe::ec2::{Tags, own_vpc, take_route};
use crosswan_core::{
    decide::{Needs, TakeRoute},
    model::{Identity, OwnInterface, OwnVpc, Timestamp},
    settings::Tag,
};

use crate::{
    ec2::{TIMEOUT, access, within},
    server::{Reply, Request, Server},
    xml::{answer, instance, instances},
};

fn me() -> Identity {
    serde_json::from_value(serde_json::json!({
        "instance": "i-000000ff", "region": "xx-own-1", "vpc": "vpc-000000ff", "cidrs": ["10.1.0.0/16"],
        "private": "10.1.0.5", "public": null
    }))
    .unwrap()
}

fn table(id: &str, vpc: &str, tag: &str, association: &str, routes: &str) -> String {
    format!(
        "<item><routeTableId>{id}</routeTableId><vpcId>{vpc}</vpcId><routeSet>{routes}</routeSet>\
         <associationSet>{association}</associationSet><tagSet><item><key>crosswan-routes</key><value>{tag}</value></item></tagSet></item>"
    )
}

fn route(to: &str, target: &str, state: &str) -> String {
    format!("<item><destinationCidrBlock>{to}</destinationCidrBlock>{target}<state>{state}</state></item>")
}

fn tables(all: &[String]) -> Reply {
    let set = format!("<routeTableSet>{}</routeTableSet>", all.concat());
    Reply::ok(answer("DescribeRouteTables", &set, None))
}

fn ask(server: &Server) -> Result<OwnVpc, String> {
    ask_for(server, false)
}

/// With `members` as where settings ask for a pair.
fn ask_for(server: &Server, members: bool) -> Result<OwnVpc, String> {
    let own = OwnInterface {
        id: "eni-000000ff".parse().unwrap(),
        subnet: "subnet-000000ff".parse().unwrap(),
        launched: Timestamp(1),
    };
    let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
    let (tables, gateways) = (tag("crosswan-routes", "managed"), tag("service", "nat"));
    let tags = Tags { tables: &tables, gateways: &gateways, environment: None, members };
    within(TIMEOUT, own_vpc(&access(&server.endpoint), &me(), &own, &tags, TIMEOUT)).map_err(|why| why.to_string())
}

#[test]
fn tables_with_the_tag_are_read_and_the_own_subnet_s_is_marked() {
    let routes = [
        route("10.1.0.0/16", "<gatewayId>local</gatewayId>", "active"),
        route("0.0.0.0/0", "<gatewayId>igw-00000001</gatewayId>", "active"),
        route(
            "10.0.0.0/8",
            "<networkInterfaceId>eni-00000001</networkInterfaceId><instanceId>i-00000001</instanceId>",
            "blackhole",
        ),
        route("10.9.0.0/16", "<vpcPeeringConnectionId>pcx-1\u{fffd}&#27;[2J</vpcPeeringConnectionId>", "active"),
        route("no network", "<gatewayId>igw-00000001</gatewayId>", "active"),
        "<item><destinationIpv6CidrBlock>::/0</destinationIpv6CidrBlock><state>active</state></item>".to_owned(),
        "<item><destinationPrefixListId>pl-1</destinationPrefixListId><gatewayId>vpce-1</gatewayId></item>".to_owned(),
    ];
    let of_subnet = "<item><subnetId>subnet-000000ff</subnetId><main>false</main></item>";
    let main = "<item><main>true</main></item>";
    let all = [
        table("rtb-00000001", "vpc-000000ff", "managed", of_subnet, &routes.concat()),
        table("rtb-00000002", "vpc-000000ff", "managed", main, ""),
        // By its tag, but of another VPC; and one with another value.
        table("rtb-00000003", "vpc-000000aa", "managed", "", ""),
        table("rtb-00000004", "vpc-000000ff", "yes", "", ""),
    ];
    let server = Server::start(move |request, _| match request.action() {
        "DescribeRouteTables" => tables(&all),
        _ => Reply::ok(instances(&[instance(1)], None)),
    });
    let vpc = ask(&server).unwrap();
    let ids: Vec<&str> = vpc.tables.keys().map(|id| id.as_str()).collect();
    assert_eq!(ids, ["rtb-00000001", "rtb-00000002"]);
    let own: Vec<bool> = vpc.tables.values().map(|table| table.own).collect();
    assert_eq!(own, [true, false], "an association counts before the main table");
    let found = &vpc.tables.values().next().unwrap().routes;
    let said: Vec<String> =
        found.iter().map(|(to, r)| format!("{to} {}{}", r.target, if r.blackhole { " gone" } else { "" })).collect();
    assert_eq!(said[0], "0.0.0.0/0 igw-00000001");
    assert_eq!(said[1], "10.0.0.0/8 i-00000001 gone");
    assert_eq!(said[2], "10.1.0.0/16 the VPC itself");
    assert!(said[3].contains("\\u{1b}[2J") && said.len() == 4, "{said:?}");
    let neighbour = &vpc.neighbours[&"i-00000001".parse().unwrap()];
    assert!(neighbour.running && !neighbour.same_mode, "{neighbour:?}");
}

/// Two zones, each with a table of its own, and the main table, which all subnets without an association have.
#[test]
fn where_there_is_another_member_each_table_has_the_zones_of_its_subnets() {
    let of = |subnet: &str| format!("<item><subnetId>{subnet}</subnetId><main>false</main></item>");
    let all = [
        table("rtb-00000001", "vpc-000000ff", "managed", &of("subnet-000000ff"), ""),
        table("rtb-00000002", "vpc-000000ff", "managed", "<item><main>true</main></item>", ""),
        table("rtb-00000003", "vpc-000000ff", "yes", &of("subnet-0000000c"), ""),
        table("rtb-00000004", "vpc-000000ff", "managed", "", ""),
    ];
    let subnet = |(id, zone): (&str, &str)| {
        format!("<item><subnetId>{id}</subnetId><availabilityZone>{zone}</availabilityZone></item>")
    };
    let subnets = [
        ("subnet-000000ff", "xx-own-1a"),
        ("subnet-0000000a", "xx-own-1a"),
        ("subnet-0000000b", "xx-own-1b"),
        ("subnet-0000000c", "xx-own-1c"),
        ("subnet-0000000d", "&#27;[2J"),
    ];
    let subnets = format!("<subnetSet>{}</subnetSet>", subnets.map(subnet).concat());
    let other = "<item><instanceId>i-00000002</instanceId><privateIpAddress>10.1.1.5</privateIpAddress>\
        <launchTime>2026-11-27T10:00:00.000Z</launchTime><networkInterfaceSet><item>\
        <networkInterfaceId>eni-00000002</networkInterfaceId><subnetId>subnet-0000000b</subnetId>\
        <attachment><deviceIndex>0</deviceIndex></attachment></item></networkInterfaceSet></item>";
    for (members, denied) in [(true, false), (true, true), (false, false)] {
        let (all, subnets, other) = (all.clone(), subnets.clone(), other.to_owned());
        let server = Server::start(move |request, _| match request.action() {
            "DescribeRouteTables" => tables(&all),
            "DescribeSubnets" if denied => Reply::error(403, "UnauthorizedOperation"),
            "DescribeSubnets" => Reply::ok(answer("DescribeSubnets", &subnets, None)),
            _ => Reply::ok(instances(std::slice::from_ref(&other), None)),
        });
        let vpc = ask_for(&server, members).unwrap();
        let zones: Vec<Vec<&str>> =
            vpc.tables.values().map(|table| table.zones.iter().map(|zone| zone.as_str()).collect()).collect();
        let asked = server.seen().iter().filter(|request| request.action() == "DescribeSubnets").count();
        if !members {
            assert!(zones.concat().is_empty() && asked == 0, "nothing more is asked without a pair");
            continue;
        }
        let member = &vpc.members.unwrap()[&"i-00000002".parse().unwrap()];
        if denied {
            assert!(zones.concat().is_empty() && member.zone.is_none());
            assert!(vpc.zones_unasked.unwrap().to_string().contains("needs ec2:DescribeSubnets in xx-own-1"));
            continue;
        }
        assert_eq!(zones, [vec!["xx-own-1a"], vec!["xx-own-1a", "xx-own-1b"], vec![]]);
        let placed = [vpc.zone.as_ref(), member.zone.as_ref()].map(|zone| zone.map(|zone| zone.as_str()));
        assert_eq!((placed, vpc.zones_unasked), ([Some("xx-own-1a"), Some("xx-own-1b")], None));
    }
}

#[test]
fn half_an_answer_is_none() {
    for (reply, said) in [
        (Reply::ok(answer("DescribeRouteTables", "", None)), "routeTableSet"),
        (tables(&[table("rtb-evil", "vpc-000000ff", "managed", "", "")]), "rtb-0a1b2c3d"),
        (Reply::error(403, "UnauthorizedOperation"), "needs ec2:DescribeRouteTables in xx-own-1"),
    ] {
        let server = Server::start(move |_, _| reply.clone());
        let why = ask(&server).unwrap_err();
        assert!(why.contains(said) && !why.contains(char::is_control), "{why}");
    }
}

/// What the server was asked to do, in order.
fn taken(exists: bool, play: fn(&Request, usize) -> Reply) -> (Result<(), String>, Vec<String>) {
    let server = Server::start(play);
    let take = TakeRoute {
        table: "rtb-00000001".parse().unwrap(),
        to: "10.0.0.0/8".parse().unwrap(),
        interface: "eni-000000ff".parse().unwrap(),
        exists,
        needs: Needs::Rules,
        was: String::new(),
    };
    let region = "xx-own-1".parse().unwrap();
    let done = within(TIMEOUT, take_route(&access(&server.endpoint), &region, &take, TIMEOUT));
    let seen = server.seen();
    for request in seen.iter().filter(|request| request.action().ends_with("Route")) {
        let fields = ["RouteTableId", "DestinationCidrBlock", "NetworkInterfaceId"].map(|name| request.field(name));
        assert_eq!(fields, ["rtb-00000001", "10.0.0.0/8", "eni-000000ff"]);
    }
    (done.map_err(|why| why.to_string()), seen.iter().map(|request| request.action().to_owned()).collect())
}

fn done(request: &Request) -> Reply {
    Reply::ok(answer(request.action(), "<return>true</return>", None))
}

fn leads(target: &str) -> Reply {
    let target = format!("<networkInterfaceId>{target}</networkInterfaceId>");
    tables(&[table("rtb-00000001", "vpc-000000ff", "managed", "", &route("10.0.0.0/8", &target, "active"))])
}

#[test]
fn a_route_is_written_the_other_way_where_somebody_was_faster() {
    let (result, calls) = taken(false, |request, _| match request.action() {
        "CreateRoute" => Reply::error(400, "RouteAlreadyExists"),
        "ReplaceRoute" => done(request),
        _ => leads("eni-000000ff"),
    });
    assert_eq!((result, calls.join(" ")), (Ok(()), "CreateRoute ReplaceRoute DescribeRouteTables".to_owned()));
    let (result, calls) = taken(true, |request, _| match request.action() {
        "ReplaceRoute" => Reply::error(400, "InvalidRoute.NotFound"),
        "CreateRoute" => done(request),
        _ => leads("eni-000000ff"),
    });
    assert_eq!((result, calls.join(" ")), (Ok(()), "ReplaceRoute CreateRoute DescribeRouteTables".to_owned()));
    // Both fail: that is the end.
    let (result, calls) = taken(true, |request, _| match request.action() {
        "ReplaceRoute" => Reply::error(400, "InvalidRoute.NotFound"),
        _ => Reply::error(400, "InvalidRouteTableID.NotFound"),
    });
    assert!(result.unwrap_err().contains("InvalidRouteTableID.NotFound") && calls.len() == 2, "{calls:?}");
}

#[test]
fn a_route_counts_once_it_reads_back() {
    let (result, calls) = taken(true, |request, n| match request.action() {
        "ReplaceRoute" => done(request),
        _ if n < 3 => leads("eni-00000001"),
        _ => leads("eni-000000ff"),
    });
    assert!(result.is_ok() && calls.len() > 2, "{result:?} {calls:?}");
    let (result, _) = taken(true, |request, _| match request.action() {
        "ReplaceRoute" => done(request),
        _ => leads("eni-00000001"),
    });
    assert_eq!(result, Err("it was written, but reads back as eni-00000001".into()));
}
