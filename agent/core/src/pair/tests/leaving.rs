//! Why a member hands over, how long, and when nothing passes it any more.

use std::collections::BTreeSet;

use crate::{
    model::Timestamp,
    pair::{Event, LONGEST, Leaving, Notices, Pair, QUIET, Quiet, Ways, forwarded, handover_patience},
};

fn told(reasons: &[&str]) -> BTreeSet<String> {
    reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn an_order_counts_as_long_as_it_stands_and_ten_minutes_at_most() {
    for (text, seconds) in
        [("60s", Some(60)), ("1s", Some(1)), ("10m", Some(600)), ("601s", None), ("0s", None), ("60", None), ("", None)]
    {
        assert_eq!(handover_patience(text).map(|patience| patience.as_secs()), seconds, "{text}");
    }
    let mut leaving = Leaving::default();
    leaving.ordered(5, None);
    assert_eq!(leaving.why(5), None);
    leaving.ordered(1000, Some("crosswan handover"));
    leaving.ordered(2000, Some("crosswan handover"));
    assert_eq!(leaving.why(2000), Some((1000, "crosswan handover")));
    assert_eq!(leaving.why(1000 + LONGEST - 1), Some((1000, "crosswan handover")));
    assert_eq!(leaving.why(1000 + LONGEST), None, "one that hangs ends");
    leaving.ordered(1000 + LONGEST, Some("crosswan handover"));
    assert_eq!(leaving.why(1000 + LONGEST), None, "and does not begin anew");
    leaving.ordered(700_000, None);
    leaving.ordered(701_000, Some("again"));
    assert_eq!(leaving.why(701_000), Some((701_000, "again")));
    leaving.ordered(702_000, None);
    assert_eq!(leaving.why(702_000), None);
}

#[test]
fn each_word_of_ec2_counts_once() {
    let mut leaving = Leaving::default();
    leaving.told(1000, told(&[]));
    leaving.told(2000, told(&["spot"]));
    leaving.ordered(3000, None);
    leaving.told(4000, told(&["spot"]));
    assert_eq!(leaving.why(4000), Some((2000, "spot")));
    // An order beside it is what is shown, and its end leaves EC2's word.
    leaving.ordered(5000, Some("order"));
    assert_eq!(leaving.why(5000), Some((5000, "order")));
    leaving.ordered(6000, None);
    assert_eq!(leaving.why(6000), Some((2000, "spot")));
    // It stands for days, and is heeded once; so it is when an operator has said that this gateway stays.
    leaving.told(2000 + LONGEST, told(&["spot"]));
    assert_eq!(leaving.why(2000 + LONGEST), None);
    leaving.told(800_000, told(&["rebalance", "spot"]));
    assert_eq!(leaving.why(800_000), Some((800_000, "rebalance")));
    leaving.stay();
    leaving.told(801_000, told(&["rebalance", "spot"]));
    assert_eq!(leaving.why(801_000), None);
    // It is taken back, and comes again.
    leaving.told(802_000, told(&["spot"]));
    leaving.told(803_000, told(&["rebalance", "spot"]));
    assert_eq!(leaving.why(803_000), Some((803_000, "rebalance")));
    leaving.told(804_000, told(&["spot"]));
    assert_eq!(leaving.why(804_000), None);
}

/// The texts are those of EC2's user guide: "Spot Instance interruption notices", "EC2 instance rebalance recommendations", "View scheduled
/// events for your EC2 instances", and Auto Scaling's "Retrieve the target lifecycle state".
#[test]
fn what_ec2_tells_is_read_and_what_is_none_of_it_is_no_reason() {
    // 21 January 2019, 08:50 UTC.
    let now = Timestamp(1_548_060_600);
    let reasons = |which: usize, text: &str| {
        let mut notices = Notices::default();
        notices.0[which] = Some(text.into());
        notices.reasons(now).into_iter().collect::<Vec<_>>().join("; ")
    };
    assert_eq!(Notices::default().reasons(now), BTreeSet::new());
    assert_eq!(
        reasons(0, r#"{"action": "terminate", "time": "2017-09-18T08:22:00Z"}"#),
        r#"EC2 interrupts this spot instance: "terminate" at "2017-09-18T08:22:00Z""#
    );
    assert_eq!(
        reasons(1, r#"{"noticeTime":"2020-10-27T08:22:00Z"}"#),
        r#"EC2 recommends since "2020-10-27T08:22:00Z" to replace this spot instance"#
    );
    let event = |from: &str, state: &str| {
        format!(
            r#"[{{"NotBefore": "{from}", "Code": "system-reboot", "Description": "scheduled reboot",
                "EventId": "instance-event-0d59937288b749b32", "NotAfter": "21 Jan 2019 09:17:23 GMT", "State": "{state}"}}]"#
        )
    };
    let soon = r#"EC2's maintenance of this instance: "system-reboot" from "#;
    for (from, counts) in [
        ("21 Jan 2019 09:00:43 GMT", true),
        ("21 Jan 2019 08:00:43 GMT", true),
        ("21 Jan 2019 09:10:43 GMT", false),
        ("1 Feb 2019 09:00:43 GMT", false),
        // One that cannot be read may be now.
        ("soon", true),
        ("99 Jan 2019 09:00:43 GMT", true),
    ] {
        let expected = if counts { format!("{soon}\"{from}\"") } else { String::new() };
        assert_eq!(reasons(2, &event(from, "active")), expected, "{from}");
    }
    for state in ["completed", "canceled"] {
        assert_eq!(reasons(2, &event("21 Jan 2019 09:00:43 GMT", state)), "", "{state}");
    }
    assert_eq!(reasons(3, "Terminated\n"), "its Auto Scaling group terminates this instance");
    for (which, text) in [
        (3, "InService"),
        (3, "Warmed:Terminated"),
        (3, ""),
        (0, "<html>404</html>"),
        (0, "{}"),
        (0, "null"),
        (1, "[]"),
        (2, "[]"),
        (2, "{}"),
        (2, "\u{1b}[31m"),
    ] {
        assert_eq!(reasons(which, text), "", "{which} {text}");
    }
    let hostile = reasons(0, "{\"action\": \"\\u001b[31m\", \"time\": \"\\n\"}");
    assert!(hostile.chars().all(|c| (' '..='~').contains(&c)), "{hostile:?}");
}

