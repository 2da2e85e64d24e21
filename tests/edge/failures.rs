//! EC2 that does not answer: the region fails with a reason that an operator understands, and the others stand.

use std::time::{Duration, Instant};

use crosswan::observe::ec2::Query;

use crate::{
    ec2::{TIMEOUT, access, ask, query, within},
    server::{Reply, Request, Server, nowhere},
    xml::{asked_vpcs, instance, instances},
};

/// A healthy region beside one that `bad` plays; the reason the bad one gives.
fn reason(region: &str, bad: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> String {
    reason_within(region, TIMEOUT, bad)
}

fn reason_within(
    region: &str,
    timeout: Duration,
    bad: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
) -> String {
    let name = region.to_owned();
    let server = Server::start(
        move |request, before| if request.region() == name { bad(request, before) } else { good(request) },
    );
    let mut answers = ask(&server.endpoint, &query(&["xx-good-1", region]), timeout);
    let good = answers.remove(&"xx-good-1".parse().unwrap()).unwrap().expect("one region's failure harms no other");
    assert_eq!(good.gateways.len(), 1);
    let reason = answers.into_values().next().unwrap().expect_err("half an answer is none").to_string();
    assert!(!reason.contains(char::is_control), "{reason:?}");
    reason
}

fn good(request: &Request) -> Reply {
    match request.action() {
        "DescribeInstances" => Reply::ok(instances(&[instance(1)], None)),
        _ => asked_vpcs(request),
    }
}

#[test]
fn the_second_page_fails() {
    let reason = reason("xx-page-1", |request, _| match request.field("NextToken") {
        "" => Reply::ok(instances(&[instance(1)], Some("two"))),
        _ => Reply::error(500, "InternalError"),
    });
    assert_eq!(reason, r#"EC2 answered 500 to DescribeInstances: "InternalError": "canned""#);
}

#[test]
fn vpcs_fail_after_the_instances_came() {
    let reason = reason("xx-page-2", |request, _| match request.action() {
        "DescribeInstances" => good(request),
        _ => Reply::error(403, "UnauthorizedOperation"),
    });
    assert_eq!(
        reason,
        "not permitted: the instance's role needs ec2:DescribeVpcs in xx-page-2 (UnauthorizedOperation): see docs/iam"
    );
}

#[test]
fn three_throttles_are_ridden_out() {
    let server = Server::start(|request, before| match (request.action(), before) {
        ("DescribeInstances", 0..3) => Reply::error(503, "RequestLimitExceeded"),
        _ => good(request),
    });
    let answers = ask(&server.endpoint, &query(&["xx-throttle-1"]), TIMEOUT);
    assert_eq!(answers.into_values().next().unwrap().unwrap().gateways.len(), 1);
    assert_eq!(server.asked("DescribeInstances").len(), 4);
}

#[test]
fn throttled_for_ever_is_bounded_and_says_so() {
    for (region, status, code) in [("xx-throttle-2", 503, "RequestLimitExceeded"), ("xx-throttle-3", 400, "Throttling")]
    {
        let reason = reason(region, move |_, _| Reply::error(status, code));
        assert_eq!(reason, format!("throttled: EC2 answered \"{code}\" to 8 attempts at DescribeInstances"));
    }
}

/// When a hub dies its spokes look for the next one, which asks the same EC2: there a spoke asks once.
#[test]
fn a_spoke_that_is_throttled_makes_way_and_insists_on_everything_else() {
    let spoke = |answer: fn(&Request, usize) -> Reply| {
        let server = Server::start(answer);
        let clients = access(&server.endpoint).accepting_throttles(true);
        let query = Query { with_cidrs: false, ..query(&["xx-way-1"]) };
        let answers = within(TIMEOUT, crosswan::observe::ec2::ask(&clients, &query, TIMEOUT));
        (answers.into_values().next().unwrap(), server.asked("DescribeInstances").len())
    };
    let (answer, asked) = spoke(|_, _| Reply::error(503, "RequestLimitExceeded"));
    assert_eq!(
        answer.unwrap_err().to_string(),
        "throttled: EC2 answered \"RequestLimitExceeded\" to the one attempt that a spoke makes, so that the hub gets through, at \
         DescribeInstances"
    );
    assert_eq!(asked, 1);
    let (answer, asked) = spoke(|request, before| match before {
        0..2 => Reply::error(500, "InternalError"),
        _ => good(request),
    });
    assert_eq!((answer.unwrap().gateways.len(), asked), (1, 3), "a server's error passes by itself");
}

#[test]
fn refusals_name_what_to_do() {
    for (n, status, code, expected) in [
        (
            1,
            403,
            "UnauthorizedOperation",
            "not permitted: the instance's role needs ec2:DescribeInstances in xx-refuse-1 (UnauthorizedOperation): see docs/iam",
        ),
        (
            2,
            401,
            "AuthFailure",
            "credentials refused (AuthFailure): they or the clock are wrong, or xx-refuse-2 is not enabled for this account",
        ),
        (3, 403, "OptInRequired", "region xx-refuse-3 is not enabled for this account (OptInRequired)"),
        (4, 400, "RequestExpired", "credentials refused (RequestExpired): they have expired, or the clock is wrong"),
        (5, 400, "Odd&#10;Code", r#"EC2 answered 400 to DescribeInstances: "Odd\nCode": "canned""#),
        (6, 400, "Throttling&#27;", r#"throttled: EC2 answered "Throttling\u{1b}" to 8 attempts at DescribeInstances"#),
    ] {
        assert_eq!(reason(&format!("xx-refuse-{n}"), move |_, _| Reply::error(status, code)), expected);
    }
}

#[test]
fn a_web_page_is_no_answer_and_is_called_by_its_name() {
    let instead = |what: &str, status: u16| {
        format!(
            "{what} came in place of EC2's answer to DescribeInstances (HTTP {status}): something between this gateway and EC2 \
             answers, such as a proxy; look at HTTPS_PROXY, AWS_ENDPOINT_URL and the VPC's endpoints"
        )
    };
    let html = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    assert_eq!(reason("xx-html-1", move |_, _| Reply::new(500, html)), instead("a web page", 500));
    let misfit = |why: &str| format!("the answer to DescribeInstances did not parse: {why}");
    for (n, body, want) in [
        (2, html, instead("a web page", 200)),
        (3, "\n <!DOCTYPE HTML>\n<html lang=en>Log in</html>", instead("a web page", 200)),
        (4, "", instead("nothing", 200)),
        (5, "not XML", misfit("it is cut off or broken XML")),
        (6, "<a/>", misfit("it is XML of another kind")),
    ] {
        assert_eq!(reason(&format!("xx-html-{n}"), move |_, _| Reply::ok(body)), want);
    }
    // A captive portal's, with a status of its own.
    assert_eq!(reason("xx-html-7", move |_, _| Reply::new(403, html)), instead("a web page", 403));
}

#[test]
fn an_answer_cut_off_is_no_answer() {
    let page = || instances(&[instance(1), instance(2)], None);
    let length = page().len();
    // The connection ends before the promised length.
    let reason_short =
        reason("xx-cut-1", move |_, _| Reply { missing: 100, ..Reply::ok(&page().as_bytes()[..length / 2]) });
    assert!(reason_short.contains("DescribeInstances") || reason_short.contains("cannot reach EC2"), "{reason_short}");
    // A proxy that cut it and corrected the length: nothing but the XML can tell.
    for (n, cut) in [length / 2, page().find("</item></reservationSet>").unwrap(), length - 1].into_iter().enumerate() {
        let reason = reason(&format!("xx-cut-{}", n + 2), move |_, _| Reply::ok(&page().as_bytes()[..cut]));
        assert_eq!(
            reason, "the answer to DescribeInstances did not parse: it is cut off or broken XML",
            "cut at {cut}"
        );
    }
}

#[test]
fn an_answer_without_its_list_is_no_answer() {
    for (n, from, to) in [(1, "reservationSet", "otherSet"), (2, "instancesSet", "otherSet")] {
        let body = instances(&[instance(1)], None).replace(from, to);
        let reason = reason(&format!("xx-list-{n}"), move |_, _| Reply::ok(body.clone()));
        assert_eq!(reason, format!("the answer to DescribeInstances did not parse: it has no {from}"));
    }
}

#[test]
fn pages_that_never_end() {
    let same = reason("xx-loop-1", |_, _| Reply::ok(instances(&[instance(1)], Some("again"))));
    assert_eq!(same, "the answer to DescribeInstances did not parse: a page names itself as the next one");
    let endless = reason_within("xx-loop-2", Duration::from_millis(500), |_, before| {
        Reply::ok(instances(&[], Some(&before.to_string()))).after(Duration::from_millis(20))
    });
    assert_eq!(endless, "timed out after 500ms");
}

#[test]
fn slower_than_the_timeout() {
    let start = Instant::now();
    let reason =
        reason_within("xx-slow-30", Duration::from_secs(1), |_, _| Reply::ok("").after(Duration::from_secs(20)));
    assert!(reason.contains("timed out"), "{reason}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn nobody_listens() {
    let answers = ask(&nowhere(), &query(&["xx-refused-1"]), Duration::from_secs(2));
    let reason = answers.into_values().next().unwrap().unwrap_err().to_string();
    assert_eq!(reason, "cannot reach EC2 in xx-refused-1: Connection refused (os error 111)");
}

#[test]
fn a_name_that_does_not_resolve_is_told_apart_from_a_host_that_does_not_answer() {
    let answers = ask("http://ec2.invalid", &query(&["xx-name-1"]), Duration::from_secs(5));
    let reason = answers.into_values().next().unwrap().unwrap_err().to_string();
    assert!(reason.starts_with("cannot resolve the name of EC2's endpoint in xx-name-1: "), "{reason}");
}
