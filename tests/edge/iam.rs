//! The policies of `docs/iam`: the lab's IAM evaluates these very files against what the agent really sends.
//!
//! moto could refuse by a policy's `Action` only (`docs/facts.md`, "moto"), so it would miss every mistake in a condition, and
//! the conditions are the point of these policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    path::Path,
    time::Duration,
};

use crosswan::observe::ec2::{Query, announce, own_tags, stop_source_dest_check, surroundings};
use crosswan_core::{
    model::{
        AskError, Identity, InstanceId, KEY_TAG, MAKES_WAY_TAG, NEXT_KEY_TAG, OwnInterface, Region, TAKES_PLACE_TAG,
        Timestamp,
    },
    settings::Tag,
};
use crosswan_lab::iam::{Call, Caller, Decision, Policy};
use serde_json::{Value, json};

use crate::{
    ec2::{access, query, within},
    own::{KEY, ME, NEXT, created, unchecked},
    server::{Reply, Request, Server},
    xml::{answer, asked_vpcs, instance, instances},
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Regions the files list; a site fills in its own.
const REGIONS: [&str; 2] = ["us-west-2", "eu-west-1"];
const HOME: &str = "us-west-2";

fn document(file: &str) -> Value {
    serde_json::from_str(&text(&format!("docs/iam/{file}.json"))).unwrap()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn actions(statement: &Value) -> Vec<String> {
    match &statement["Action"] {
        Value::String(one) => vec![one.clone()],
        many => many.as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned()).collect(),
    }
}

/// The policy without one action.
fn without(document: &Value, action: &str) -> Value {
    let mut document = document.clone();
    let statements = document["Statement"].as_array_mut().unwrap();
    for statement in &mut *statements {
        statement["Action"] = json!(actions(statement).into_iter().filter(|a| a != action).collect::<Vec<_>>());
    }
    statements.retain(|statement| !actions(statement).is_empty());
    document
}

/// What a gateway announces during a rotation.
fn new_tags() -> [(&'static str, String); 2] {
    [(KEY_TAG, KEY.to_owned()), (NEXT_KEY_TAG, NEXT.to_owned())]
}

/// EC2 with one gateway in each region, that refuses the own instance's role what `policy` does not allow.
fn guarded(policy: &Value) -> Server {
    let policy = Policy::new(policy).unwrap();
    let written = std::sync::atomic::AtomicBool::new(false);
    let answer = move |request: &Request| match request.action() {
        "CreateTags" => {
            written.store(true, std::sync::atomic::Ordering::Relaxed);
            created()
        }
        "ModifyInstanceAttribute" => Reply::ok(answer("ModifyInstanceAttribute", "<return>true</return>", None)),
        "DescribeVpcs" => asked_vpcs(request),
        "DescribeRouteTables" => Reply::ok(answer("DescribeRouteTables", "<routeTableSet></routeTableSet>", None)),
        "DescribeInstances" if request.filter("instance-id") == [ME] => {
            let interface = "<item><groupSet><item><groupId>sg-1</groupId></item></groupSet></item>";
            let me = format!(
                "<item><instanceId>{ME}</instanceId><networkInterfaceSet>{interface}</networkInterfaceSet></item>"
            );
            Reply::ok(instances(&[me], None))
        }
        _ if request.field("InstanceId.1").is_empty() => Reply::ok(instances(&[instance(1)], None)),
        _ if written.load(std::sync::atomic::Ordering::Relaxed) => unchecked(&[(KEY_TAG, KEY), (NEXT_KEY_TAG, NEXT)]),
        _ => unchecked(&[]),
    };
    Server::start(move |request, _| {
        let caller = Caller::gateway("crosswan-test", HOME, ME);
        let call = Call::new(request.region(), &request.body);
        match Policy::decide(std::slice::from_ref(&policy), &caller, &call) {
            Decision::Allowed => answer(request),
            _ => Reply::error(403, "UnauthorizedOperation"),
        }
    })
}

/// Everything a gateway asks EC2 for; what was refused, by the call.
fn everything(server: &Server, regions: &[&str], with_cidrs: bool) -> BTreeMap<String, String> {
    let (access, home, me) =
        (access(&server.endpoint), HOME.parse::<Region>().unwrap(), ME.parse::<InstanceId>().unwrap());
    let query = Query { with_cidrs, ..query(regions) };
    let mut refused = BTreeMap::new();
    within(TIMEOUT * 3, async {
        let mut note = |call: &str, why: Option<&dyn Display>| {
            refused.extend(why.map(|why| (call.to_owned(), why.to_string())));
        };
        for (region, answer) in crosswan::observe::ec2::ask(&access, &query, TIMEOUT).await {
            note(region.region.as_str(), answer.as_ref().err().map(|why| why as _));
        }
        let own_tags = own_tags(&access, &home, &me, TIMEOUT).await;
        note("own_tags", own_tags.as_ref().err().map(|why| why as _));
        let announced = announce(&access, &home, &me, &new_tags(), TIMEOUT).await;
        note("announce", announced.as_ref().err().map(|why| why as _));
        let place = serde_json::json!({
            "instance": ME, "region": HOME, "vpc": "vpc-000000ff", "cidrs": [], "private": "10.1.0.5", "public": null
        });
        let interface = OwnInterface {
            id: "eni-000000ff".parse().unwrap(),
            subnet: "subnet-000000ff".parse().unwrap(),
            launched: Timestamp(1),
        };
        let tag = Tag { key: "crosswan-routes".into(), value: "managed".into() };
        let me: Identity = serde_json::from_value(place).unwrap();
        let around = surroundings(&access, &me, &interface, &tag, TIMEOUT).await;
        let why = [around.groups.err(), around.acl.err(), around.subnets.err()];
        for (call, why) in ["groups", "acl", "subnets"].into_iter().zip(why) {
            // What the answers are made of is tested elsewhere.
            note(call, why.as_ref().filter(|why| matches!(why, AskError::Denied { .. })).map(|why| why as _));
        }
        let stopped = stop_source_dest_check(&access, &home, &me.instance, TIMEOUT).await;
        note("check", stopped.as_ref().err().map(|why| why as _));
    });
    refused
}

/// The files, the regions that their gateways look in, whether for CIDRs, too, and the actions in them.
const FILES: [(&str, &[&str], bool, &[&str]); 3] = [
    ("vpn-hub", &REGIONS, true, &["ec2:DescribeInstances", "ec2:DescribeVpcs", "ec2:CreateTags", CHECK]),
    ("nat-vpn", &REGIONS, false, &["ec2:DescribeInstances", "ec2:CreateTags", CHECK]),
    ("nat-hub", &[HOME], false, &["ec2:DescribeInstances", "ec2:CreateTags", CHECK]),
];
const CHECK: &str = "ec2:ModifyInstanceAttribute";
/// What moves routes and takes addresses. All files have it.
const PLACE: [&str; 6] = [
    "ec2:DescribeRouteTables",
    "ec2:CreateRoute",
    "ec2:ReplaceRoute",
    "ec2:DescribeAddresses",
    "ec2:AssociateAddress",
    "ec2:DisassociateAddress",
];
/// What doctor looks around with, and what it then does not see. All files have it.
const AROUND: [(&str, &str); 3] =
    [("ec2:DescribeSecurityGroups", "groups"), ("ec2:DescribeNetworkAcls", "acl"), ("ec2:DescribeSubnets", "subnets")];

#[test]
fn each_file_allows_all_its_gateway_asks_for_and_every_action_in_it_is_needed() {
    for (file, regions, with_cidrs, needed) in FILES {
        let policy = document(file);
        let everything = |policy: &Value| everything(&guarded(policy), regions, with_cidrs);
        assert_eq!(everything(&policy), BTreeMap::new(), "{file}");
        let mut listed: Vec<_> = policy["Statement"].as_array().unwrap().iter().flat_map(actions).collect();
        assert!(PLACE.iter().all(|action| listed.iter().any(|other| other == action)), "{file}: {listed:?}");
        listed.retain(|action| !PLACE.contains(&action.as_str()));
        for (action, call) in AROUND {
            assert!(listed.iter().any(|other| other == action), "{file}: {listed:?}");
            let refused = everything(&without(&policy, action));
            let calls: Vec<_> = refused.keys().map(String::as_str).collect();
            assert_eq!(calls, [call], "{file} without {action}");
        }
        listed.retain(|action| AROUND.iter().all(|(of, _)| of != action));
        assert_eq!(listed, needed, "{file}");
        for action in needed {
            let refused = everything(&without(&policy, action));
            let calls: Vec<_> = refused.keys().map(String::as_str).collect();
            let expected = match *action {
                "ec2:DescribeInstances" => [&["announce", "check", "own_tags"], regions, &["groups"]].concat(),
                "ec2:DescribeVpcs" => regions.to_vec(),
                CHECK => vec!["check"],
                _ => vec!["announce"],
            };
            assert_eq!(BTreeSet::from_iter(calls), BTreeSet::from_iter(expected), "{file} without {action}");
            for (call, why) in refused {
                assert!(why.contains(&format!("the instance's role needs {action} ")), "{file}: {call}: {why}");
            }
        }
    }
}

#[test]
fn a_region_that_is_not_listed_is_refused_and_the_others_are_not() {
    for file in ["vpn-hub", "nat-vpn"] {
        let server = guarded(&document(file));
        let query = Query { with_cidrs: false, ..query(&["us-west-2", "eu-west-1", "ap-southeast-2"]) };
        let answers = within(TIMEOUT, crosswan::observe::ec2::ask(&access(&server.endpoint), &query, TIMEOUT));
        for (region, answer) in answers {
            match region.region.as_str() {
                "ap-southeast-2" => {
                    assert!(answer.unwrap_err().to_string().contains("needs ec2:DescribeInstances in ap-southeast-2"))
                }
                _ => assert!(answer.is_ok(), "{file}: {region}: {answer:?}"),
            }
        }
    }
}

/// The request `announce` makes, with something replaced.
fn publishing(from: &str, to: &str) -> Call {
    let server = guarded(&document("vpn-hub"));
    let (home, me) = (HOME.parse().unwrap(), ME.parse().unwrap());
    within(TIMEOUT, announce(&access(&server.endpoint), &home, &me, &new_tags(), TIMEOUT)).unwrap();
    let asked = server.asked("CreateTags").remove(0);
    assert!(asked.body.contains(from), "{}", asked.body);
    Call::new(asked.region(), &asked.body.replace(from, to))
}

#[test]
fn a_gateway_may_write_its_own_tags_and_nothing_else_and_each_condition_is_needed() {
    let me = Caller::gateway("crosswan-test", HOME, ME);
    let exact = || publishing("", "");
    let no_tag = Call::new(HOME, &format!("Action=CreateTags&ResourceId.1={ME}"));
    let forbidden = [
        ("another instance", &me, publishing(ME, "i-00000002")),
        ("itself and another", &me, publishing("&Tag.1.Key", "&ResourceId.2=i-00000002&Tag.1.Key")),
        ("no instance", &me, publishing(ME, "vol-00000001")),
        ("another tag", &me, publishing(KEY_TAG, "service")),
        ("another tag besides", &me, publishing("&Tag.1.Key", "&Tag.3.Key=service&Tag.3.Value=nat&Tag.1.Key")),
        ("a tag that differs in case", &me, publishing(NEXT_KEY_TAG, "Crosswan-Next-Key")),
        ("no tag", &me, no_tag),
        ("to take it away", &me, publishing("=CreateTags", "=DeleteTags")),
        ("who is no instance", &Caller::user("somebody"), exact()),
        ("the same role on another instance", &Caller::gateway("crosswan-test", HOME, "i-00000002"), exact()),
    ];
    for (file, ..) in FILES {
        let document = document(file);
        let decide =
            |document: &Value, caller, call: &Call| Policy::decide(&[Policy::new(document).unwrap()], caller, call);
        for (what, call) in [
            ("both tags", exact()),
            ("the key alone", publishing(NEXT_KEY_TAG, KEY_TAG)),
            ("the next key alone", publishing(KEY_TAG, NEXT_KEY_TAG)),
            ("that it makes way", publishing(NEXT_KEY_TAG, MAKES_WAY_TAG)),
            ("that it asks for a place", publishing(NEXT_KEY_TAG, TAKES_PLACE_TAG)),
        ] {
            assert_eq!(decide(&document, &me, &call), Decision::Allowed, "{file}: {what}");
        }
        for (what, caller, call) in &forbidden {
            assert_eq!(decide(&document, caller, call), Decision::NotAllowed, "{file}: {what}");
        }
        // What each condition keeps out: without it, exactly that gets in.
        for (condition, let_in) in [
            (
                "ArnLike",
                &["another instance", "itself and another", "who is no instance", "the same role on another instance"]
                    [..],
            ),
            ("ForAllValues:StringEquals", &["another tag", "another tag besides", "a tag that differs in case"]),
            ("Null", &["no tag"]),
        ] {
            let mut loose = document.clone();
            loose["Statement"][1]["Condition"].as_object_mut().unwrap().remove(condition).unwrap();
            let allowed: Vec<_> = forbidden
                .iter()
                .filter(|(_, caller, call)| decide(&loose, caller, call) == Decision::Allowed)
                .map(|(what, ..)| *what)
                .collect();
            assert_eq!(allowed, let_in, "{file} without {condition}");
        }
    }
}

/// What a policy says to each of these calls, and what each of its conditions in the statement of that name keeps out: without it,
/// exactly that gets in.
fn keeps_out(
    file: &str,
    sid: &str,
    allowed: &[(&str, &Caller, Call)],
    forbidden: &[(&str, &Caller, Call)],
    conditions: &[(&str, &[&str])],
) {
    let document = document(file);
    let decide = |document: &Value, caller: &Caller, call: &Call| {
        Policy::decide(&[Policy::new(document).unwrap()], caller, call)
    };
    for (what, caller, call) in allowed {
        assert_eq!(decide(&document, caller, call), Decision::Allowed, "{file}: {what}");
    }
    for (what, caller, call) in forbidden {
        assert_eq!(decide(&document, caller, call), Decision::NotAllowed, "{file}: {what}");
    }
    for (condition, let_in) in conditions {
        let mut loose = document.clone();
        let statements = loose["Statement"].as_array_mut().unwrap();
        let statement = statements.iter_mut().find(|statement| statement["Sid"] == sid).unwrap();
        statement["Condition"].as_object_mut().unwrap().remove(*condition).unwrap();
        let gets_in = |(_, caller, call): &&(&str, &Caller, Call)| decide(&loose, caller, call) == Decision::Allowed;
        let got_in: Vec<_> = forbidden.iter().filter(gets_in).map(|(what, ..)| *what).collect();
        assert_eq!(got_in, *let_in, "{file} without {condition}");
    }
}

#[test]
fn a_gateway_may_turn_off_its_own_check_and_change_nothing_else_of_an_instance() {
    let server = guarded(&document("nat-hub"));
    let (home, me) = (HOME.parse().unwrap(), ME.parse().unwrap());
    within(TIMEOUT, stop_source_dest_check(&access(&server.endpoint), &home, &me, TIMEOUT)).unwrap();
    let asked = server.asked("ModifyInstanceAttribute").remove(0);
    let call = |from: &str, to: &str| {
        assert!(asked.body.contains(from), "{}", asked.body);
        Call::new(asked.region(), &asked.body.replace(from, to))
    };
    let me = Caller::gateway("crosswan-test", HOME, ME);
    let (user, other) = (Caller::user("somebody"), Caller::gateway("crosswan-test", HOME, "i-00000002"));
    let forbidden = [
        ("another instance", &me, call(ME, "i-00000002")),
        ("to turn it on", &me, call("SourceDestCheck.Value=false", "SourceDestCheck.Value=true")),
        ("its user data", &me, call("SourceDestCheck.Value=false", "UserData.Value=eA%3D%3D")),
        ("its groups", &me, call("SourceDestCheck.Value=false", "GroupId.1=sg-00000001")),
        ("by the attribute's name", &me, call("SourceDestCheck.Value=false", "Attribute=userData&Value=eA%3D%3D")),
        ("who is no instance", &user, call("", "")),
        ("the same role on another instance", &other, call("", "")),
        ("its interface", &me, call("ModifyInstanceAttribute", "ModifyNetworkInterfaceAttribute")),
    ];
    let allowed = [("its own", &me, call("", ""))];
    for (file, ..) in FILES {
        let conditions: [(&str, &[&str]); 2] = [
            ("ArnLike", &["another instance", "who is no instance", "the same role on another instance"]),
            ("StringEquals", &["to turn it on", "its user data", "its groups", "by the attribute's name"]),
        ];
        keeps_out(file, "StopSourceDestCheck", &allowed, &forbidden, &conditions);
    }
}

#[test]
fn a_gateway_may_write_routes_into_tables_with_the_tag_and_into_no_other() {
    let me = Caller::gateway("crosswan-test", HOME, ME);
    let call = |action: &str, tag: Option<(&str, &str)>| {
        let form =
            format!("Action={action}&RouteTableId=rtb-1&DestinationCidrBlock=10.0.0.0%2F8&NetworkInterfaceId=eni-1");
        let mut call = Call::new(HOME, &form);
        call.tagged.extend(tag.map(|(key, value)| (key.to_owned(), value.to_owned())));
        call.vpc = Some("vpc-1".into());
        call
    };
    let managed = Some(("crosswan-routes", "managed"));
    let allowed = ["CreateRoute", "ReplaceRoute"].map(|action| (action, &me, call(action, managed)));
    let forbidden = [
        ("a table without a tag", &me, call("ReplaceRoute", None)),
        ("another value", &me, call("CreateRoute", Some(("crosswan-routes", "manual")))),
        ("another tag", &me, call("ReplaceRoute", Some(("routes", "managed")))),
        ("to take one away", &me, call("DeleteRoute", managed)),
        ("to give the tag", &me, Call::new(HOME, "Action=CreateTags&ResourceId.1=rtb-1&Tag.1.Key=crosswan-routes")),
    ];
    let conditions: [(&str, &[&str]); 1] =
        [("StringEquals", &["a table without a tag", "another value", "another tag"])];
    for (file, ..) in FILES {
        keeps_out(file, "MoveRoutes", &allowed, &forbidden, &conditions);
        // As docs/iam/README.md has it: with the own VPC's ARN, tables of other VPCs are kept out, too.
        for (vpc, decision) in [("vpc-1", Decision::Allowed), ("vpc-2", Decision::NotAllowed)] {
            let mut document = document(file);
            let statements = document["Statement"].as_array_mut().unwrap();
            let statement = statements.iter_mut().find(|statement| statement["Sid"] == "MoveRoutes").unwrap();
            statement["Condition"]["ArnLike"] = json!({ "ec2:Vpc": format!("arn:aws:ec2:*:*:vpc/{vpc}") });
            let policy = Policy::new(&document).unwrap();
            assert_eq!(Policy::decide(&[policy], &me, &call("ReplaceRoute", managed)), decision, "{file} {vpc}");
        }
    }
}

#[test]
fn a_policy_that_lacks_the_second_tag_is_refused_with_both_tags_by_name() {
    for (file, tag, other) in [("vpn-hub", NEXT_KEY_TAG, KEY_TAG), ("nat-vpn", KEY_TAG, NEXT_KEY_TAG)] {
        let mut document = document(file);
        document["Statement"][1]["Condition"]["ForAllValues:StringEquals"]["aws:TagKeys"] = json!([other]);
        let server = guarded(&document);
        let (home, me) = (HOME.parse().unwrap(), ME.parse().unwrap());
        let announce =
            |tags: &[(&str, String)]| within(TIMEOUT, announce(&access(&server.endpoint), &home, &me, tags, TIMEOUT));
        let reason = announce(&new_tags()).unwrap_err().to_string();
        assert_eq!(
            reason,
            "not permitted: the instance's role needs ec2:CreateTags on its own instance for the tags crosswan-key, \
             crosswan-next-key, crosswan-makes-way-for and crosswan-takes-place-of, in us-west-2 (UnauthorizedOperation): see docs/iam",
            "{file} without {tag}"
        );
        // EC2 takes all tags of a request or none; the one that is allowed still goes alone.
        let allowed: Vec<_> = new_tags().into_iter().filter(|(key, _)| *key == other).collect();
        assert_eq!(announce(&allowed), Ok(()), "{file} without {tag}");
    }
}

#[test]
fn the_guard_keeps_the_tags_to_the_gateways() {
    let anything = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["ec2:CreateTags", "ec2:DeleteTags"], "Resource": "*" }
    ] });
    let policies = [Policy::new(&anything).unwrap(), Policy::new(&document("guard-key-tag")).unwrap()];
    let with_key = |mut call: Call| {
        call.tagged = [("service", "nat"), (KEY_TAG, KEY)].map(|(key, value)| (key.into(), value.into())).into();
        call
    };
    let all_tags = || Call::new(HOME, &format!("Action=DeleteTags&ResourceId.1={ME}"));
    let neither = || Call::new(HOME, &format!("Action=CreateTags&ResourceId.1={ME}&Tag.1.Key=service&Tag.1.Value=nat"));
    let claims = |tag: &str| {
        Call::new(HOME, &format!("Action=CreateTags&ResourceId.1={ME}&Tag.1.Key={tag}&Tag.1.Value=i-00000002"))
    };
    let admin = Caller::user("admin");
    let gateways =
        ["crosswan-vpn-hub", "crosswan-nat-vpn", "crosswan-nat-hub"].map(|role| Caller::gateway(role, HOME, ME));
    for (what, caller, call, expected) in [
        ("an admin writes them", &admin, publishing("", ""), Decision::Denied),
        ("an admin writes one of them", &admin, publishing(KEY_TAG, "service"), Decision::Denied),
        ("an admin writes the other", &admin, publishing(NEXT_KEY_TAG, "service"), Decision::Denied),
        ("an admin has it make way", &admin, claims(MAKES_WAY_TAG), Decision::Denied),
        ("an admin has it ask for a place", &admin, claims(TAKES_PLACE_TAG), Decision::Denied),
        ("an admin writes them among others", &admin, publishing("&Tag.1", "&Tag.3.Key=a&Tag.1"), Decision::Denied),
        ("an admin deletes them", &admin, with_key(publishing("=CreateTags", "=DeleteTags")), Decision::Denied),
        ("an admin deletes all", &admin, with_key(all_tags()), Decision::Denied),
        ("another role", &Caller::gateway("crosswan-other", HOME, ME), publishing("", ""), Decision::Denied),
        ("a gateway deletes all", &gateways[0], with_key(all_tags()), Decision::Denied),
        ("an admin deletes all where they are not", &admin, all_tags(), Decision::Allowed),
        ("an admin writes another tag", &admin, with_key(neither()), Decision::Allowed),
        ("an admin tags a volume", &admin, publishing(ME, "vol-00000001"), Decision::Allowed),
        ("the hub writes them", &gateways[0], publishing("", ""), Decision::Allowed),
        ("a spoke writes them", &gateways[1], publishing("", ""), Decision::Allowed),
        ("a nat-hub writes them", &gateways[2], publishing("", ""), Decision::Allowed),
    ] {
        assert_eq!(Policy::decide(&policies, caller, &call), expected, "{what}");
    }
}