/// What EC2 shows of three routes while they are led away one by one.
#[test]
fn what_is_handed_over_in_parts_is_one_move_and_none_of_before() {
    let pair = || Pair::new(0, std::time::Duration::from_millis(100), 4);
    let shows = |pair: &mut Pair, at: u64, here: usize| {
        pair.on(at, Event::Routes { asked: at, ways: Ways { here, there: 3 - here, private: 0 } });
        pair.moves().to_vec()
    };
    let mut parts = pair();
    shows(&mut parts, 1000, 3);
    parts.on(2000, Event::Leaving(true));
    let moves = [(3000, 2), (4000, 1), (5000, 0)].map(|(at, here)| shows(&mut parts, at, here));
    assert_eq!(moves, [[3000], [4000], [5000]], "it counts from its last part");

    // Without a handover each is a move of its own: somebody takes them one by one.
    let mut taken = pair();
    shows(&mut taken, 1000, 3);
    shows(&mut taken, 3000, 2);
    assert_eq!(shows(&mut taken, 4000, 1), [3000, 4000]);

    // A move that led routes here is no part of it, nor is one that led them back meanwhile.
    let mut before = pair();
    shows(&mut before, 1000, 0);
    shows(&mut before, 2000, 3);
    before.on(2500, Event::Leaving(true));
    assert_eq!(shows(&mut before, 3000, 2), [2000, 3000]);
    assert_eq!(shows(&mut before, 4000, 3), [2000, 3000, 4000]);
    assert_eq!(shows(&mut before, 5000, 0), [2000, 3000, 4000, 5000]);

    // Nor is what was given by an earlier handover.
    let mut twice = pair();
    shows(&mut twice, 1000, 3);
    twice.on(2000, Event::Leaving(true));
    shows(&mut twice, 3000, 1);
    twice.on(4000, Event::Leaving(false));
    twice.on(5000, Event::Leaving(true));
    assert_eq!(shows(&mut twice, 6000, 0), [3000, 6000]);
}

#[test]
fn a_gateway_is_quiet_once_its_kernel_has_forwarded_nothing_for_three_seconds() {
    let snmp = |packets: &str| {
        format!(
            "Icmp: InMsgs\nIcmp: 7\nIp: Forwarding DefaultTTL ForwDatagrams InDelivers\nIp: 1 64 {packets} 4711\nTcp: A\nTcp: 9\n"
        )
    };
    assert_eq!(forwarded(&snmp("815")), Some(815));
    for text in ["", "Ip: ForwDatagrams\n", "Ip: A B\nIp: 1 2\n", &snmp("-"), "Ip: 1 2\nIp: ForwDatagrams\n"] {
        assert_eq!(forwarded(text), None, "{text:?}");
    }
    let mut quiet = Quiet::new(1000, 10);
    assert!(!quiet.look(1000 + QUIET - 1, 10) && quiet.look(1000 + QUIET, 10));
    // A packet a second is traffic.
    let mut quiet = Quiet::new(0, 10);
    for second in 1..60_u32 {
        assert!(!quiet.look(u64::from(second) * 1000, u64::from(10 + second)), "{second}");
    }
    assert!(!quiet.look(59_000 + QUIET - 1, 69) && quiet.look(59_000 + QUIET, 69));
    assert_eq!(quiet.passed(), 59);
    // A counter of 32 bits that begins anew has counted something.
    assert!(!Quiet::new(0, 10).look(QUIET, 3));
}
