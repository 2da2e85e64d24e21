//! The hub itself moves: spokes that find it by tag follow, spokes whose hub's address is baked in cannot.

use anyhow::{Context, Result, ensure};
use crosswan_lab::{ImdsFault, Role};

use super::{ensure_no_steps, standard, watch::Watch, why};
use crate::region::{Region, UP, lines, refresh, refresh_with, status};

const BY_TAG: &str = "hub_tag = { key = \"service\", value = \"vpn-hub\" }\nregions = [\"us-west-2\"]\n";

#[test]
fn spokes_that_know_the_hub_by_tag_follow_it_to_a_new_address() -> Result<()> {
    let region = standard()?;
    let lab = &region.lab;
    let hub = region.gateway("hub/vpn-hub")?;
    let [a, b] = ["a/nat-vpn", "b/nat-vpn"].map(|name| region.gateway(name));
    let (a, b) = (a?, b?);
    let old = lab.hub_address().context("no hub")?;

    // Spoke a is told the hub's tag instead of its address. It is the same hub: nothing changes for anyone.
    let watch = Watch::over(&region, &[("hub/host", "a/host"), ("a/host", "b/host")])?;
    let settings = a.read_file("/etc/crosswan/crosswan.toml")?;
    a.write_settings(&settings.replace(&format!("hub = \"{old}\"\n"), BY_TAG))?;
    let report = refresh(&a)?;
    ensure_no_steps(&report)?;
    watch.undisturbed("a spoke was told the hub's tag instead of its address")?;

    // Between two addresses the hub has no address: it reports that and leaves everything as it was.
    lab.change_address(&hub, false)?;
    let output = hub.agent(&["refresh"])?;
    ensure!(output.code == 3 && output.stderr.contains("this hub has no public address"), "{}", output.stderr);
    let report = refresh(&a)?;
    ensure_no_steps(&report)?;
    let hub_vpc = lab.vpc_id("hub")?;
    ensure!(why(&report, "refused", &hub_vpc).is_some_and(|why| why.contains("no public address")), "{report:#}");

    let interrupted = Watch::over(&region, &[("hub/host", "a/host")])?;
    let new = lab.change_address(&hub, true)?.context("no address")?;
    let report = refresh(&hub)?;
    ensure!(report["steps"].to_string().contains(&format!("local id {old} => {new}")), "{report:#}");
    ensure!(report["steps"].to_string().contains("(this gateway has a new identity)"), "{report:#}");
    // Nothing of the old address is left at the hub, and a second pass has nothing to do.
    ensure!(!hub.read_file("/etc/swanctl/conf.d/crosswan.conf")?.contains(&old.to_string()));
    ensure_no_steps(&refresh(&hub)?)?;
    let report = refresh(&a)?;
    ensure!(report["steps"].to_string().contains("new: "), "{report:#}");
    lab.host("a/host")?.wait_for(region.address("hub/host")?, UP)?;
    for (pair, gap, lost) in interrupted.gaps()? {
        eprintln!("{pair}: {lost} lost, gap {gap:?}");
    }
    ensure_no_steps(&refresh(&a)?)?;
    ensure!(status(&a)?["tunnels"].as_array().map(Vec::len) == Some(1));

    // Spoke b has the old address baked in: a refresh changes nothing, and status shows the tunnel that is down.
    ensure_no_steps(&refresh_with(&b, &[], 0)?)?;
    ensure!(
        !lab.host("b/host")?.reaches(region.address("hub/host")?)?,
        "b reached the hub at an address it does not have"
    );
    crate::region::eventually(UP, "b's status shows that its tunnel is down", || {
        Ok(status(&b)?["tunnels"][0]["up"] == false)
    })?;
    // With the new address in its settings it is back.
    lab.write_default_settings(&b)?;
    refresh(&b)?;
    let took = lab.host("b/host")?.wait_for(region.address("a/host")?, UP)?;
    eprintln!("b is back {took:?} after it was told the new address");
    region.settle()
}

/// The operator associated the Elastic IP with the other network interface: the gateway says where it is.
#[test]
fn an_elastic_ip_on_the_second_interface_is_named_with_the_remedy() -> Result<()> {
    let region = standard()?;
    let (hub, nat) = (region.gateway("hub/vpn-hub")?, region.gateway("hub/nat-hub")?);
    for gateway in [&hub, &nat] {
        let first =
            gateway.sh("cat /sys/class/net/ens5/address 2>/dev/null || cat /sys/class/net/eth0/address")?.stdout;
        let second = "06:00:00:00:00:99";
        let interfaces = "meta-data/network/interfaces/macs/";
        let other = |name: &str| format!("{interfaces}{second}/{name}");
        let says = |text: &str| Some(ImdsFault::Garbage(text.to_owned()));
        gateway.imds.set("meta-data/public-ipv4", Some(ImdsFault::Status(404)));
        gateway.imds.set(interfaces, says(&format!("{}/\n{second}/", first.trim())));
        gateway.imds.set(&other("public-ipv4s"), says("198.51.100.77"));
        gateway.imds.set(&other("interface-id"), says("eni-0123"));
        let output = gateway.agent(&["refresh"])?;
        let said = format!("{}{}", output.stdout, output.stderr);
        let hint = "the public address 198.51.100.77 is on network interface eni-0123, which is not the first one";
        ensure!(said.contains(hint) && output.code == if gateway.role == Role::VpnHub { 3 } else { 0 }, "{said}");
    }
    Ok(())
}

/// The DHCP options name a resolver in another VPC: its queries could only leave by the tunnel, which needs EC2's address first.
#[test]
fn a_resolver_that_only_the_tunnel_reaches_is_named_as_the_cause() -> Result<()> {
    let region = Region::standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    hub.sh("rm -f /etc/resolv.conf; printf 'nameserver 10.1.0.2\\noptions timeout:1 attempts:1\\n' >/etc/resolv.conf")?
        .ok()?;
    let refresh = |extra: &str| -> Result<serde_json::Value> {
        let agent = crate::region::agent()?;
        let line = format!("AWS_ENDPOINT_URL_EC2=http://ec2.example.com {} refresh --json {extra}", agent.display());
        Ok(serde_json::from_str(&hub.sh(&line)?.stdout)?)
    };
    let report = refresh("")?;
    let unasked = lines(&report, "unasked").concat();
    ensure!(unasked.contains("cannot resolve the name of EC2's endpoint in us-west-2: "), "{report:#}");
    let notes = lines(&report, "notes").concat();
    ensure!(notes.contains("the resolver 10.1.0.2 lies in private_net and outside this VPC"), "{report:#}");
    ensure!(
        report["tunnels"].as_object().is_some_and(|tunnels| tunnels.len() == 2),
        "what worked was kept: {report:#}"
    );
    Ok(())
}
