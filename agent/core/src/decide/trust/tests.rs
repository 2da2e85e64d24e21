use super::*;
use crate::model::{
    KeyTags, Signature, Timestamp,
    private_key::tests::{holder, key_pair},
};

fn key(n: u8) -> PublicKey {
    key_pair(n).public
}

fn keys(list: &[u8]) -> Vec<PublicKey> {
    list.iter().map(|n| key(*n)).collect()
}

/// Instance `n` of VPC `n`, announcing what the tags say.
fn gateway(n: u32, tags: KeyTags) -> Gateway {
    let (vpc, instance) = holder(n);
    Gateway {
        instance,
        region: "eu-west-1".parse().unwrap(),
        account: None,
        vpc,
        public: Some([198, 51, 100, 1].into()),
        address: None,
        launched: Timestamp(i64::from(n)),
        cidrs: Default::default(),
        segment: None,
        tags,
    }
}

/// What gateway `n` says of its key, and of the one that follows `before`.
fn says(n: u32, of: u8, next: Option<(u8, u8)>) -> KeyTags {
    let gateway = gateway(n, KeyTags::default());
    let holder = gateway.holder();
    let next = next.map(|(before, next)| key_pair(before).succeeded_by(&key_pair(next), &holder).unwrap());
    let next = next.map_or(Tagged::Absent, Tagged::Read);
    KeyTags { key: Tagged::Read(key_pair(of).proven(&holder).unwrap()), next, ..KeyTags::default() }
}

fn decide_one(known: &[u8], tags: KeyTags, accept: Option<&str>) -> Trust {
    let (gateway, known) = (gateway(1, tags), keys(known));
    let cases = [(gateway.instance.clone(), Case { gateway: &gateway, known: &known, accept })].into();
    trust(&cases).into_values().next().unwrap()
}

/// What each of several gateways is known by, and whether it was refused.
fn decide_all(cases: &[(u32, &[u8], KeyTags, Option<&str>)]) -> Vec<(Vec<PublicKey>, bool)> {
    let gateways: Vec<(Gateway, Vec<PublicKey>)> =
        cases.iter().map(|(n, known, tags, _)| (gateway(*n, tags.clone()), keys(known))).collect();
    let zipped = gateways.iter().zip(cases);
    let cases = zipped.map(|((gateway, known), (_, _, _, accept))| {
        (gateway.instance.clone(), Case { gateway, known, accept: *accept })
    });
    let out = trust(&cases.collect());
    out.into_values().map(|t| (t.keys, matches!(t.objection, Some(Objection::Refused(_))))).collect()
}

#[test]
fn what_is_announced_and_proved_counts() {
    for (known, tags, counts) in [
        (&[][..], says(1, 1, None), &[1][..]),
        (&[], says(1, 1, Some((1, 2))), &[1, 2]),
        // A rotation: the next key beside the known one, then alone.
        (&[1], says(1, 1, Some((1, 2))), &[1, 2]),
        (&[1, 2], says(1, 2, Some((1, 2))), &[2]),
        // The whole rotation was missed, and its statement is still there.
        (&[1], says(1, 2, Some((1, 2))), &[2]),
        // The next one has begun.
        (&[1, 2], says(1, 2, Some((2, 3))), &[2, 3]),
        // Another next key, signed by the known one, replaces the one before.
        (&[1, 2], says(1, 1, Some((1, 3))), &[1, 3]),
    ] {
        assert_eq!(decide_one(known, tags, None), Trust { keys: keys(counts), objection: None }, "{known:?}");
    }
    assert_eq!(decide_one(&[], KeyTags::default(), None), Trust::default());
}

