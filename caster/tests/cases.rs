//! Plans of single situations: what is adopted, left alone, refused.

use std::collections::BTreeSet;

use cloudcaster::{
    decide::decide,
    document::Document,
    part::Tags,
    plan::{Options, Plan, plan},
    seen::{Instance, Interface, RouteTable, Seen, State},
};
use serde_json::{Value, json};

use crate::{
    documents::{CLIENT, EXAMPLE, HUB, read, value, with},
    model::{Region, plan_for},
    properties::region,
};

fn steps(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

fn cast(document: &Document) -> Region {
    let mut region = Region::new(region("example-empty-region"));
    region.cast(document);
    region
}

/// An instance beside its interface, in the first private subnet of the VPC that was cast.
fn instance(seen: &mut Seen, id: &str, state: State, tags: &[(&str, &str)]) {
    let (subnet, there) = seen.subnets.iter().next().unwrap();
    let tags: Tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let eni = id.replacen("i-", "eni-", 1);
    let interface = Interface {
        vpc: there.vpc.clone(),
        subnet: subnet.clone(),
        private: there.cidr.hosts().nth(9).unwrap(),
        secondary: BTreeSet::new(),
        public: None,
        public_dns: None,
        groups: BTreeSet::new(),
        source_dest_check: true,
        instance: Some(id.to_owned()),
        tags: Tags::new(),
    };
    let instance = Instance {
        vpc: there.vpc.clone(),
        subnet: subnet.clone(),
        state,
        image: "ami-ccf297fc".into(),
        instance_type: "t1.micro".into(),
        interface: eni.clone(),
        source_dest_check: true,
        imds_v1: false,
        tags,
    };
    seen.interfaces.insert(eni, interface);
    seen.instances.insert(id.to_owned(), instance);
}

/// The example with one plain app of two instances.
fn plain() -> Value {
    let app = json!([{ "name": "web", "svctag": "web", "group": "web", "type": "t1.micro", "role": "discovery",
        "ami": "ami-ccf297fc", "keypair": "yourkeyhere", "count": 2 }]);
    with(&value(EXAMPLE), "/apps", app)
}

const OLD: [(&str, &str); 3] = [("service", "web"), ("env", "prod"), ("Name", "web-prod")];

#[test]
fn pending_and_stopped_instances_count_and_terminated_ones_do_not() {
    let document = read(&plain().to_string());
    for (state, launches) in [
        (State::Pending, 1),
        (State::Running, 1),
        (State::Stopped, 1),
        (State::Terminated, 2),
        (State::ShuttingDown, 2),
    ] {
        let mut region = cast(&read(EXAMPLE));
        instance(&mut region.seen, "i-0000000a", state, &OLD);
        let said = steps(&plan_for(&document, &region.seen));
        assert_eq!(said.iter().filter(|s| s.starts_with("launch app/web/")).count(), launches, "{state:?}: {said:#?}");
    }
}

#[test]
fn an_instance_of_another_environment_or_service_is_not_ours() {
    let document = read(&plain().to_string());
    for tags in [[("service", "web"), ("env", "dev")], [("service", "other"), ("env", "prod")]] {
        let mut region = cast(&read(EXAMPLE));
        instance(&mut region.seen, "i-0000000a", State::Running, &tags);
        let said = steps(&plan_for(&document, &region.seen));
        assert!(!said.iter().any(|s| s.contains("i-0000000a")), "{said:#?}");
    }
}

#[test]
fn more_instances_than_the_document_says_are_reported_and_run_on() {
    let mut region = cast(&read(&plain().to_string()));
    for id in ["i-0000000a", "i-0000000b"] {
        instance(&mut region.seen, id, State::Running, &OLD);
    }
    let plan = plan_for(&read(&plain().to_string()), &region.seen);
    let said = steps(&plan);
    assert!(said.iter().all(|s| s.starts_with("adopt i-0000000")), "{said:#?}");
    assert!(
        plan.left.iter().any(|n| n.what == "web-prod" && n.why == "4 run, the document says 2; none is terminated"),
        "{plan}"
    );
}

#[test]
fn a_changed_document_makes_a_version_that_only_new_instances_get() {
    let mut region = cast(&read(EXAMPLE));
    let changed = read(&with(&value(EXAMPLE), "/apps/0/keypair", json!("yourkeyhere")).to_string());
    let said = steps(&plan_for(&changed, &region.seen));
    assert_eq!(
        said,
        [
            "create version 2 of launch template exampleapp-prod: key pair wrathofchris-201401 => yourkeyhere",
            "new instances of Auto Scaling group exampleapp-prod: launch template exampleapp-prod version 1 => launch template exampleapp-prod version 2",
        ]
    );
    region.cast(&changed);
    assert_eq!(steps(&plan_for(&changed, &region.seen)), Vec::<String>::new());
    // The sizes are the group's own business.
    let larger = read(
        &with(&with(&value(EXAMPLE), "/apps/0/keypair", json!("yourkeyhere")), "/apps/0/autoscale/max", json!(9))
            .to_string(),
    );
    let plan = plan_for(&larger, &region.seen);
    assert!(plan.steps.is_empty() && plan.left[0].why.contains("max is 1, the document says 9"), "{plan}");
}

#[test]
fn a_missing_image_stops_only_what_must_be_launched() {
    let region = cast(&read(HUB));
    let mut seen = region.seen.clone();
    seen.images.clear();
    assert!(plan_for(&read(HUB), &seen).steps.is_empty(), "everything runs");
    let decision = decide(&read(CLIENT), &Default::default(), &seen);
    let faults = plan(&decision.desired, &seen, Options::default()).faults;
    assert!(
        faults[0].path.to_string() == "nat.aminame" && faults[0].what.starts_with("no image is called prod-nat-vpn-"),
        "{faults:?}"
    );
}

#[test]
fn a_stopped_gateway_is_reported_and_no_second_one_is_launched() {
    let mut region = cast(&read(HUB));
    for instance in region.seen.instances.values_mut() {
        instance.state = State::Stopped;
    }
    let plan = plan_for(&read(HUB), &region.seen);
    assert!(plan.steps.is_empty(), "{plan}");
    assert_eq!(
        plan.left.iter().filter(|n| n.why.contains("is stopped; start it, or terminate it")).count(),
        2,
        "{plan}"
    );
}

#[test]
fn a_stopped_gateway_of_2014_keeps_its_place_and_its_routes() {
    let mut seen = region("hub-of-2014");
    seen.instances.get_mut("i-000000a1").unwrap().state = State::Stopped;
    let plan = plan_for(&read(HUB), &seen);
    let said = steps(&plan);
    assert!(!said.iter().any(|s| s.starts_with("launch") || s.starts_with("create interface")), "{said:#?}");
    assert!(!said.iter().any(|s| s.contains("rtb-000000a1: 0.0.0.0/0")), "{said:#?}");
    assert!(plan.left.iter().any(|n| n.what == "i-000000a1" && n.why.contains("is stopped")), "{plan}");
}

#[test]
fn names_that_another_vpc_or_cast_holds_are_refused_by_name() {
    let document = read(EXAMPLE);
    let mut theirs = read(EXAMPLE);
    theirs.vpc.cidr = "10.0.0.0/21".parse().unwrap();
    let mut other = cast(&theirs).seen;
    // Of the other VPC only what has one owner in a region is left.
    other.vpcs.retain(|_, v| v.default || v.cidr == theirs.vpc.cidr);
    let plan = plan_for(&document, &other);
    let said: Vec<&str> = plan.foreign.iter().map(|n| n.why.as_str()).collect();
    for expected in [
        "is called example-prod and belongs to vpc-",
        "is an Auto Scaling group of another VPC",
        "two documents claim the name",
    ] {
        assert!(said.iter().any(|s| s.contains(expected)), "{expected}: {plan}");
    }
    assert!(
        !steps(&plan)
            .iter()
            .any(|s| s.contains("load balancer") || s.contains("Auto Scaling") || s.starts_with("record")),
        "{plan}"
    );
}

/// The table of the VPC that was cast, private or public.
fn table<'a>(seen: &'a mut Seen, part: &str) -> &'a mut RouteTable {
    seen.route_tables.values_mut().find(|t| t.tags.get("crosswan-part").is_some_and(|p| p == part)).unwrap()
}

