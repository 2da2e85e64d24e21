//! Elastic IPs: what EC2 says of them becomes the model's, and one is taken until it reads back, whatever becomes of the connection.

use std::time::Duration;

use crosswan::observe::ec2::{addresses, stop_source_dest_check, take_address};
use crosswan_core::{
    decide::{Candidate, TakeAddress},
    model::ElasticIp,
    settings::{Tag, WantedAddress},
};

use crate::{
    ec2::{TIMEOUT, access, within},
    server::{Reply, Request, Server},
    xml::{answer, instance_of, instances},
};

fn address(n: u8, holder: &str) -> String {
    format!(
        "<item><publicIp>198.51.100.{n}</publicIp><allocationId>eipalloc-{n:08x}</allocationId><domain>vpc</domain>{holder}</item>"
    )
}

fn held(by: &str) -> String {
    format!(
        "<associationId>eipassoc-00000001</associationId><instanceId>{by}</instanceId>\
         <privateIpAddress>10.1.0.10</privateIpAddress>"
    )
}

fn described(all: &[String]) -> Reply {
    Reply::ok(answer("DescribeAddresses", &format!("<addressesSet>{}</addressesSet>", all.concat()), None))
}

fn ask(server: &Server, wanted: &WantedAddress) -> Result<Vec<ElasticIp>, String> {
    let region = "xx-own-1".parse().unwrap();
    within(TIMEOUT, addresses(&access(&server.endpoint), &region, wanted, TIMEOUT)).map_err(|why| why.to_string())
}

#[test]
fn who_has_an_address_and_whether_that_one_runs_is_read() {
    let server = Server::start(|request, _| match request.action() {
        "DescribeAddresses" => described(&[
            address(4, ""),
            address(1, &held("i-00000001")),
            address(2, &held("i-00000002")),
            // A NAT gateway's; one that cannot be read; one of EC2-Classic, which has no allocation.
            address(3, &held("")),
            "<item><publicIp>198.51.100.9</publicIp><allocationId>eipalloc-OTHER</allocationId></item>".into(),
            "<item><publicIp>198.51.100.8</publicIp></item>".into(),
        ]),
        _ => Reply::ok(instances(
            &[
                instance_of("i-00000001", "vpc-00000001", "10.1.0.10", "running"),
                instance_of("i-00000002", "vpc-00000001", "10.1.0.11", "stopping"),
            ],
            None,
        )),
    });
    let tag = Tag { key: "crosswan-address".into(), value: "a*b".into() };
    let found = ask(&server, &WantedAddress::Tagged(tag)).unwrap();
    let stopped: Vec<_> =
        found.iter().map(|ip| (ip.address.octets()[3], ip.holder.as_ref().map(|h| h.stopped))).collect();
    assert_eq!(stopped, [(1, Some(false)), (2, Some(true)), (3, Some(false)), (4, None)]);
    let asked = server.asked("DescribeAddresses").remove(0);
    assert_eq!(asked.filter("tag:crosswan-address"), [r"a\*b"], "a value is not a pattern");
    let one = WantedAddress::Allocation("eipalloc-00000004".parse().unwrap());
    ask(&server, &one).unwrap();
    assert_eq!(server.asked("DescribeAddresses").remove(1).filter("allocation-id"), ["eipalloc-00000004"]);
}

#[test]
fn half_an_answer_is_none() {
    let wanted = WantedAddress::Allocation("eipalloc-00000004".parse().unwrap());
    for (reply, said) in [
        (Reply::ok(answer("DescribeAddresses", "", None)), "addressesSet"),
        (Reply::error(403, "UnauthorizedOperation"), "needs ec2:DescribeAddresses in xx-own-1"),
    ] {
        let server = Server::start(move |_, _| reply.clone());
        let why = ask(&server, &wanted).unwrap_err();
        assert!(why.contains(said), "{why}");
    }
}

/// The address that was taken by its last number, or why none was, and what the server was asked to change, in order.
fn taken(candidates: &[(u8, bool)], play: fn(&Request, usize) -> Reply) -> (Result<u8, String>, String) {
    let server = Server::start(play);
    let candidate = |(n, left): &(u8, bool)| Candidate {
        allocation: format!("eipalloc-{n:08x}").parse().unwrap(),
        address: [198, 51, 100, *n].into(),
        left: left.then(|| "eipassoc-00000001".parse().unwrap()),
    };
    let candidates = candidates.iter().map(candidate).collect();
    let take = TakeAddress { candidates, needs_charon: false, instead_of: None };
    let (region, me) = ("xx-own-1".parse().unwrap(), "i-000000ff".parse().unwrap());
    // Long enough for a look or two, and short for a test that waits it out.
    let patience = Duration::from_secs(4);
    let done = within(TIMEOUT, take_address(&access(&server.endpoint), &region, &me, &take, patience));
    let said = |request: &Request| match request.action() {
        "AssociateAddress" => {
            assert_eq!((request.field("InstanceId"), request.field("AllowReassociation")), ("i-000000ff", "false"));
            format!("take {}", request.field("AllocationId"))
        }
        action => format!("{action} {}", request.field("AssociationId")),
    };
    let changes: Vec<String> = server.seen().iter().filter(|r| !r.action().starts_with("Describe")).map(said).collect();
    (done.map(|taken| taken.address.octets()[3]).map_err(|why| why.to_string()), changes.join(", "))
}

