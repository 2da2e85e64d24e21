//! IMDSv2: who am I, and every way in which it fails to answer.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use crosswan::observe::imds::{Board, identity_at, public_elsewhere_at};
use crosswan_core::{
    error::{Kind, Result},
    model::Identity,
    pair::Notices,
};

use crate::server::{Reply, Request, Server, nowhere};

const MAC: &str = "06:00:00:00:00:01";

/// IMDSv2 of a healthy spoke without roles: a token first, 401 without it.
pub fn good(request: &Request) -> Reply {
    if (request.method.as_str(), request.path.as_str()) == ("PUT", "/latest/api/token") {
        return Reply { headers: vec![("x-aws-ec2-metadata-token-ttl-seconds", "21600".into())], ..Reply::ok("TOKEN") };
    }
    if request.headers.get("x-aws-ec2-metadata-token").is_none_or(|t| t != "TOKEN") {
        return Reply::new(401, "no token");
    }
    let path = request.path.strip_prefix("/latest/meta-data/").unwrap_or_default();
    let of_interface = path.strip_prefix(&format!("network/interfaces/macs/{MAC}/"));
    match of_interface.unwrap_or(path) {
        "mac" => Reply::ok(MAC),
        "instance-id" => Reply::ok("i-0123456789abcdef0"),
        "placement/region" => Reply::ok("eu-west-1"),
        "public-ipv4" => Reply::ok("198.51.100.7"),
        "vpc-id" => Reply::ok("vpc-0123456789abcdef0"),
        "vpc-ipv4-cidr-blocks" => Reply::ok("10.1.0.0/16\n10.200.0.0/16"),
        "local-ipv4s" => Reply::ok("10.1.0.10\n10.1.0.11"),
        _ => Reply::new(404, "<html>404</html>"),
    }
}

fn identity(endpoint: &str, timeout: Duration) -> Result<Identity> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    let found = runtime.block_on(identity_at(Some(endpoint), timeout));
    assert!(start.elapsed() < timeout + Duration::from_secs(1), "took {:?} of {timeout:?}", start.elapsed());
    found
}

/// [`good`], but requests whose path ends like this are answered by `bad`.
fn except(path: &'static str, bad: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request, before| if request.path.ends_with(path) { bad(before) } else { good(request) })
}

const SHORT: Duration = Duration::from_millis(1200);

#[test]
fn who_am_i() {
    let server = Server::start(|request, _| good(request));
    let me = identity(&server.endpoint, SHORT).unwrap();
    assert_eq!(me.instance.as_str(), "i-0123456789abcdef0");
    assert_eq!((me.region.as_str(), me.vpc.as_str()), ("eu-west-1", "vpc-0123456789abcdef0"));
    assert_eq!(me.cidrs, ["10.1.0.0/16", "10.200.0.0/16"].map(|c| c.parse().unwrap()).into());
    assert_eq!(me.private.to_string(), "10.1.0.10");
    assert_eq!(me.public, Some("198.51.100.7".parse().unwrap()));
    assert_eq!(server.seen().iter().filter(|r| r.path == "/latest/api/token").count(), 1, "one token for all");
}

#[test]
fn no_public_address() {
    let server = except("public-ipv4", |_| Reply::new(404, ""));
    assert_eq!(identity(&server.endpoint, SHORT).unwrap().public, None);
}

