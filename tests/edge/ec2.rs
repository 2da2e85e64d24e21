//! EC2's answers: what becomes a gateway, what a refusal, and what is asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    str::FromStr,
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};

use crosswan::observe::ec2::{Access, Clients, Known, Query};
use crosswan_core::{
    model::{Answers, InstanceId, RegionView, VpcId},
    settings::Tag,
};

use crate::{
    server::{Reply, Request, Server},
    xml::{asked_vpcs, instance, instance_of, instances, vpc, vpcs},
};

pub fn query(regions: &[&str]) -> Query {
    Query {
        regions: regions.iter().map(|r| r.parse().unwrap()).collect(),
        accounts: BTreeMap::new(),
        home: ("us-west-2".parse().unwrap(), "i-0000ffff".parse().unwrap()),
        tag: Tag { key: "service".into(), value: "nat".into() },
        environment: None,
        with_cidrs: true,
        segment_tag: None,
        known: BTreeMap::new(),
    }
}

/// Asks the server; also asserts that nothing takes longer than promised.
pub fn ask(endpoint: &str, query: &Query, timeout: Duration) -> Answers {
    let answers = within(timeout, crosswan::observe::ec2::ask(&access(endpoint), query, timeout));
    assert!(answers.keys().map(|scope| &scope.region).eq(&query.regions), "every region has an entry");
    answers
}

/// The way to the server, with keys that need no IMDS.
pub fn access(endpoint: &str) -> Clients {
    Clients::from(Access {
        endpoint: Some(endpoint.to_owned()),
        access_key: Some(("AKIDEXAMPLE".into(), "secret".into())),
    })
}

/// What `asked` comes to; asserts that it takes no longer than promised.
pub fn within<T>(timeout: Duration, asked: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    let answer = runtime.block_on(asked);
    assert!(start.elapsed() < timeout + Duration::from_secs(1), "took {:?} of {timeout:?}", start.elapsed());
    answer
}

pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The view of the one region that `answer` plays.
fn view(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> RegionView {
    let server = Server::start(answer);
    let answers = ask(&server.endpoint, &query(&["eu-west-1"]), TIMEOUT);
    answers.into_values().next().unwrap().unwrap()
}

fn ids(view: &RegionView) -> Vec<&str> {
    view.gateways.iter().map(|g| g.instance.as_str()).collect()
}

/// `instances` in one page, their VPCs as asked.
fn one_page(items: Vec<String>) -> impl Fn(&Request, usize) -> Reply {
    move |request, _| match request.action() {
        "DescribeInstances" => Reply::ok(instances(&items, None)),
        _ => asked_vpcs(request),
    }
}

/// DescribeVpcs answers with these for one gateway in `vpc-00000001`.
fn one_vpc(items: Vec<String>) -> impl Fn(&Request, usize) -> Reply {
    move |request, _| match request.action() {
        "DescribeInstances" => Reply::ok(instances(&[instance(1)], None)),
        _ => Reply::ok(vpcs(&items, None)),
    }
}

#[test]
fn parts_that_are_not_read_change_nothing() {
    let parts = "<placement><tenancy>default</tenancy></placement><monitoring><state>disabled</state></monitoring>\
        <networkInterfaceSet><item><vpcId>vpc-0000ffff</vpcId><privateIpAddress>10.9.9.9</privateIpAddress></item></networkInterfaceSet>\
        <metadataOptions><state>applied</state></metadataOptions><groupSet/></item>";
    let (bare, full) = (instance(1), instance(1).replace("</item>", parts));
    assert_ne!(bare, full);
    let [bare, full] = [bare, full].map(|item| view(one_page(vec![item, instance(2)])));
    // XML that EC2 does not write, and that is left as it is.
    let as_it_is = view(|request, _| match request.action() {
        "DescribeInstances" => {
            let item = instance(1).replace("</item>", parts);
            Reply::ok(instances(&[item, instance(2)], None).replace("<reservationSet>", "<!-- --><reservationSet>"))
        }
        _ => asked_vpcs(request),
    });
    assert_eq!(full.gateways.len(), 2);
    assert_eq!([&full, &as_it_is], [&bare, &bare]);
}

#[test]
fn all_pages_are_one_answer_sorted_and_without_duplicates() {
    let view = view(|request, _| match (request.action(), request.field("NextToken")) {
        ("DescribeInstances", "") => Reply::ok(instances(&[instance(5), instance(2)], Some("two"))),
        ("DescribeInstances", "two") => Reply::ok(instances(&[], Some("three"))),
        ("DescribeInstances", "three") => Reply::ok(instances(&[instance(2), instance(1)], None)),
        _ => asked_vpcs(request),
    });
    assert_eq!(ids(&view), ["i-00000001", "i-00000002", "i-00000005"]);
    let first = &view.gateways[0];
    assert_eq!(first.vpc.as_str(), "vpc-00000001");
    assert_eq!(first.public, Some("198.51.100.7".parse().unwrap()));
    assert_eq!(first.launched.0, 1_767_323_045);
    assert_eq!(first.cidrs, ["10.0.1.0/24".parse().unwrap()].into());
    assert!(view.unusable.is_empty());
}

#[test]
fn tags_are_literal_and_only_running_instances_are_asked_for() {
    let server = Server::start(|_, _| Reply::ok(instances(&[], None)));
    let mut query = query(&["eu-west-1"]);
    query.tag.value = r"n*t?\".into();
    query.environment = Some(Tag { key: "env".into(), value: "prod & test".into() });
    let answers = ask(&server.endpoint, &query, TIMEOUT);
    assert_eq!(answers.into_values().next().unwrap(), Ok(RegionView::default()), "nothing there is an answer");
    let asked = server.seen();
    assert_eq!(asked.len(), 1, "no gateways, no VPCs to ask for");
    assert_eq!(asked[0].filter("tag:service"), [r"n\*t\?\\"]);
    assert_eq!(asked[0].filter("tag:env"), ["prod & test"]);
    assert_eq!(asked[0].filter("instance-state-name"), ["running"]);
}

#[test]
fn a_spoke_looking_for_its_hub_asks_for_no_vpcs() {
    let server = Server::start(one_page(vec![instance(1)]));
    let answers = ask(&server.endpoint, &Query { with_cidrs: false, ..query(&["eu-west-1"]) }, TIMEOUT);
    let view = answers.into_values().next().unwrap().unwrap();
    assert!(view.gateways[0].cidrs.is_empty());
    assert!(server.asked("DescribeVpcs").is_empty());
}

/// A query for a region in which these instances and VPCs were peers at the last pass.
fn knowing(instances: impl IntoIterator<Item = usize>, vpcs: impl IntoIterator<Item = usize>) -> Query {
    let known = Known { instances: ids_of("i", instances), vpcs: ids_of("vpc", vpcs) };
    Query { known: [("eu-west-1".parse().unwrap(), known)].into(), ..query(&["eu-west-1"]) }
}

/// Ids of this kind by number.
fn ids_of<Id: FromStr<Err: Debug> + Ord>(kind: &str, numbers: impl IntoIterator<Item = usize>) -> BTreeSet<Id> {
    numbers.into_iter().map(|n| format!("{kind}-{n:08x}").parse().unwrap()).collect()
}

/// EC2 by id: instance 1 runs with the gateway's tag, 2 to 5 are in other states, 6 runs without the tag and 7 is gone.
fn states(request: &Request, _: usize) -> Reply {
    let state = |n: usize, state: &str| instance(n).replace("running", state);
    let others =
        [state(2, "stopped"), state(3, "terminated"), state(4, "stopping"), state(5, "pending"), state(6, "running")];
    let asked = request.filter("instance-id");
    match request.action() {
        "DescribeVpcs" => asked_vpcs(request),
        _ if asked.is_empty() => Reply::ok(instances(&[instance(1)], None)),
        _ => {
            let shown = others.into_iter().filter(|i| asked.iter().any(|id| i.contains(&format!("<instanceId>{id}<"))));
            Reply::ok(instances(&shown.collect::<Vec<_>>(), None))
        }
    }
}

#[test]
fn a_known_instance_that_the_answer_lacks_is_asked_for_by_its_id_and_only_ec2s_word_makes_it_stopped() {
    let server = Server::start(states);
    let answers = ask(&server.endpoint, &knowing(1..=7, []), TIMEOUT);
    let view = answers.into_values().next().unwrap().unwrap();
    assert_eq!(ids(&view), ["i-00000001"], "one that runs without the tag is no gateway");
    // Neither one that starts or runs, nor one that EC2 no longer knows.
    assert_eq!(view.stopped, ids_of::<InstanceId>("i", 2..=4));
    let asked: Vec<_> = server.asked("DescribeInstances");
    assert_eq!(asked.len(), 2);
    let wanted = ids_of::<InstanceId>("i", 2..=7);
    assert!(
        asked[1].filter("instance-id").into_iter().eq(wanted.iter().map(InstanceId::as_str)),
        "only what is missing"
    );
    assert_eq!(asked[1].filter("instance-state-name"), [""; 0], "in whatever state");
    assert_eq!(asked[1].field("InstanceId.1"), "", "with ids in place of a filter one that is gone fails the request");
}

#[test]
fn nobody_is_asked_for_by_id_whom_the_answer_shows() {
    let odd = || instance(2).replace("<launchTime>2026-01-02T03:04:05.000Z</launchTime>", "");
    let server = Server::start(one_page(vec![instance(1), odd()]));
    let answers = ask(&server.endpoint, &knowing([1, 2], [1, 2]), TIMEOUT);
    let view = answers.into_values().next().unwrap().unwrap();
    assert_eq!((ids(&view), view.unusable.len(), view.stopped.len()), (vec!["i-00000001"], 1, 0));
    assert_eq!(server.asked("DescribeInstances").len(), 1, "an instance that does not fit is there all the same");
}

#[test]
fn known_instances_are_asked_for_in_chunks_that_ec2_takes() {
    let server = Server::start(|request, _| match request.action() {
        "DescribeInstances" => Reply::ok(instances(&[], None)),
        _ => asked_vpcs(request),
    });
    let answers = ask(&server.endpoint, &knowing(0..450, []), TIMEOUT);
    assert_eq!(answers.into_values().next().unwrap(), Ok(RegionView::default()));
    let chunks: Vec<_> = server.asked("DescribeInstances").iter().map(|r| r.filter("instance-id").len()).collect();
    assert_eq!(chunks, [0, 200, 200, 50]);
}

#[test]
fn a_known_vpc_that_ec2_does_not_show_is_deleted_and_one_without_a_gateway_is_not() {
    // VPC 1 has its gateway, 2 has lost it, 3 is deleted.
    let server = Server::start(|request, _| match request.action() {
        "DescribeVpcs" => Reply::ok(vpcs(
            &[1, 2].map(|n| vpc(&format!("vpc-{n:08x}"), &[(&format!("10.0.{n}.0/24"), "associated")])),
            None,
        )),
        _ if request.filter("instance-id").is_empty() => Reply::ok(instances(&[instance(1)], None)),
        _ => Reply::ok(instances(&[], None)),
    });
    let answers = ask(&server.endpoint, &knowing(1..=3, 1..=3), TIMEOUT);
    let view = answers.into_values().next().unwrap().unwrap();
    assert_eq!((ids(&view), view.unusable.len()), (vec!["i-00000001"], 0));
    assert_eq!(view.deleted, ids_of::<VpcId>("vpc", [3]));
    let asked = server.asked("DescribeVpcs");
    assert_eq!(asked.len(), 1, "with those of the gateways");
    assert_eq!(asked[0].filter("vpc-id"), ["vpc-00000001", "vpc-00000002", "vpc-00000003"]);
    // A spoke asks for no VPCs, and so knows of none that is deleted.
    let answers = ask(&server.endpoint, &Query { with_cidrs: false, ..knowing(1..=3, 1..=3) }, TIMEOUT);
    assert!(answers.into_values().next().unwrap().unwrap().deleted.is_empty());
    assert_eq!(server.asked("DescribeVpcs").len(), 1);
}

#[test]
fn half_an_answer_about_known_peers_is_no_answer() {
    let failing = |fail: fn(&Request) -> bool| {
        let server = Server::start(
            move |request, n| {
                if fail(request) { Reply::error(500, "InternalError") } else { states(request, n) }
            },
        );
        ask(&server.endpoint, &knowing(1..=7, 1..=7), TIMEOUT).into_values().next().unwrap()
    };
    assert!(failing(|_| false).is_ok());
    for (fail, operation) in [
        ((|request| !request.filter("instance-id").is_empty()) as fn(&Request) -> bool, "DescribeInstances"),
        (|request| request.action() == "DescribeVpcs", "DescribeVpcs"),
    ] {
        let reason = failing(fail).expect_err("nobody is stopped or deleted by a failed request");
        assert_eq!(reason.to_string(), format!(r#"EC2 answered 500 to {operation}: "InternalError": "canned""#));
    }
}

#[test]
fn vpcs_are_asked_for_in_chunks_that_ec2_takes() {
    let server = Server::start(|request, _| match request.action() {
        "DescribeInstances" => {
            let page: usize = request.field("NextToken").parse().unwrap_or(0);
            let items: Vec<_> = (page * 150..(page + 1) * 150).map(instance).collect();
            Reply::ok(instances(&items, (page < 2).then(|| (page + 1).to_string()).as_deref()))
        }
        _ => asked_vpcs(request),
    });
    let answers = ask(&server.endpoint, &query(&["eu-west-1"]), TIMEOUT);
    let view = answers.into_values().next().unwrap().unwrap();
    assert_eq!(view.gateways.len(), 450);
    assert!(view.gateways.iter().all(|g| g.cidrs.len() == 1));
    let mut chunks: Vec<_> = server.asked("DescribeVpcs").iter().map(|r| r.filter("vpc-id").len()).collect();
    chunks.sort();
    assert_eq!(chunks, [50, 200, 200]);
}

#[test]
fn an_instance_that_does_not_fit_is_refused_with_the_reason_and_harms_no_other() {
    let odd = |id: &str, vpc: &str| instance_of(id, vpc, "10.9.9.9", "running");
    let without = |tag: &str| {
        let mut item = instance(9);
        let (start, end) = (item.find(&format!("<{tag}>")).unwrap(), item.find(&format!("</{tag}>")).unwrap());
        item.replace_range(start..end + tag.len() + 3, "");
        item
    };
    for (item, reason) in [
        (
            odd("i-0000000a", "vpc-1; rm -rf /"),
            r#"its VPC id is not valid: expected a VPC id such as vpc-0a1b2c3d, found "vpc-1; rm -rf /""#,
        ),
        (
            odd("i-&#27;[2J&#10;FAKE", "vpc-0000000a"),
            r#"its instance id is not valid: expected an instance id such as i-0a1b2c3d, found "i-\u{1b}[2J\nFAKE""#,
        ),
        (odd("../../etc/passwd", "vpc-0000000a"), "its instance id is not valid"),
        (instance(9).replace("198.51.100.7", "::1"), r#"its public address is not an IPv4 address: "::1""#),
        (without("vpcId"), "EC2 shows no VPC for it"),
        (without("launchTime"), "EC2 shows no launch time for it"),
        (without("instanceId"), "EC2 shows no id for it"),
        (without("instanceState"), "EC2 shows no state for it"),
    ] {
        let view = view(one_page(vec![instance(1), item.clone(), instance(2)]));
        assert_eq!(ids(&view), ["i-00000001", "i-00000002"], "{item}");
        assert_eq!(view.unusable.len(), 1, "{item}");
        assert!(view.unusable[0].reason.starts_with(reason), "{:?} is not {reason:?}", view.unusable[0].reason);
        assert!(view.unusable[0].to_string().bytes().all(|b| (32..127).contains(&b)), "{}", view.unusable[0]);
    }
    // Nobody needs its private address.
    assert_eq!(ids(&view(one_page(vec![without("privateIpAddress")]))), ["i-00000009"]);
}

#[test]
fn hostile_tags_are_not_read_at_all() {
    let tags = "<tagSet><item><key>Name</key><value>$(reboot)&#10;&lt;/item&gt;</value></item></tagSet></item>";
    let view = view(one_page(vec![instance(1).replace("</item>", tags)]));
    assert_eq!(ids(&view), ["i-00000001"]);
    assert!(!format!("{view:?}").contains("reboot"));
}

#[test]
fn no_public_address_is_no_error_here_and_not_running_is_no_gateway() {
    let view = view(one_page(vec![
        instance(1).replace("<ipAddress>198.51.100.7</ipAddress>", ""),
        instance_of("i-0000000b", "vpc-0000000b", "10.0.11.10", "stopping"),
        instance_of("i-0000000c", "vpc-0000000c", "10.0.12.10", "on-fire"),
    ]));
    assert_eq!(ids(&view), ["i-00000001"]);
    assert_eq!(view.gateways[0].public, None);
    assert!(view.unusable.is_empty());
}

#[test]
fn associated_cidrs_only() {
    let view = view(one_vpc(vec![vpc(
        "vpc-00000001",
        &[
            ("10.1.0.0/16", "associated"),
            ("10.200.0.0/16", "associated"),
            ("10.201.0.0/16", "disassociating"),
            ("10.202.0.0/16", "disassociated"),
            ("10.203.0.0/16", "associating"),
            ("10.204.0.0/16", "failed"),
            ("garbage", "failed"),
        ],
    )]));
    let cidrs: Vec<_> = view.gateways[0].cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(cidrs, ["10.1.0.0/16", "10.200.0.0/16"]);
}

#[test]
fn a_vpc_that_is_not_known_whole_makes_its_gateway_unusable() {
    for (vpcs, reason) in [
        (vec![], "DescribeVpcs did not return its VPC"),
        (vec![vpc("vpc-00000002", &[("10.0.1.0/24", "associated")])], "DescribeVpcs did not return its VPC"),
        (vec![vpc("vpc-00000001", &[])], "its VPC has no associated CIDR"),
        (vec![vpc("vpc-00000001", &[("10.0.1.0/24", "disassociated")])], "its VPC has no associated CIDR"),
        (
            vec!["<item><vpcId>vpc-00000001</vpcId><cidrBlock>10.0.1.0/24</cidrBlock></item>".into()],
            "EC2 shows no CIDRs for its VPC",
        ),
        (
            vec![vpc("vpc-00000001", &[("10.0.1.0/24", "associated"), ("10.0.0.0/8; x&#10;", "associated")])],
            r#"its VPC has an invalid CIDR: "10.0.0.0/8; x\n""#,
        ),
        (vec![vpc("vpc-00000001", &[("10.0.1.7/24", "associated")])], r#"its VPC has an invalid CIDR: "10.0.1.7/24""#),
    ] {
        let view = view(one_vpc(vpcs));
        assert_eq!(ids(&view), [""; 0], "{reason}");
        let refusal = &view.unusable[0];
        assert_eq!(refusal.reason, reason);
        assert_eq!(refusal.vpc.as_ref().unwrap().as_str(), "vpc-00000001");
        assert_eq!(refusal.instance.as_ref().unwrap().as_str(), "i-00000001");
    }
}

/// No region is answered before all have asked: asked one after the other they would wait forever.
#[test]
fn twenty_regions_are_asked_at_once() {
    let (asked, all) = (Arc::new(Barrier::new(20)), one_page(vec![instance(1)]));
    let server = Server::start(move |request, n| {
        if request.action() == "DescribeInstances" {
            asked.wait();
        }
        all(request, n)
    });
    let names: Vec<String> = (1..=20).map(|n| format!("xx-slow-{n}")).collect();
    let answers = ask(&server.endpoint, &query(&names.iter().map(String::as_str).collect::<Vec<_>>()), TIMEOUT * 6);
    assert!(answers.values().all(|a| a.as_ref().unwrap().gateways.len() == 1));
}