fn done(request: &Request) -> Reply {
    Reply::ok(answer(request.action(), "<return>true</return>", None))
}

fn mine(n: u8) -> Reply {
    described(&[address(n, &held("i-000000ff"))])
}

#[test]
fn what_another_was_faster_to_take_is_left_to_it_and_the_next_one_tried() {
    let (got, changes) = taken(&[(1, false), (2, false)], |request, _| match request.field("AllocationId") {
        "eipalloc-00000001" => Reply::error(400, "Resource.AlreadyAssociated"),
        "eipalloc-00000002" => done(request),
        _ => mine(2),
    });
    assert_eq!((got, changes.as_str()), (Ok(2), "take eipalloc-00000001, take eipalloc-00000002"));
    let (got, _) = taken(&[(1, false)], |_, _| Reply::error(400, "Resource.AlreadyAssociated"));
    assert_eq!(got, Err("others have taken all that were free".into()));
}

#[test]
fn that_of_a_stopped_instance_is_given_up_before_by_its_association() {
    let words = "DisassociateAddress eipassoc-00000001, take eipalloc-00000001";
    let (got, changes) = taken(&[(1, true)], |request, _| match request.action() {
        "DisassociateAddress" => Reply::error(400, "InvalidAssociationID.NotFound"),
        "AssociateAddress" => done(request),
        _ => mine(1),
    });
    assert_eq!((got, changes.as_str()), (Ok(1), words), "it may have ended meanwhile");
    let (got, changes) = taken(&[(1, true)], |_, _| Reply::error(403, "UnauthorizedOperation"));
    assert!(got.unwrap_err().contains("needs ec2:DisassociateAddress on the Elastic IP"));
    assert_eq!(changes, "DisassociateAddress eipassoc-00000001");
}

#[test]
fn an_answer_that_never_comes_is_no_failure_where_ec2_shows_the_address() {
    let (got, _) = taken(&[(1, false)], |request, _| match request.action() {
        "AssociateAddress" => done(request).after(Duration::from_secs(60)),
        _ => mine(1),
    });
    assert_eq!(got, Ok(1));
    // Nor is an answer a success where EC2 does not show it.
    let (got, _) = taken(&[(1, false)], |request, _| match request.action() {
        "AssociateAddress" => done(request),
        _ => described(&[address(1, &held("i-00000002"))]),
    });
    assert_eq!(got, Err("eipalloc-00000001 was associated, but does not read back so".into()));
}

#[test]
fn the_role_of_a_young_instance_is_asked_for_again() {
    let (got, changes) = taken(&[(1, false)], |request, n| match request.action() {
        "AssociateAddress" if n < 2 => Reply::error(401, "AuthFailure"),
        "AssociateAddress" => done(request),
        _ if n > 2 => mine(1),
        _ => described(&[address(1, "")]),
    });
    assert_eq!((got, changes.matches("take").count()), (Ok(1), 3), "{changes}");
}

/// EC2 names the interface where an instance has several, and takes nothing by the instance's id.
#[test]
fn on_an_instance_with_several_interfaces_the_first_one_is_named() {
    let server = Server::start(|request, _| match (request.action(), request.field("InstanceId")) {
        ("AssociateAddress" | "ModifyInstanceAttribute", id) if !id.is_empty() => {
            Reply::error(400, "InvalidInstanceID")
        }
        ("AssociateAddress" | "ModifyNetworkInterfaceAttribute", _) => done(request),
        ("DescribeAddresses", _) => mine(1),
        _ => {
            let interface = |n: u8| {
                format!(
                    "<item><networkInterfaceId>eni-{n:08x}</networkInterfaceId><subnetId>subnet-000000ff</subnetId>\
                     <attachment><deviceIndex>{n}</deviceIndex></attachment></item>"
                )
            };
            let of = instance_of("i-000000ff", "vpc-00000001", "10.1.0.10", "running");
            let several = format!(
                "<sourceDestCheck>false</sourceDestCheck><networkInterfaceSet>{}{}</networkInterfaceSet><vpcId>",
                interface(1),
                interface(0)
            );
            Reply::ok(instances(&[of.replace("<vpcId>", &several)], None))
        }
    });
    let (region, me) = ("xx-own-1".parse().unwrap(), "i-000000ff".parse().unwrap());
    within(TIMEOUT, stop_source_dest_check(&access(&server.endpoint), &region, &me, TIMEOUT)).unwrap();
    let named = server.asked("ModifyNetworkInterfaceAttribute").remove(0);
    assert_eq!((named.field("NetworkInterfaceId"), named.field("SourceDestCheck.Value")), ("eni-00000000", "false"));
    let free =
        Candidate { allocation: "eipalloc-00000001".parse().unwrap(), address: [198, 51, 100, 1].into(), left: None };
    let take = TakeAddress { candidates: vec![free], needs_charon: false, instead_of: None };
    within(TIMEOUT, take_address(&access(&server.endpoint), &region, &me, &take, TIMEOUT)).unwrap();
    let named = server.asked("AssociateAddress").remove(1);
    assert_eq!((named.field("NetworkInterfaceId"), named.field("InstanceId")), ("eni-00000000", ""));
}
