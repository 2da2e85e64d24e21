//! The own instance's two tags: read as EC2 has them, and written until they read back.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use crosswan::observe::ec2::{announce, own_tags};
use crosswan_core::model::{InstanceId, KEY_TAG, NEXT_KEY_TAG, OwnTags, Region};

use crate::{
    ec2::{TIMEOUT, access, within},
    server::{Reply, Request, Server, nowhere},
    xml::{answer, instance, instances},
};

pub const ME: &str = "i-00000001";
/// As long as a key and its signature are.
pub const KEY: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE= \
    ZtUPdn2rX5fQ7+8p1b6eM0nUq6R2y4Jc9aVwHkLsGxTt3oYbCmEiKjDfNgQz5W7h8PAuSvBl1OZyXq2RrI4cdA";
/// Any value of the second tag.
pub const NEXT: &str = "none";

fn region() -> Region {
    "xx-own-1".parse().unwrap()
}

fn me() -> InstanceId {
    ME.parse().unwrap()
}

fn read(endpoint: &str, timeout: Duration) -> Result<OwnTags, String> {
    within(timeout, own_tags(&access(endpoint), &region(), &me(), timeout)).map_err(|why| why.to_string())
}

fn write_all(endpoint: &str, tags: &[(&str, &str)], timeout: Duration) -> Result<(), String> {
    let tags: Vec<_> = tags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    within(timeout, announce(&access(endpoint), &region(), &me(), &tags, timeout)).map_err(|why| why.to_string())
}

fn write(endpoint: &str, value: &str, timeout: Duration) -> Result<(), String> {
    write_all(endpoint, &[(KEY_TAG, value)], timeout)
}

/// The two tags with these values.
fn tags(key: Option<&str>, next: Option<&str>) -> OwnTags {
    OwnTags { key: key.map(str::to_owned), next: next.map(str::to_owned), ..OwnTags::default() }
}

/// DescribeInstances with the own instance, its tags these.
pub fn tagged(tags: &[(&str, &str)]) -> Reply {
    let tags: String = tags.iter().map(|(k, v)| format!("<item><key>{k}</key><value>{v}</value></item>")).collect();
    let me = instance(1).replace("<vpcId>", &format!("<tagSet>{tags}</tagSet><vpcId>"));
    Reply::ok(instances(&[me], None))
}

/// The same, with the source/destination check off.
pub fn unchecked(tags: &[(&str, &str)]) -> Reply {
    let Reply { body, .. } = tagged(tags);
    Reply::ok(String::from_utf8(body).unwrap().replace("<vpcId>", "<sourceDestCheck>false</sourceDestCheck><vpcId>"))
}

pub fn created() -> Reply {
    Reply::ok(answer("CreateTags", "<return>true</return>", None))
}

/// Plays a region in which the own instance has these tags, and what CreateTags writes from then on.
pub fn region_with(before: &[(&str, &str)]) -> Server {
    let owned = before.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let tags: Mutex<BTreeMap<String, String>> = Mutex::new(owned.collect());
    Server::start(move |request, _| {
        let mut tags = tags.lock().unwrap();
        if request.action() == "CreateTags" {
            tags.extend(request.tags());
            return created();
        }
        tagged(&tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>())
    })
}

#[test]
fn the_tags_are_found_or_absent_and_only_the_own_instance_is_asked_for() {
    for (shown, key, next) in [
        (&[("service", "nat"), (KEY_TAG, KEY)][..], Some(KEY), None),
        (&[(NEXT_KEY_TAG, NEXT), (KEY_TAG, KEY)], Some(KEY), Some(NEXT)),
        (&[(NEXT_KEY_TAG, NEXT)], None, Some(NEXT)),
        (&[("service", "nat"), ("Crosswan-Key", "no"), ("crosswan-key2", "no"), ("crosswan-next", "no")], None, None),
        (&[], None, None),
        // Foreign text is passed on unchanged: this module does not judge it.
        (&[(KEY_TAG, "$(reboot)&#10;&lt;/item&gt;")], Some("$(reboot)\n</item>"), None),
        (&[(KEY_TAG, ""), (NEXT_KEY_TAG, "")], Some(""), Some("")),
    ] {
        let server = Server::start(move |_, _| tagged(shown));
        assert_eq!(read(&server.endpoint, TIMEOUT), Ok(tags(key, next)), "{shown:?}");
        let asked = server.seen();
        assert_eq!(asked.len(), 1, "both tags come with one request");
        assert_eq!((asked[0].action(), asked[0].field("InstanceId.1")), ("DescribeInstances", ME));
        assert_eq!(asked[0].field("InstanceId.2"), "");
        assert_eq!(asked[0].region(), "xx-own-1");
    }
    // EC2 omits the set where there are no tags at all.
    let server = Server::start(|_, _| Reply::ok(instances(&[instance(1)], None)));
    assert_eq!(read(&server.endpoint, TIMEOUT), Ok(OwnTags::default()));
}

