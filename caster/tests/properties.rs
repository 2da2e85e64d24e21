//! What must hold for every document, not just for the cases we thought of.

use cloudcaster::{
    document::Document,
    plan::Step,
    seen::{Seen, State},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    documents::{CLIENT, EXAMPLE, HUB, read, value},
    model::{Region, plan_for},
};

/// The region of a golden case.
pub fn region(case: &str) -> Seen {
    let path = format!("{}/tests/golden/{case}/seen.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn empty() -> Seen {
    region("example-empty-region")
}

/// Documents with and without each feature, all of them free of errors.
fn document() -> impl Strategy<Value = Value> {
    let features = proptest::collection::vec(any::<bool>(), 24);
    (features, 0usize..4, 0usize..3).prop_map(|(on, count, kind)| {
        let on = |i: usize| on[i];
        let mut doc = value(EXAMPLE);
        if on(0) {
            doc["vpc"]["name"] = json!("example");
        }
        if on(1) {
            doc["vpc"]["acls"] = json!([
                { "rule_number": if on(2) { 100 } else { 90 }, "protocol": 6, "rule_action": "allow", "cidr_block": "10.0.0.0/8", "port_range_from": 1, "port_range_to": 1024 },
                { "rule_number": 100, "protocol": -1, "rule_action": "allow", "cidr_block": if on(3) { "0.0.0.0/0" } else { "10.0.0.0/8" }, "egress": true },
            ]);
        }
        if on(4) {
            doc["vpc"]["default_rules"] = if on(5) { json!([]) } else { json!([{ "cidr_ip": "10.0.0.0/8", "from_port": -1, "to_port": -1, "ip_protocol": "-1" }]) };
        }
        if on(6) {
            doc.as_object_mut().unwrap().remove("nat");
        }
        doc["elbs"][0]["name"] = json!("web");
        if kind == 1 {
            doc["elbs"][0]["type"] = json!("classic");
        }
        if kind == 2 {
            doc["elbs"][0]["listeners"] = json!([{ "from": 80, "from_prot": "tcp", "to": 8080, "to_prot": "tcp" }]);
            doc["elbs"][0]["target"] = json!("SSL:8081");
        }
        if on(7) {
            doc["elbs"][0]["internal"] = json!(true);
        }
        if on(8) {
            doc["elbs"][0]["nocrossaz"] = json!(true);
        }
        if on(9) {
            doc["elbs"][0].as_object_mut().unwrap().remove("idle_timeout");
        }
        doc["apps"][0]["elb"] = json!("web");
        if on(10) {
            doc["apps"] = json!([]);
        }
        let mut app = json!({ "name": "plain", "svctag": "plain", "group": "plain", "type": "t1.micro", "role": "discovery",
            "ami": "ami-ccf297fc", "keypair": "yourkeyhere", "count": count });
        let mut put = |feature: bool, key: &str, value: Value| {
            if feature {
                app[key] = value;
            }
        };
        put(on(11), "public", json!("yes"));
        put(on(12), "azlimit", json!("us-west-2b"));
        put(on(13), "elbs", json!(["web"]));
        put(on(14), "groups", json!(["shared", "example-prod"]));
        put(on(15), "egress", if on(16) { json!([]) } else { json!([{ "cidr": "0.0.0.0/0", "from": 0, "to": 0, "prot": "all" }, { "group": "shared2", "from": 1, "to": 2, "prot": "udp" }]) });
        put(on(15) && !on(16) || on(14), "groups", json!(["shared", "shared2", "example-prod"]));
        put(on(17), "allow", json!([{ "group": "plain", "from": 0, "to": 0, "prot": "all" }, { "cidr": "192.0.2.0/24", "from": 8, "to": 0, "prot": "icmp" }]));
        put(on(18), "pubports", json!([{ "from": 80, "to": 90, "prot": "tcp" }]));
        put(on(19) && count > 0, "addrs", json!(["198.51.100.100"]));
        put(on(20), "cluster", json!("blue"));
        put(on(21), "userdata", json!("#!/bin/sh\n"));
        if on(22) {
            doc["apps"].as_array_mut().unwrap().push(app);
        }
        if on(23) {
            doc["apps"].as_array_mut().unwrap().push(json!({ "name": "hub", "svctag": "vpn-hub", "group": "hub", "type": "t1.micro",
                "role": "discovery", "aminame": "vpn-hub", "keypair": "yourkeyhere", "count": 1, "public": "yes" }));
        }
        doc
    })
}

/// The same document with the keys of each object in another order.
fn scrambled(value: &Value, seed: &mut u64) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for i in (1..members.len()).rev() {
                *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                members.swap(i, (*seed >> 33) as usize % (i + 1));
            }
            let members: Vec<String> =
                members.iter().map(|(k, v)| format!("{}:{}", json!(k), scrambled(v, seed))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(|v| scrambled(v, seed)).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn settled(document: &Document, region: &Region) {
    let again = plan_for(document, &region.seen);
    let steps: Vec<String> = again.steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps, Vec::<String>::new(), "a plan after its apply is empty");
    assert_eq!(again.foreign, vec![]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_keys_never_changes_the_plan(document in document(), mut seed in any::<u64>()) {
        let other = read(&scrambled(&document, &mut seed));
        let (a, b) = (plan_for(&read(&document.to_string()), &empty()), plan_for(&other, &empty()));
        prop_assert_eq!(a.to_string(), b.to_string());
        prop_assert_eq!(a.steps, b.steps);
    }

    #[test]
    fn a_plan_after_its_apply_is_empty(document in document()) {
        let document = read(&document.to_string());
        let mut region = Region::new(empty());
        region.cast(&document);
        settled(&document, &region);
    }

    #[test]
    fn a_cast_that_is_killed_anywhere_is_finished_by_the_next_with_nothing_twice(document in document(), cut in any::<prop::sample::Index>()) {
        let document = read(&document.to_string());
        let steps = plan_for(&document, &empty()).steps;
        let mut whole = Region::new(empty());
        steps.iter().for_each(|step| whole.apply(step));
        let mut killed = Region::new(empty());
        steps[..cut.index(steps.len())].iter().for_each(|step| killed.apply(step));
        killed.cast(&document);
        settled(&document, &killed);
        prop_assert_eq!(killed.census(), whole.census());
    }

    #[test]
    fn a_changed_document_is_added_and_what_left_it_stays(before in document(), after in document()) {
        let (before, after) = (read(&before.to_string()), read(&after.to_string()));
        let mut region = Region::new(empty());
        region.cast(&before);
        let (there, _) = region.census();
        let plan = plan_for(&after, &region.seen);
        plan.steps.iter().for_each(|step| region.apply(step));
        let (now, _) = region.census();
        // All but ACL entries and rules, of which the two exceptions may take one each.
        for (i, (a, b)) in there.iter().zip(&now).enumerate().filter(|(i, _)| ![13, 15].contains(i)) {
            prop_assert!(a <= b, "{i}: {a} => {b}");
        }
        for step in &plan.steps {
            let words = step.to_string();
            let takes = words.starts_with("REVOKE") || words.starts_with("REMOVE") || words.starts_with("REPLACE");
            prop_assert_eq!(takes, step.takes_away(), "{}", words);
            prop_assert!(!words.contains("delete") && !words.contains("terminate"), "{}", words);
        }
    }

    #[test]
    fn each_step_comes_after_what_it_names(document in document()) {
        // The model panics when a step names something that was not made before.
        let mut region = Region::new(empty());
        let plan = plan_for(&read(&document.to_string()), &empty());
        prop_assert!(plan.steps.is_sorted_by_key(Step::level));
        plan.steps.iter().for_each(|step| region.apply(step));
    }
}

#[test]
fn what_2014_made_is_adopted_once_and_for_all() {
    for (text, case) in [(HUB, "hub-of-2014"), (EXAMPLE, "example-of-2014")] {
        let document = read(text);
        let mut region = Region::new(region(case));
        let before = region.census();
        region.cast(&document);
        let (counts, _) = region.census();
        assert_eq!(counts[..4], before.0[..4], "{case}: nothing of the network is made anew");
        assert_eq!(counts[7], before.0[7], "{case}: nothing is launched");
        settled(&document, &region);
    }
}

#[test]
fn a_terminated_gateway_is_cast_again_with_the_same_address_and_routes() {
    let document = read(HUB);
    let mut region = Region::new(empty());
    region.cast(&document);
    let before = region.clone();
    let (id, nat) = region.seen.instances.iter_mut().find(|(_, i)| i.tags["Name"] == "nat-hub-prod").unwrap();
    nat.state = State::Terminated;
    let (id, interface) = (id.clone(), nat.interface.clone());
    region.seen.interfaces.get_mut(&interface).unwrap().instance = None;
    let plan = plan_for(&document, &region.seen);
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(steps[0].starts_with(&format!("launch nat (nat-hub-prod) on {interface}")), "{steps:?}");
    region.cast(&document);
    settled(&document, &region);
    assert_eq!(region.seen.route_tables, before.seen.route_tables);
    assert_eq!(region.seen.addresses, before.seen.addresses);
    // The token of the launch is another one, or EC2 would answer with the dead instance.
    let first = plan_for(&document, &empty()).steps.into_iter().find_map(launch_token).unwrap();
    let again = plan.steps.into_iter().find_map(launch_token).unwrap();
    assert_ne!(first, again, "{id}");
}

fn launch_token(step: Step) -> Option<String> {
    match step {
        Step::Launch(launch) if launch.name == "nat-hub-prod" => Some(launch.token),
        _ => None,
    }
}

#[test]
fn a_client_is_added_beside_another_and_touches_nothing_of_it() {
    let mut region = Region::new(empty());
    region.cast(&read(HUB));
    let hub = region.seen.clone();
    region.cast(&read(CLIENT));
    settled(&read(HUB), &region);
    settled(&read(CLIENT), &region);
    for (id, table) in &hub.route_tables {
        assert_eq!(region.seen.route_tables[id], *table);
    }
    for (id, group) in &hub.groups {
        assert_eq!(region.seen.groups[id], *group);
    }
}

#[test]
fn the_default_vpc_and_foreign_casts_are_never_touched() {
    let document = read(HUB);
    let mut seen = empty();
    let vpc = seen.vpcs.get_mut("vpc-0000de0a").unwrap();
    vpc.cidr = document.vpc.cidr;
    let plan = plan_for(&document, &seen);
    assert!(plan.steps.is_empty() && plan.foreign[0].why.contains("default VPC"), "{plan}");
    let vpc = seen.vpcs.get_mut("vpc-0000de0a").unwrap();
    vpc.default = false;
    vpc.tags.insert("crosswan-cast".into(), "dev/203.0.113.0/26".into());
    let plan = plan_for(&document, &seen);
    assert!(plan.steps.is_empty() && plan.foreign[0].why.contains("belongs to the cast dev/203.0.113.0/26"), "{plan}");
}