#[test]
fn nobody_but_the_networks_owners_writes_the_segment_of_a_vpc() {
    let anything = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["ec2:CreateTags", "ec2:DeleteTags"], "Resource": "*" }
    ] });
    let guard = [Policy::new(&anything).unwrap(), Policy::new(&document("guard-segment-tag")).unwrap()];
    let (admin, owner) = (Caller::user("admin"), Caller::gateway("crosswan-segments", HOME, ME));
    let call =
        |action: &str, of: &str, tags: &str| Call::new(HOME, &format!("Action={action}&ResourceId.1={of}{tags}"));
    let (vpc, key) = ("vpc-00000001", "&Tag.1.Key=crosswan-segment&Tag.1.Value=prod");
    let tagged = |mut call: Call| {
        call.tagged.insert("crosswan-segment".into(), "dev".into());
        call
    };
    for (what, caller, call, expected) in [
        ("an admin writes it", &admin, call("CreateTags", vpc, key), Decision::Denied),
        (
            "an admin deletes it",
            &admin,
            tagged(call("DeleteTags", vpc, "&Tag.1.Key=crosswan-segment")),
            Decision::Denied,
        ),
        ("an admin deletes all", &admin, tagged(call("DeleteTags", vpc, "")), Decision::Denied),
        (
            "an admin writes another tag",
            &admin,
            call("CreateTags", vpc, "&Tag.1.Key=a&Tag.1.Value=b"),
            Decision::Allowed,
        ),
        ("its owner writes it", &owner, call("CreateTags", vpc, key), Decision::Allowed),
    ] {
        assert_eq!(Policy::decide(&guard, caller, &call), expected, "{what}");
    }
    for (file, ..) in FILES {
        let policy = [Policy::new(&document(file)).unwrap()];
        let gateway = Caller::gateway("crosswan-test", HOME, ME);
        for action in ["CreateTags", "DeleteTags"] {
            let decided = Policy::decide(&policy, &gateway, &call(action, vpc, key));
            assert_ne!(decided, Decision::Allowed, "{file}: {action}");
        }
    }
}