#[test]
fn no_answer_is_never_no_tag() {
    let reason = |answer: fn(&Request, usize) -> Reply| {
        let server = Server::start(answer);
        let reason = read(&server.endpoint, TIMEOUT).expect_err("half an answer is none");
        assert!(!reason.contains(char::is_control), "{reason:?}");
        reason
    };
    assert_eq!(
        reason(|_, _| Reply::error(403, "UnauthorizedOperation")),
        "not permitted: the instance's role needs ec2:DescribeInstances in xx-own-1 (UnauthorizedOperation): see docs/iam"
    );
    assert_eq!(
        reason(|_, _| Reply::error(503, "RequestLimitExceeded")),
        "throttled: EC2 answered \"RequestLimitExceeded\" to 8 attempts at DescribeInstances"
    );
    assert_eq!(
        reason(|_, _| Reply::error(400, "InvalidInstanceID.NotFound")),
        "EC2 answered 400 to DescribeInstances: \"InvalidInstanceID.NotFound\": \"canned\""
    );
    let misfit = "the answer to DescribeInstances did not parse: ";
    for (answer, why) in [
        ((|_, _| Reply::ok(instances(&[], None))) as fn(&Request, usize) -> Reply, "i-00000001 is missing from it"),
        (|_, _| Reply::ok(instances(&[instance(2)], None)), "i-00000001 is missing from it"),
        (|_, _| Reply::ok(instances(&[], None).replace("reservationSet", "otherSet")), "it has no reservationSet"),
        (|_, _| Reply::ok(&tagged(&[(KEY_TAG, KEY)]).body[..400]), "it is cut off or broken XML"),
    ] {
        let reason = reason(answer);
        assert!(reason.starts_with(&format!("{misfit}{why}")), "{reason}");
    }
    assert!(reason(|_, _| Reply::ok("<html>It works!<html>")).starts_with("a web page came in place of EC2's answer"));
    assert_eq!(
        read(&nowhere(), Duration::from_secs(2)).unwrap_err(),
        "cannot reach EC2 in xx-own-1: Connection refused (os error 111)"
    );
    let slow = Server::start(|_, _| Reply::ok("").after(Duration::from_secs(20)));
    let reason = read(&slow.endpoint, Duration::from_secs(1)).unwrap_err();
    assert!(reason.contains("timed out"), "{reason}");
}

#[test]
fn a_passing_failure_is_ridden_out() {
    let server = Server::start(|_, before| match before {
        0..3 => Reply::error(503, "RequestLimitExceeded"),
        _ => tagged(&[(KEY_TAG, KEY)]),
    });
    assert_eq!(read(&server.endpoint, TIMEOUT), Ok(tags(Some(KEY), None)));
}

#[test]
fn publish_overwrites_the_named_tags_of_that_instance_in_one_request_and_reads_them_back() {
    let after = [(KEY_TAG, KEY), (NEXT_KEY_TAG, "the next key")];
    for (new, before, found) in [
        (&after[..], &[][..], tags(Some(KEY), Some("the next key"))),
        (&after, &[(KEY_TAG, "an older key"), (NEXT_KEY_TAG, NEXT)], tags(Some(KEY), Some("the next key"))),
        (&after[..1], &[(NEXT_KEY_TAG, NEXT)], tags(Some(KEY), Some(NEXT))),
        (&after[1..], &[(KEY_TAG, "an older key")], tags(Some("an older key"), Some("the next key"))),
    ] {
        let server = region_with(before);
        assert_eq!(write_all(&server.endpoint, new, TIMEOUT), Ok(()));
        assert_eq!(read(&server.endpoint, TIMEOUT), Ok(found), "a tag that is not named stays as it is");
        let asked = server.asked("CreateTags");
        assert_eq!(asked.len(), 1, "one request, so that no reader sees one of the two tags only");
        assert_eq!((asked[0].field("ResourceId.1"), asked[0].field("ResourceId.2")), (ME, ""));
        let sent: Vec<_> = asked[0].tags().collect();
        let new: Vec<_> = new.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(sent, new);
    }
}

#[test]
fn a_tag_of_two_that_does_not_read_back_is_named() {
    // EC2 took the request and shows one of the two.
    for (shown, missing, expected) in [(KEY_TAG, NEXT_KEY_TAG, NEXT), (NEXT_KEY_TAG, KEY_TAG, KEY)] {
        let server = Server::start(move |request, _| match request.action() {
            "CreateTags" => created(),
            _ => tagged(&[(shown, if shown == KEY_TAG { KEY } else { NEXT })]),
        });
        let reason = write_all(&server.endpoint, &[(KEY_TAG, KEY), (NEXT_KEY_TAG, NEXT)], Duration::from_secs(1));
        let want = format!("tag {missing} was written, but did not read back: expected {expected}, found none");
        assert_eq!(reason, Err(want));
    }
}