#[test]
fn a_route_that_crosswan_moved_to_a_stand_in_is_left_where_it_is() {
    let mut region = cast(&read(CLIENT));
    instance(&mut region.seen, "i-0000000a", State::Running, &[("service", "nat"), ("env", "prod")]);
    region.seen.instances.get_mut("i-0000000a").unwrap().tags.insert("crosswan-cast".into(), "pair".into());
    let routes = &mut table(&mut region.seen, "table/private").routes;
    routes.values_mut().for_each(|to| *to = "eni-0000000a".into());
    let plan = plan_for(&read(CLIENT), &region.seen);
    assert!(plan.steps.is_empty() && plan.foreign.is_empty(), "{plan}");
    assert_eq!(plan.left.iter().filter(|n| n.why.contains("crosswan moves such routes itself")).count(), 2, "{plan}");
    // When the stand-in is gone the routes come back.
    region.seen.instances.get_mut("i-0000000a").unwrap().state = State::Terminated;
    let said = steps(&plan_for(&read(CLIENT), &region.seen));
    assert!(said.len() == 2 && said.iter().all(|s| s.contains("its instance does not run")), "{said:#?}");
}

#[test]
fn somebody_elses_route_stays_unless_it_is_asked_for() {
    let mut region = cast(&read(CLIENT));
    for to in ["pcx-0000000a", "tgw-0000000a", "nat-0000000a", "vgw-0000000a"] {
        table(&mut region.seen, "table/private").routes.values_mut().for_each(|t| *t = to.into());
        let plan_now = plan_for(&read(CLIENT), &region.seen);
        assert!(plan_now.steps.is_empty() && plan_now.foreign.len() == 2, "{plan_now}");
        let decision = decide(&read(CLIENT), &Default::default(), &region.seen);
        let taken = plan(&decision.desired, &region.seen, Options { take_routes: true });
        assert!(taken.foreign.is_empty() && taken.steps.len() == 2, "{taken}");
    }
    // More specific routes are never looked at.
    let mut region = cast(&read(CLIENT));
    table(&mut region.seen, "table/private").routes.insert("203.0.113.64/26".parse().unwrap(), "pcx-0000000a".into());
    assert!(plan_for(&read(CLIENT), &region.seen).foreign.is_empty());
}

