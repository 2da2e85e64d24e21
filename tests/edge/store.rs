//! Pre-shared keys in SSM and Secrets Manager: what is asked, what of an answer becomes a key, and what does not.

mod failures;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crosswan::observe::store;
use crosswan_core::settings::{Fetched, NoPsk, Service, StoredPsk};
use serde_json::{Value, json};

use crate::{
    ec2::{TIMEOUT, access},
    server::{Reply, Request, Server},
};

const KEY: &str = "m4J-0sTq9vLr2XwZ";
const GET_PARAMETERS: &str = "AmazonSSM.GetParameters";
const GET_SECRET: &str = "secretsmanager.GetSecretValue";
const GET_SECRETS: &str = "secretsmanager.BatchGetSecretValue";

/// Asks for `names`; also asserts that nothing takes longer than promised, and that no reason shows a key.
fn fetch_within(endpoint: &str, stored: &StoredPsk, names: &[String], timeout: Duration) -> Fetched {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let names: BTreeSet<String> = names.iter().cloned().collect();
    let (start, own) = (Instant::now(), "xx-own-1".parse().unwrap());
    let fetched = runtime.block_on(store::fetch(&access(endpoint), stored, &names, &own, timeout));
    assert!(start.elapsed() < timeout + Duration::from_secs(1), "took {:?} of {timeout:?}", start.elapsed());
    assert!(fetched.keys().eq(&names), "every name has an entry");
    for no_key in fetched.values().filter_map(|found| found.as_ref().err()) {
        let why = no_key.to_string();
        assert!(!why.contains(char::is_control) && !why.contains("m4J"), "{why:?}");
    }
    assert!(!format!("{fetched:?}").contains("m4J"), "Debug shows a key");
    fetched
}

fn fetch(endpoint: &str, stored: &StoredPsk, names: &[String]) -> Fetched {
    fetch_within(endpoint, stored, names, TIMEOUT)
}

fn parameter(name: &str) -> StoredPsk {
    StoredPsk { service: Service::Parameter, name: name.into(), region: None }
}

fn secret(name: &str) -> StoredPsk {
    StoredPsk { service: Service::Secret, name: name.into(), region: None }
}

