use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::model::{InstanceId, Timestamp, Vouch};

fn pair(n: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[n; 32]).unwrap()
}

fn key(n: u8) -> PublicKey {
    PublicKey::new(pair(n).public_key().as_ref().try_into().unwrap())
}

/// Key `n` is to follow, says key `by`.
fn follows(n: u8, by: u8) -> Successor {
    let signature = pair(by).sign(&Vouch::message(&key(n)));
    Successor { key: key(n), vouch: Vouch::new(signature.as_ref().try_into().unwrap()) }
}

fn vpc(n: u32) -> VpcId {
    format!("vpc-{n:08x}").parse().unwrap()
}

fn instance(n: u32) -> InstanceId {
    format!("i-{n:08x}").parse().unwrap()
}

/// Instance `n` of VPC `n`, announcing what the tag says.
fn gateway(n: u32, tag: KeyTag) -> Gateway {
    Gateway {
        instance: instance(n),
        region: "eu-west-1".parse().unwrap(),
        vpc: vpc(n),
        private: [10, 1, 0, 10].into(),
        public: Some([198, 51, 100, 1].into()),
        launched: Timestamp(i64::from(n)),
        cidrs: BTreeSet::new(),
        key: tag,
    }
}

fn says(keys: &[u8]) -> KeyTag {
    let next = keys.get(1).map(|n| follows(*n, keys[0]));
    KeyTag::Announced(Announcement::new(key(keys[0]), next, []))
}

fn pin(instance: Option<InstanceId>, keys: &[u8]) -> Pin {
    Pin { instance, keys: keys.iter().map(|n| key(*n)).collect() }
}

fn decide_one(before: Option<Pin>, tag: KeyTag, accept: bool) -> Trust {
    let gateway = gateway(1, tag);
    trust(&[(vpc(1), Claim { gateway: &gateway, before, accept })].into()).remove(&vpc(1)).unwrap()
}

#[test]
fn what_is_announced_counts() {
    let me = || Some(instance(1));
    let other = || Some(instance(9));
    let fine = |keys: &[u8]| Trust { pin: Some(pin(me(), keys)), doubt: None };
    for (before, tag, keys) in [
        (None, says(&[1]), &[1][..]),
        // A rotation: the next key beside the known one, then alone.
        (Some(pin(me(), &[1])), says(&[1, 2]), &[1, 2]),
        (Some(pin(me(), &[1, 2])), says(&[2]), &[2]),
        // Another instance took over; or only our own file knew the key.
        (Some(pin(other(), &[1])), says(&[3]), &[3]),
        (Some(pin(None, &[1])), says(&[3]), &[3]),
    ] {
        assert_eq!(decide_one(before.clone(), tag, false), fine(keys), "{before:?}");
    }
    assert_eq!(decide_one(Some(pin(me(), &[1])), says(&[3]), true), fine(&[3]), "the operator says so");
    assert_eq!(decide_one(None, KeyTag::Absent, false), Trust::default());
}

#[test]
fn a_known_key_stays_where_nothing_better_is_known() {
    let known = pin(Some(instance(1)), &[1]);
    let unreadable = || KeyTag::of(Some("\u{1b}[2J"));
    for tag in [KeyTag::Absent, unreadable()] {
        let Trust { pin, doubt: Some(Doubt::Kept(why)) } = decide_one(Some(known.clone()), tag, false) else {
            panic!()
        };
        assert!(pin == Some(known.clone()) && why.contains("i-00000001") && why.ends_with("stays"), "{why}");
    }
    let Trust { pin: None, doubt: Some(Doubt::Refused(why)) } = decide_one(None, unreadable(), false) else { panic!() };
    assert!(why.starts_with("tag crosswan-key of i-00000001: expected ") && !why.contains('\u{1b}'), "{why}");
}

#[test]
fn a_key_out_of_nowhere_is_refused_with_both_fingerprints() {
    let known = pin(Some(instance(1)), &[1]);
    let got = decide_one(Some(known.clone()), says(&[3]), false);
    let Trust { pin, doubt: Some(Doubt::Refused(why)) } = got else { panic!("{got:?}") };
    assert_eq!(pin, Some(known));
    assert!(why.contains(&key(1).fingerprint()) && why.contains(&key(3).fingerprint()), "{why}");
    assert!(why.ends_with("crosswan refresh --accept-key vpc-00000001"), "{why}");
}

