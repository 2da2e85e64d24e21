use super::*;

fn tunnel(up: Option<bool>) -> TunnelStatus {
    let children = Vec::new();
    TunnelStatus {
        connection: "crosswan-a".into(),
        loaded: up,
        up,
        stands_by: false,
        remote: None,
        established: None,
        children,
    }
}

fn status(in_force: Option<bool>, up: Option<bool>) -> Status {
    Status {
        last_refresh: None,
        age: None,
        now: 0,
        last_failure: None,
        tunnels: vec![tunnel(Some(true)), tunnel(up)],
        nat: NatStatus { in_force, rules: Vec::new(), mismatches: Vec::new() },
        stopped: Vec::new(),
        pair: None,
        followed: Followed::default(),
        takeovers: Takeovers::default(),
        conntrack: None,
        put_back: None,
        charon: None,
        unasked: Vec::new(),
    }
}

#[test]
fn the_exit_code_is_that_of_the_worst_thing_known_and_then_of_what_is_not_known() {
    let (yes, no) = (Some(true), Some(false));
    let unasked = |status: Status| Status { unasked: vec!["charon".into()], ..status };
    let stopped = |status: Status| Status { stopped: vec!["the policy drop".into()], ..status };
    for (status, code) in [
        (status(yes, yes), 0),
        (unasked(status(yes, yes)), 3),
        (status(None, yes), 3),
        (unasked(status(None, None)), 3),
        (unasked(stopped(status(yes, yes))), 7),
        (unasked(stopped(status(None, no))), 8),
        (unasked(stopped(status(no, no))), 9),
    ] {
        assert_eq!(status.exit_code(), code, "{status:?}");
    }
}

#[test]
fn what_could_not_be_asked_is_unknown_and_not_down() {
    let text = status(None, None).to_string();
    assert!(text.contains("crosswan-a to ?: unknown") && text.contains("rules     unknown"), "{text}");
    assert!(!text.contains("NOT LOADED") && !text.contains("RULES"), "{text}");
    let json = serde_json::to_value(status(None, None)).unwrap();
    assert!(json["tunnels"][1]["up"].is_null() && json["nat"]["in_force"].is_null(), "{json}");
}

#[test]
fn the_last_takeover_is_shown_without_a_pair() {
    let taken = serde_json::json!({
        "at": 100, "from": "i-0000000c", "routes": ["0.0.0.0/0 of rtb-0000000c"], "silent_ms": 410, "calls_ms": 90
    });
    let moves = "{\"member\": \"i-0000000c\", \"at\": [5]}";
    let takeovers = Takeovers::of(serde_json::from_value(taken.clone()).unwrap(), moves, 10);
    let shown = Status { now: 160, takeovers, ..status(Some(true), Some(true)) };
    let line = "  takeover  1m ago, this gateway took 0.0.0.0/0 of rtb-0000000c from i-0000000c, 410 ms after its last beat, in 90 ms; 1 move in \
                the last ten minutes\n";
    assert!(shown.to_string().contains(line), "{shown}");
    let json = serde_json::to_value(&shown).unwrap();
    assert_eq!((&json["takeovers"]["last"]["calls_ms"], &json["takeovers"]["recent"]), (&taken["calls_ms"], &1.into()));
    assert!(!status(Some(true), Some(true)).to_string().contains("takeover"));
}