/// EC2's reads are not monotonic: each of these is a mix of older and newer tags.
#[test]
fn a_read_that_lacks_or_mixes_tags_adds_nothing_and_takes_nothing() {
    // An accepted next key stays until it is used or replaced.
    assert_eq!(decide_one(&[1, 2], says(1, 1, None), None), Trust { keys: keys(&[1, 2]), objection: None });
    let unreadable = KeyTags { next: Tagged::of(Some("garbage")), ..says(1, 1, None) };
    assert_eq!(decide_one(&[1, 2], unreadable, None).keys, keys(&[1, 2]));
    // The old key with the statement about a rotation before it.
    assert_eq!(decide_one(&[1], says(1, 1, Some((9, 1))), None), Trust { keys: keys(&[1]), objection: None });
    // The key before the known one is shown once more.
    let Trust { keys: counts, objection: Some(Objection::Kept(why)) } =
        decide_one(&[2], says(1, 1, Some((1, 2))), None)
    else {
        panic!()
    };
    assert!(counts == keys(&[2]) && why.contains("older announcement"), "{why}");
    // The new key without the statement that makes it one.
    let Trust { keys: counts, objection: Some(Objection::Refused(_)) } = decide_one(&[1], says(1, 2, None), None)
    else {
        panic!()
    };
    assert_eq!(counts, keys(&[1]));
    // A statement about another pair of keys adds no key.
    let Trust { keys: counts, objection: Some(Objection::Refused(_)) } =
        decide_one(&[1], says(1, 1, Some((2, 3))), None)
    else {
        panic!()
    };
    assert_eq!(counts, keys(&[1]));
}

#[test]
fn a_known_key_stays_where_nothing_better_is_known() {
    let unreadable = || KeyTags { key: Tagged::of(Some("\u{1b}[2J")), next: Tagged::Absent, ..KeyTags::default() };
    for tags in [KeyTags::default(), unreadable()] {
        let Trust { keys: counts, objection: Some(Objection::Kept(why)) } = decide_one(&[1], tags, None) else {
            panic!()
        };
        assert!(counts == keys(&[1]) && why.contains("i-00000001") && why.ends_with("stays"), "{why}");
    }
    let Trust { keys: counts, objection: Some(Objection::Refused(why)) } = decide_one(&[], unreadable(), None) else {
        panic!()
    };
    assert!(counts.is_empty() && why.starts_with("tag crosswan-key of i-00000001 is unreadable: expected "), "{why}");
    assert!(!why.contains('\u{1b}'), "{why}");
}

/// Whoever may write the tag, but does not hold the key.
#[test]
fn a_key_without_proof_of_possession_counts_for_nobody() {
    let (one, two) = (says(1, 1, None), says(2, 2, None));
    let [Some(of_one), Some(of_two)] = [&one, &two].map(|tags| tags.key.read().copied()) else { panic!() };
    for stolen in [
        // Somebody's public key, with any signature; with the right one, but of another VPC and instance.
        ProvenKey { proof: Signature::new([0x5a; 64]), ..of_one },
        of_two,
        ProvenKey { key: of_two.key, proof: of_one.proof },
    ] {
        let tags = || KeyTags { key: Tagged::Read(stolen), next: Tagged::Absent, ..KeyTags::default() };
        for known in [&[][..], &[3]] {
            let Trust { keys: counts, objection: Some(Objection::Refused(why)) } = decide_one(known, tags(), None)
            else {
                panic!()
            };
            assert!(counts == keys(known) && why.contains("without proof"), "{why}");
            let accepted = decide_one(known, tags(), Some(&stolen.key.fingerprint()));
            assert_eq!(accepted.keys, keys(known), "no operator can stand in for the proof");
        }
    }
    // As the next one: signed by the known key alone, or by itself alone.
    let real = says(1, 1, Some((1, 2))).next.read().copied().unwrap();
    for forged in [
        Succession { proof: real.endorsement, ..real },
        Succession { endorsement: real.proof, ..real },
        Succession { next: key(3), ..real },
    ] {
        let tags = KeyTags { next: Tagged::Read(forged), ..says(1, 1, None) };
        for known in [&[][..], &[1]] {
            let got = decide_one(known, tags.clone(), None);
            assert!(got.keys == keys(&[1]) && matches!(got.objection, Some(Objection::Refused(_))), "{got:?}");
        }
    }
}

