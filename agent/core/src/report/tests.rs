use super::*;
use crate::{
    decide::{Request, decide},
    model::{Gateway, Holder, Keyring, OwnKeys, OwnTags, RegionView, private_key::tests::key_pair},
    plan::{Conclusion, Planned},
    state::{Peer, State},
    system::{Charon, System},
};

fn report() -> Report {
    let me = serde_json::json!({
        "instance": "i-0000ffff", "region": "eu-west-1", "vpc": "vpc-0000ffff", "cidrs": ["10.0.0.0/16"],
        "private": "10.0.0.5", "public": null
    });
    Report {
        at: Timestamp(0),
        version: "0".into(),
        mode: Mode::VpnHub,
        me: serde_json::from_value(me).unwrap(),
        outcome: Verdict::Unchanged,
        regions: BTreeMap::new(),
        tunnels: BTreeMap::new(),
        refused: BTreeSet::new(),
        kept: Vec::new(),
        removed: BTreeSet::new(),
        held: None,
        replacing: Vec::new(),
        followed: Followed::default(),
        address: None,
        segments: None,
        routes: Vec::new(),
        failed: BTreeMap::new(),
        key: None,
        steps: Vec::new(),
        waiting_for: None,
        unasked: Vec::new(),
        awaited: Vec::new(),
        problems: Vec::new(),
        stopped: Vec::new(),
        source_dest_check: None,
        traffic: None,
        notes: vec!["only a note".into()],
    }
}

#[test]
fn the_exit_code_is_that_of_the_worst_thing() {
    let mut r = report();
    assert_eq!(r.exit_code(), 0, "a note is no failure");
    r.stopped.push("the policy drop stops NAT to the internet".into());
    assert_eq!(r.exit_code(), 7);
    assert!(r.verdict().contains("but this host stops packets"), "{}", r.verdict());
    r.waiting_for = Some("a key".into());
    assert_eq!(r.exit_code(), 2);
    r.awaited.push("the key of i-0000ffff".into());
    assert_eq!(r.exit_code(), 3, "made again soon");
    r.unasked.push("eu-west-1: throttled".into());
    assert_eq!(r.exit_code(), 3);
    r.problems.push("ip_forward".into());
    assert_eq!(r.exit_code(), 4);
    for outcome in [Verdict::Partly, Verdict::RolledBack, Verdict::RollBackFailed] {
        assert_eq!(Report { outcome, ..report() }.exit_code(), 4);
    }
}

#[test]
fn a_region_without_an_answer_is_told_once_and_a_hold_tells_the_way_out() {
    let mut r = report();
    let failed = RegionReport { gateways: 0, failed: Some("throttled".into()), answered: None, account: None };
    r.regions.insert("eu-west-1".parse().unwrap(), failed);
    r.unasked = vec!["eu-west-1: throttled".into(), "charon: gone".into()];
    r.held = Some(Held { would_remove: 3, of: 4, hold_above: 50 });
    let text = r.to_string();
    assert_eq!(text.matches("throttled").count(), 1, "{text}");
    assert!(text.contains("UNASKED   charon: gone") && text.contains("crosswan refresh --force"), "{text}");
    assert!(text.contains("no public address"), "{text}");
}

#[test]
fn a_report_survives_its_file() {
    let text = serde_json::to_string(&report()).unwrap();
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
}

/// What is reported is what is in force: a removal that was rolled back is none, and so is a change of key.
#[test]
fn a_pass_that_was_rolled_back_removed_nobody_and_changed_no_key() {
    let settings = Settings::of_toml(
        "mode = \"vpn-hub\"\nprivate_net = [\"10.0.0.0/8\"]\nregions = [\"eu-west-1\"]\n[removal]\nafter_misses = 1\nhold_above = \"100%\"\n",
    );
    let me: Identity = serde_json::from_value(serde_json::json!({
        "instance": "i-000000fe", "region": "eu-west-1", "vpc": "vpc-000000fe", "cidrs": ["10.0.0.0/16"],
        "private": "10.0.0.5", "public": "198.51.100.100"
    }))
    .unwrap();
    let ring = Keyring { current: key_pair(1), next: Some(key_pair(2)) };
    let gone: Gateway = serde_json::from_value(serde_json::json!({
        "instance": "i-0000000a", "region": "eu-west-1", "vpc": "vpc-0000000a", "private": "10.1.0.5",
        "public": "198.51.100.10", "launched": 1, "cidrs": ["10.1.0.0/16"]
    }))
    .unwrap();
    let vpc = gone.vpc.clone();
    let observed = Observed {
        state: State { peers: [(vpc.clone(), Peer::new(gone))].into(), ..State::default() },
        answers: [(me.region.clone().into(), Ok(RegionView::default()))].into(),
        own: OwnKeys::of(&ring, Mode::NatVpn, &Holder { vpc: &me.vpc, instance: &me.instance }),
        system: System { charon: Some(Charon::default()), ..System::default() },
        ..Observed::new(&settings, me, "ens5".parse().unwrap(), Timestamp(1000))
    };
    let decided = decide(&settings, &observed, &Request::default()).unwrap();
    assert!(decided.presence.as_ref().unwrap().promote && decided.removed.contains(&vpc));
    let of = |verdict, promoted, failed: &[&str]| {
        let failure = || PeerFailure { why: "refused".into(), restored: true };
        let failed = failed.iter().map(|name| (name.parse().unwrap(), failure())).collect();
        Report::of(&settings, &observed, &decided, Outcome { promoted, failed, ..Outcome::new(verdict) })
    };
    let (old, new) = (ring.current.public.fingerprint(), ring.next.unwrap().public.fingerprint());
    let changed = of(Verdict::Changed, true, &[]);
    assert_eq!((changed.removed.len(), &changed.key.as_ref().unwrap().fingerprint), (1, &new));
    let rolled_back = of(Verdict::RolledBack, false, &[]);
    let key = rolled_back.key.as_ref().unwrap();
    assert_eq!((rolled_back.removed.len(), &key.fingerprint, key.next.as_ref()), (0, &old, Some(&new)));
    assert!(rolled_back.notes.iter().any(|note| note == NOT_PROMOTED));
    let failed = of(Verdict::Partly, false, &["crosswan-vpc-0000000a-i-0000000a"]);
    assert!(failed.removed.is_empty(), "its connection is still there");

    // What the tags say does not depend on the outcome of the steps.
    let own = observed.own.map(|own| OwnKeys { next: None, ..own });
    let key = own.map(|own| own.current.to_string());
    let tags = Some(Ok(OwnTags { key, ..OwnTags::default() }));
    let observed = Observed { own, tags, ..observed };
    let decided = decide(&settings, &observed, &Request::default()).unwrap();
    let report = Report::of(&settings, &observed, &decided, Outcome::new(Verdict::RolledBack));
    assert!(report.key.unwrap().announced, "the tag is there, whatever was rolled back");
}

