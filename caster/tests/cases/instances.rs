//! Instances: which count, what is launched, what stays.

use cloudcaster::{
    decide::decide,
    plan::{Options, plan},
    seen::{Interface, State},
};
use serde_json::json;

use super::{OLD, cast, instance, plain, steps};
use crate::{
    documents::{CLIENT, EXAMPLE, HUB, read, value, with},
    model::plan_for,
    properties::region,
};

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
fn a_member_of_an_auto_scaling_group_is_no_instance_of_a_plain_app() {
    let mut region = cast(&read(EXAMPLE));
    instance(&mut region.seen, "i-0000000a", State::Running, &OLD);
    region.seen.scaling_groups.get_mut("exampleapp-prod").unwrap().instances.insert("i-0000000a".into());
    let said = steps(&plan_for(&read(&plain().to_string()), &region.seen));
    assert!(!said.iter().any(|s| s.contains("i-0000000a")), "{said:#?}");
    assert_eq!(said.iter().filter(|s| s.starts_with("launch app/web/")).count(), 2, "{said:#?}");
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
    // A cast does not change the size of a group.
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
