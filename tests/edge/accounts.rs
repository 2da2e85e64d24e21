//! Further accounts: whose role asks what, all at once, and what is left of one that fails.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use crosswan::observe::ec2::Query;
use crosswan_core::{
    model::{AccountId, Answers, Secret},
    settings::Account,
};

use crate::{
    ec2::{TIMEOUT, access, query, within},
    server::{Reply, Request, Server},
    xml::{asked_vpcs, instance, instances, vpcs},
};

const B: &str = "111122223333";
const C: &str = "444455556666";

/// These accounts, each with these regions, and none of the own regions.
fn accounts(ids: &[&str], regions: &[&str]) -> Query {
    let account = |id: &&str| {
        let account = Account {
            role: format!("arn:aws:iam::{id}:role/crosswan-discover").parse().unwrap(),
            external_id: Some(Secret::new(*b"Ahs3theIdItself")),
            regions: regions.iter().map(|r| r.parse().unwrap()).collect(),
            allow: ["10.0.0.0/8".parse().unwrap()].into(),
            segments: None,
            name: id.parse().unwrap(),
        };
        (id.parse::<AccountId>().unwrap(), account)
    };
    Query { accounts: ids.iter().map(account).collect(), ..query(&[]) }
}

fn ask(server: &Server, query: &Query) -> BTreeMap<String, Result<usize, String>> {
    let answers: Answers = within(TIMEOUT * 6, crosswan::observe::ec2::ask(&access(&server.endpoint), query, TIMEOUT));
    let count = |answer: Result<crosswan_core::model::RegionView, crosswan_core::model::AskError>| {
        answer.map(|view| view.gateways.len()).map_err(|why| why.to_string())
    };
    answers.into_iter().map(|(scope, answer)| (scope.to_string(), count(answer))).collect()
}

/// STS's answer to AssumeRole: the access key tells the account.
fn session(request: &Request) -> Reply {
    let account = request.field("RoleArn").split(':').nth(4).unwrap().to_owned();
    Reply::ok(format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>ASIA{account}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t{account}</SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ))
}

/// The account whose session signed a request; empty for the own credentials.
fn account_of(request: &Request) -> String {
    request
        .headers
        .get("x-amz-security-token")
        .map_or_else(String::new, |token| token.trim_start_matches('t').to_owned())
}

/// One gateway in each account.
fn one_each(request: &Request) -> Reply {
    match request.action() {
        "AssumeRole" => session(request),
        "DescribeInstances" => Reply::ok(instances(&[instance(1)], None)),
        _ => asked_vpcs(request),
    }
}

/// STS's form of an error.
fn denied() -> Reply {
    let message =
        "User: arn:aws:sts::999988887777:assumed-role/hub/i-0000ffff is not authorized to perform: sts:AssumeRole";
    Reply::new(
        403,
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{message}</Message></Error></ErrorResponse>"
        ),
    )
}

#[test]
fn each_account_is_asked_by_its_own_role_which_is_assumed_once() {
    let server = Server::start(|request, _| one_each(request));
    let both = Query { regions: query(&["us-west-2"]).regions, ..accounts(&[B, C], &["eu-west-1", "us-west-2"]) };
    let answers = ask(&server, &both);
    let scopes: Vec<&str> = answers.keys().map(String::as_str).collect();
    let others =
        ["111122223333/eu-west-1", "111122223333/us-west-2", "444455556666/eu-west-1", "444455556666/us-west-2"];
    assert_eq!(scopes, [&others[..], &["us-west-2"]].concat());
    assert!(answers.values().all(|answer| *answer == Ok(1)), "{answers:?}");
    let assumed = server.asked("AssumeRole");
    assert_eq!(assumed.len(), 2, "once for all regions of an account");
    for request in assumed {
        // The regional endpoint next to the gateway, and the instance as CloudTrail of the account shows it.
        assert_eq!((request.service(), request.region()), ("sts", "us-west-2"));
        assert_eq!((request.field("RoleSessionName"), request.field("ExternalId")), ("i-0000ffff", "Ahs3theIdItself"));
        assert_eq!(account_of(&request), "", "the instance's own credentials assume it");
    }
    let mut asked: Vec<_> = server.asked("DescribeInstances").iter().map(account_of).collect();
    asked.sort();
    assert_eq!(asked, ["", B, B, C, C]);
}