#[test]
fn a_mistake_in_a_policy_shows() {
    let file = text("docs/iam/vpn-hub.json");
    assert!(Policy::parse(&file).is_ok());
    for (right, wrong) in [
        ("\"Effect\"", "\"Efect\""),
        ("\"Allow\"", "\"allow\""),
        ("2012-10-17", "2008-10-17"),
        ("aws:TagKeys", "aws:TagKey"),
        ("aws:RequestedRegion", "aws:Region"),
        ("ec2:SourceInstanceARN\":", "aws:ARN\":"),
        ("ArnLike", "ArnIsLike"),
        // It would be true of any list of tags that has it.
        ("ForAllValues:StringEquals", "StringEquals"),
        ("\"arn:aws:ec2:*:*:instance/*\"", "\"${ec2:SourceInstanceARN}\""),
        ("\"ec2:CreateTags\"", "[]"),
        ("ec2:Attribute/", "ec2:Attributes/"),
        ("aws:ResourceTag/", "aws:ResourceTags/"),
        ("}\n", "\n"),
    ] {
        assert!(file.contains(right), "{right}");
        assert!(Policy::parse(&file.replace(right, wrong)).is_err(), "{wrong}");
    }
    // Another instance's id in place of the own one is not an error, but it allows nothing.
    let other = Policy::parse(&file.replace("${ec2:InstanceID}", "i-00000009")).unwrap();
    let me = Caller::gateway("crosswan-test", HOME, ME);
    assert_eq!(Policy::decide(&[other], &me, &publishing("", "")), Decision::NotAllowed);
}

