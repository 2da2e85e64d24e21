//! The wires without charon: routing by route tables, source/destination check, 1:1 NAT, leaks, changes.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use crosswan_lab::{Gateway, Host, Lab, Role, VpcSpec};

fn masquerade(gateway: &Gateway) -> Result<()> {
    gateway.sh("iptables -w 5 -t nat -A POSTROUTING -o ens5 -j MASQUERADE")?.ok().map(drop)
}

#[test]
fn packets_follow_the_route_tables_and_nothing_else() -> Result<()> {
    let lab =
        Lab::builder("/bin/true").check_off().vpc(VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16"])?).build()?;
    let (gateway, host, internet) = (lab.gateway("a/nat-vpn")?, lab.host("a/host")?, lab.internet().address);
    assert!(host.reaches(gateway.address)?, "local route");
    assert_eq!(Some(gateway.host()?.whoami_tcp(internet)?), gateway.public());

    // No masquerade yet: the packet leaves with its private address. It is counted, captured, and goes nowhere.
    let capture = lab.capture_internet()?;
    assert!(!host.reaches(internet)?);
    assert_eq!(lab.leaks("a")?.no_public_address, 3);
    assert_eq!(capture.stop()?.clear_private().len(), 3);
    masquerade(&gateway)?;
    assert_eq!(Some(host.whoami_udp(internet)?), gateway.public(), "private default route through the gateway");

    // The private network comes back to the gateway itself, until the route table says otherwise.
    let elsewhere = Ipv4Addr::new(10, 9, 0, 1);
    assert!(!gateway.host()?.reaches(elsewhere)?);
    let leaks = lab.leaks("a")?;
    assert!(leaks.private_out == 0 && leaks.clear_from_gateway > 0, "{leaks:?}");
    let (region, id) = (lab.region("a")?, lab.vpc_id("a")?);
    let igw = lab.ec2().get(
        &region,
        "DescribeInternetGateways",
        &[("Filter.1.Name", "attachment.vpc-id"), ("Filter.1.Value.1", &id)],
        "internetGatewayId",
    )?;
    for table in table_ids(&lab, &region, &id)? {
        let to =
            [("RouteTableId", table.as_str()), ("DestinationCidrBlock", "10.0.0.0/8"), ("GatewayId", igw.as_str())];
        lab.ec2().call(&region, "ReplaceRoute", &to)?;
    }
    lab.sync("a")?;
    let capture = lab.capture_internet()?;
    assert!(!gateway.host()?.reaches(elsewhere)?);
    assert_eq!(lab.leaks("a")?.private_out, 3);
    assert_eq!(capture.stop()?.clear_private().len(), 3);
    Ok(())
}

/// Ids of the tables that have a route to the private network.
fn table_ids(lab: &Lab, region: &str, vpc: &str) -> Result<Vec<String>> {
    let answer =
        lab.ec2().call(region, "DescribeRouteTables", &[("Filter.1.Name", "vpc-id"), ("Filter.1.Value.1", vpc)])?.0;
    let with_route = answer.split("<associationSet>").filter(|part| part.contains("10.0.0.0/8"));
    let id = |part: &str| part.split("<routeTableId>").nth(1)?.split('<').next().map(str::to_string);
    Ok(with_route.filter_map(id).collect())
}

#[test]
fn the_source_destination_check_is_enforced() -> Result<()> {
    let lab =
        Lab::builder("/bin/true").check_off().vpc(VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16"])?).build()?;
    let (gateway, host, internet) = (lab.gateway("a/nat-vpn")?, lab.host("a/host")?, lab.internet().address);
    masquerade(&gateway)?;
    let foreign = Ipv4Addr::new(10, 1, 1, 99);
    host.exec("ip", &["addr", "add", "10.1.1.99/32", "dev", "ens5"])?.ok()?;
    assert!(!Host::bare("spoofed", host.ns.clone(), foreign).reaches(gateway.address)?);
    assert_eq!(lab.leaks("a")?.source_dest_check, 3);

    assert!(host.reaches(internet)?);
    lab.source_dest_check(&gateway, true)?;
    assert!(!host.reaches(internet)?, "packets for others do not get to a checked instance");
    assert_eq!(lab.leaks("a")?.source_dest_check, 6);
    lab.source_dest_check(&gateway, false)?;
    assert!(host.reaches(internet)?);
    Ok(())
}

#[test]
fn the_internet_gateway_never_changes_a_port() -> Result<()> {
    let lab = Lab::builder("/bin/true")
        .check_off()
        .vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?)
        .vpc(VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16"])?)
        .build()?;
    let ends = [lab.gateway("hub/vpn-hub")?, lab.gateway("a/nat-vpn")?];
    let sockets: Vec<UdpSocket> =
        ends.iter().map(|end| end.ns()?.run(|| Ok(UdpSocket::bind((end.address, 4500))?))).collect::<Result<_>>()?;
    // Both speak first, as two IKE daemons that start at the same moment.
    for (socket, peer) in sockets.iter().zip([&ends[1], &ends[0]]) {
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(b"hello", (peer.public().unwrap(), 4500))?;
    }
    for (socket, peer) in sockets.iter().zip([&ends[1], &ends[0]]) {
        let (_, from) = socket.recv_from(&mut [0; 16])?;
        assert_eq!(from, (peer.public().unwrap(), 4500).into());
    }
    Ok(())
}

#[test]
fn gateways_and_vpcs_come_and_go() -> Result<()> {
    let lab =
        Lab::builder("/bin/true").check_off().vpc(VpcSpec::client("a", "eu-west-1", &["10.1.0.0/16"])?).build()?;
    let (gateway, host, internet) = (lab.gateway("a/nat-vpn")?, lab.host("a/host")?, lab.internet().address);
    masquerade(&gateway)?;
    let first = gateway.public().unwrap();
    assert_eq!(host.whoami_tcp(internet)?, first);

    lab.stop_instance(&gateway)?;
    assert!(!host.reaches(internet)? && gateway.sh("true").is_err());
    lab.start_instance(&gateway, true)?;
    assert!(gateway.sh("iptables-save -t nat")?.ok()?.stdout.matches("MASQ").count() == 0, "a boot starts empty");
    masquerade(&gateway)?;
    let second = host.whoami_tcp(internet)?;
    assert_ne!(second, first);

    let new = lab.replace_gateway(&gateway)?;
    assert_eq!((new.name.as_str(), lab.gateway("a/nat-vpn")?.instance.as_str()), ("a/nat-vpn", new.instance.as_str()));
    assert!(new.address != gateway.address && gateway.sh("true").is_err());
    masquerade(&new)?;
    assert_eq!(Some(host.whoami_tcp(internet)?), new.public());
    assert_eq!(lab.change_address(&new, true)?, new.public());
    assert_eq!(Some(host.whoami_tcp(internet)?), new.public());

    let more = lab.add_gateway("a", Role::NatVpn)?;
    assert_eq!(more.name, "a/nat-vpn-2");
    let times = |id: &str| lab.ec2().get(&more.region, "DescribeInstances", &[("InstanceId.1", id)], "launchTime");
    assert!(times(&new.instance)? < times(&more.instance)?, "launch times tell them apart");

    let far = lab.add_cidr("a", "10.101.0.0/16")?;
    assert!(host.reaches(far.address)?, "a secondary CIDR is local");

    let stream = host.ping_stream(internet)?;
    lab.add_client("c", "sa-east-1", &["10.3.0.0/16"])?;
    let other = lab.gateway("c/nat-vpn")?;
    let public = other.public().unwrap();
    assert!(lab.internet().reaches(public)?);
    lab.delete_vpc("c")?;
    assert!(!lab.internet().reaches(public)? && lab.gateway("c/nat-vpn").is_err());
    lab.terminate(&more)?;
    let report = stream.stop()?;
    assert!(report.lost == 0 && report.sent > 20, "others notice nothing: {report:?}");
    Ok(())
}

#[test]
fn a_small_plan_with_public_looking_addresses_works() -> Result<()> {
    let client = |name, cidr| VpcSpec::client(name, "eu-west-1", &[cidr]);
    let lab = Lab::builder("/bin/true")
        .check_off()
        .private_net(&["203.0.113.0/24".parse()?])
        .vpc(VpcSpec::hub("hub", "us-east-1", &["203.0.113.0/26"])?)
        .vpc(client("a", "203.0.113.64/26")?)
        .build()?;
    let (gateway, host) = (lab.gateway("a/nat-vpn")?, lab.host("a/host")?);
    assert!(host.reaches(gateway.address)?);
    let capture = lab.capture_internet()?;
    masquerade(&gateway)?;
    assert_eq!(Some(host.whoami_tcp(lab.internet().address)?), gateway.public());
    assert_eq!(capture.stop()?.clear_private(), []);
    assert!(gateway.read_file("/etc/crosswan/crosswan.toml")?.contains("private_net = [\"203.0.113.0/24\"]"));
    Ok(())
}

#[test]
fn a_gateway_runs_its_agent_in_its_own_network_and_files() -> Result<()> {
    // A shell plays the agent.
    let lab = Lab::builder("/bin/sh").vpc(VpcSpec::hub("hub", "us-west-2", &["10.0.0.0/16"])?).build()?;
    let (one, two) = (lab.gateway("hub/vpn-hub")?, lab.gateway("hub/nat-hub")?);
    one.set_env("CROSSWAN_EXTRA", "yes");
    let script = "echo $AWS_ENDPOINT_URL_EC2 $CROSSWAN_EXTRA; echo x >/etc/default/nat-hub; echo y >/var/lib/crosswan/y; \
                  echo z >/run/z; iptables -w 5 -N MINE; ip -4 -o addr show ens5; exit 7";
    let output = one.agent(&["-c", script])?;
    assert_eq!((output.code, output.stderr.as_str()), (7, ""));
    assert!(
        output.stdout.starts_with("http://192.0.2.10 yes\n") && output.stdout.contains("10.0.0.10/24"),
        "{output:?}"
    );
    assert_eq!(
        (one.read_file("/etc/default/nat-hub")?, one.read_file("/var/lib/crosswan/y")?),
        ("x\n".into(), "y\n".into())
    );
    let other = two.agent(&["-c", "cat /etc/default/nat-hub /run/z; iptables-save; cat /etc/crosswan/psk"])?;
    assert!(!other.stdout.contains("MINE") && other.stderr.matches("No such file").count() == 3, "{other:?}");
    assert!(!std::path::Path::new("/run/z").exists());

    let script = "echo started; trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done";
    let keep = one.spawn_agent(&["-c", script])?;
    keep.wait_for_log("started", Duration::from_secs(10))?;
    assert!(keep.running());
    assert_eq!(keep.stop()?, Some(3));
    let keep = one.spawn_agent(&["-c", script])?;
    lab.stop_instance(&one)?;
    assert!(!keep.running(), "an instance that stops takes everything with it");
    Ok(())
}
