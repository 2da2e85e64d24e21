//! Gateways that are doubled, replaced and moved: the tunnel follows, and nobody else notices.

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Gateway, Role};

use super::{
    ELSEWHERE, ensure_no_steps, has_tunnel, ids,
    paper::{NAT, Paper, Spec},
    standard,
    watch::Watch,
    why,
};
use crate::region::{Region, UP, eventually, refresh, status};

#[test]
fn the_tunnel_follows_gateways_that_are_doubled_replaced_and_moved() -> Result<()> {
    let mut region = standard()?;
    the_newest_of_two_wins_and_the_older_is_back_when_it_is_gone(&mut region)?;
    a_gateway_that_is_replaced_or_gets_another_address_keeps_its_tunnel(&mut region)?;
    one_without_an_address_is_refused(&region)
}

fn the_newest_of_two_wins_and_the_older_is_back_when_it_is_gone(region: &mut Region) -> Result<()> {
    let hub = region.gateway("hub/vpn-hub")?;
    let old = region.gateway("a/nat-vpn")?;
    let [a] = ids(&region.lab, ["a"])?;
    let others = [("hub/host", "b/host"), ("b/host-2", "hub/host")];
    let watch = Watch::over(region, &others)?;
    let carried = Watch::over(region, &[("a/host", "b/host")])?;

    // The new one has no Elastic IP yet: the older one goes on.
    let new = region.lab.add_gateway("a", Role::NatVpn)?;
    region.lab.change_address(&new, false)?;
    let report = refresh(&hub)?;
    ensure_no_steps(&report)?;
    ensure!(
        why(&report, "refused", &a).as_deref()
            == Some("has no public address on its first network interface: associate an Elastic IP with that one"),
        "{report:#}"
    );
    carried.undisturbed("the newest of two gateways had no address")?;

    // It gets one: the tunnel is its from the next refresh on, and the older is refused with the reason.
    region.lab.change_address(&new, true)?;
    region.boot(&new)?;
    region.lab.route_through(&new)?;
    let report = refresh(&hub)?;
    let refused = why(&report, "refused", &a).unwrap_or_default();
    ensure!(refused == format!("{} in the same VPC was launched later", new.instance), "{refused}");
    reaches_by(region, &hub, "a", &new)?;
    // The older one still runs and tries (same identity, same key), in vain.
    let carried = Watch::over(region, &[("a/host", "b/host"), ("b/host", "a/host")])?;
    let before = old.charon_log().matches("initiating IKE_SA").count();
    eventually(UP, "the older gateway's attempts", || {
        Ok(old.charon_log().matches("initiating IKE_SA").count() >= before + 2)
    })?;
    ensure_no_steps(&refresh(&hub)?)?;
    carried.undisturbed("the older of two gateways tried to take the tunnel")?;

    // The newest is terminated: back to the older, which never went away.
    region.keepers.remove(&new.name);
    region.lab.terminate(&new)?;
    region.lab.route_through(&old)?;
    let report = refresh(&hub)?;
    ensure!(has_tunnel(&report, &a) && why(&report, "refused", &a).is_none(), "{report:#}");
    reaches_by(region, &hub, "a", &old)?;
    watch.undisturbed("another VPC's gateways were doubled")
}