#[test]
fn each_policy_is_a_file_that_the_documents_link_to_and_explain() {
    let (aws, explained) = (text("docs/aws.md"), text("docs/iam/README.md"));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/iam")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".json") else { continue };
        let policy = document(stem);
        Policy::new(&policy).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert!(aws.contains(&format!("[{name}](iam/{name})")), "docs/aws.md does not link to {name}");
        assert!(explained.contains(&format!("[{name}]({name})")), "docs/iam/README.md does not name {name}");
        for statement in policy["Statement"].as_array().unwrap() {
            let sid = statement["Sid"].as_str().unwrap();
            assert!(explained.contains(&format!("`{sid}`")), "docs/iam/README.md does not explain {sid}");
        }
        names.push(name);
    }
    names.sort();
    let files = [
        "assume-roles",
        "discover-trust",
        "discover",
        "guard-key-tag",
        "guard-segment-tag",
        "list-organization",
        "nat-hub",
        "nat-vpn",
        "vpn-hub",
    ];
    assert_eq!(names, files.map(|name| format!("{name}.json")));
    // A copy would drift away from the file.
    for (file, document) in [("README.md", text("README.md")), ("docs/aws.md", aws), ("docs/iam/README.md", explained)]
    {
        assert!(!document.contains("\"Statement\":"), "{file} shows a copy of a policy: link to docs/iam instead");
    }
}