/// Two interfaces: the Elastic IP was associated with the second.
#[test]
fn an_elastic_ip_on_the_second_interface_is_found_and_named() {
    const SECOND: &str = "06:00:00:00:00:02";
    let server = |address: &'static str, id: &'static str| {
        Server::start(move |request, _| {
            let path = request.path.strip_prefix("/latest/meta-data/").unwrap_or_default();
            let of = |mac: &str, name: &str| path == format!("network/interfaces/macs/{mac}/{name}");
            match path {
                "public-ipv4" => Reply::new(404, ""),
                "network/interfaces/macs/" => Reply::ok(format!("{MAC}/\n{SECOND}/\n../x/\n")),
                _ if of(SECOND, "public-ipv4s") && !address.is_empty() => Reply::ok(address),
                _ if of(SECOND, "interface-id") => Reply::ok(id),
                _ if of(MAC, "interface-id") => Reply::ok("eni-0001"),
                _ => good(request),
            }
        })
    };
    let ask = |server: &Server| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(public_elsewhere_at(Some(&server.endpoint), SHORT))
    };
    let there = server("198.51.100.9", "eni-0002");
    assert_eq!(identity(&there.endpoint, SHORT).unwrap().public, None);
    assert_eq!(
        ask(&there).unwrap(),
        "the public address 198.51.100.9 is on network interface eni-0002, which is not the first one of this instance: \
         associate it with the first, eni-0001, by which peers find a gateway and over which it sends"
    );
    assert_eq!(ask(&server("", "eni-0002")), None);
    assert_eq!(ask(&server("\x1b[2J", "eni-0002")), None);
    assert!(!ask(&server("198.51.100.9", "eni-\x1b[2J")).unwrap().contains('\x1b'));
    assert_eq!(ask(&Server::start(|_, _| Reply::new(500, ""))), None);
}

