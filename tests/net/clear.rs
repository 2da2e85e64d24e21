//! Nothing private leaves in the clear: point 3 of the demo, with constant traffic while tunnels go up and down.

use anyhow::{Result, ensure};
use crosswan_lab::{Auth, Host, Lab, Leaks, PingStream, Role, WHOAMI};

use crate::region::{Region, UP, agent, eventually, refresh};

const VPCS: [&str; 3] = ["hub", "a", "b"];

#[test]
fn nothing_private_leaves_in_the_clear_whatever_is_down() -> Result<()> {
    let lab = Lab::standard(agent()?, Auth::Psk)?;
    let capture = lab.capture_internet()?;
    let _trying = everyone_tries(&lab)?;
    // Before its first pass ever a gateway has no rules: what it forwards comes back by the VPC's routes (see the
    // counter), but the internet sees none of it.
    the_tunnel_is_down(&lab, &[("a/host", "b/host"), ("a/host", "hub/host"), ("hub/host", "b/host-2")])?;
    let at_boot = VPCS.map(|vpc| lab.leaks(vpc).map(|leaks| leaks.private_out));
    assert!(at_boot.iter().all(|out| matches!(out, Ok(0))), "{at_boot:?}");

    // The first pass at boot: rules are in force, no tunnel is up yet since nothing keeps them.
    let mut region = Region::from(lab);
    for gateway in region.lab.gateways() {
        if gateway.role != Role::NatHub {
            gateway.start_charon()?;
        }
        refresh(&gateway)?;
    }
    let guard = Guard::stands(&region)?;
    the_tunnel_is_down(&region.lab, &[("a/host", "b/host"), ("a/host", "hub/host"), ("hub/host", "b/host-2")])?;
    guard.held(&region, "before the first tunnel at boot")?;
    for gateway in region.lab.gateways().iter().filter(|g| g.role != Role::NatHub) {
        region.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
    }
    region.settle()?;
    guard.held(&region, "while up")?;

    let (hub, a) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    a.stop_charon()?;
    the_tunnel_is_down(&region.lab, &[("a/host", "b/host"), ("hub/host", "a/host"), ("b/host-2", "a/host")])?;
    nat_goes_on(&region)?;
    guard.held(&region, "while the spoke's charon is stopped")?;
    a.start_charon()?;
    region.settle()?;

    hub.stop_charon()?;
    the_tunnel_is_down(&region.lab, &[("a/host", "b/host"), ("a/host", "hub/host"), ("hub/host", "b/host")])?;
    nat_goes_on(&region)?;
    guard.held(&region, "while the hub's charon is stopped")?;
    hub.start_charon()?;
    region.settle()?;

    region.keepers.remove(&hub.name);
    region.lab.stop_instance(&hub)?;
    the_tunnel_is_down(&region.lab, &[("a/host", "b/host"), ("a/host", "hub/host"), ("b/host-2", "a/host")])?;
    nat_goes_on(&region)?;
    guard.held(&region, "while the hub's instance is stopped")?;
    region.lab.start_instance(&hub, false)?;
    let _gateway_tries = tries(&hub.host()?, &region, "a/host")?;
    region.boot(&hub)?;
    region.settle()?;
    // The hub's own counter ran while it had no rules yet, between its boot and its pass.
    Guard { before: guard.before.into_iter().filter(|(vpc, _)| *vpc != "hub").collect() }.held(&region, "and again")?;

    let packets = capture.stop()?;
    assert_eq!(packets.clear_private(), []);
    for spoke in ["a/nat-vpn", "b/nat-vpn"] {
        assert!(packets.ipsec_between(hub.public().unwrap(), region.gateway(spoke)?.public().unwrap()) > 50, "{spoke}");
    }
    Ok(())
}

/// Twenty packets a second from every private host to every other, and from every gateway with tunnels itself. A
/// nat-hub is left out here: it is a host of the hub VPC, and its packets go to the vpn-hub by the VPC's router.
fn everyone_tries(lab: &Lab) -> Result<Vec<PingStream>> {
    let hosts = lab.hosts();
    let mut streams = Vec::new();
    for from in &hosts {
        for to in hosts.iter().filter(|to| to.name != from.name) {
            streams.push(from.ping_stream(to.address)?);
        }
    }
    for gateway in lab.gateways().iter().filter(|g| g.role != Role::NatHub) {
        for to in &hosts {
            streams.push(gateway.host()?.ping_stream(to.address)?);
        }
    }
    Ok(streams)
}

fn tries(from: &Host, region: &Region, to: &str) -> Result<PingStream> {
    from.ping_stream(region.address(to)?)
}

/// Waits until nothing comes through any more, for all pairs at once; then TCP does not, either.
fn the_tunnel_is_down(lab: &Lab, pairs: &[(&str, &str)]) -> Result<()> {
    let down = |from: &str, to: &str| {
        let (from, to) = (lab.host(from)?, lab.host(to)?.address);
        eventually(UP, "no answer", || Ok(!from.reaches(to)?))?;
        // The connection itself would be tried for ten seconds.
        let connect = format!("exec 3<>/dev/tcp/{to}/{WHOAMI}");
        let output = from.exec("timeout", &["1", "bash", "-c", &connect])?;
        ensure!(output.code != 0, "{} connected to {to}", from.name);
        Ok(())
    };
    std::thread::scope(|scope| {
        let down = &down;
        let tries: Vec<_> = pairs.iter().map(|(from, to)| scope.spawn(move || down(from, to))).collect();
        tries.into_iter().try_for_each(|tried| tried.join().expect("a try panicked"))
    })
}

/// What must go on while a tunnel is down.
fn nat_goes_on(region: &Region) -> Result<()> {
    for (host, gateway) in [("hub/host", "hub/nat-hub"), ("a/host", "a/nat-vpn"), ("b/host-2", "b/nat-vpn")] {
        let seen = region.lab.host(host)?.whoami_tcp(region.lab.internet().address)?;
        assert_eq!(Some(seen), region.gateway(gateway)?.public(), "{host}");
    }
    Ok(())
}

/// The leak counters when every gateway had its rules: none may move from here on.
struct Guard {
    before: Vec<(&'static str, Leaks)>,
}

impl Guard {
    fn stands(region: &Region) -> Result<Guard> {
        let before = VPCS.iter().map(|vpc| Ok((*vpc, region.lab.leaks(vpc)?))).collect::<Result<_>>()?;
        Ok(Guard { before })
    }

    fn held(&self, region: &Region, when: &str) -> Result<()> {
        for (vpc, before) in &self.before {
            assert_eq!(region.lab.leaks(vpc)?, *before, "{vpc} {when}");
        }
        Ok(())
    }
}