#[test]
fn a_gateway_may_take_addresses_with_the_tag_for_itself_and_no_other() {
    let me = Caller::gateway("crosswan-test", HOME, ME);
    let call = |action: &str, of: &str, tag: Option<&str>| {
        let mut call = Call::new(HOME, &format!("Action={action}&{of}"));
        call.tagged.extend(tag.map(|key| (key.to_owned(), "a".to_owned())));
        call
    };
    let take =
        |instance: &str, tag| call("AssociateAddress", &format!("AllocationId=eipalloc-1&InstanceId={instance}"), tag);
    let (user, other) = (Caller::user("somebody"), Caller::gateway("crosswan-test", HOME, "i-00000002"));
    let pool = Some("crosswan-address");
    let give_up = |tag| {
        let mut call = call("DisassociateAddress", "AssociationId=eipassoc-1", tag);
        call.resources.push("eipalloc-1".into());
        call
    };
    let allowed = [("its own", &me, take(ME, pool)), ("to give it up", &me, give_up(pool))];
    let forbidden = [
        ("an address without the tag", &me, take(ME, None)),
        ("to give up one without the tag", &me, give_up(Some("name"))),
        ("for another instance", &me, take("i-00000002", pool)),
        ("who is no instance", &user, take(ME, pool)),
        ("the same role on another instance", &other, take(ME, pool)),
        ("to release it", &me, call("ReleaseAddress", "AllocationId=eipalloc-1", pool)),
        ("to give the tag", &me, call("CreateTags", "ResourceId.1=eipalloc-1&Tag.1.Key=crosswan-address", None)),
    ];
    for (file, ..) in FILES {
        let untagged = ["an address without the tag", "to give up one without the tag"];
        keeps_out(file, "TakeAddress", &allowed, &forbidden, &[("Null", &untagged)]);
        let others = ["for another instance", "who is no instance", "the same role on another instance"];
        keeps_out(file, "TakeAddressForItself", &allowed, &forbidden, &[("ArnLike", &others)]);
    }
}