#[test]
fn of_two_tables_that_could_be_public_none_is_chosen() {
    let mut seen = region("hub-of-2014");
    let vpc = seen.vpcs.keys().find(|id| *id != "vpc-0000de0a").unwrap().clone();
    table_of_2014(&mut seen, "rtb-000000a2").subnets.clear();
    let other = RouteTable { vpc, main: false, subnets: [].into(), routes: [].into(), tags: [].into() };
    seen.route_tables.insert("rtb-000000a9".into(), other);
    let plan = plan_for(&read(HUB), &seen);
    assert!(
        plan.foreign.iter().any(
            |n| n.what == "rtb-000000a2 and rtb-000000a9" && n.why.contains("each could be the public route table")
        ),
        "{plan}"
    );
}

fn table_of_2014<'a>(seen: &'a mut Seen, id: &str) -> &'a mut RouteTable {
    seen.route_tables.get_mut(id).unwrap()
}

#[test]
fn the_acl_of_an_adopted_vpc_keeps_its_entries() {
    let acls = json!([
        { "rule_number": 100, "protocol": 6, "rule_action": "allow", "cidr_block": "0.0.0.0/0", "port_range_from": 0, "port_range_to": 65535 },
        { "rule_number": 110, "protocol": -1, "rule_action": "deny", "cidr_block": "192.0.2.0/24" },
    ]);
    let document = read(&with(&value(HUB), "/vpc/acls", acls).to_string());
    let mut seen = region("hub-of-2014");
    let made = cast(&read(HUB)).seen;
    let mut acl = made.acls.values().next().unwrap().clone();
    acl.vpc = seen.vpcs.keys().find(|id| *id != "vpc-0000de0a").unwrap().clone();
    seen.acls.insert("acl-0000000a".into(), acl);
    let plan = plan_for(&document, &seen);
    let said: Vec<String> = steps(&plan).into_iter().filter(|s| s.contains("acl-")).collect();
    assert_eq!(said, ["add to acl-0000000a incoming 110: deny everything from 192.0.2.0/24"]);
    assert!(plan.foreign[0].why.contains("has the entry incoming 100: allow everything"), "{plan}");
}

