//! The order in which rules and realms change: what lies between lets nothing pass that neither end does.

use super::*;
use crate::{
    iptables::{Rules, render},
    model::{Nat, Reach, Realm, Segments},
    system::RoutingChange,
};

const NET: &str = "10.1.0.0/16";

/// One VPC behind a hub whose settings are `reach`; `None` without segments. The VPC is in segment `of`.
fn hub(reach: Option<&[(&str, &str)]>, of: &str) -> Configuration {
    let plain = routed(&[peer_at(Place::One, 1, 11, &[NET])], &[(NET, Place::One)]);
    let names = |list: &str| list.split_whitespace().map(|name| name.parse().unwrap()).collect();
    let segments = reach.map(|reach| {
        let reach: Reach = reach.iter().map(|(name, to)| (name.parse().unwrap(), names(to))).collect();
        Segments { reach, ..Segments::default() }
    });
    let routing = match segments {
        Some(_) => plain.routing.in_realms(|_| Realm::of(&of.parse().unwrap())),
        None => plain.routing,
    };
    let nat = Nat {
        private_net: ["10.0.0.0/8".parse().unwrap()].into(),
        own: ["10.0.0.0/16".parse().unwrap()].into(),
        masquerade: None,
        sources: Default::default(),
        exclude: Default::default(),
        input: Default::default(),
        tunnels: true,
        segments,
        beats: None,
        across: false,
        far: None,
    };
    let files = Files { routing: Some(format!("# by hand\n{routing}")), rules: Some(render(&nat)), ..plain.files };
    Configuration::of(files).unwrap()
}

/// The steps but for the files: `rules`, what a route gets, or the first word.
fn order(target: &Configuration, current: &System) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::RestoreRules(_) => "rules".to_owned(),
        Step::Route { change: RoutingChange::SetRoute(_, via), .. } => match via.realm {
            Some(Realm::NOBODY) => "nobody".to_owned(),
            Some(_) => "realm".to_owned(),
            None => "plain".to_owned(),
        },
        other => other.to_string().split(' ').next().unwrap_or_default().to_owned(),
    };
    plan(target, current).iter().filter(|step| !step.is_file()).map(word).collect()
}

const ONE: Option<&[(&str, &str)]> = Some(&[("prod", "shared"), ("dev", ""), ("shared", "")]);
const OTHER: Option<&[(&str, &str)]> = Some(&[("prod", "dev"), ("dev", ""), ("shared", "")]);

#[test]
fn realms_come_before_the_rules_that_ask_for_them_and_go_after_them() {
    let (off, on) = (hub(None, ""), hub(ONE, "prod"));
    assert_eq!(order(&on, &applied(off.clone())), ["give", "give", "realm", "rules"]);
    assert_eq!(order(&off, &applied(on.clone())), ["rules", "plain"]);
    assert_eq!(order(&on, &applied(on.clone())), [""; 0]);
    // Where no guard stands, it comes first.
    let bare = System { rules: Rules::default(), ..applied(off) };
    assert_eq!(order(&on, &bare), ["rules", "give", "give", "realm"]);
}

#[test]
fn a_vpc_that_moves_is_one_route_and_is_isolated_while_rules_change() {
    let before = applied(hub(ONE, "prod"));
    assert_eq!(order(&hub(ONE, "dev"), &before), ["realm"]);
    assert_eq!(order(&hub(OTHER, "prod"), &before), ["rules"], "who does not move is not touched");
    assert_eq!(order(&hub(OTHER, "dev"), &before), ["nobody", "rules", "realm"]);
}

#[test]
fn a_route_that_lost_its_realm_is_a_difference() {
    let on = hub(ONE, "prod");
    let mut lost = applied(on.clone());
    lost.routing.routes.values_mut().for_each(|via| via.realm = None);
    lost.routing.addresses.clear();
    assert_eq!(order(&on, &lost), ["give", "give", "realm"]);
}

#[test]
fn rules_wait_for_a_charon_without_which_no_route_gets_its_realm() {
    let (off, on) = (hub(None, ""), hub(ONE, "prod"));
    let without = |system: System| System { charon: None, ..system };
    assert!(plan(&on, &without(applied(off.clone()))).is_empty(), "or every packet would be of an unknown source");
    assert!(plan(&hub(OTHER, "dev"), &without(applied(on.clone()))).is_empty());
    assert_eq!(order(&hub(OTHER, "prod"), &without(applied(on.clone()))), ["rules"]);
    assert_eq!(order(&off, &without(applied(on))), ["rules"]);
}