#[test]
fn an_account_whose_role_is_refused_fails_alone_and_says_what_to_put_right() {
    let server = Server::start(|request, _| match request.action() {
        "AssumeRole" if request.field("RoleArn").contains(C) => denied(),
        "DescribeInstances" if account_of(request) == B && request.region() == "us-west-2" => {
            Reply::error(403, "UnauthorizedOperation")
        }
        _ => one_each(request),
    });
    let answers = ask(&server, &accounts(&[B, C], &["eu-west-1", "us-west-2"]));
    assert_eq!(answers["111122223333/eu-west-1"], Ok(1));
    assert_eq!(
        answers["111122223333/us-west-2"],
        Err(
            "not permitted: arn:aws:iam::111122223333:role/crosswan-discover needs ec2:DescribeInstances in us-west-2 \
             (UnauthorizedOperation): see docs/iam"
                .into()
        )
    );
    for region in ["eu-west-1", "us-west-2"] {
        assert_eq!(
            answers[&format!("444455556666/{region}")],
            Err("not permitted: the instance's role needs sts:AssumeRole on arn:aws:iam::444455556666:role/crosswan-discover, \
                 and that role must exist and trust it, with the external_id of settings (AccessDenied): see docs/iam"
                .into())
        );
    }
    assert!(!format!("{answers:?}").contains("Ahs3"));
}

#[test]
fn a_gateway_in_a_vpc_that_another_account_shares_does_not_count() {
    let server = Server::start(|request, _| match request.action() {
        "DescribeVpcs" => {
            let shared = crate::xml::vpc("vpc-00000001", &[("10.0.1.0/24", "associated")]);
            Reply::ok(vpcs(&[shared.replace("</vpcId>", &format!("</vpcId><ownerId>{B}</ownerId>"))], None))
        }
        _ => one_each(request),
    });
    let asked = accounts(&[B, C], &["eu-west-1"]);
    let answers = within(TIMEOUT, crosswan::observe::ec2::ask(&access(&server.endpoint), &asked, TIMEOUT));
    let views: Vec<_> = answers.into_values().map(Result::unwrap).collect();
    assert_eq!((views[0].gateways.len(), views[1].gateways.len()), (1, 0));
    let refusal = &views[1].unusable[0];
    assert_eq!(
        refusal.to_string(),
        "vpc-00000001 (444455556666/eu-west-1): its VPC belongs to account 111122223333, which alone may bring it"
    );
}

/// Whoever asks one after the other never gets there: each step waits until every account and region has reached it.
#[test]
fn twenty_accounts_with_ten_regions_each_are_asked_at_once() {
    let ids: Vec<String> = (0..20).map(|n| format!("{:012}", 100_000_000_000_u64 + n)).collect();
    let regions: Vec<String> = (1..=10).map(|n| format!("xx-slow-{n}")).collect();
    let meeting = Arc::new((Mutex::new(BTreeMap::<String, usize>::new()), Condvar::new()));
    let server = Server::start(move |request, _| {
        let all = if request.action() == "AssumeRole" { 20 } else { 200 };
        let (here, changed) = &*meeting;
        let mut here = here.lock().unwrap();
        *here.entry(request.action().to_owned()).or_default() += 1;
        changed.notify_all();
        let late = Duration::from_secs(20);
        let (_here, wait) = changed.wait_timeout_while(here, late, |here| here[request.action()] < all).unwrap();
        if wait.timed_out() { Reply::error(503, "Unavailable") } else { one_each(request) }
    });
    let (ids, regions): (Vec<&str>, Vec<&str>) =
        (ids.iter().map(String::as_str).collect(), regions.iter().map(String::as_str).collect());
    let asked = accounts(&ids, &regions);
    let answers = within(TIMEOUT * 12, crosswan::observe::ec2::ask(&access(&server.endpoint), &asked, TIMEOUT * 12));
    assert_eq!(answers.len(), 200);
    assert!(answers.values().all(|answer| answer.as_ref().is_ok_and(|view| view.gateways.len() == 1)), "{answers:?}");
}