/// The role of the file, and what may be asked of it.
const DISCOVER: &str = "arn:aws:iam::111122223333:role/crosswan-discover";

#[test]
fn another_accounts_role_trusts_the_hub_with_the_external_id_and_nobody_else() {
    let hub = Caller::gateway("crosswan-vpn-hub", HOME, ME);
    let outside = Caller { organization: "o-9999999999".into(), ..hub.clone() };
    let other = Caller::gateway("crosswan-nat-vpn", HOME, ME);
    let with = |id| Call::assume(HOME, DISCOVER, id);
    let right = || with(Some("an id of your choice"));
    let allowed = [("the hub", &hub, right())];
    let forbidden = [
        ("without an external id", &hub, with(None)),
        ("with another external id", &hub, with(Some("a guess"))),
        ("the hub after it has left the organization", &outside, right()),
        ("another role of the hub's account", &other, right()),
        ("a person of the hub's account", &Caller::user("somebody"), right()),
    ];
    // What each condition keeps out: without it, exactly that gets in.
    let document = document("discover-trust");
    let decide = |document: &Value, caller: &Caller, call: &Call| {
        Policy::decide(&[Policy::new(document).unwrap()], caller, call)
    };
    assert!(allowed.iter().all(|(_, caller, call)| decide(&document, caller, call) == Decision::Allowed));
    for (key, let_in) in [
        ("none", &[][..]),
        ("sts:ExternalId", &["without an external id", "with another external id"]),
        ("aws:PrincipalOrgID", &["the hub after it has left the organization"]),
    ] {
        let mut loose = document.clone();
        loose["Statement"][0]["Condition"]["StringEquals"].as_object_mut().unwrap().remove(key);
        let got_in = forbidden.iter().filter(|(_, caller, call)| decide(&loose, caller, call) == Decision::Allowed);
        assert_eq!(got_in.map(|(what, ..)| *what).collect::<Vec<_>>(), let_in, "without {key}");
    }
    assert_eq!(document["Statement"][0]["Principal"]["AWS"], hub.principal);
}

