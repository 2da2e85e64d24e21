//! Route tables and the network ACL: what is ours, and what is left to others.

use cloudcaster::{
    decide::decide,
    plan::{MANAGED, Options, Plan, plan},
    seen::{Address, RouteTable, Seen, State},
};
use serde_json::json;

use super::{cast, instance, steps};
use crate::{
    documents::{CLIENT, HUB, read, value, with},
    model::{Region, plan_for},
    properties::region,
};

/// The table of the VPC that was cast, private or public.
fn table<'a>(seen: &'a mut Seen, part: &str) -> &'a mut RouteTable {
    seen.route_tables.values_mut().find(|t| t.tags.get("crosswan-part").is_some_and(|p| p == part)).unwrap()
}

/// The client with a second gateway of its service, to which both private routes lead.
fn with_stand_in(managed: bool, tags: &[(&str, &str)]) -> Region {
    let mut region = cast(&read(CLIENT));
    instance(&mut region.seen, "i-0000000a", State::Running, tags);
    let table = table(&mut region.seen, "table/private");
    table.routes.values_mut().for_each(|to| *to = "eni-0000000a".into());
    if managed {
        table.tags.insert(MANAGED.0.into(), MANAGED.1.into());
    }
    region
}

fn forced(seen: &Seen) -> Plan {
    plan(&decide(&read(CLIENT), &Default::default(), seen).desired, seen, Options { take_routes: true })
}

#[test]
fn in_a_table_of_the_gateways_a_route_to_one_that_runs_is_theirs_and_nothing_is_said_of_it() {
    // Not even an environment: the gateways' own settings say whether that matters.
    let mut region = with_stand_in(true, &[("service", "nat"), ("crosswan-cast", "by hand")]);
    let said = plan_for(&read(CLIENT), &region.seen);
    assert!(said.steps.is_empty() && said.foreign.is_empty() && said.left.is_empty(), "{said}");
    assert!(forced(&region.seen).steps.is_empty(), "the gateways would take them back");
    // A missing route is made, as the first one was.
    table(&mut region.seen, "table/private").routes.clear();
    assert_eq!(steps(&plan_for(&read(CLIENT), &region.seen)).len(), 2);
    // When the stand-in is gone the routes come back, and what is no gateway of this service is somebody else's.
    let mut region = with_stand_in(true, &[("service", "nat")]);
    region.seen.instances.get_mut("i-0000000a").unwrap().state = State::Terminated;
    let said = steps(&plan_for(&read(CLIENT), &region.seen));
    assert!(said.len() == 2 && said.iter().all(|s| s.contains("its instance does not run")), "{said:#?}");
    let region = with_stand_in(true, &[("service", "firewall"), ("env", "prod")]);
    assert_eq!(plan_for(&read(CLIENT), &region.seen).foreign.len(), 2);
}

#[test]
fn in_a_table_of_the_cast_a_route_to_another_gateway_that_runs_moves_only_when_that_is_asked_for() {
    let region = with_stand_in(false, &[("service", "nat"), ("env", "prod"), ("crosswan-cast", "by hand")]);
    let said = plan_for(&read(CLIENT), &region.seen);
    assert!(said.steps.is_empty() && said.foreign.is_empty(), "{said}");
    let left = said.left.iter().filter(|n| n.why.contains("eni-0000000a, another gateway of the same service"));
    assert_eq!(left.count(), 2, "{said}");
    let taken = steps(&forced(&region.seen));
    assert!(taken.len() == 2 && taken.iter().all(|s| s.contains("taken from another gateway")), "{taken:#?}");
}

/// An Elastic IP of the pool, on this interface.
fn pooled(seen: &mut Seen, id: &str, public: &str, interface: Option<&str>) {
    let tags = [("crosswan-address".to_owned(), "nat".to_owned())].into();
    let public = public.parse().unwrap();
    seen.addresses.insert(id.into(), Address { public, interface: interface.map(Into::into), tags });
    if let Some(interface) = interface.and_then(|id| seen.interfaces.get_mut(id)) {
        interface.public = Some(public);
    }
}

#[test]
fn an_address_that_gateways_take_themselves_is_left_to_them_and_is_never_tagged() {
    // The gateway has taken one of its pool instead of what the cast allocated.
    let mut seen = cast(&read(CLIENT)).seen;
    let (made, slot) = {
        let (id, address) = seen.addresses.iter_mut().find(|(_, a)| a.interface.is_some()).unwrap();
        (id.clone(), address.interface.take().unwrap())
    };
    pooled(&mut seen, "eipalloc-0000000b", "192.0.2.77", Some(&slot));
    let said = plan_for(&read(CLIENT), &seen);
    assert!(said.steps.iter().all(|s| s.to_string().starts_with("record")), "{said}");
    let left: Vec<_> = said.left.iter().map(|n| (n.what.as_str(), n.why.contains("took 192.0.2.77 itself"))).collect();
    assert_eq!(left, [(made.as_str(), true)], "the other one costs money: {said}");
    // One that the document gives, free: the interface gets it, because without any its gateway could not even ask for one.
    let document = read(&with(&value(CLIENT), "/nat/addrs", json!(["192.0.2.77"])).to_string());
    let mut seen = region("client-empty-region");
    pooled(&mut seen, "eipalloc-0000000b", "192.0.2.77", None);
    let said = steps(&plan_for(&document, &seen));
    assert_eq!(said.iter().filter(|s| s.contains("192.0.2.77")).count(), 1, "{said:#?}");
    // Another gateway works with it.
    let mut seen = with_stand_in(true, &[("service", "nat"), ("crosswan-cast", "by hand")]).seen;
    seen.addresses.clear();
    seen.interfaces.values_mut().for_each(|e| e.public = None);
    pooled(&mut seen, "eipalloc-0000000b", "192.0.2.77", Some("eni-0000000a"));
    let said = plan_for(&document, &seen);
    assert!(said.foreign.is_empty() && steps(&said).iter().all(|s| !s.contains("192.0.2.77")), "{said}");
    assert!(said.left.iter().any(|n| n.why.contains("another gateway of the same service took it")), "{said}");
    seen.addresses.values_mut().for_each(|a| a.tags.clear());
    assert_eq!(plan_for(&document, &seen).foreign.len(), 1, "an address of no pool");
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