#[test]
fn a_key_out_of_nowhere_is_refused_with_both_fingerprints_until_the_operator_names_it() {
    let Trust { keys: counts, objection: Some(Objection::Refused(why)) } = decide_one(&[1], says(1, 3, None), None)
    else {
        panic!()
    };
    assert_eq!(counts, keys(&[1]));
    assert!(why.contains(&key(1).fingerprint()) && why.contains(&key(3).fingerprint()), "{why}");
    let command = format!("crosswan refresh --accept-key vpc-00000001={}", key(3).fingerprint());
    assert!(why.ends_with(&command), "{why}");
    let accepted = |n: u8, tags| decide_one(&[1], tags, Some(&key(n).fingerprint()));
    assert_eq!(accepted(3, says(1, 3, None)), Trust { keys: keys(&[3]), objection: None });
    // Another key in the tag at that moment.
    assert_eq!(accepted(3, says(1, 4, None)).keys, keys(&[1]));
    assert_eq!(decide_one(&[], says(1, 4, None), Some(&key(3).fingerprint())).keys, []);
}

/// Only with the private key can a gateway claim a key at all; then somebody has a copy of it, and it is loud.
#[test]
fn a_copied_private_key_keeps_its_known_holder_and_no_newcomer() {
    let copy = || says(2, 1, None);
    // The victim is known by it, or has it as its accepted next key: the thief is refused, and the victim goes on.
    assert_eq!(
        decide_all(&[(1, &[1], says(1, 1, None), None), (2, &[7], copy(), None)]),
        [(keys(&[1]), false), (keys(&[7]), true)]
    );
    assert_eq!(
        decide_all(&[(1, &[8, 1], says(1, 1, Some((8, 1))), None), (2, &[], copy(), None)]),
        [(keys(&[1]), false), (vec![], true)]
    );
    // Both are new to it: neither is believed, and what they were known by stays.
    assert_eq!(
        decide_all(&[(1, &[], says(1, 1, None), None), (2, &[], copy(), None)]),
        [(vec![], true), (vec![], true)]
    );
    assert_eq!(
        decide_all(&[(1, &[8], says(1, 8, Some((8, 1))), None), (2, &[7], says(2, 7, Some((7, 1))), None)]),
        [(keys(&[8]), true), (keys(&[7]), true)]
    );
    // The operator knows better, also while the thief's tag stands.
    let right = key(1).fingerprint();
    assert_eq!(
        decide_all(&[(1, &[], says(1, 1, None), Some(&right)), (2, &[], copy(), None)]),
        [(keys(&[1]), false), (vec![], true)]
    );
}

/// A spoke's own role can write its own tags. It names another's next key there, which it cannot sign with.
#[test]
fn a_claim_on_the_key_of_another_keeps_nobody_out() {
    let thief = |next: Succession| KeyTags { next: Tagged::Read(next), ..says(2, 2, None) };
    let gateway2 = gateway(2, KeyTags::default());
    let endorsed = key_pair(2).succeeded_by(&key_pair(9), &gateway2.holder()).unwrap();
    // It can sign as the key before, and not as the victim's next key.
    let forged = Succession { next: key(5), proof: Signature::new([1; 64]), ..endorsed };
    for known in [&[1][..], &[]] {
        assert_eq!(
            decide_all(&[(1, known, says(1, 1, Some((1, 5))), None), (2, &[2], thief(forged), None)]),
            [(keys(&[1, 5]), false), (keys(&[2]), true)]
        );
    }
}

#[test]
fn a_hub_that_settings_name_is_known_by_what_they_say() {
    let gateway = gateway(1, says(1, 1, None));
    assert_eq!(named(&keys(&[1]), &gateway), Trust { keys: keys(&[1]), objection: None });
    let Trust { keys: counts, objection: Some(Objection::Refused(why)) } = named(&keys(&[2]), &gateway) else {
        panic!()
    };
    assert!(counts == keys(&[2]) && why.contains(&key(1).fingerprint()) && why.ends_with("which stays"), "{why}");
}

#[test]
fn a_nat_hub_is_told_by_its_key_and_gets_no_tunnel() {
    let its = gateway(1, KeyTags::default());
    let proven = key_pair(1).proven_in(Mode::NatHub, &its.holder()).unwrap();
    for known in [&[][..], &[2]] {
        let Trust { keys: counts, objection } =
            decide_one(known, KeyTags { key: Tagged::Read(proven), ..KeyTags::default() }, None);
        let Some(Objection::Refused(why)) = objection else { panic!("{objection:?}") };
        assert!(counts == keys(known) && why.contains("is a nat-hub by its key"), "{why}");
    }
}