/// The pass that sees it on turns it off. Whether it did, and nothing else, decides what the report says.
#[test]
fn a_source_destination_check_that_is_on_is_turned_off_or_told_with_its_remedy() {
    let settings = Settings::of_toml("mode = \"nat-hub\"\nprivate_net = [\"10.0.0.0/8\"]\n");
    let seen = |check| Observed {
        tags: Some(Ok(OwnTags { source_dest_check: check, ..OwnTags::default() })),
        ..Observed::new(&settings, report().me, "ens5".parse().unwrap(), Timestamp(1000))
    };
    let decided = decide(&settings, &seen(None), &Request::default()).unwrap();
    let step = "turn off EC2's source/destination check of i-0000ffff";
    for (check, turns_it_off) in [(None, false), (Some(false), false), (Some(true), true)] {
        let observed = seen(check);
        let planned = Planned::of(&settings, &observed, &decided).unwrap();
        let stops = |conclusion: &Conclusion<'_>| matches!(conclusion, Conclusion::StopSourceDestCheck { .. });
        assert_eq!(planned.conclusions.iter().filter(|one| stops(one)).count(), usize::from(turns_it_off), "{check:?}");
        assert_eq!(Outcome::planned(&planned).steps.contains(&step.to_owned()), turns_it_off, "{check:?}");
    }

    let observed = seen(Some(true));
    let of = |check_stopped| {
        Report::of(&settings, &observed, &decided, Outcome { check_stopped, ..Outcome::new(Verdict::Changed) })
    };
    let done = of(Some(Ok(())));
    assert_eq!((done.source_dest_check, done.exit_code(), &done.stopped[..]), (Some(false), 0, &[][..]));
    let denied = of(Some(Err("not permitted".into())));
    // A pass that was cut off before its conclusions did not try.
    for (untouched, notes) in [(denied, 1), (of(None), 0)] {
        assert_eq!((untouched.source_dest_check, untouched.exit_code()), (Some(true), STOPPED));
        let remedy = "--region eu-west-1 --instance-id i-0000ffff --no-source-dest-check";
        assert!(untouched.stopped.len() == 1 && untouched.stopped[0].ends_with(remedy), "{:?}", untouched.stopped);
        let why = |note: &&String| note.contains("could not turn off") && note.ends_with("itself: not permitted");
        assert_eq!(untouched.notes.iter().filter(why).count(), notes, "{:?}", untouched.notes);
    }
}

#[test]
fn an_address_that_is_awaited_is_said_and_is_not_well() {
    let mut r = report();
    r.address = Some(AddressIs::Waits("eipalloc-0000000a is associated with i-0000000b, which runs".into()));
    assert_eq!(r.exit_code(), 6);
    let words = r.to_string();
    assert!(words.contains("WAITING   this gateway has no address of its own yet: eipalloc-0000000a is"), "{words}");
    for well in [AddressIs::Here("eipalloc-0000000a".parse().unwrap()), AddressIs::Kept("in use".into())] {
        r.address = Some(well);
        assert_eq!(r.exit_code(), 0);
    }
}

#[test]
fn what_two_passes_did_is_one_report() {
    let first = Report { steps: vec!["took an address".into()], ..report() };
    let second = Report { steps: vec!["made a tunnel".into()], ..report() };
    let both = second.after(first);
    assert_eq!((both.steps.len(), both.outcome), (2, Verdict::Changed));
    assert_eq!(both.steps[0], "took an address");
}

#[test]
fn a_pair_at_a_far_end_is_told_with_whom_it_follows_and_what_a_pass_made_of_that() {
    let word = |overruled| {
        serde_json::json!({"vpc-00000001": {
            "connection": "crosswan-vpc-00000001-i-00000002", "place": 2, "generation": 3, "networks": ["10.1.0.0/16"], "at": 5,
            "overruled": overruled
        }})
    };
    let of = |overruled| Report { followed: serde_json::from_value(word(overruled)).unwrap(), ..report() };
    let line = "pair      vpc-00000001 follows i-00000002 by its word: takeover 3";
    assert!(of(false).findings().contains(&line.to_owned()), "{:?}", of(false).findings());
    let over = format!("{line}; a refresh has overruled that, as no packet could pass there");
    assert!(of(true).findings().contains(&over), "{:?}", of(true).findings());
    assert!(!serde_json::to_string(&report()).unwrap().contains("followed"), "nothing where there is none");
}
