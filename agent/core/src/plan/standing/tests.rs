//! What failed peers keep, byte for byte, and who must wait with them.

use proptest::{collection::btree_map, prelude::*};

use super::*;
use crate::{
    model::{Place, PrivateKey, PublicKey, Secret, Timestamp},
    plan::{
        Step, plan,
        tests::{applied, files, peer, peer_at, routed, running, steps, target, two},
    },
};

fn names(peers: &[&str]) -> BTreeSet<ConnName> {
    peers.iter().map(|n| format!("crosswan-{n}").parse().unwrap()).collect()
}

fn one() -> BTreeSet<ConnName> {
    names(&["vpc-00000001"])
}

#[test]
fn a_failed_change_leaves_the_old_text_and_everyone_elses_new_one() {
    let before = running(&two());
    let wanted = target(&[peer(1, 21, &["10.1.0.0/16"]), peer(2, 22, &["10.2.0.0/16"]), peer(3, 13, &["10.3.0.0/16"])]);
    let stands = standing(&wanted, &before, &one()).unwrap();
    let half = [two()[0].clone(), peer(2, 22, &["10.2.0.0/16"]), peer(3, 13, &["10.3.0.0/16"])];
    assert_eq!(stands.target.files, files(&half), "byte for byte what would have been rendered so");
    assert_eq!((stands.failed, stands.unknown), (one(), BTreeSet::new()));
    assert_eq!(
        steps(&stands.target, &before),
        [
            "load secret ike-crosswan-vpc-00000003 (new)",
            "load connection crosswan-vpc-00000002 (address 198.51.100.12 => 198.51.100.22, without c-10-102-0-0-16)",
            "load connection crosswan-vpc-00000003 (new: 198.51.100.13 for 10.3.0.0/16)",
            "end IKE_SA crosswan-vpc-00000002 #2 (the peer has a new address)",
            "write crosswan-secrets.conf (changed)",
            "write crosswan.conf (changed)",
        ]
    );
}

#[test]
fn if_all_that_changed_has_failed_the_files_are_the_old_ones() {
    let before = running(&two());
    let wanted = target(&[peer(1, 21, &["10.1.0.0/16"]), two()[1].clone(), peer(3, 13, &["10.3.0.0/16"])]);
    let stands = standing(&wanted, &before, &names(&["vpc-00000001", "vpc-00000003"])).unwrap();
    assert_eq!(stands.target.files, before.files);
    assert_eq!(steps(&stands.target, &before), [""; 0]);
}

#[test]
fn a_newcomer_that_failed_is_in_no_file_and_unloaded() {
    let before = running(&two()[..1]);
    let stands = standing(&target(&two()), &before, &names(&["vpc-00000002"])).unwrap();
    assert_eq!(stands.target.files, files(&two()[..1]));
    assert_eq!(
        steps(&stands.target, &System { files: before.files, ..running(&two()) }),
        [
            "unload connection crosswan-vpc-00000002",
            "unload secret ike-crosswan-vpc-00000002",
            "end every IKE_SA of crosswan-vpc-00000002 (the peer is gone)",
        ]
    );
}

#[test]
fn a_removal_that_failed_is_not_taken_back() {
    let before = running(&two());
    let wanted = target(&two()[1..]);
    let stands = standing(&wanted, &before, &one()).unwrap();
    assert_eq!(stands.target.files, wanted.files, "what is taken away stays away");
}

/// `crosswan-vpc-…-i-…`: a VPC's connection is named by its gateway, too, when another gateway takes its place.
#[test]
fn a_connection_goes_only_if_the_one_that_replaces_it_works() {
    let named = |i: &str, address| {
        peer(1, address, &["10.1.0.0/16"])
            .replace("crosswan-vpc-00000001", &format!("crosswan-vpc-00000001-i-0000000{i}"))
    };
    let (old, new) = (named("a", 11), named("b", 21));
    let before = running(&[old.clone(), two()[1].clone()]);
    let wanted = target(&[new, peer(2, 22, &["10.2.0.0/16"])]);
    let failed = names(&["vpc-00000001-i-0000000b"]);
    let stands = standing(&wanted, &before, &failed).unwrap();
    assert_eq!(stands.failed, names(&["vpc-00000001-i-0000000a", "vpc-00000001-i-0000000b"]), "its removal is put off");
    assert_eq!(stands.target.connections, target(&[old, peer(2, 22, &["10.2.0.0/16"])]).connections);
    assert_eq!(stands.target.secrets.len(), 2);
}

