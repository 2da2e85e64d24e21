//! What must hold for every input, not only for the cases in the tables.

use std::{collections::BTreeSet, path::Path};

use crosswan_core::{
    model::{Gateway, KeyTags, RegionView, Timestamp},
    plan::{Step, plan},
    settings::{Settings, TomlFile},
    state::State,
    system::{Configuration, Files},
};
use ipnet::Ipv4Net;
use proptest::prelude::*;

use crate::world::{World, settings_of, settled, steps};

fn hub() -> Settings {
    let toml = "mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\"]\n[removal]\nhold_above = \"100%\"\nafter_misses = 1\n";
    let toml = vec![TomlFile { path: "crosswan.toml".into(), text: toml.into() }];
    settings_of(Path::new("/"), toml).unwrap()
}

prop_compose! {
    /// Gateways whose CIDRs often overlap, leave the private network, or lie in the hub's own.
    fn gateway()(n in 0u32..24, instance in any::<u32>(), launched in 0i64..9, eip in proptest::option::of(1u8..250),
                 cidrs in proptest::collection::btree_set((0u8..12, 0u8..4, 8u8..=28, prop_oneof![9 => Just(10u8), 1 => Just(172)]), 1..4)) -> Gateway {
        let cidrs: BTreeSet<Ipv4Net> = cidrs
            .into_iter()
            .map(|(b, c, len, a)| format!("{a}.{b}.{c}.0/{len}").parse::<Ipv4Net>().unwrap().trunc())
            .collect();
        Gateway {
            instance: format!("i-{instance:08x}").parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            account: None,
            vpc: format!("vpc-{n:08x}").parse().unwrap(),
            public: eip.map(|e| [198, 51, 100, e].into()),
            address: None,
            launched: Timestamp(launched),
            cidrs,
            segment: None,
            tags: KeyTags::default(),
        }
    }
}

fn world(gateways: Vec<Gateway>, state: State) -> World {
    let view = RegionView { gateways, ..RegionView::default() };
    World {
        me: serde_json::from_value(serde_json::json!({
            "instance": "i-0000ffff", "region": "eu-west-1", "vpc": "vpc-0000ffff", "cidrs": ["10.0.0.0/16"],
            "private": "10.0.0.5", "public": "198.51.100.254"
        }))
        .unwrap(),
        uplink: "ens5".into(),
        now: 1000,
        answers: [("eu-west-1".parse().unwrap(), Ok(view))].into(),
        state,
        own: None,
        source_dest_check: None,
        segment: None,
        key_exchanges: ["CURVE_25519".to_owned()].into(),
        sas: None,
    }
}

fn gateways() -> impl Strategy<Value = Vec<Gateway>> {
    proptest::collection::vec(gateway(), 0..20)
}

proptest! {
    #[test]
    fn the_order_of_answers_never_changes_a_byte(gateways in gateways(), seed in any::<u64>()) {
        let mut shuffled = gateways.clone();
        let len = shuffled.len().max(1);
        for i in 0..shuffled.len() {
            shuffled.swap(i, (seed as usize).wrapping_mul(i + 7) % len);
        }
        let settings = hub();
        let (_, a) = world(gateways, State::default()).files(&settings).unwrap();
        let (_, b) = world(shuffled, State::default()).files(&settings).unwrap();
        prop_assert_eq!(a, b);
    }

    #[test]
    fn after_an_apply_there_is_nothing_left_to_plan(gateways in gateways()) {
        let (_, files) = world(gateways, State::default()).files(&hub()).unwrap();
        prop_assert_eq!(steps(&files, &files), Vec::<String>::new());
        let target = Configuration::of(files).unwrap();
        prop_assert!(plan(&target, &settled(&target.files)).is_empty());
    }

    #[test]
    fn accepted_cidrs_are_disjoint_inside_the_private_network_and_outside_ours(gateways in gateways()) {
        let decision = world(gateways, State::default()).decide(&hub()).unwrap();
        let cidrs: Vec<Ipv4Net> =
            decision.routing.routes.keys().copied().collect();
        let private: Ipv4Net = "10.0.0.0/8".parse().unwrap();
        let own: Ipv4Net = "10.0.0.0/16".parse().unwrap();
        for (i, a) in cidrs.iter().enumerate() {
            prop_assert!(private.contains(a), "{}", a);
            for b in cidrs[i + 1..].iter().chain([&own]) {
                prop_assert!(!a.contains(b) && !b.contains(a), "{} and {}", a, b);
            }
        }
    }

    #[test]
    fn a_peer_that_leaves_or_comes_touches_only_its_own(gateways in gateways(), pick in any::<prop::sample::Index>()) {
        let settings = hub();
        let (before, old) = world(gateways.clone(), State::default()).files(&settings).unwrap();
        prop_assume!(!before.tunnels.is_empty());
        let leaver = before.tunnels.values().nth(pick.index(before.tunnels.len())).unwrap().vpc.clone().unwrap();
        // Leaving frees CIDRs that others were refused; those others may change, the tunnels that stood may only grow.
        let rest: Vec<Gateway> = gateways.into_iter().filter(|g| g.vpc != leaver).collect();
        let (after, new) = world(rest, before.state.clone()).files(&settings).unwrap();
        for (name, tunnel) in before.tunnels.iter().filter(|(_, t)| t.vpc.as_ref() != Some(&leaver)) {
            let now = &after.tunnels[name];
            prop_assert!(tunnel.children.iter().all(|(c, s)| now.children.get(c) == Some(s)), "{}", name);
            prop_assert_eq!(tunnel.remote_addr, now.remote_addr);
        }
        let touched = plan(&Configuration::of(new).unwrap(), &settled(&old));
        for step in &touched {
            if let Step::UnloadConnection { name } = step {
                let prefix = format!("crosswan-{leaver}-");
                prop_assert!(name.starts_with(&prefix), "{} is unloaded, and {} left", name, leaver);
            }
            if let Step::LoadConnection { name, .. } = step {
                let changed = before.tunnels.get(name).map(|t| &t.children) != after.tunnels.get(name).map(|t| &t.children);
                prop_assert!(changed, "{} is loaded without a change", name);
            }
        }
    }

    #[test]
    fn foreign_text_on_disk_never_panics_and_is_healed(junk in ".{0,400}", gateways in gateways()) {
        let (_, files) = world(gateways, State::default()).files(&hub()).unwrap();
        let broken = Files { connections: Some(junk), ..files.clone() };
        let _ = Configuration::of(broken);
    }

    #[test]
    fn state_survives_its_file(gateways in gateways()) {
        let state = world(gateways, State::default()).decide(&hub()).unwrap().state;
        let back: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        prop_assert_eq!(state, back);
    }
}
