//! A key store that does not answer: a reason that an operator understands, and never confused with a missing key.

use std::time::{Duration, Instant};

use crosswan_core::{model::AskError, settings::NoPsk};
use serde_json::json;

use super::{error, fetch, fetch_within, one, parameter, parameters, secret, text, unasked};
use crate::server::{Reply, Request, Server, nowhere};

#[test]
fn what_is_not_permitted_is_named() {
    for (message, needs) in [
        (
            "User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform: ssm:GetParameters on resource: arn:aws:ssm:r:1:parameter/psk because no identity-based policy allows it",
            "ssm:GetParameters",
        ),
        ("User: x is not authorized to perform: kms:Decrypt on this resource", "kms:Decrypt"),
        (
            "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.",
            "kms:Decrypt for the key that encrypts it",
        ),
        (
            "not authorized to perform: \u{1b}[2J: x",
            "ssm:GetParameters, and kms:Decrypt if a customer managed key encrypts it,",
        ),
        ("", "ssm:GetParameters, and kms:Decrypt if a customer managed key encrypts it,"),
    ] {
        let why = unasked(one(parameter("/psk"), move |_, _| error("AccessDeniedException", message)));
        assert_eq!(
            why,
            format!(
                "parameter /psk in xx-own-1: not permitted: the instance's role needs {needs} in xx-own-1 (AccessDeniedException)"
            )
        );
    }
    let why = unasked(one(secret("psk"), |_, _| error("AccessDeniedException", "")));
    assert!(why.contains("needs secretsmanager:GetSecretValue, and kms:Decrypt"), "{why}");
    // One batch of three is denied: the others have their keys.
    let server = Server::start(|request, before| match before {
        1 => error("AccessDeniedException", ""),
        _ => parameters(request),
    });
    let names: Vec<String> = (10..40).map(|n| format!("/psk/vpc-000000{n}")).collect();
    let fetched = fetch(&server.endpoint, &parameter("/psk/{vpc}"), &names);
    let with_key: Vec<bool> = fetched.values().map(Result::is_ok).collect();
    assert_eq!(with_key, [[true; 10], [false; 10], [true; 10]].concat());
}

#[test]
fn no_answer_is_no_missing_key() {
    let place = "parameter /psk in xx-own-1: ";
    let cut = |to: usize| {
        move |request: &Request, _: usize| {
            let whole = parameters(request).body;
            Reply::ok(&whole[..whole.len() - to])
        }
    };
    for (answer, why) in [
        (Box::new(cut(1)) as Box<dyn Fn(&Request, usize) -> Reply + Send + Sync>, "it is cut off or not JSON"),
        (Box::new(cut(40)), "it is cut off or not JSON"),
        (Box::new(|_, _| Reply::ok("{}")), "a name that was asked for is not in it"),
        (Box::new(|_, _| Reply::ok("[]")), "it is JSON of another kind"),
        (Box::new(|_, _| Reply::ok(r#"{"Parameters":7}"#)), "it is JSON of another kind"),
        (
            Box::new(|_, _| Reply::ok(r#"{"Parameters":[],"InvalidParameters":[]}"#)),
            "a name that was asked for is not in it",
        ),
        (
            Box::new(|_, _| {
                Reply::ok(json!({ "Parameters": [{ "Name": "/psk", "Type": "SecureString", "Value": 7 }], "InvalidParameters": [] }).to_string())
            }),
            "it is JSON of another kind",
        ),
    ] {
        let found = unasked(one(parameter("/psk"), answer));
        assert_eq!(found, format!("{place}the answer to GetParameters did not parse: {why}"));
    }
    for (answer, what) in [
        (Reply::ok("<html>It works!</html>"), "a web page"),
        (Reply::new(500, "<html>502</html>"), "a web page"),
        (Reply::ok(""), "nothing"),
    ] {
        let found = unasked(one(parameter("/psk"), move |_, _| answer.clone()));
        assert!(
            found.starts_with(&format!("{place}{what} came in place of SSM's answer to GetParameters ")),
            "{found}"
        );
    }
    for (answer, why) in [
        (Reply::new(500, "502"), "SSM answered 500 to GetParameters, without an error code"),
        (
            error("UnrecognizedClientException", ""),
            "credentials refused (UnrecognizedClientException): they or the clock are wrong, or xx-own-1 is not enabled for this account",
        ),
        (
            error("ExpiredTokenException", ""),
            "credentials refused (ExpiredTokenException): they have expired, or the clock is wrong",
        ),
        (
            error("ThrottlingException", "Rate exceeded"),
            "throttled: SSM answered \"ThrottlingException\" to 8 attempts at GetParameters",
        ),
        (
            error("ValidationException", "bad\nname"),
            "SSM answered 400 to GetParameters: \"ValidationException\": \"bad\\nname\"",
        ),
    ] {
        assert_eq!(unasked(one(parameter("/psk"), move |_, _| answer.clone())), format!("{place}{why}"));
    }
    let found = fetch(&nowhere(), &parameter("/psk"), &["/psk".into()]).into_values().next().unwrap();
    let why = "cannot reach SSM in xx-own-1: Connection refused (os error 111)";
    assert_eq!(unasked(found.map(|_| String::new())), format!("{place}{why}"));
}

#[test]
fn what_passes_by_itself_is_ridden_out() {
    let server = Server::start(|request, before| match before {
        0 => error("ThrottlingException", "Rate exceeded"),
        1 => Reply::new(500, ""),
        2 => Reply::ok("{"),
        _ => parameters(request),
    });
    let fetched = fetch(&server.endpoint, &parameter("/psk"), &["/psk".into()]);
    assert_eq!((text(&fetched["/psk"]), server.seen().len()), ("m4J-0sTq9vLr2XwZ of /psk", 4));
}

#[test]
fn slower_than_the_timeout() {
    let slow = |request: &Request, before: usize| match before {
        0 => parameters(request),
        _ => Reply::ok("").after(Duration::from_secs(20)),
    };
    let server = Server::start(slow);
    let names: Vec<String> = (10..35).map(|n| format!("/psk/vpc-000000{n}")).collect();
    let start = Instant::now();
    let fetched = fetch_within(&server.endpoint, &parameter("/psk/{vpc}"), &names, Duration::from_secs(1));
    assert!(start.elapsed() < Duration::from_secs(3));
    // What had come is kept.
    assert_eq!(fetched.values().filter(|found| found.is_ok()).count(), 10);
    for why in fetched.values().filter_map(|found| found.as_ref().err()) {
        assert!(matches!(why, NoPsk::Unasked(why) if matches!(why.why, AskError::TimedOut { .. })), "{why:?}");
    }
}