/// Who may write the tag, but has no key that counts.
#[test]
fn a_key_beside_the_known_one_needs_its_signature() {
    let forged = |first: u8, next: Successor| KeyTag::Announced(Announcement::new(key(first), Some(next), []));
    let unsigned = Announcement { vouch: None, ..Announcement::new(key(1), Some(follows(3, 1)), []) };
    for tag in [
        KeyTag::Announced(unsigned),
        forged(1, follows(3, 3)),
        forged(1, Successor { key: key(3), ..follows(2, 1) }),
        // In the other order it is a key out of nowhere, whatever it says to the known one.
        forged(3, follows(1, 3)),
    ] {
        let known = pin(Some(instance(1)), &[1]);
        let got = decide_one(Some(known.clone()), tag.clone(), false);
        let Trust { pin, doubt: Some(Doubt::Refused(why)) } = got else { panic!("{got:?}") };
        assert_eq!(pin, Some(known));
        assert!(why.contains(&key(1).fingerprint()) && why.contains(&key(3).fingerprint()), "{why}");
    }
    // Nor is a newcomer believed, or one that took over.
    for before in [None, Some(pin(Some(instance(9)), &[1]))] {
        let got = decide_one(before.clone(), forged(1, follows(3, 3)), true);
        assert!(got.pin == before && matches!(got.doubt, Some(Doubt::Refused(_))), "{got:?}");
    }
}

#[test]
fn a_copied_key_is_refused_and_harms_nobody() {
    let (first, second) = (gateway(1, says(&[1])), gateway(2, says(&[1])));
    let claims = |before: [Option<Pin>; 2]| {
        let [a, b] = before;
        let claim = |gateway, before| Claim { gateway, before, accept: false };
        BTreeMap::from([(vpc(1), claim(&first, a)), (vpc(2), claim(&second, b))])
    };
    let refused = |got: &Trust, of: u32| matches!(&got.doubt, Some(Doubt::Refused(why)) if why.ends_with(&format!("that of {}", vpc(of))));
    let got = trust(&claims([None, None]));
    assert!(got[&vpc(1)].doubt.is_none() && refused(&got[&vpc(2)], 1) && got[&vpc(2)].pin.is_none(), "{got:?}");
    // The one that is known by it keeps it, although the other was launched first.
    let known = pin(Some(instance(2)), &[1]);
    let got = trust(&claims([None, Some(known.clone())]));
    assert!(refused(&got[&vpc(1)], 2) && got[&vpc(2)] == Trust { pin: Some(known), doubt: None }, "{got:?}");
}

#[test]
fn a_named_key_counts_whatever_is_announced() {
    let (right, wrong) = (gateway(1, says(&[1])), gateway(1, says(&[3])));
    for (found, doubted) in [(None, false), (Some(&right), false), (Some(&wrong), true)] {
        let Trust { pin: got, doubt } = named(&[key(1)], found);
        assert_eq!((got, doubt.is_some()), (Some(pin(None, &[1])), doubted));
    }
}

#[test]
fn the_next_key_waits_until_every_peer_has_seen_it() {
    let own = OwnKeys { current: key(1), next: Some(follows(2, 1)) };
    let seen = |n: u32, keys: &[u8], seen: &[u8]| {
        let KeyTag::Announced(says) = says(keys) else { panic!() };
        let seen = seen.iter().map(|n| key(*n).short()).collect();
        gateway(n, KeyTag::Announced(Announcement { seen, ..says }))
    };
    let peers = |peers: &[Gateway], silent| {
        let pin = |g: &Gateway| Pin { instance: None, keys: g.key.announced().unwrap().keys.clone() };
        let pins: Vec<Pin> = peers.iter().map(pin).collect();
        show(own, peers.iter().zip(&pins).map(|(g, p)| (&g.vpc, g, p)), silent)
    };
    let showing = peers(&[seen(1, &[11], &[2]), seen(2, &[12], &[])], false);
    assert_eq!((showing.sign, showing.promote, showing.waiting), (key(1), false, [vpc(2)].into()));
    assert_eq!(showing.announce.keys, [key(1), key(2)]);
    let showing = peers(&[seen(1, &[11], &[2]), seen(2, &[12, 13], &[2])], false);
    assert_eq!((showing.sign, showing.promote, showing.announce.keys.clone()), (key(2), true, vec![key(2)]));
    assert!(showing.announce.has_seen(&key(13)) && !showing.announce.has_seen(&key(12)));
    // Nothing is acknowledged that is not believed.
    let forged = gateway(1, KeyTag::Announced(Announcement::new(key(3), Some(follows(1, 3)), [])));
    let known = pin(Some(instance(1)), &[1]);
    assert_eq!(show(own, [(&vpc(1), &forged, &known)].into_iter(), false).announce.seen.len(), 0);
    assert!(!peers(&[seen(1, &[11], &[2])], true).promote, "somebody could not be asked");
    let settled = show(OwnKeys { next: None, ..own }, [].into_iter(), false);
    assert_eq!((settled.sign, settled.promote, settled.announce.to_string()), (key(1), false, key(1).to_string()));
}
