//! Large packets, packets that lead nowhere, and both iptables backends.

use std::os::unix::fs::symlink;

use anyhow::Result;
use crosswan_lab::{Auth, Lab, Leaks, VPC_MTU};

use crate::region::{Region, agent, refresh};

const BULK: u64 = 50 << 20;
/// An address in the private network that nobody has.
const NOBODY: &str = "10.99.0.1";

#[test]
fn large_transfers_pass_and_what_leads_nowhere_is_rejected() -> Result<()> {
    let region = Region::standard()?;
    large_transfers_pass(&region)?;
    a_large_datagram_is_told_the_mtu(&region)?;
    an_mtu_black_hole_swallows_no_stream(&region)?;
    traffic_for_nobody_is_rejected_at_the_hub(&region)
}

/// The same with iptables-legacy, chosen as Debian's alternatives do it: by the programs that the names on PATH lead to.
#[test]
fn with_iptables_legacy() -> Result<()> {
    let lab = Lab::standard(agent()?, Auth::Psk)?;
    for gateway in lab.gateways() {
        std::fs::create_dir_all(gateway.path("/etc/legacy"))?;
        for name in ["iptables", "iptables-save", "iptables-restore"] {
            symlink("/usr/sbin/xtables-legacy-multi", gateway.path("/etc/legacy").join(name))?;
        }
        gateway.set_env("PATH", "/etc/legacy:/usr/sbin:/usr/bin:/sbin:/bin");
    }
    let region = Region::booted(lab)?;
    region.settle()?;
    for gateway in region.lab.gateways() {
        let count = |save: &str| {
            let saved = gateway.sh(save)?.ok()?.stdout;
            Ok::<_, anyhow::Error>(saved.lines().filter(|line| line.contains("CROSSWAN-")).count())
        };
        assert!(count("/usr/sbin/iptables-legacy-save")? > 0, "{}", gateway.name);
        assert_eq!(count("/usr/sbin/iptables-nft-save")?, 0, "{}", gateway.name);
        assert_eq!(refresh(&gateway)?["outcome"], "unchanged", "{}", gateway.name);
    }
    let (a, b) = (region.lab.host("a/host")?, region.lab.host("b/host-2")?);
    assert_eq!(a.whoami_tcp(b.address)?, a.address);
    let (echo, gateway) = (region.lab.internet().address, region.gateway("a/nat-vpn")?);
    assert_eq!(Some(a.whoami_tcp(echo)?), gateway.public());
    an_mtu_black_hole_swallows_no_stream(&region)?;
    traffic_for_nobody_is_rejected_at_the_hub(&region)
}

fn large_transfers_pass(region: &Region) -> Result<()> {
    let a = region.lab.host("a/host")?;
    let link = a.exec("ip", &["-o", "link", "show", "ens5"])?.ok()?.stdout;
    assert!(VPC_MTU == 9001 && link.contains("mtu 9001"), "{link}");
    for to in ["hub/host", "b/host", "b/host-2"] {
        let transfer = a.transfer(region.address(to)?, BULK)?;
        assert_eq!(transfer.bytes, BULK);
        eprintln!("50 MB from a/host to {to}: {:?}", transfer.elapsed);
    }
    Ok(())
}

fn a_large_datagram_is_told_the_mtu(region: &Region) -> Result<()> {
    for (from, to) in [("a/host", "hub/host"), ("a/host", "b/host"), ("hub/host", "a/host")] {
        let (from, to) = (region.lab.host(from)?, region.address(to)?);
        // First the tunnel's interface tells its own MTU, then the tunnel what ESP leaves of it.
        let first = from.udp_df(to, 8000)?;
        assert!(first.too_big && !first.answered && first.mtu == 1500, "{} to {to}: {first:?}", from.name);
        let probe = from.udp_df(to, first.mtu as usize - 28)?;
        assert!(probe.too_big && !probe.answered && probe.mtu == 1438, "{} to {to}: {probe:?}", from.name);
        // With 28 bytes of headers: the size that the answer named passes.
        let fits = from.udp_df(to, probe.mtu as usize - 28)?;
        assert!(fits.answered, "{} to {to}: {probe:?}, {fits:?}", from.name);
        eprintln!("{} to {to}: path MTU {}", from.name, probe.mtu);
    }
    Ok(())
}

/// A firewall on the way drops all ICMP: only the MSS clamp keeps a stream from hanging.
fn an_mtu_black_hole_swallows_no_stream(region: &Region) -> Result<()> {
    let pair = [region.lab.host("a/host")?, region.lab.host("b/host-2")?];
    let rules =
        "table ip hole { chain input { type filter hook input priority 0; icmp type destination-unreachable drop; }; }";
    for host in &pair {
        host.exec("nft", &[rules])?.ok()?;
        // A path MTU that was learned before would help.
        host.exec("ip", &["route", "flush", "cache"])?.ok()?;
    }
    for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
        from.transfer(to.address, 5 << 20)?;
    }
    for host in &pair {
        host.exec("nft", &["delete table ip hole"])?.ok()?;
    }
    Ok(())
}

/// From a client and from the hub's own VPC: the hub answers each packet with an ICMP error at once, and none loops.
fn traffic_for_nobody_is_rejected_at_the_hub(region: &Region) -> Result<()> {
    let (hub, a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let capture = region.lab.capture_internet()?;
    let pings = 10;
    for from in ["a/host", "hub/host"] {
        let report = region.lab.host(from)?.ping(NOBODY.parse()?, pings)?;
        assert_eq!(report.received, 0);
        assert!(!report.errors.is_empty(), "{from}: {report:?}");
        for error in &report.errors {
            assert_eq!(*error, (hub.address, 3, 1), "{from}: no route leads to it, says the hub");
        }
    }
    let packets = capture.stop()?;
    assert_eq!(packets.clear_private(), []);
    // There and back, and what IKE says in the meantime.
    let crossed = packets.ipsec_between(a.public().unwrap(), hub.public().unwrap());
    assert!(crossed <= 4 * pings as usize, "{crossed} packets crossed for {pings} pings");
    for vpc in ["hub", "a", "b"] {
        assert_eq!(region.lab.leaks(vpc)?, Leaks::default(), "{vpc}");
    }
    Ok(())
}