/// What comes of one name.
fn one(stored: StoredPsk, answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Result<String, NoPsk> {
    let server = Server::start(answer);
    let names = std::slice::from_ref(&stored.name);
    let found = fetch_within(&server.endpoint, &stored, names, TIMEOUT).into_values().next().unwrap();
    found.map(|key| String::from_utf8(key.bytes().to_vec()).unwrap())
}

fn unasked(found: Result<String, NoPsk>) -> String {
    match found {
        Err(NoPsk::Unasked(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

fn refused(found: Result<String, NoPsk>) -> String {
    match found {
        Err(NoPsk::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// The API's own form of an error.
fn error(code: &str, message: &str) -> Reply {
    Reply::new(400, json!({ "__type": code, "Message": message }).to_string())
}

fn body(request: &Request) -> Value {
    serde_json::from_str(&request.body).unwrap()
}

fn secure(name: &str, value: &str) -> Value {
    json!({ "Name": name, "ARN": format!("arn:aws:ssm:xx-own-1:1:parameter{name}"), "Type": "SecureString", "Value": value, "Version": 1 })
}

/// GetParameters as SSM answers it: a key for each name but those with `gone` in it.
fn parameters(request: &Request) -> Reply {
    let names: Vec<String> = serde_json::from_value(body(request)["Names"].clone()).unwrap();
    let (gone, there): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| name.contains("gone"));
    let there: Vec<Value> = there.into_iter().map(|name| secure(name, &format!("{KEY} of {name}\n"))).collect();
    Reply::ok(json!({ "Parameters": there, "InvalidParameters": gone }).to_string())
}

fn text(found: &Result<crosswan_core::model::Secret, NoPsk>) -> &str {
    std::str::from_utf8(found.as_ref().unwrap().bytes()).unwrap()
}

#[test]
fn parameters_are_asked_for_ten_at_a_time_and_decrypted() {
    let server = Server::start(|request, _| parameters(request));
    let names: Vec<String> = (10..35).map(|n| format!("/psk/vpc-000000{n}")).collect();
    let fetched = fetch(&server.endpoint, &parameter("/psk/{vpc}"), &names);
    for name in &names {
        // Without the newline that a file brings along.
        assert_eq!(text(&fetched[name]), format!("{KEY} of {name}"));
    }
    let asked = server.asked(GET_PARAMETERS);
    let sizes: Vec<usize> = asked.iter().map(|r| body(r)["Names"].as_array().unwrap().len()).collect();
    assert_eq!((sizes, server.seen().len()), (vec![10, 10, 5], 3));
    for request in asked {
        assert_eq!((request.region(), request.service()), ("xx-own-1", "ssm"));
        assert_eq!(body(&request)["WithDecryption"], true);
        assert_eq!(request.headers["content-type"], "application/x-amz-json-1.1");
    }
    // Another region, because it is set; no name, no call.
    let elsewhere = StoredPsk { region: Some("eu-west-1".parse().unwrap()), ..parameter("/psk") };
    fetch(&server.endpoint, &elsewhere, &["/psk".into()]);
    assert_eq!(server.seen().last().unwrap().region(), "eu-west-1");
    assert!(fetch(&server.endpoint, &elsewhere, &[]).is_empty() && server.seen().len() == 4);
}

#[test]
fn a_missing_or_unusable_one_is_refused_alone() {
    let arn = "arn:aws:ssm:xx-own-1:1:parameter/by-arn";
    let server = Server::start(move |_, _| {
        let found = [
            secure("/a", KEY),
            secure("/short", "m4J"),
            json!({ "Name": "/plain", "Type": "String", "Value": KEY }),
            secure("/by-arn", KEY),
        ];
        Reply::ok(json!({ "Parameters": found, "InvalidParameters": ["/gone"] }).to_string())
    });
    let names = ["/a", "/gone", "/short", "/plain", arn].map(str::to_owned);
    let fetched = fetch(&server.endpoint, &parameter("/{vpc}"), &names);
    assert_eq!((text(&fetched["/a"]), text(&fetched[arn])), (KEY, KEY));
    for (name, why) in [
        ("/gone", "it does not exist in xx-own-1; create it with: aws ssm put-parameter --type SecureString"),
        ("/short", "a pre-shared key of 3 bytes, fewer than 16; make one with: openssl rand -base64 32"),
        ("/plain", "it is not a SecureString; put it again with --type SecureString"),
    ] {
        assert_eq!(fetched[name], Err(NoPsk::Refused(format!("parameter {name}: {why}"))));
    }
}

#[test]
fn one_secret_and_many() {
    let server = Server::start(|request, _| match request.action() {
        GET_SECRET => {
            Reply::ok(json!({ "ARN": "arn:x", "Name": "psk", "SecretString": format!("{KEY}\n") }).to_string())
        }
        _ => {
            let ids: Vec<String> = serde_json::from_value(body(request)["SecretIdList"].clone()).unwrap();
            let values: Vec<Value> = ids[..ids.len() - 5]
                .iter()
                .map(|id| json!({ "ARN": format!("arn:aws:secretsmanager:r:1:secret:{id}-AbCdEf"), "Name": id, "SecretString": KEY }))
                .collect();
            let error = |n: usize, code: &str, message: &str| json!({ "SecretId": ids[ids.len() - n], "ErrorCode": code, "Message": message });
            let errors = [
                error(5, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
                error(
                    4,
                    "AccessDeniedException",
                    "User: x is not authorized to perform: secretsmanager:GetSecretValue on resource: y",
                ),
                error(3, "InvalidRequestException", "it was marked for deletion"),
                error(2, "DecryptionFailure", "odd\nkey"),
                error(1, "AccessDeniedException", "Access to KMS is not allowed"),
            ];
            Reply::ok(json!({ "SecretValues": values, "Errors": errors }).to_string())
        }
    });
    let fetched = fetch(&server.endpoint, &secret("psk"), &["psk".into()]);
    assert_eq!(text(&fetched["psk"]), KEY);
    assert_eq!(body(&server.asked(GET_SECRET)[0]), json!({ "SecretId": "psk" }));
    assert_eq!(server.seen()[0].service(), "secretsmanager");

    let names: Vec<String> = (10..40).map(|n| format!("psk/vpc-000000{n}")).collect();
    let fetched = fetch(&server.endpoint, &secret("psk/{vpc}"), &names);
    let sizes: Vec<usize> =
        server.asked(GET_SECRETS).iter().map(|r| body(r)["SecretIdList"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [20, 10]);
    assert_eq!(fetched.values().filter(|found| found.is_ok()).count(), 20);
    let why = |n: usize| match fetched[&names[n]].clone() {
        Err(NoPsk::Refused(why)) => format!("refused: {why}"),
        Err(NoPsk::Unasked(why)) => format!("unasked: {why}"),
        Ok(_) => panic!("a key"),
    };
    let place = "secret psk/{vpc} in xx-own-1";
    let name = |n: usize| &names[n];
    #[rustfmt::skip]
    let want = [
        format!("refused: secret {}: it does not exist in xx-own-1; create it with: aws secretsmanager create-secret", name(25)),
        format!("unasked: {place}: not permitted: the instance's role needs secretsmanager:GetSecretValue in xx-own-1 (AccessDeniedException)"),
        format!("refused: secret {}: Secrets Manager answered 200 to GetSecretValue: \"InvalidRequestException\": \"it was marked for deletion\"", name(27)),
        format!("unasked: {place}: Secrets Manager answered 200 to GetSecretValue: \"DecryptionFailure\": \"odd\\nkey\""),
        format!("unasked: {place}: not permitted: the instance's role needs kms:Decrypt for the key that encrypts it in xx-own-1 (AccessDeniedException)"),
    ];
    assert_eq!([25, 26, 27, 28, 29].map(why), want);
}

#[test]
fn a_secret_that_is_none() {
    let answer = |code: &'static str| move |_: &Request, _: usize| error(code, "canned");
    let missing = refused(one(secret("psk"), answer("ResourceNotFoundException")));
    assert_eq!(missing, "secret psk: it does not exist in xx-own-1; create it with: aws secretsmanager create-secret");
    let deleted = refused(one(secret("psk"), answer("com.amazonaws.secretsmanager#InvalidRequestException")));
    assert_eq!(
        deleted,
        "secret psk: Secrets Manager answered 400 to GetSecretValue: \"InvalidRequestException\": \"canned\""
    );
    let binary = |_: &Request, _: usize| {
        Reply::ok(json!({ "Name": "psk", "SecretBinary": "bTRKLTBzVHE5dkxyMlh3Wg==" }).to_string())
    };
    assert_eq!(refused(one(secret("psk"), binary)), "secret psk: it is binary; store it as a string");
}
