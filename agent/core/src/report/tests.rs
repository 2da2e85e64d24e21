use super::*;

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
        outcome: Outcome::Unchanged,
        regions: BTreeMap::new(),
        tunnels: BTreeMap::new(),
        refused: BTreeSet::new(),
        kept: Vec::new(),
        removed: BTreeSet::new(),
        held: None,
        replacing: Vec::new(),
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
    for outcome in [Outcome::Partly, Outcome::RolledBack, Outcome::RollBackFailed] {
        assert_eq!(Report { outcome, ..report() }.exit_code(), 4);
    }
}

#[test]
fn a_region_without_an_answer_is_told_once_and_a_hold_tells_the_way_out() {
    let mut r = report();
    let failed = RegionReport { gateways: 0, failed: Some("throttled".into()), answered: None };
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
