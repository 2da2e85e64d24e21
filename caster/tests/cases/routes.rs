//! Route tables and the network ACL: what is ours, and what is left to others.

use cloudcaster::{
    decide::decide,
    plan::{Options, plan},
    seen::{RouteTable, Seen, State},
};
use serde_json::json;

use super::{cast, instance, steps};
use crate::{
    documents::{CLIENT, HUB, read, value, with},
    model::plan_for,
    properties::region,
};

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
fn a_subnet_in_use_changes_its_table_only_when_that_has_its_routes() {
    // Everything hangs on the main table, which leads to the internet; the public table is still to be made.
    let mut seen = region("hub-of-2014");
    let public = seen.route_tables.remove("rtb-000000a2").unwrap();
    let main = seen.route_tables.get_mut("rtb-000000a1").unwrap();
    main.subnets.clear();
    main.routes = public.routes;
    let said = steps(&plan_for(&read(HUB), &seen));
    let at = |what: &str| said.iter().position(|s| s.starts_with(what)).unwrap_or_else(|| panic!("{what}: {said:#?}"));
    let last_route = said.iter().rposition(|s| s.starts_with("route in")).unwrap();
    assert!(at("associate subnet-000000aa1 with (new table public)") > last_route, "{said:#?}");
    assert!(at("create public route table") < at("route in (new table public)"), "{said:#?}");
    // Where nothing runs it comes first, so that gateways boot with the internet.
    seen.instances.clear();
    seen.interfaces.clear();
    seen.addresses.values_mut().for_each(|a| a.interface = None);
    let said = steps(&plan_for(&read(HUB), &seen));
    let at = |what: &str| said.iter().position(|s| s.starts_with(what)).unwrap_or_else(|| panic!("{what}: {said:#?}"));
    assert!(at("associate subnet-000000aa1") < at("launch nat"), "{said:#?}");
}
