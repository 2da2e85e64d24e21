//! The whole fabric carries IPsec: swanctl and iptables written by hand, as an operator would, no agent.

use std::time::{Duration, Instant};

use anyhow::Result;
use crosswan_lab::{Auth, Gateway, Lab, Leaks};

const LIMIT: Duration = Duration::from_secs(20);

/// One connection with the settings that worked in what `docs/facts.md` measured; `start` is what a spoke does.
fn connection(
    name: &str,
    local: (&Gateway, &str),
    remote: (&Gateway, &str),
    ts: &[(&str, &str)],
    start: bool,
) -> String {
    let action = if start { "start" } else { "trap" };
    let children: String = ts
        .iter()
        .enumerate()
        .map(|(n, (own, peer))| {
            format!(
                "c{n} {{\n local_ts = {own}\n remote_ts = {peer}\n esp_proposals = aes256gcm16-x25519\n \
                 start_action = {action}\n dpd_action = clear\n }}\n"
            )
        })
        .collect();
    format!(
        "{name} {{\n version = 2\n local_addrs = {}\n remote_addrs = {}\n mobike = no\n encap = yes\n unique = replace\n \
         dpd_delay = 10s\n keyingtries = 0\n proposals = aes256gcm16-prfsha384-x25519\n \
         local {{\n auth = psk\n id = {}\n }}\n remote {{\n auth = psk\n id = {}\n }}\n children {{\n {children} }}\n }}\n",
        local.0.address,
        remote.0.public().unwrap(),
        local.1,
        remote.1
    )
}

/// The own VPC is passed by: otherwise the kernel drops what comes from it in the clear, as its router's word about the path MTU.
fn write(lab: &Lab, gateway: &Gateway, own: &str, connections: &[String]) -> Result<()> {
    let bypass = format!(
        "own {{\n remote_addrs = 127.0.0.1\n children {{\n own {{\n mode = pass\n start_action = trap\n local_ts = {own}\n \
         remote_ts = {own}\n }}\n }}\n }}\n"
    );
    let secret = format!("secrets {{\n ike-lab {{\n secret = \"{}\"\n }}\n }}\n", lab.psk());
    let text = format!("connections {{\n{}{bypass}}}\n{secret}", connections.concat());
    gateway.write_file("/etc/swanctl/conf.d/hand.conf", &text, 0o600)
}

/// Exclusion, masquerade and MSS clamp by hand.
fn nat(gateway: &Gateway) -> Result<()> {
    let rules = "*nat\n-A POSTROUTING -d 10.0.0.0/8 -j RETURN\n-A POSTROUTING -o ens5 -s 10.0.0.0/8 -j MASQUERADE\nCOMMIT\n\
                 *mangle\n-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1360\nCOMMIT\n";
    gateway.run("/usr/sbin/iptables-restore", &["-w", "5"], rules)?.ok()?;
    Ok(())
}

#[test]
fn private_hosts_reach_each_other_through_the_hub() -> Result<()> {
    let started = Instant::now();
    let lab = Lab::standard("/bin/true", Auth::Psk)?;
    for gateway in lab.gateways() {
        lab.source_dest_check(&gateway, false)?;
    }
    eprintln!("lab up in {:?}", started.elapsed());
    let (hub, nat_hub) = (lab.gateway("hub/vpn-hub")?, lab.gateway("hub/nat-hub")?);
    let (a, b) = (lab.gateway("a/nat-vpn")?, lab.gateway("b/nat-vpn")?);
    let net = "10.0.0.0/8";
    let (of_a, of_b) = ([(net, "10.1.0.0/16")], [(net, "10.2.0.0/16"), (net, "10.102.0.0/16")]);
    let flip = |ts: &[(&'static str, &'static str)]| ts.iter().map(|(x, y)| (*y, *x)).collect::<Vec<_>>();
    let to = |spoke: &Gateway, id: &str, ts: &[(&str, &str)]| connection(id, (&hub, "hub"), (spoke, id), ts, false);
    write(&lab, &hub, "10.0.0.0/16", &[to(&a, "vpc-a", &of_a), to(&b, "vpc-b", &of_b)])?;
    write(&lab, &a, "10.1.0.0/16", &[connection("hub", (&a, "vpc-a"), (&hub, "hub"), &flip(&of_a), true)])?;
    write(&lab, &b, "10.2.0.0/16", &[connection("hub", (&b, "vpc-b"), (&hub, "hub"), &flip(&of_b), true)])?;
    let capture = lab.capture_internet()?;
    for gateway in [&a, &b, &nat_hub, &hub] {
        nat(gateway)?;
    }
    for gateway in [&hub, &a, &b] {
        gateway.start_charon()?;
    }
    let (host_a, host_hub) = (lab.host("a/host")?, lab.host("hub/host")?);
    for target in ["hub/host", "b/host", "b/host-2"] {
        let target = lab.host(target)?;
        let waited = host_a.wait_for(target.address, LIMIT)?;
        let report = host_a.ping(target.address, 3)?;
        assert_eq!(report.lost, 0, "{report:?}");
        assert_eq!(host_a.whoami_tcp(target.address)?, host_a.address, "source kept to {}", target.name);
        assert_eq!(target.whoami_udp(host_a.address)?, target.address, "source kept from {}", target.name);
        eprintln!("a/host -> {} after {waited:?}, ttl {:?}, slowest {:?}", target.name, report.ttl, report.slowest);
    }
    for (host, gateway) in [(&host_a, &a), (&host_hub, &nat_hub), (&lab.host("b/host-2")?, &b)] {
        assert_eq!(Some(host.whoami_tcp(lab.internet().address)?), gateway.public(), "{} on the internet", host.name);
    }
    for target in ["hub/host", "b/host"] {
        let transfer = host_a.transfer(lab.host(target)?.address, 50 << 20)?;
        eprintln!("50 MB to {target}: {:?}", transfer.elapsed);
    }
    // The first large datagrams teach the gateways, and only a later one the host.
    let mut probe = host_a.udp_df(lab.host("b/host")?.address, 4000)?;
    for _ in 0..3 {
        probe = host_a.udp_df(lab.host("b/host")?.address, 4000)?;
    }
    assert!(probe.too_big && probe.mtu < 1500, "{probe:?}");
    eprintln!("{probe:?}");

    // Down twice, once on the way and once at the end: nothing leaves in the clear meanwhile.
    let target = lab.host("b/host")?.address;
    let stream = host_a.ping_stream(target)?;
    lab.cut_ipsec(&a, true)?;
    std::thread::sleep(Duration::from_secs(1));
    lab.cut_ipsec(&a, false)?;
    host_a.wait_for(target, LIMIT)?;
    let report = stream.stop()?;
    assert!(report.lost > 10 && report.longest_gap < Duration::from_secs(3), "{report:?}");
    hub.kill_charon(9)?;
    assert!(!host_a.reaches(target)?);

    let packets = capture.stop()?;
    assert_eq!(packets.clear_private(), []);
    let (public_a, public_hub) = (a.public().unwrap(), hub.public().unwrap());
    assert!(packets.ipsec_between(public_a, public_hub) > 10_000);
    for vpc in ["hub", "a", "b"] {
        assert_eq!(lab.leaks(vpc)?, Leaks::default(), "{vpc}");
    }
    eprintln!("all in {:?}", started.elapsed());
    Ok(())
}