#[test]
fn a_tag_that_shows_late_is_waited_for_and_one_that_does_not_is_reported() {
    let late = Server::start(|request, before| match (request.action(), before) {
        ("CreateTags", _) => created(),
        (_, 0..3) => tagged(&[]),
        _ => tagged(&[(KEY_TAG, KEY)]),
    });
    assert_eq!(write(&late.endpoint, KEY, TIMEOUT), Ok(()));
    assert_eq!(late.asked("DescribeInstances").len(), 4);
    assert_eq!(late.asked("CreateTags").len(), 1, "written once");

    let other = Server::start(|request, _| match request.action() {
        "CreateTags" => created(),
        _ => tagged(&[(KEY_TAG, "some&#27;one's")]),
    });
    let start = Instant::now();
    let reason = write(&other.endpoint, KEY, Duration::from_secs(60)).unwrap_err();
    let found = r#""some\u{1b}one\'s""#;
    assert_eq!(reason, format!("tag {KEY_TAG} was written, but did not read back: expected {KEY}, found {found}"));
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    assert_eq!(other.asked("DescribeInstances").len(), 7);
    // The reason is the same when the time is up first.
    let never = Server::start(|request, _| if request.action() == "CreateTags" { created() } else { tagged(&[]) });
    let reason = write(&never.endpoint, KEY, Duration::from_secs(1)).unwrap_err();
    assert_eq!(reason, format!("tag {KEY_TAG} was written, but did not read back: expected {KEY}, found none"));
}

#[test]
fn publish_says_what_it_may_not_do() {
    let denied = Server::start(|_, _| Reply::error(403, "UnauthorizedOperation"));
    assert_eq!(
        write(&denied.endpoint, KEY, TIMEOUT).unwrap_err(),
        "not permitted: the instance's role needs ec2:CreateTags on its own instance for the tags crosswan-key, \
         crosswan-next-key, crosswan-makes-way-for and crosswan-takes-place-of, in xx-own-1 (UnauthorizedOperation): see docs/iam"
    );
    assert!(denied.asked("DescribeInstances").is_empty());

    // Denied by a policy that another permission does not outweigh.
    let body = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized to perform this \
                operation. User: arn:aws:sts::123456789012:assumed-role/gateway/i-00000001 is not authorized to perform: \
                ec2:CreateTags on resource: arn:aws:ec2:xx-own-1:123456789012:instance/i-00000001 with an explicit deny in a \
                service control policy. Encoded authorization failure message: AbC</Message></Error></Errors></Response>";
    let denied = Server::start(move |_, _| Reply::new(403, body));
    assert_eq!(
        write(&denied.endpoint, KEY, TIMEOUT).unwrap_err(),
        "not permitted: the instance's role needs ec2:CreateTags on its own instance for the tags crosswan-key, \
         crosswan-next-key, crosswan-makes-way-for and crosswan-takes-place-of, in xx-own-1 (UnauthorizedOperation; a policy denies it explicitly): see docs/iam"
    );

    // It may write, but not read.
    let blind = Server::start(|request, _| match request.action() {
        "CreateTags" => created(),
        _ => Reply::error(403, "UnauthorizedOperation"),
    });
    assert_eq!(
        write(&blind.endpoint, KEY, TIMEOUT).unwrap_err(),
        "the tags were written, but could not be read back: not permitted: the instance's role needs \
         ec2:DescribeInstances in xx-own-1 (UnauthorizedOperation): see docs/iam"
    );
}

#[test]
fn publish_says_why_it_could_not_write() {
    for (status, code, expected) in [
        (503, "RequestLimitExceeded", "throttled: EC2 answered \"RequestLimitExceeded\" to 8 attempts at CreateTags"),
        (400, "TagLimitExceeded", "the instance has as many tags as EC2 lets it have: remove one (TagLimitExceeded)"),
        (500, "InternalError", "EC2 answered 500 to CreateTags: \"InternalError\": \"canned\""),
    ] {
        let server = Server::start(move |_, _| Reply::error(status, code));
        assert_eq!(write(&server.endpoint, KEY, TIMEOUT).unwrap_err(), expected);
        assert!(server.asked("DescribeInstances").is_empty(), "{code}");
    }
    let garbage = Server::start(|_, _| Reply::ok("<html>It works!<html>"));
    let reason = write(&garbage.endpoint, KEY, TIMEOUT).unwrap_err();
    assert!(reason.starts_with("a web page came in place of EC2's answer to CreateTags (HTTP 200): "), "{reason}");
    // What EC2 would refuse is not even sent.
    let server = region_with(&[]);
    let long = "x".repeat(257);
    for (value, length) in [("", 0), (long.as_str(), 257)] {
        for key in [KEY_TAG, NEXT_KEY_TAG] {
            // The other one would fit, and is not sent alone.
            let good = if key == KEY_TAG { (NEXT_KEY_TAG, NEXT) } else { (KEY_TAG, KEY) };
            let reason = write_all(&server.endpoint, &[good, (key, value)], TIMEOUT).unwrap_err();
            assert_eq!(reason, format!("the value of tag {key} must have 1 to 256 characters, not {length}"));
        }
    }
    assert!(server.seen().is_empty());
    assert_eq!(write(&server.endpoint, &long[..256], TIMEOUT), Ok(()));
}
