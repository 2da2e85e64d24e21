//! Boots while the cloud is away, with a state between passes that is missing, broken, or from another gateway.

use std::{fs, sync::Arc};

use anyhow::{Context, Result, ensure};
use crosswan_lab::{Fault, Gateway, ImdsFault};
use serde_json::Value;

use super::{ensure_no_steps, has_tunnel, ids, paper::Paper, standard, watch::Watch};
use crate::region::{Region, lines, refresh, refresh_with, status};

const STATE: &str = "/var/lib/crosswan/state.json";
const MANAGED: [&str; 4] = [
    "/var/lib/crosswan/routing.batch",
    "/etc/swanctl/conf.d/crosswan.conf",
    "/etc/swanctl/conf.d/crosswan-secrets.conf",
    "/var/lib/crosswan/iptables.rules",
];

#[test]
fn a_hub_that_boots_while_ec2_and_imds_are_away_comes_back_with_what_it_last_knew() -> Result<()> {
    let mut region = standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    let [a, b] = ids(&region.lab, ["a", "b"])?;
    refresh(&hub)?;

    // EC2 is away, and only the state is left: no file that charon would load by itself.
    region.lab.ec2_fault("*", "*", Fault::Reset);
    reboot(&mut region, &hub, |hub| MANAGED.iter().try_for_each(|file| Ok(fs::remove_file(hub.path(file))?)))?;
    let report = refresh_with(&hub, &[], 3)?;
    ensure!(report["outcome"] == "changed" && has_tunnel(&report, &a) && has_tunnel(&report, &b), "{report:#}");
    ensure!(lines(&report, "unasked").iter().all(|line| line.contains("cannot reach EC2")), "{report:#}");
    keep(&mut region, &hub)?;
    region.settle()?;
    ensure!(status(&hub)?["nat"]["in_force"] == true);
    ensure_no_steps(&refresh_with(&hub, &[], 3)?)?;
    region.lab.ec2_heal();
    ensure_no_steps(&refresh(&hub)?)?;

    // IMDS is away, and with it the credentials to ask EC2 with.
    hub.imds.set("", Some(ImdsFault::Down));
    reboot(&mut region, &hub, |_| Ok(()))?;
    let report = refresh_with(&hub, &[], 3)?;
    ensure!(has_tunnel(&report, &a) && has_tunnel(&report, &b), "{report:#}");
    let unasked = lines(&report, "unasked").join("\n");
    ensure!(unasked.contains(&format!("going on as {} of the last good pass", hub.instance)), "{unasked}");
    keep(&mut region, &hub)?;
    region.settle()?;
    hub.imds.set("", None);
    ensure_no_steps(&refresh(&hub)?)?;

    // The same on a spoke; but with a state whose address this host does not have, nobody knows who it is.
    let spoke = region.gateway("a/nat-vpn")?;
    spoke.imds.set("", Some(ImdsFault::Status(500)));
    reboot(&mut region, &spoke, |_| Ok(()))?;
    let report = refresh_with(&spoke, &[], 3)?;
    ensure!(report["me"]["vpc"] == a.as_str(), "{report:#}");
    keep(&mut region, &spoke)?;
    region.settle()?;
    let watch = Watch::over(&region, &[("a/host", "b/host"), ("hub/host", "a/host")])?;
    let before = MANAGED.map(|file| spoke.read_file(file).ok());
    edit_state(&spoke, |state| state["identity"]["private"] = "10.1.0.99".into())?;
    let output = spoke.agent(&["refresh"])?;
    ensure!(output.code == 3 && output.stderr.contains("IMDS"), "exit {}: {}", output.code, output.stderr);
    ensure!(MANAGED.map(|file| spoke.read_file(file).ok()) == before, "its files have changed");
    watch.undisturbed("a spoke did not know who it is")
}

#[test]
fn a_state_that_is_broken_or_of_another_vpc_is_no_loss() -> Result<()> {
    let region = standard()?;
    let hub = region.gateway("hub/vpn-hub")?;
    let [a, b] = ids(&region.lab, ["a", "b"])?;
    refresh(&hub)?;
    let good = hub.read_file(STATE)?;
    let watch = Watch::over(&region, &[("a/host", "b/host"), ("b/host", "a/host"), ("hub/host", "a/host")])?;

    let broken = [String::new(), good[..good.len() / 2].to_owned(), "\u{1b}[31m{}\n".into(), r#"{"peers": 7}"#.into()];
    for text in broken {
        hub.write_file(STATE, &text, 0o600)?;
        let report = refresh(&hub)?;
        ensure_no_steps(&report)?;
        let notes = lines(&report, "notes").join("\n");
        ensure!(
            notes.contains("state.json cannot be used, so this pass starts without it") && !notes.contains('\u{1b}'),
            "{notes}"
        );
        ensure!(has_tunnel(&report, &a) && has_tunnel(&report, &b), "{report:#}");
        ensure!(hub.read_file(STATE)?.contains(&b), "the state was not written anew");
        ensure_no_steps(&refresh(&hub)?)?;
    }

    // A state that came with an image from another VPC, with a peer that does not exist here.
    let stranger = Paper::client(&region.lab, "us-east-2", "10.70.0.0/16", 200)?;
    edit_state(&hub, |state| {
        state["identity"]["vpc"] = "vpc-0123456789abcdef0".into();
        let mut peer = state["peers"][&a].clone();
        peer["gateway"]["vpc"] = stranger.vpc.as_str().into();
        peer["gateway"]["cidrs"] = serde_json::json!(["10.70.0.0/16"]);
        state["peers"][&stranger.vpc] = peer;
    })?;
    let report = refresh(&hub)?;
    ensure_no_steps(&report)?;
    ensure!(!report.to_string().contains(&stranger.vpc), "{report:#}");

    // Broken at the worst moment, while a region cannot be asked: what stands there stays, though nobody remembers it.
    hub.write_file(STATE, "", 0o600)?;
    region.lab.ec2_fault(super::REGION_A, "*", Fault::ServerError);
    let report = refresh_with(&hub, &[], 3)?;
    ensure_no_steps(&report)?;
    ensure!(has_tunnel(&report, &a) && has_tunnel(&report, &b), "{report:#}");
    region.lab.ec2_heal();
    ensure_no_steps(&refresh(&hub)?)?;
    watch.undisturbed("the state was broken and strange")
}

/// Stops an instance, lets `meanwhile` work on its disk, and starts it, with charon but without a refresh.
fn reboot(region: &mut Region, gateway: &Arc<Gateway>, meanwhile: impl Fn(&Gateway) -> Result<()>) -> Result<()> {
    region.keepers.remove(&gateway.name);
    region.lab.stop_instance(gateway)?;
    meanwhile(gateway)?;
    region.lab.start_instance(gateway, false)?;
    gateway.start_charon()
}

/// What systemd starts after the first refresh.
fn keep(region: &mut Region, gateway: &Arc<Gateway>) -> Result<()> {
    region.keepers.insert(gateway.name.clone(), gateway.spawn_agent(&["keep"])?);
    Ok(())
}

fn edit_state(gateway: &Gateway, edit: impl FnOnce(&mut Value)) -> Result<()> {
    let mut state = serde_json::from_str(&gateway.read_file(STATE)?).context(STATE)?;
    edit(&mut state);
    gateway.write_file(STATE, &state.to_string(), 0o600)
}
