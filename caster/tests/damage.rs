//! What somebody breaks by hand the next cast mends, as far as it can be made again.

use cloudcaster::{
    rule::Rule,
    seen::{Seen, State},
};
use proptest::{prelude::*, sample::Index};

use crate::{
    documents::{CLIENT, EXAMPLE, HUB, read},
    model::{Region, plan_for},
    properties::region,
};

#[derive(Debug, Clone, Copy)]
enum Damage {
    TerminateInstance,
    DropRoute,
    DeadRoute,
    DropAssociation,
    DropRule,
    DropInternetGateway,
    DropRecord,
    DropListener,
    SourceDestCheck,
    ReleaseAddress,
    Untag,
    DnsHostnames,
}

use Damage::*;
const ALL: [Damage; 12] = [
    TerminateInstance,
    DropRoute,
    DeadRoute,
    DropAssociation,
    DropRule,
    DropInternetGateway,
    DropRecord,
    DropListener,
    SourceDestCheck,
    ReleaseAddress,
    Untag,
    DnsHostnames,
];

/// One of a map, chosen by `pick`.
fn one<'a, T>(map: impl Iterator<Item = &'a mut T>, pick: Index) -> Option<&'a mut T> {
    let mut all: Vec<&mut T> = map.collect();
    if all.is_empty() { None } else { Some(all.remove(pick.index(all.len()))) }
}

fn harm(seen: &mut Seen, damage: Damage, pick: Index) {
    let ours = |tags: &cloudcaster::part::Tags| tags.contains_key("crosswan-cast");
    match damage {
        TerminateInstance => {
            let Some(instance) = one(seen.instances.values_mut(), pick) else { return };
            instance.state = State::Terminated;
            seen.interfaces.get_mut(&instance.interface).unwrap().instance = None;
        }
        DropRoute | DeadRoute => {
            let tables = seen.route_tables.values_mut().filter(|t| ours(&t.tags));
            let Some(table) = one(tables, pick) else { return };
            match damage {
                DropRoute => _ = table.routes.pop_first(),
                _ => table.routes.values_mut().for_each(|to| *to = "eni-0badbad0".into()),
            }
        }
        DropAssociation => {
            let tables = seen.route_tables.values_mut().filter(|t| ours(&t.tags));
            one(tables, pick).into_iter().for_each(|t| _ = t.subnets.pop_last());
        }
        DropRule => {
            let Some(group) = one(seen.groups.values_mut(), pick) else { return };
            // The default egress of a group without `egress` is not in the document.
            let rule = group.rules.iter().find(|r| **r != Rule::default_egress()).cloned();
            rule.into_iter().for_each(|r| _ = group.rules.remove(&r));
        }
        DropInternetGateway => {
            let gateways = seen.internet_gateways.values_mut().filter(|g| ours(&g.tags));
            one(gateways, pick).into_iter().for_each(|g| g.vpc = None);
        }
        DropRecord => _ = seen.records.pop_first(),
        DropListener => one(seen.balancers.values_mut(), pick).into_iter().for_each(|b| _ = b.listeners.pop_first()),
        SourceDestCheck => {
            let Some(instance) = one(seen.instances.values_mut(), pick) else { return };
            instance.source_dest_check = true;
            seen.interfaces.get_mut(&instance.interface).unwrap().source_dest_check = true;
        }
        ReleaseAddress => {
            let held = seen.addresses.values_mut().filter(|a| a.interface.is_some());
            let Some(interface) = one(held, pick).and_then(|a| a.interface.take()) else { return };
            let interface = seen.interfaces.get_mut(&interface).unwrap();
            (interface.public, interface.public_dns) = (None, None);
        }
        Untag => {
            // Someone took our tags from a subnet, a group and an instance; the rules of 2014 find them again.
            one(seen.subnets.values_mut(), pick).into_iter().for_each(|s| s.tags.clear());
            one(seen.groups.values_mut(), pick).into_iter().for_each(|g| g.tags.clear());
            one(seen.instances.values_mut(), pick).into_iter().for_each(|i| {
                i.tags.remove("crosswan-cast");
            });
        }
        DnsHostnames => seen.vpcs.values_mut().filter(|v| !v.default).for_each(|v| v.dns_hostnames = false),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_cast_mends_what_was_broken(which in 0usize..3, damages in proptest::collection::vec((proptest::sample::select(&ALL[..]), any::<Index>()), 1..4)) {
        let document = read([HUB, CLIENT, EXAMPLE][which]);
        let mut region = Region::new(region("example-empty-region"));
        region.cast(&document);
        let before = region.clone();
        for (damage, pick) in damages {
            harm(&mut region.seen, damage, pick);
        }
        prop_assert_eq!(region.seen.gaps(), Vec::<String>::new());
        region.cast(&document);
        let plan = plan_for(&document, &region.seen);
        prop_assert!(plan.steps.is_empty() && plan.foreign.is_empty(), "{}", plan);
        // Nothing is there twice: only terminated instances are more than before.
        region.seen.instances.retain(|_, i| i.state.is_up());
        prop_assert_eq!(region.census(), before.census());
        let (now, then) = (region.seen, before.seen);
        prop_assert_eq!(now.vpcs, then.vpcs);
        prop_assert_eq!(now.internet_gateways, then.internet_gateways);
        prop_assert_eq!(now.subnets, then.subnets);
        prop_assert_eq!(now.route_tables, then.route_tables);
        prop_assert_eq!(now.groups, then.groups);
        prop_assert_eq!(now.addresses, then.addresses);
        prop_assert_eq!(now.balancers, then.balancers);
        prop_assert_eq!(now.records, then.records);
    }
}
