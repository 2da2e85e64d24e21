//! The addressing plan of the 2014 documents: 203.0.113.0/24 cut into /26s with subnets of /28, and its settings files.

use anyhow::Result;
use crosswan_lab::{Auth, Lab, Leaks, Role, VpcSpec};

use crate::region::{Region, agent, lines, refresh};

/// TEST-NET-3 stands for the private network: crosswan must never equate "private" with RFC 1918.
const PRIVATE: &str = "203.0.113.0/24";
const HUB: &str = "203.0.113.0/26";
const CLIENT: &str = "203.0.113.128/26";
const HUB_HOST: &str = "203.0.113.16/28";
const CLIENT_HOST: &str = "203.0.113.144/28";
/// The key in the documents is published, so it is refused; a real site had its own key in the same place.
const PSK: &str = "Nobody has 2 guess th1s one";

#[test]
fn the_plan_and_the_settings_files_of_2014_work() -> Result<()> {
    let lab = Lab::builder(agent()?)
        .auth(Auth::Psk)
        .private_net(&[PRIVATE.parse()?])
        .vpc(VpcSpec::hub("hub", "us-west-2", &[HUB])?)
        .vpc(VpcSpec::client("client", "us-west-2", &[CLIENT])?)
        .build()?;
    let capture = lab.capture_internet()?;
    for gateway in lab.gateways() {
        for path in ["/etc/crosswan/crosswan.toml", "/etc/crosswan/psk"] {
            let _ = std::fs::remove_file(gateway.path(path));
        }
        let (name, text) = match gateway.role {
            Role::VpnHub => (
                "vpn-hub",
                format!("VPN_NET={PRIVATE}\nVPN_PSK=\"{PSK}\"\nVPN_SERVICE=nat\nVPN_REGIONS=\"us-west-2 us-east-1\"\n"),
            ),
            Role::NatHub => ("nat-hub", format!("# no tunnels here\nVPN_NET={PRIVATE}\n")),
            Role::NatVpn => ("nat-vpn", format!("VPN_NET={PRIVATE}\nVPN_PSK='{PSK}'\nVPN_HUB=198.51.100.100\n")),
        };
        gateway.write_file(&format!("/etc/default/{name}"), &text, 0o600)?;
    }
    let region = Region::booted(lab)?;
    region.settle()?;

    let (at_hub, at_client) = (region.lab.host("hub/host")?, region.lab.host("client/host")?);
    let inside = |subnet: &str, address| Ok::<_, anyhow::Error>(subnet.parse::<ipnet::Ipv4Net>()?.contains(&address));
    assert!(inside(HUB_HOST, at_hub.address)? && inside(CLIENT_HOST, at_client.address)?);
    for (from, to) in [(&at_hub, &at_client), (&at_client, &at_hub)] {
        assert_eq!(from.whoami_tcp(to.address)?, from.address, "TCP {} -> {}", from.name, to.name);
        assert_eq!(from.whoami_udp(to.address)?, from.address, "UDP {} -> {}", from.name, to.name);
    }
    let echo = region.lab.internet().address;
    let (nat_hub, nat_vpn) = (region.gateway("hub/nat-hub")?, region.gateway("client/nat-vpn")?);
    assert_eq!(Some(at_hub.whoami_tcp(echo)?), nat_hub.public());
    assert_eq!(Some(at_client.whoami_tcp(echo)?), nat_vpn.public());

    let hub = region.gateway("hub/vpn-hub")?;
    assert_eq!(hub.public(), Some("198.51.100.100".parse()?), "the documents' Elastic IP");
    for gateway in region.lab.gateways() {
        let report = refresh(&gateway)?;
        assert_eq!((report["outcome"].as_str(), lines(&report, "steps").len()), (Some("unchanged"), 0), "{report:#}");
    }
    let packets = capture.stop()?;
    assert_eq!(packets.clear_private(), []);
    assert!(packets.ipsec_between(hub.public().unwrap(), nat_vpn.public().unwrap()) > 0);
    for vpc in ["hub", "client"] {
        assert_eq!(region.lab.leaks(vpc)?, Leaks::default(), "{vpc}");
    }
    Ok(())
}