#[test]
fn members_of_a_group_get_ports_addresses_and_private_addresses_when_they_are_there() {
    let mut doc = with(&value(EXAMPLE), "/apps/0/extports", json!([{ "from": 4000, "to": 4001, "prot": "udp" }]));
    doc = with(&doc, "/apps/0/intaddrs", json!(["10.0.0.50", "10.0.1.50"]));
    doc = with(&doc, "/apps/0/groups", json!(["last"]));
    doc = with(&doc, "/apps/0/addrs", json!(["198.51.100.100"]));
    let document = read(&doc.to_string());
    let mut region = cast(&document);
    let seen = &mut region.seen;
    instance(seen, "i-0000000a", State::Running, &[]);
    seen.interfaces.get_mut("eni-0000000a").unwrap().public = Some("192.0.2.9".parse().unwrap());
    seen.scaling_groups.get_mut("exampleapp-prod").unwrap().instances.insert("i-0000000a".into());
    let plan = plan_for(&document, seen);
    let said = steps(&plan);
    assert!(said.iter().any(|s| s.contains("udp 4000-4001 from 192.0.2.9/32 (apps[0].extports)")), "{said:#?}");
    assert!(said.contains(&"assign private address 10.0.0.50 to eni-0000000a".to_owned()), "{said:#?}");
    assert!(said.contains(&"associate 198.51.100.100 (eipalloc-0000100a) with eni-0000000a".to_owned()), "{said:#?}");
    assert!(plan.left.iter().any(|n| n.what == "10.0.1.50" && n.why.contains("no free member")), "{plan}");
    region.cast(&document);
    let again = steps(&plan_for(&document, &region.seen));
    // The member has another public address now, and 2014's rule opens the ports to that.
    assert!(again.len() == 1 && again[0].contains("from 198.51.100.100/32 (apps[0].extports)"), "{again:#?}");
}

#[test]
fn a_removed_app_stays_and_is_reported() {
    let mut region = cast(&read(&plain().to_string()));
    let document = read(&with(&plain(), "/apps", json!([])).to_string());
    let plan = plan_for(&document, &region.seen);
    assert!(plan.steps.is_empty(), "{plan}");
    for part in ["app/web/0", "app/web/1", "group/web"] {
        assert!(
            plan.left.iter().any(|n| n.why == format!("{part} is not in the document; it stays")),
            "{part}: {plan}"
        );
    }
    // And two resources that both claim to be one part.
    let twin = region.seen.interfaces.values().find(|e| e.tags.contains_key("crosswan-part")).unwrap().clone();
    region.seen.interfaces.insert("eni-ffffffff".into(), Interface { instance: None, ..twin });
    let plan = plan_for(&document, &region.seen);
    assert!(
        plan.left.iter().any(|n| n.what == "eni-ffffffff" && n.why.starts_with("is tagged nat/interface, as")),
        "{plan}"
    );
}

#[test]
fn a_rule_names_a_group_that_must_be_somewhere() {
    let rule = json!([{ "group": "elsewhere", "from": 1, "to": 1, "prot": "tcp" }]);
    let document = read(&with(&plain(), "/apps/0/allow", rule).to_string());
    let seen = region("example-empty-region");
    let decision = decide(&document, &Default::default(), &seen);
    let faults = plan(&decision.desired, &seen, Options::default()).faults;
    assert_eq!(faults[0].path.to_string(), "apps[0].allow");
    assert_eq!(faults[0].what, "the group \"elsewhere\" is neither in the document nor in the VPC");
}

#[test]
fn where_the_document_is_must_be_where_we_are() {
    let seen = region("hub-empty-region");
    let cases = [
        ("/aws/account", json!("999999999999"), "aws.account: the credentials belong to account \"123456789012\""),
        (
            "/vpc/azs/0",
            json!("us-west-2-lax-1a"),
            "vpc.azs[0]: us-west-2-lax-1a is a local-zone, where gateways cannot be relied on",
        ),
        (
            "/vpc/azs/0",
            json!("us-west-2z"),
            "vpc.azs[0]: this account has no zone us-west-2z; it has us-west-2-lax-1a, us-west-2a, us-west-2b and us-west-2c",
        ),
        ("/aws/zone", json!("other.example.com."), "aws.zone: there is no hosted zone other.example.com. in Route 53"),
    ];
    for (pointer, change, expected) in cases {
        let document = read(&with(&value(HUB), pointer, change).to_string());
        let faults = decide(&document, &Default::default(), &seen).faults;
        let said: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.path, f.what)).collect();
        assert!(said.contains(&expected.to_owned()), "{said:#?}");
    }
}