#[test]
fn answers_that_do_not_fit_name_the_path_and_what_was_found() {
    for (path, found, expected) in [
        ("/mac", "zz:../../x", r#"read IMDS mac: found "zz:../../x": expected a MAC address"#),
        ("/mac", "", r#"read IMDS mac: found "": expected a MAC address"#),
        ("/mac", "06:00:00:00:00:/.", r#"read IMDS mac: found "06:00:00:00:00:/.": expected a MAC address"#),
        ("/instance-id", "i-\x1b[2J", r#"read IMDS instance-id: found "i-\u{1b}[2J": expected an instance id"#),
        ("/placement/region", "<html>", r#"read IMDS placement/region: found "<html>": expected a region"#),
        ("/vpc-id", "vpc-XYZ", r#"/vpc-id: found "vpc-XYZ": expected a VPC id"#),
        ("/vpc-ipv4-cidr-blocks", "10.1.0.0/16\n10.2.0.1/16", r#"found "10.2.0.1/16": expected a CIDR"#),
        ("/vpc-ipv4-cidr-blocks", "0.0.0.0/0", r#"found "0.0.0.0/0": expected a CIDR"#),
        ("/vpc-ipv4-cidr-blocks", "", r#"found "": expected at least one CIDR"#),
        ("/local-ipv4s", "10.1.0.400", r#"/local-ipv4s: found "10.1.0.400": "#),
        ("/public-ipv4", "fe80::1", r#"read IMDS public-ipv4: found "fe80::1": "#),
    ] {
        let start = Instant::now();
        let server = except(path, move |_| Reply::ok(found));
        let error = identity(&server.endpoint, Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.kind(), Kind::Observe);
        assert!(error.chain().contains(expected), "{}", error.chain());
        assert!(error.chain().bytes().all(|b| (32..127).contains(&b)), "{}", error.chain());
        assert!(start.elapsed() < Duration::from_secs(5), "it does not get better by asking again");
    }
}

#[test]
fn trouble_that_passes_is_ridden_out() {
    for (path, status) in
        [("/mac", 500), ("/vpc-id", 503), ("/instance-id", 429), ("/token", 500), ("/local-ipv4s", 401)]
    {
        let server = Server::start(move |request, before| {
            if request.path.ends_with(path) && before < 2 { Reply::new(status, "busy") } else { good(request) }
        });
        identity(&server.endpoint, Duration::from_secs(5)).unwrap_or_else(|e| panic!("{path} {status}: {}", e.chain()));
    }
}

#[test]
fn trouble_that_stays_is_bounded_and_named() {
    for (path, reply, expected) in [
        ("/mac", Reply::new(500, "\x1b"), "gave up after 1.2s: read IMDS mac: IMDS answered 500"),
        ("/vpc-id", Reply::new(401, ""), "/vpc-id: IMDS answered 401"),
        ("/token", Reply::new(503, ""), "read IMDS mac: IMDS answered 503"),
        (
            "/mac",
            Reply::ok("").after(Duration::from_secs(20)),
            "gave up after 1.2s: no answer; is this an EC2 instance",
        ),
        ("/mac", Reply { missing: 9, ..Reply::ok(MAC) }, "read IMDS mac: "),
    ] {
        let server = except(path, move |_| reply.clone());
        let error = identity(&server.endpoint, SHORT).unwrap_err();
        assert_eq!(error.kind(), Kind::Observe);
        assert!(error.chain().contains(expected), "{}", error.chain());
    }
}

#[test]
fn imds_that_is_off_is_not_asked_again() {
    for (path, reply, expected) in [
        (
            "/token",
            Reply::new(403, ""),
            "read IMDS mac: IMDS answered 403: it is disabled for this instance; enable the instance metadata service",
        ),
        ("/token", Reply::new(404, ""), "read IMDS mac: IMDS answered 404"),
        ("/token", Reply::ok("TOKEN"), "read IMDS mac: token response did not contain a TTL header"),
        ("/mac", Reply::new(404, ""), "read IMDS mac: IMDS answered 404"),
    ] {
        let server = except(path, move |_| reply.clone());
        let error = identity(&server.endpoint, Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.chain(), expected);
        assert!(server.seen().len() <= 2, "{expected}");
    }
}

#[test]
fn an_interface_that_comes_up_late_is_waited_for() {
    let endpoint = nowhere();
    let address = endpoint.strip_prefix("http://").unwrap().to_owned();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        Server::on(TcpListener::bind(address).unwrap(), |request, _| good(request));
    });
    identity(&endpoint, Duration::from_secs(5)).unwrap();
    let error = identity(&nowhere(), SHORT).unwrap_err();
    assert!(
        error.chain().ends_with("gave up after 1.2s: read IMDS mac: Connection refused (os error 111)"),
        "{}",
        error.chain()
    );
}

#[test]
fn a_token_that_would_stop_the_sdk_is_an_error() {
    for (lifetime, token) in [("21600", &b"T\xf6KEN"[..]), ("18446744073709551615", b"TOKEN")] {
        let server = except("/token", move |_| {
            let headers = vec![("x-aws-ec2-metadata-token-ttl-seconds", lifetime.to_owned())];
            Reply { headers, ..Reply::ok(token) }
        });
        let error = identity(&server.endpoint, SHORT).unwrap_err().chain();
        assert!(error.ends_with("the session token is not one that IMDS issues"), "{error}");
    }
}

/// What [`Board`] finds where IMDS answers a request for this path so, and what it had found before.
fn notices(path: &'static str, reply: Reply, last: &Notices) -> (Notices, usize) {
    let server = except(path, move |_| reply.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let board = Board::at(Some(&server.endpoint)).unwrap();
    let found = runtime.block_on(async {
        board.look(last).await;
        board.look(last).await
    });
    (found, server.seen().len())
}

#[test]
fn what_imds_tells_of_an_instances_end_is_taken_back_by_404_alone() {
    let nothing = Notices::default();
    let told = |text: &str| Notices([Some(text.into()), None, None, None]);
    let (found, requests) = notices("/nowhere", Reply::ok(""), &nothing);
    assert_eq!(found, nothing);
    assert_eq!(requests, 1 + 2 * Notices::PATHS.len(), "one token, and a request for each path at each look");
    assert_eq!(notices("/instance-action", Reply::ok("{}"), &nothing).0, told("{}"));
    assert_eq!(notices("/nowhere", Reply::ok(""), &told("{}")).0, nothing);
    for (path, reply) in [
        ("/instance-action", Reply::new(500, "")),
        ("/instance-action", Reply::new(401, "")),
        ("/instance-action", Reply { missing: 9, ..Reply::ok("{}") }),
        ("/token", Reply::new(403, "")),
        // Of the token, and not of what stands behind it.
        ("/token", Reply::new(404, "")),
    ] {
        assert_eq!(notices(path, reply, &told("{}")).0, told("{}"), "{path}");
    }
}
