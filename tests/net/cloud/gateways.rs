//! Gateways that are doubled, replaced and moved: the tunnel follows, and nobody else notices.

use anyhow::{Context, Result, ensure};
use crosswan_faults::look::sas;
use crosswan_lab::{Gateway, Role};

use super::{
    ELSEWHERE, ensure_no_steps, has_tunnel, ids,
    paper::{NAT, Paper, Spec},
    standard, tunnel,
    watch::Watch,
    why,
};
use crate::region::{Region, UP, eventually, lines, refresh, refresh_with, status};

/// Written by `keep` when it wants a pass.
const WANTED: &str = "/run/crosswan/refresh-wanted";

#[test]
fn the_tunnel_follows_gateways_that_are_doubled_replaced_and_moved() -> Result<()> {
    let mut region = standard()?;
    of_two_the_younger_takes_over_once_it_has_worked(&mut region)?;
    a_gateway_that_is_replaced_or_gets_another_address_keeps_its_tunnel(&mut region)?;
    one_without_an_address_is_refused(&region)
}

fn of_two_the_younger_takes_over_once_it_has_worked(region: &mut Region) -> Result<()> {
    let hub = region.gateway("hub/vpn-hub")?;
    let old = region.gateway("a/nat-vpn")?;
    let [a] = ids(&region.lab, ["a"])?;
    let others = [("hub/host", "b/host"), ("b/host-2", "hub/host")];
    let watch = Watch::over(region, &others)?;
    let carried = Watch::over(region, &[("a/host", "b/host"), ("b/host", "a/host")])?;

    // The new one has no Elastic IP yet: the older one goes on.
    let new = region.lab.add_gateway("a", Role::NatVpn)?;
    region.lab.change_address(&new, false)?;
    let report = refresh(&hub)?;
    ensure_no_steps(&report)?;
    ensure!(
        why(&report, "refused", &a).as_deref()
            == Some(
                "has no public address on its first network interface: associate an Elastic IP with that interface"
            ),
        "{report:#}"
    );

    // It has one now, and only its tag makes it a gateway, as when user data has failed: nothing on it works. The hub keeps a
    // connection for it, and the older one goes on, at every pass.
    region.lab.change_address(&new, true)?;
    for _ in 0..3 {
        let report = refresh_with(&hub, &[], 6)?;
        let replacing = report["replacing"].to_string();
        ensure!(
            replacing.contains(&new.instance)
                && replacing.contains("its tunnel is loaded beside the one in use, and is not up yet"),
            "{report:#}"
        );
        ensure!(tunnel(&report, &a).is_some_and(|t| t["remote"] == public(&old)), "{report:#}");
    }
    carried.undisturbed("a newcomer that never worked came")?;

    // It boots, and its keep reaches the hub: that is the proof. The hub's keep asks for a pass, and the older one stays
    // until then.
    let carried = Watch::over(region, &[("a/host", "b/host"), ("b/host", "a/host")])?;
    let _ = std::fs::remove_file(hub.path(WANTED));
    region.boot(&new)?;
    eventually(UP, "the hub's keep asks for a pass", || Ok(hub.path(WANTED).exists()))?;
    region.keepers[&hub.name].wait_for_log("has proved that it works: asked for a refresh", UP)?;
    carried.undisturbed("a newcomer has authenticated")?;
    let interrupted = Watch::over(region, &[("hub/host", "a/host")])?;
    region.lab.route_through(&new)?;
    let report = refresh(&hub)?;
    let steps = lines(&report, "steps");
    ensure!(steps.iter().any(|step| step.contains("route 10.1.0.0/16 dev cw2")), "{report:#}");
    let refused = why(&report, "refused", &a).unwrap_or_default();
    ensure!(refused == format!("{} stands by: {} in the same VPC is in use", old.instance, new.instance), "{refused}");
    reaches_by(region, &hub, "a", &new)?;
    show_gaps("the younger of two took over", interrupted)?;

    // The older one still runs, and authenticates, and gets no child. Also as the younger one, after a stop and a start.
    let carried = Watch::over(region, &[("a/host", "b/host"), ("b/host", "a/host")])?;
    region.keepers.remove(&old.name);
    region.lab.stop_instance(&old)?;
    region.lab.start_instance(&old, false)?;
    region.boot(&old)?;
    let stands_by = || Ok(sas(&hub)?.iter().any(|sa| sa.conn.ends_with(&old.instance) && sa.is_established()));
    eventually(UP, "the older gateway stands by", stands_by)?;
    for _ in 0..2 {
        ensure_no_steps(&refresh(&hub)?)?;
    }
    carried.undisturbed("the older of two gateways tried to take the tunnel")?;

    // The one in use is terminated: the other one takes over at once.
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
    let (steps, before) = (report["steps"].to_string(), region.lab.connection_to(&old)?);
    ensure!(steps.contains(&format!("new: {}", public(&new))), "{steps}");
    ensure!(steps.contains(&format!("end every IKE_SA of {before} (the peer is gone)")), "{steps}");
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
    // A gateway that loses the tag counts as not seen: its tunnel is kept for a poll.
    paper.disassociate(lab)?;
    let report = refresh(hub)?;
    ensure_no_steps(&report)?;
    ensure!(why(&report, "refused", &paper.vpc).is_some_and(|why| why.contains("no public address")), "{report:#}");
    ensure!(!has_tunnel(&refresh(hub)?, &paper.vpc));
    watch.undisturbed("a gateway had no public address")
}

fn public(gateway: &Gateway) -> String {
    gateway.public().map(|address| address.to_string()).unwrap_or_default()
}

/// Waits until the VPC's host reaches the others, and the hub's only SA with it is with this gateway.
fn reaches_by(region: &Region, hub: &Gateway, vpc: &str, gateway: &Gateway) -> Result<()> {
    let host = region.lab.host(&format!("{vpc}/host"))?;
    for to in ["hub/host", "b/host"] {
        host.wait_for(region.address(to)?, UP)?;
    }
    let public = public(gateway);
    let connection = region.lab.connection_to(gateway)?;
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