/// A gateway that stood by takes the VPC over: its children come up before the ones in use go; and if they do not, the VPC
/// stays where it was.
#[test]
fn a_vpc_changes_its_gateway_only_if_the_new_one_comes_up() {
    let gateway = |i: &str, address, cidrs: &[&str]| {
        let text = peer(1, address, cidrs);
        text.replace("crosswan-vpc-00000001", &format!("crosswan-vpc-00000001-i-0000000{i}"))
            .replace("children {\n}\n", "")
    };
    let cidr = &["10.1.0.0/16"][..];
    let before = running(&[gateway("a", 11, cidr), gateway("b", 21, &[]), two()[1].clone()]);
    let wanted = target(&[gateway("a", 11, &[]), gateway("b", 21, cidr), two()[1].clone()]);
    assert_eq!(
        steps(&wanted, &before),
        [
            "load connection crosswan-vpc-00000001-i-0000000a (without c-10-1-0-0-16)",
            "load connection crosswan-vpc-00000001-i-0000000b (with c-10-1-0-0-16)",
            "bring up c-10-1-0-0-16 of crosswan-vpc-00000001-i-0000000b (it has worked)",
            "end CHILD_SA crosswan-vpc-00000001-i-0000000a/c-10-1-0-0-16 #0 (no longer configured)",
            "write crosswan.conf (changed)",
        ]
    );
    let stands = standing(&wanted, &before, &names(&["vpc-00000001-i-0000000b"])).unwrap();
    assert_eq!(stands.failed, names(&["vpc-00000001-i-0000000a", "vpc-00000001-i-0000000b"]));
    assert_eq!(stands.target.connections, before.believed.connections);
}

#[test]
fn a_failed_peers_networks_are_routed_as_before_and_a_failed_newcomers_are_not() {
    let (net, other, new) = ("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16");
    let peers = |address| [peer_at(Place::One, 1, address, &[net]), peer_at(Place::One, 2, 12, &[other])];
    let before = applied(routed(&peers(11), &[(net, Place::One), (other, Place::One)]));
    let moved =
        [peer_at(Place::Two, 1, 21, &[net]), peer_at(Place::Two, 2, 12, &[other]), peer_at(Place::One, 3, 13, &[new])];
    let wanted = routed(&moved, &[(net, Place::Two), (other, Place::Two), (new, Place::One)]);
    let stands = standing(&wanted, &before, &names(&["vpc-00000001", "vpc-00000003"])).unwrap();
    let place = |net: &str| stands.target.routing.routes.get(&net.parse().unwrap()).map(|via| via.place);
    assert_eq!([net, other, new].map(place), [Some(Place::One), Some(Place::Two), None]);
    // The text says the same, under its head.
    let text = stands.target.files.routing.unwrap();
    assert!(text.starts_with("# by hand\nlink add"), "{text}");
    assert_eq!(crate::system::Routing::parse(&text), stands.target.routing);

    // A network that the failed peer is to lose is nobody's then.
    let wanted = routed(&[peer(1, 21, &[]).replace("children {\n}\n", ""), moved[1].clone()], &[(other, Place::Two)]);
    let stands = standing(&wanted, &before, &one()).unwrap();
    assert_eq!(stands.target.routing.routes.len(), 1, "{:?}", stands.target.routing);
}

#[test]
fn a_cidr_that_a_failed_peer_lost_goes_to_who_has_it_now() {
    let before = running(&two());
    let wanted = [peer(1, 11, &["10.1.0.0/16", "10.102.0.0/16"]), peer(2, 22, &["10.2.0.0/16"])];
    let stands = standing(&target(&wanted), &before, &names(&["vpc-00000002"])).unwrap();
    // The old address, and the CIDR that is still its own.
    assert_eq!(stands.target.files, files(&[wanted[0].clone(), peer(2, 12, &["10.2.0.0/16"])]));
    assert_eq!(stands.failed, names(&["vpc-00000002"]), "nobody waits for it");
    assert_eq!(
        steps(&stands.target, &before)[1..4],
        [
            "load connection crosswan-vpc-00000002 (without c-10-102-0-0-16)",
            "end CHILD_SA crosswan-vpc-00000002/c-10-102-0-0-16 #10 (no longer configured)",
            "write crosswan.conf (changed)",
        ]
    );
}

