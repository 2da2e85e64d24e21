//! EC2 and IMDS as gateways meet them, with and without faults.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crosswan_lab::{Fault, Gateway, ImdsFault, Lab, Role, VpcSpec, internet};

/// One HTTP exchange from inside a gateway: status and body, as far as they came.
fn http(gateway: &Gateway, to: Ipv4Addr, head: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = gateway.ns()?.run(|| Ok(TcpStream::connect((to, 80))?))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "{head}Host: lab\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok((head.split(' ').nth(1).context("no status")?.parse()?, body.to_string()))
}

fn imds(gateway: &Gateway, head: &str) -> Result<(u16, String)> {
    http(gateway, Ipv4Addr::new(169, 254, 169, 254), head, "")
}

fn metadata(gateway: &Gateway, path: &str) -> Result<(u16, String)> {
    let ask = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
    let (_, token) = imds(gateway, ask)?;
    imds(gateway, &format!("GET /latest/{path} HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}\r\n"))
}

#[test]
fn imds_tells_each_gateway_who_it_is() -> Result<()> {
    let lab = Lab::builder("/bin/true")
        .without_role(Role::NatHub)
        .vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?)
        .vpc(VpcSpec::client("b", "ap-southeast-2", &["10.2.0.0/16", "10.102.0.0/16"])?)
        .build()?;
    let gateway = lab.gateway("b/nat-vpn")?;
    let get = |path: &str| metadata(&gateway, &format!("meta-data/{path}"));
    let ok = |text: &str| (200, text.to_string());
    let mac = get("mac")?.1;
    let link = gateway.sh("cat /sys/class/net/ens5/address")?.stdout;
    assert_eq!(mac, link.trim(), "the interface really has that MAC");
    assert_eq!(get("instance-id")?, ok(&gateway.instance));
    assert_eq!(get("placement/region")?, ok("ap-southeast-2"));
    assert_eq!(get("local-ipv4")?, ok(&gateway.address.to_string()));
    assert_eq!(get("public-ipv4")?, ok(&gateway.public().unwrap().to_string()));
    assert_eq!(get("network/interfaces/macs/")?, ok(&format!("{mac}/")));
    let of_mac = |key: &str| get(&format!("network/interfaces/macs/{mac}/{key}"));
    assert_eq!(of_mac("vpc-id")?, ok(&lab.vpc_id("b")?));
    assert_eq!(of_mac("vpc-ipv4-cidr-blocks")?, ok("10.2.0.0/16\n10.102.0.0/16"));
    assert_eq!(of_mac("subnet-ipv4-cidr-block")?, ok("10.2.0.0/24"));
    assert!(get("iam/security-credentials/crosswan-nat-vpn")?.1.contains("SecretAccessKey"));
    assert_eq!(metadata(&*lab.gateway("hub/nat-hub")?, "meta-data/iam/security-credentials/")?.0, 404);
    assert_eq!(get("no/such/thing")?.0, 404);

    assert_eq!(imds(&gateway, "GET /latest/meta-data/mac HTTP/1.1\r\n")?.0, 401);
    let forwarded =
        "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nX-Forwarded-For: x\r\n";
    assert_eq!(imds(&gateway, forwarded)?.0, 403);
    assert_eq!(imds(&gateway, "PUT /latest/api/token HTTP/1.1\r\n")?.0, 400);

    lab.add_cidr("b", "10.202.0.0/16")?;
    assert!(of_mac("vpc-ipv4-cidr-blocks")?.1.ends_with("10.202.0.0/16"), "answers are current");
    lab.change_address(&gateway, false)?;
    assert_eq!(get("public-ipv4")?.0, 404);

    let fault = |path: &str, fault| gateway.imds.set(path, fault);
    fault("meta-data/mac", Some(ImdsFault::Status(500)));
    assert_eq!((get("mac")?.0, get("instance-id")?.0), (500, 200));
    fault("", Some(ImdsFault::Down));
    assert!(get("instance-id").is_err());
    fault("", None);
    fault("meta-data/mac", Some(ImdsFault::Garbage("\u{0}<html>".into())));
    assert_eq!(get("mac")?, ok("\u{0}<html>"));
    Ok(())
}

#[test]
fn ec2_fails_on_request_and_only_where_asked() -> Result<()> {
    let lab = Lab::builder("/bin/true").vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?).build()?;
    let gateway = lab.gateway("hub/vpn-hub")?;
    let ask = |region: &str, extra: &str| {
        let scope =
            format!("AWS4-HMAC-SHA256 Credential=x/20250101/{region}/ec2/aws4_request, SignedHeaders=h, Signature=s");
        let head = format!("POST / HTTP/1.1\r\nAuthorization: {scope}\r\n");
        http(&gateway, internet::EC2, &head, &format!("Action=DescribeInstances&Version=2016-11-15{extra}"))
    };
    let instances = |text: &str| text.matches("<instanceId>").count();
    let (status, whole) = ask("us-west-2", "")?;
    assert_eq!((status, instances(&whole)), (200, 3));

    lab.ec2_fault_times("us-west-2", "DescribeInstances", Fault::Throttle, 2);
    for expected in [503, 503, 200] {
        assert_eq!(ask("us-west-2", "")?.0, expected);
    }
    for (fault, expected) in [(Fault::Unauthorized, 403), (Fault::AuthFailure, 401), (Fault::ServerError, 500)] {
        lab.ec2_fault("us-west-2", "*", fault);
        assert_eq!(ask("us-west-2", "")?.0, expected);
        assert_eq!(ask("eu-west-1", "")?.0, 200, "other regions work");
    }
    lab.ec2_fault("*", "*", Fault::Empty);
    assert!(ask("us-west-2", "")?.1.contains("<reservationSet/>"));
    lab.ec2_fault("*", "*", Fault::Garbage);
    assert!(ask("us-west-2", "")?.1.contains("works"));
    lab.ec2_fault("*", "*", Fault::Cut);
    assert!(ask("us-west-2", "")?.1.len() < whole.len());
    lab.ec2_fault("*", "*", Fault::Reset);
    assert!(ask("us-west-2", "").is_err());
    lab.ec2_fault("*", "*", Fault::Slow(Duration::from_millis(300)));
    let started = Instant::now();
    assert_eq!(instances(&ask("us-west-2", "")?.1), 3);
    assert!(started.elapsed() >= Duration::from_millis(300));

    lab.ec2_fault("*", "*", Fault::Paged(2));
    let first = ask("us-west-2", "")?.1;
    assert!(first.contains("<nextToken>2</nextToken>") && instances(&first) == 2);
    let last = ask("us-west-2", "&NextToken=2")?.1;
    assert!(!last.contains("nextToken") && instances(&last) == 1);
    lab.ec2_fault("*", "*", Fault::SecondPageFails);
    assert!(ask("us-west-2", "")?.1.contains("<nextToken>1</nextToken>"));
    assert_eq!(ask("us-west-2", "&NextToken=1")?.0, 500);

    lab.ec2_heal();
    assert_eq!(ask("us-west-2", "")?.1, whole);
    let calls = lab.ec2_calls();
    assert_eq!(calls[&("eu-west-1".to_string(), "DescribeInstances".to_string())], 3);
    Ok(())
}
