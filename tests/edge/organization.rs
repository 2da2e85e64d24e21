//! AWS Organizations: every page or nothing, and what whoever asks has to put right.

use std::time::Duration;

use crosswan::observe::organization::members;
use crosswan_core::accounts::{Member, Partition};
use crosswan_lab::iam::{Call, Caller, Decision, Policy};
use serde_json::{Value, json};

use crate::{
    ec2::{access, within},
    server::{Reply, Request, Server, nowhere},
};

const LIST: &str = "AWSOrganizationsV20161128.ListAccounts";
const TIMEOUT: Duration = Duration::from_secs(5);

fn ask(server: &Server) -> Result<Vec<Member>, String> {
    ask_at(&server.endpoint)
}

fn ask_at(endpoint: &str) -> Result<Vec<Member>, String> {
    let asked = async { members(&access(endpoint), Partition::of(None), TIMEOUT).await };
    within(TIMEOUT, asked).map_err(|why| why.to_string())
}

fn account(n: usize) -> Value {
    json!({ "Id": format!("{n:012}"), "Name": format!("team {n}"), "State": "ACTIVE", "Status": "ACTIVE" })
}

fn page(accounts: &[Value], next: Option<&str>) -> Reply {
    Reply::ok(json!({ "Accounts": accounts, "NextToken": next }).to_string())
}

/// The service's own form of an error.
fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, json!({ "__type": code, "Message": message }).to_string())
}

/// The page that a request asks for.
fn token(request: &Request) -> Option<String> {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    body["NextToken"].as_str().map(str::to_owned)
}

#[test]
fn all_pages_are_read_and_an_empty_one_is_not_the_last() {
    let server = Server::start(|request, _| match token(request).as_deref() {
        None => page(&[account(1)], Some("a")),
        Some("a") => page(&[], Some("b")),
        _ => page(&[account(2)], None),
    });
    let names: Vec<String> = ask(&server).unwrap().into_iter().map(|member| member.name).collect();
    assert_eq!(names, ["team 1", "team 2"]);
    let asked = server.asked(LIST);
    assert_eq!(asked.len(), 3);
    let headers = &asked[0].headers;
    assert_eq!((asked[0].service(), asked[0].region()), ("organizations", "us-east-1"));
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    assert!(headers["user-agent"].starts_with("crosswan/"));
}

#[test]
fn half_a_list_is_none_whatever_ends_it() {
    let second = |reply: Reply| {
        Server::start(move |request, _| match token(request) {
            None => page(&[account(1)], Some("a")),
            Some(_) => reply.clone(),
        })
    };
    let mut cut = page(&[account(2)], None);
    cut.body.truncate(40);
    for (reply, expected) in [
        (Reply::ok(""), "nothing came in place of Organizations's answer"),
        (Reply::ok("<!DOCTYPE html><p>Log in"), "a web page came in place of Organizations's answer"),
        (cut, "the answer to ListAccounts did not parse: it is cut off or not JSON"),
        (Reply::ok("{}"), "the answer to ListAccounts did not parse: it is not a page of Accounts"),
        (
            page(&[json!({ "Name": "no id" })], None),
            "the answer to ListAccounts did not parse: it is not a page of Accounts",
        ),
        (
            page(&[json!({ "Id": "12/../3" })], None),
            "the answer to ListAccounts did not parse: it is not a page of Accounts",
        ),
        (
            page(&[account(2)], Some("a")),
            "the answer to ListAccounts did not parse: a page names itself as the next one",
        ),
        (error(500, "ServiceException", ""), "Organizations answered 500 to ListAccounts: \"ServiceException\""),
    ] {
        let why = ask(&second(reply)).unwrap_err();
        assert!(why.starts_with(expected), "{why}");
    }
    let nobody = Server::start(|_, _| page(&[], None));
    assert!(ask(&nobody).unwrap_err().contains("it has no account at all"));
    let why = ask_at(&nowhere()).unwrap_err();
    assert!(why.starts_with("cannot reach Organizations in us-east-1"), "{why}");
}

#[test]
fn a_refusal_says_what_to_put_right_and_only_a_throttle_is_asked_again() {
    for (code, message, expected, asked) in [
        (
            "AccessDeniedException",
            "You don't have permissions to access this resource.",
            "not permitted: the credentials that ask need organizations:ListAccounts (AccessDeniedException): see docs/iam",
            1,
        ),
        (
            "com.amazonaws.organizations#AccessDeniedException",
            "with an explicit deny in a service control policy",
            "not permitted: the credentials that ask need organizations:ListAccounts (AccessDeniedException; a policy denies it \
             explicitly): see docs/iam",
            1,
        ),
        (
            "AWSOrganizationsNotInUseException",
            "Your account is not a member of an organization.",
            "Organizations answered 400 to ListAccounts: \"AWSOrganizationsNotInUseException\": \"Your account is not a member of an \
             organization.\"",
            1,
        ),
        (
            "TooManyRequestsException",
            "slow down",
            "throttled: Organizations answered \"TooManyRequestsException\" to 8 attempts at ListAccounts",
            8,
        ),
        (
            "ExpiredTokenException",
            "",
            "credentials refused (ExpiredTokenException): they have expired, or the clock is wrong",
            1,
        ),
    ] {
        let server = Server::start(move |_, _| error(400, code, message));
        assert_eq!(ask(&server).unwrap_err(), expected);
        assert_eq!(server.asked(LIST).len(), asked, "{code}");
    }
    // And one that passes is none.
    let server = Server::start(|_, before| match before {
        0..3 => error(400, "TooManyRequestsException", "slow down"),
        _ => page(&[account(1)], None),
    });
    assert_eq!(ask(&server).unwrap().len(), 1);
}

#[test]
fn its_policy_allows_to_list_accounts_and_nothing_else_has_that_permission() {
    let read = |file: &str| std::fs::read_to_string(format!("{}/docs/iam/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let decide = |text: &str, action: &str| {
        let policy = Policy::new(&serde_json::from_str(text).unwrap()).unwrap();
        Policy::decide(&[policy], &Caller::user("operator"), &Call::of("us-east-1", action))
    };
    let own = read("list-organization.json");
    assert_eq!(decide(&own, "organizations:ListAccounts"), Decision::Allowed);
    for action in ["organizations:ListParents", "organizations:CloseAccount", "sts:AssumeRole", "ec2:DescribeInstances"]
    {
        assert_eq!(decide(&own, action), Decision::NotAllowed, "{action}");
    }
    for file in ["vpn-hub.json", "nat-vpn.json", "nat-hub.json", "assume-roles.json", "discover.json"] {
        assert_eq!(decide(&read(file), "organizations:ListAccounts"), Decision::NotAllowed, "{file}");
    }
}