#[test]
fn the_hub_may_assume_the_listed_roles_and_these_show_gateways_in_the_listed_regions_alone() {
    let hub = Caller::gateway("crosswan-vpn-hub", HOME, ME);
    let of = |file: &str, call: &Call| Policy::decide(&[Policy::new(&document(file)).unwrap()], &hub, call);
    let role = |arn: &str| Call::assume(HOME, arn, None);
    assert_eq!(of("assume-roles", &role(DISCOVER)), Decision::Allowed);
    for other in ["arn:aws:iam::111122223333:role/admin", "arn:aws:iam::777788889999:role/crosswan-discover"] {
        assert_eq!(of("assume-roles", &role(other)), Decision::NotAllowed, "{other}");
    }
    let policy = document("discover");
    let server = guarded(&policy);
    let asked = |query| within(TIMEOUT, crosswan::observe::ec2::ask(&access(&server.endpoint), &query, TIMEOUT));
    let answers = asked(query(&["us-west-2", "eu-west-1", "ap-southeast-2"]));
    let refused: Vec<_> = answers.iter().filter(|(_, answer)| answer.is_err()).map(|(at, _)| at.to_string()).collect();
    assert_eq!(refused, ["ap-southeast-2"]);
    for call in ["CreateTags", "RunInstances", "DescribeRouteTables", "GetPasswordData"] {
        assert_eq!(of("discover", &Call::new(HOME, &format!("Action={call}"))), Decision::NotAllowed, "{call}");
    }
    for action in actions(&policy["Statement"][0]) {
        let server = guarded(&without(&policy, &action));
        let answers = within(TIMEOUT, crosswan::observe::ec2::ask(&access(&server.endpoint), &query(&[HOME]), TIMEOUT));
        assert!(answers.values().all(Result::is_err), "{action} is not needed");
    }
}