#[test]
fn what_charon_had_without_a_record_stays_as_planned() {
    let mut before = running(&two());
    before.files.connections = Some("no such { text".into());
    let wanted = target(&[peer(1, 21, &["10.1.0.0/16"]), two()[1].clone()]);
    let stands = standing(&wanted, &before, &one()).unwrap();
    assert_eq!((&stands.target.files, stands.unknown), (&wanted.files, one()));
}

#[test]
fn an_own_key_stays_as_long_as_a_failed_peers_connection_signs_with_it() {
    let key = |text: &str| {
        let public: PublicKey = text.parse().unwrap();
        let instance = "i-0000ffff".parse().unwrap();
        PrivateKey { public, instance, made: Timestamp(1), text: Secret::new("never loaded here"), guarded: true }
    };
    let old = key("MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=");
    let new = key("MCowBQYDK2VwAyEAO2onvM62pC1imK0EDYmL2j5HQ6RjCtrbTpmhiIuhqlY=");
    let signing = |n, key: &PrivateKey| {
        peer(n, n + 10, &[&format!("10.{n}.0.0/16")])
            .replace("id = hub\n", &format!("id = hub\npubkeys = 0s{}\n", key.public))
    };
    let mut before = running(&[signing(1, &old), signing(2, &old)]);
    before.keys = vec![old.clone(), new.clone()];
    before.charon.as_mut().unwrap().keys = [&old, &new].map(|key| key.public.charon_id()).into();
    let mut wanted = target(&[signing(1, &new), signing(2, &new)]);
    wanted.keys = vec![new];
    let unloaded =
        |target: &Configuration| plan(target, &before).iter().any(|step| matches!(step, Step::UnloadKey { .. }));
    assert!(unloaded(&wanted));
    let stands = standing(&wanted, &before, &one()).unwrap();
    assert_eq!(stands.target.keys.len(), 2);
    assert!(!unloaded(&stands.target), "the failed peer's connection still signs with it");
}

proptest! {
    /// Whoever fails of whatever change: each other connection is as planned, what failed is as it was or stays away, and
    /// the text says so.
    #[test]
    fn each_connection_is_as_planned_or_as_it_was(
        before in btree_map(1..9u8, (10..14u8, 1..12u8), 0..6),
        after in btree_map(1..9u8, (10..14u8, 1..12u8), 0..6),
        failing in proptest::collection::btree_set(1..9u8, 0..4),
    ) {
        let text = |peers: &BTreeMap<u8, (u8, u8)>| -> Vec<String> {
            peers.iter().map(|(n, (address, cidr))| peer(*n, *address, &[&format!("10.{cidr}.0.0/16")])).collect()
        };
        let (before, wanted) = (running(&text(&before)), target(&text(&after)));
        let old = before.believed.connections.clone();
        let failing: BTreeSet<ConnName> = failing.iter().map(|n| format!("crosswan-vpc-0000000{n}").parse().unwrap()).collect();
        let stands = standing(&wanted, &before, &failing).unwrap();
        prop_assert!(stands.failed.is_superset(&failing) && stands.unknown.is_empty());
        let without_lost = |name: &ConnName| {
            let mut tree = old.get(name)?.clone();
            let wanted = wanted.connections.get(name).map(children).unwrap_or_default();
            if let Some(crate::swanctl::Node::Section(children)) = tree.get_mut("children") {
                children.retain(|child, _| wanted.contains(child));
            }
            Some(tree)
        };
        for name in wanted.connections.keys().chain(old.keys()) {
            let right = if wanted.connections.contains_key(name) && stands.failed.contains(name) {
                without_lost(name)
            } else {
                wanted.connections.get(name).cloned()
            };
            prop_assert_eq!(stands.target.secrets.contains_key(&secret_id(name)), right.is_some());
            prop_assert_eq!(stands.target.connections.get(name), right.as_ref(), "{}", name);
        }
    }
}