fn a_gateway_that_is_replaced_or_gets_another_address_keeps_its_tunnel(region: &mut Region) -> Result<()> {
    let hub = region.gateway("hub/vpn-hub")?;
    let others = [("hub/host", "b/host"), ("b/host-2", "hub/host")];
    let watch = Watch::over(region, &others)?;
    let interrupted = Watch::over(region, &[("hub/host", "a/host")])?;

    // A new instance: other private address, other Elastic IP.
    let old = region.gateway("a/nat-vpn")?;
    region.keepers.remove(&old.name);
    let new = region.lab.replace_gateway(&old)?;
    ensure!(new.address != old.address && new.instance != old.instance);
    region.boot(&new)?;
    let report = refresh(&hub)?;
    let public = new.public().context("no public address")?.to_string();
    let steps = report["steps"].to_string();
    ensure!(steps.contains(&format!("=> {public}")) && steps.contains("the peer has a new address"), "{steps}");
    reaches_by(region, &hub, "a", &new)?;
    show_gaps("a new instance", interrupted)?;

    // The same instance with another Elastic IP.
    let interrupted = Watch::over(region, &[("hub/host", "a/host")])?;
    region.lab.change_address(&new, true)?;
    refresh(&hub)?;
    reaches_by(region, &hub, "a", &new)?;
    ensure_no_steps(&refresh(&hub)?)?;
    show_gaps("another Elastic IP", interrupted)?;

    // Stopped and started, as an instance without an Elastic IP: another public address, an empty /run.
    let interrupted = Watch::over(region, &[("hub/host", "a/host")])?;
    region.keepers.remove(&new.name);
    region.lab.stop_instance(&new)?;
    let report = refresh(&hub)?;
    ensure_no_steps(&report)?;
    region.lab.start_instance(&new, true)?;
    region.boot(&new)?;
    refresh(&hub)?;
    reaches_by(region, &hub, "a", &new)?;
    show_gaps("stopped and started elsewhere", interrupted)?;
    watch.undisturbed("another VPC's gateway was replaced and moved")
}

fn one_without_an_address_is_refused(region: &Region) -> Result<()> {
    let (lab, hub) = (&region.lab, &region.gateway("hub/vpn-hub")?);
    let watch = Watch::over(region, &[("a/host", "b/host"), ("hub/host", "b/host")])?;
    let mut paper = Paper::new(lab, Spec { region: ELSEWHERE, cidrs: &["10.40.0.0/16"], address: None, tags: NAT })?;
    let report = refresh(hub)?;
    ensure_no_steps(&report)?;
    ensure!(why(&report, "refused", &paper.vpc).is_some_and(|why| why.contains("no public address")), "{report:#}");
    paper.associate(lab, 200)?;
    ensure!(has_tunnel(&refresh(hub)?, &paper.vpc));
    // One that loses it is as one that is not seen: its tunnel is kept for a poll.
    paper.disassociate(lab)?;
    let report = refresh(hub)?;
    ensure_no_steps(&report)?;
    ensure!(why(&report, "refused", &paper.vpc).is_some_and(|why| why.contains("no public address")), "{report:#}");
    ensure!(!has_tunnel(&refresh(hub)?, &paper.vpc));
    watch.undisturbed("a gateway had no public address")
}

/// Waits until the VPC's host reaches the others, and the hub's only SA with it is with this gateway.
fn reaches_by(region: &Region, hub: &Gateway, vpc: &str, gateway: &Gateway) -> Result<()> {
    let host = region.lab.host(&format!("{vpc}/host"))?;
    for to in ["hub/host", "b/host"] {
        host.wait_for(region.address(to)?, UP)?;
    }
    let public = gateway.public().context("no public address")?.to_string();
    let connection = format!("crosswan-{}", region.lab.vpc_id(vpc)?);
    let status = status(hub)?;
    let tunnel = status["tunnels"].as_array().into_iter().flatten().find(|t| t["connection"] == connection.as_str());
    let tunnel = tunnel.with_context(|| format!("no {connection} in {status:#}"))?;
    ensure!(tunnel["remote"] == public.as_str() && tunnel["up"] == true, "{tunnel:#}");
    let sas = hub.swanctl(&["--list-sas", "--ike", &connection, "--raw"])?;
    ensure!(sas.matches("remote-host=").count() == sas.matches(&format!("remote-host={public} ")).count(), "{sas}");
    Ok(())
}

fn show_gaps(what: &str, watch: Watch) -> Result<()> {
    for (pair, gap, lost) in watch.gaps()? {
        eprintln!("{what}: {pair}: {lost} lost, gap {gap:?}");
    }
    Ok(())
}