#[test]
fn a_certificate_must_be_one_and_issued() {
    let document = read(EXAMPLE);
    let arn = |n: u8| format!("arn:aws:acm:us-west-2:123456789012:certificate/{n}");
    let acm = |issued| json!({ "names": ["wrathofchris-example-2014"], "issued": issued, "days_left": 300 });
    let cases = [
        (json!({}), "there is no certificate wrathofchris-example-2014, neither in IAM nor in ACM"),
        (json!({ arn(1): acm(false) }), "the certificate wrathofchris-example-2014 in ACM is not issued"),
        (
            json!({ arn(1): acm(true), arn(2): acm(true) }),
            "several certificates in ACM are called wrathofchris-example-2014: ",
        ),
        (json!({ arn(1): acm(true), arn(2): acm(false) }), ""),
    ];
    for (certificates, expected) in cases {
        let mut seen = region("example-empty-region");
        seen.certificates = serde_json::from_value(certificates).unwrap();
        let decision = decide(&document, &Default::default(), &seen);
        let faults = plan(&decision.desired, &seen, Options::default()).faults;
        match expected {
            "" => assert_eq!(faults, vec![]),
            expected => assert!(
                faults[0].what.starts_with(expected) && faults[0].path.to_string() == "elbs[0].listeners[1].cert",
                "{faults:?}"
            ),
        }
    }
}

#[test]
fn an_adoption_that_is_killed_anywhere_goes_on_where_it_was() {
    for (text, case) in [(HUB, "hub-of-2014"), (EXAMPLE, "example-of-2014")] {
        let document = read(text);
        let steps_of = plan_for(&document, &region(case)).steps;
        let mut whole = Region::new(region(case));
        whole.cast(&document);
        for cut in 0..steps_of.len() {
            let mut killed = Region::new(region(case));
            steps_of[..cut].iter().for_each(|step| killed.apply(step));
            killed.cast(&document);
            assert_eq!(steps(&plan_for(&document, &killed.seen)), Vec::<String>::new(), "{case}, {cut}");
            assert_eq!(killed.census(), whole.census(), "{case}, {cut}");
        }
    }
}

#[test]
fn what_another_cast_has_tagged_is_not_taken() {
    let tag = ("crosswan-cast".to_owned(), "dev/203.0.113.0/26".to_owned());
    let mut seen = region("hub-of-2014");
    seen.groups.get_mut("sg-000000a1").unwrap().tags.extend([tag.clone()]);
    let plan = plan_for(&read(HUB), &seen);
    assert!(
        plan.foreign.iter().any(|n| n.what == "sg-000000a1" && n.why.contains("belongs to the cast dev/")),
        "{plan}"
    );
    assert!(!steps(&plan).iter().any(|s| s.contains("sg-000000a1")), "{plan}");
    let mut seen = region("hub-empty-region");
    seen.addresses.get_mut("eipalloc-0000100a").unwrap().tags.extend([tag]);
    let plan = plan_for(&read(HUB), &seen);
    assert!(plan.foreign.iter().any(|n| n.what == "eipalloc-0000100a"), "{plan}");
    assert!(!steps(&plan).iter().any(|s| s.contains("eipalloc-0000100a")), "{plan}");
}

#[test]
fn an_address_that_somebody_uses_is_never_moved() {
    let mut region = cast(&read(CLIENT));
    let holder = region.seen.interfaces.keys().next().unwrap().clone();
    region.seen.addresses.get_mut("eipalloc-0000100a").unwrap().interface = Some(holder.clone());
    let plan = plan_for(&read(HUB), &region.seen);
    assert!(
        plan.foreign
            .iter()
            .any(|n| n.what == "198.51.100.100" && n.why.contains(&format!("is associated with {holder}"))),
        "{plan}"
    );
    assert!(!steps(&plan).iter().any(|s| s.starts_with("associate 198.51.100.100")), "{plan}");
}
