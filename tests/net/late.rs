//! Gateways that boot without something: a pre-shared key, the hub's address, the right environment.

use anyhow::Result;
use crosswan_lab::{Auth, Lab, Role};

use crate::region::{Region, UP, agent, lines, refresh, refresh_with, show};

/// An image without its secret: NAT at once, tunnels with the first refresh after the key is there.
#[test]
fn a_missing_key_is_waited_for_and_nat_does_not_wait() -> Result<()> {
    let lab = Lab::standard(agent()?, Auth::Psk)?;
    let capture = lab.capture_internet()?;
    let late = lab.gateway("a/nat-vpn")?;
    std::fs::remove_file(late.path("/etc/crosswan/psk"))?;
    late.start_charon()?;
    let report = refresh_with(&late, &[], 2)?;
    assert!(report["waiting_for"].as_str().is_some_and(|key| key.contains("/etc/crosswan/psk")), "{report:#}");
    assert_eq!(lines(&report, "tunnels").len(), 0, "{report:#}");
    let words = late.agent(&["refresh"])?;
    assert_eq!(words.code, 2, "{}", show(&words));
    let waiting =
        words.stdout.lines().filter(|line| line.contains("WAITING") && line.contains("pre-shared key")).count();
    assert_eq!(waiting, 1, "{}", show(&words));

    let mut region = Region::from(lab);
    let host = region.lab.host("a/host")?;
    assert_eq!(Some(host.whoami_tcp(region.lab.internet().address)?), late.public(), "NAT is there");
    let rejected = host.ping(region.address("hub/host")?, 3)?;
    assert!(rejected.errors.iter().any(|e| e.0 == late.address && e.1 == 3), "the guard or the route: {rejected:?}");

    for gateway in region.lab.gateways().iter().filter(|g| g.name != late.name) {
        region.boot(gateway)?;
    }
    region.keepers.insert(late.name.clone(), late.spawn_agent(&["keep"])?);
    let key = format!("{}\n", region.lab.psk());
    late.write_file("/etc/crosswan/psk", &key, 0o600)?;
    let report = refresh(&late)?;
    assert!(report["outcome"] == "changed" && report["waiting_for"].is_null(), "{report:#}");
    region.settle()?;
    assert_eq!(capture.stop()?.clear_private(), []);
    Ok(())
}

/// `a` finds its hub by tag and environment, past one of another environment; `b` is of that other environment until
/// its tag says otherwise.
#[test]
fn hubs_and_gateways_are_found_by_their_tags() -> Result<()> {
    let lab = Lab::standard(agent()?, Auth::Psk)?;
    let (hub, a, b) = (lab.gateway("hub/vpn-hub")?, lab.gateway("a/nat-vpn")?, lab.gateway("b/nat-vpn")?);
    // The newest of its VPC, and it has the tag `service=vpn-hub`: only its environment tag excludes it.
    let decoy = lab.add_gateway("hub", Role::VpnHub)?;
    lab.tag(&decoy, "env", Some("staging"))?;
    lab.tag(&b, "env", Some("staging"))?;
    let environment = "environment_tag = { key = \"env\", value = \"prod\" }\n";
    let region_of_hub = format!("regions = [\"{}\"]", hub.region);
    let settings = a.read_file("/etc/crosswan/crosswan.toml")?;
    let by_address = settings.lines().find(|line| line.starts_with("hub = ")).unwrap().to_owned();
    a.write_settings(&format!("{environment}{}", settings.replace(&by_address, &region_of_hub)))?;
    hub.write_settings(&format!("{environment}{}", hub.read_file("/etc/crosswan/crosswan.toml")?))?;

    let mut region = Region::from(lab);
    for gateway in region.lab.gateways().iter().filter(|g| g.name != decoy.name) {
        region.boot(gateway)?;
    }
    let host = region.lab.host("a/host")?;
    host.wait_for(region.address("hub/host")?, UP)?;
    let report = refresh(&a)?;
    assert_eq!(report["outcome"], "unchanged", "{report:#}");
    let tunnels = report["tunnels"].as_object().unwrap();
    let remotes: Vec<_> = tunnels.values().map(|tunnel| tunnel["remote"].as_str().map(str::to_owned)).collect();
    assert_eq!(remotes, [hub.public().map(|eip| eip.to_string())]);

    let outsider = region.lab.vpc_id("b")?;
    assert!(!hub.swanctl(&["--list-conns"])?.contains(&outsider));
    assert!(!host.reaches(region.address("b/host")?)?);
    region.lab.tag(&b, "env", Some("prod"))?;
    let report = refresh(&hub)?;
    assert!(report["tunnels"].to_string().contains(&outsider), "{report:#}");
    region.settle()
}
