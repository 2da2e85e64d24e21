//! What the environment says: endpoints, and credentials from the instance's role. The environment belongs to the whole
//! process, so each case is a child process: this test binary, running [`child`] alone.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use crosswan::observe::{
    ec2::{Clients, ask},
    imds::identity,
    store::fetch,
};
use crosswan_core::settings::{NoPsk, Service, StoredPsk};

use crate::{
    ec2::query,
    imds::good,
    server::{Reply, Request, Server, nowhere},
    xml::{asked_vpcs, instance, instances},
};

const REGIONS: [&str; 3] = ["xx-env-1", "xx-env-2", "xx-env-3"];

#[test]
#[ignore = "the child process of the other tests here"]
fn child() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let timeout = Duration::from_secs(3);
        match identity(timeout).await {
            Ok(me) => println!("I am {}", me.instance),
            Err(error) => println!("{}", error.chain()),
        }
        for (region, answer) in ask(&Clients::default(), &query(&REGIONS), timeout).await {
            match answer {
                Ok(view) => println!("{region}: {} gateways", view.gateways.len()),
                Err(reason) => println!("{region}: {reason}"),
            }
        }
        if std::env::var_os("WITH_KEYS").is_none() {
            return;
        }
        for (service, name) in [(Service::Parameter, "/psk"), (Service::Secret, "psk")] {
            let (stored, own) = (StoredPsk { service, name: name.into(), region: None }, REGIONS[0].parse().unwrap());
            for (name, found) in fetch(&Clients::default(), &stored, &[name.to_owned()].into(), &own, timeout).await {
                match found {
                    Ok(key) => println!("{service} {name}: {} bytes", key.bytes().len()),
                    Err(NoPsk::Unasked(why)) => println!("unasked: {why}"),
                    Err(NoPsk::Refused(why)) => println!("refused: {why}"),
                }
            }
        }
    });
}

fn run(environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "environment::child", "--ignored", "--nocapture"])
        .env_clear()
        .envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let output = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success() && output.contains("1 passed"), "{output}{}", String::from_utf8_lossy(&stderr));
    output
}

fn with_role(request: &Request) -> Reply {
    match request.path.as_str() {
        "/latest/meta-data/iam/security-credentials/" => Reply::ok("gateway"),
        "/latest/meta-data/iam/security-credentials/gateway" => Reply::ok(
            r#"{"Code":"Success","LastUpdated":"2026-01-01T00:00:00Z","Type":"AWS-HMAC","AccessKeyId":"ASIAROLE",
                "SecretAccessKey":"secret","Token":"session","Expiration":"2099-01-01T00:00:00Z"}"#,
        ),
        _ => good(request),
    }
}

fn gateways() -> Server {
    Server::start(|request, _| match request.action() {
        "DescribeInstances" => Reply::ok(instances(&[instance(1)], None)),
        _ => asked_vpcs(request),
    })
}

#[test]
fn the_instance_role_signs_and_is_fetched_once_for_all_regions() {
    let (imds, ec2) = (Server::start(|request, _| with_role(request)), gateways());
    for variable in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2"] {
        let before = imds.seen().len();
        let output = run(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.endpoint), (variable, &ec2.endpoint)]);
        assert!(output.contains("I am i-0123456789abcdef0"), "{output}");
        for region in REGIONS {
            assert!(output.contains(&format!("{region}: 1 gateways")), "{output}");
        }
        let asked = &imds.seen()[before..];
        assert_eq!(asked.iter().filter(|r| r.path.ends_with("/security-credentials/gateway")).count(), 1);
    }
    assert!(ec2.seen().iter().all(|r| r.headers["authorization"].contains("Credential=ASIAROLE/")));
}

#[test]
fn each_key_store_has_an_endpoint_of_its_own() {
    let answer = |body: &'static str| Server::start(move |_, _| Reply::ok(body));
    let ssm = answer(
        r#"{"Parameters":[{"Name":"/psk","Type":"SecureString","Value":"m4J-0sTq9vLr2XwZ"}],"InvalidParameters":[]}"#,
    );
    let secrets = answer(r#"{"Name":"psk","SecretString":"m4J-0sTq9vLr2XwZ+1"}"#);
    let (imds, ec2) = (Server::start(|request, _| with_role(request)), gateways());
    let output = run(&[
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.endpoint),
        ("AWS_ENDPOINT_URL", &ec2.endpoint),
        ("WITH_KEYS", "1"),
        ("AWS_ENDPOINT_URL_SSM", &ssm.endpoint),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets.endpoint),
    ]);
    assert!(output.contains("parameter /psk: 16 bytes") && output.contains("secret psk: 18 bytes"), "{output}");
    for (server, service) in [(ssm, "ssm"), (secrets, "secretsmanager")] {
        let [request] = &server.seen()[..] else { panic!("{:?}", server.seen()) };
        // The role's, with its session, as for EC2.
        assert!(request.headers["authorization"].contains("Credential=ASIAROLE/"), "{request:?}");
        assert_eq!((request.service(), request.headers["x-amz-security-token"].as_str()), (service, "session"));
    }
}

#[test]
fn keys_from_the_environment_need_no_role() {
    let (imds, ec2) = (Server::start(|request, _| good(request)), gateways());
    let output = run(&[
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds.endpoint),
        ("AWS_ENDPOINT_URL", &ec2.endpoint),
        ("AWS_ACCESS_KEY_ID", "AKIDENV"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ]);
    assert!(output.contains("xx-env-3: 1 gateways"), "{output}");
    assert!(ec2.seen().iter().all(|r| r.headers["authorization"].contains("Credential=AKIDENV/")));
}

#[test]
fn no_credentials_is_a_reason_for_every_region() {
    let (imds, ec2) = (Server::start(|request, _| good(request)), gateways());
    let hanging = Server::start(|_, _| Reply::ok("").after(Duration::from_secs(20)));
    for endpoint in [&imds.endpoint, &nowhere(), &hanging.endpoint] {
        let start = Instant::now();
        let output = run(&[
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint),
            ("AWS_ENDPOINT_URL", &ec2.endpoint),
            ("WITH_KEYS", "1"),
        ]);
        for region in REGIONS {
            assert!(output.contains(&format!("{region}: no credentials: ")), "{output}");
        }
        for place in ["parameter /psk", "secret psk"] {
            assert!(output.contains(&format!("unasked: {place} in xx-env-1: no credentials: ")), "{output}");
        }
        assert!(start.elapsed() < Duration::from_secs(15), "not once per region: {:?}", start.elapsed());
        println!("{output}");
    }
    assert!(ec2.seen().is_empty());
}
