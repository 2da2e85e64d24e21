//! charon is killed, frozen or missing: the tunnels come back by themselves, and a pass without it does what it can.

use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use crosswan_lab::{Gateway, Role};
use nix::libc::{SIGCONT, SIGKILL, SIGSTOP};

use super::look::{CONNECTIONS, SECRETS, Snapshot, all_well, gap, rules, stream, unharmed};
use crate::region::{Region, UP, eventually, lines, refresh, refresh_with, status};

/// A refresh that finds charon frozen waits for one answer (10 s) and for nothing else.
const FROZEN: Duration = Duration::from_secs(40);

#[test]
fn killed_and_started_again_by_systemd_the_tunnels_come_back_by_themselves() -> Result<()> {
    let region = Region::standard()?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    for victim in [&hub, &spoke] {
        let packets = stream(&region, "a/host", "hub/host")?;
        let between_others = stream(&region, "b/host", "hub/host")?;
        let keeper = &region.keepers[&victim.name];
        let away = keeper.log().matches("charon is away").count();
        victim.kill_charon(SIGKILL)?;
        keeper.wait_for_log("charon is away", UP)?;
        // Debian's unit loads every file again, without crosswan.
        victim.start_charon()?;
        let measured = gap(packets)?;
        println!("{}: charon killed and started, packets missing for {measured:?}", victim.name);
        all_well(&region, UP)?;
        ensure!(keeper.running(), "keep has died with charon");
        let away = keeper.log().matches("charon is away").count() - away;
        ensure!(away == 1, "keep said {away} times that charon is away");
        if victim.role == Role::NatVpn {
            unharmed(between_others, "a tunnel of another spoke")?;
        }
        let report = refresh(victim)?;
        ensure!(report["outcome"] == "unchanged", "{report:#}");
    }
    without_our_files(&region, &hub)?;
    Ok(())
}

/// charon comes back with an empty configuration: the next refresh loads everything again.
fn without_our_files(region: &Region, hub: &Arc<Gateway>) -> Result<()> {
    let before = Snapshot::of(hub)?;
    let packets = stream(region, "a/host", "b/host")?;
    hub.kill_charon(SIGKILL)?;
    for path in [CONNECTIONS, SECRETS] {
        fs::remove_file(hub.path(path))?;
    }
    hub.start_charon()?;
    ensure!(Snapshot::of(hub)?.connections.is_empty());
    let report = refresh(hub)?;
    ensure!(report["outcome"] == "changed", "{report:#}");
    let measured = gap(packets)?;
    println!("hub: charon started without our files, then a refresh: packets missing for {measured:?}");
    all_well(region, UP)?;
    Snapshot::of(hub)?.must_be(&before, "after a start without our files")
}

#[test]
fn frozen_or_missing_a_pass_says_so_and_does_what_it_can() -> Result<()> {
    let region = Region::standard()?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let before = [Snapshot::of(&hub)?, Snapshot::of(&spoke)?];
    let both = [&*hub, &*spoke];

    // Frozen: it takes connections and answers nothing.
    both.iter().try_for_each(|gateway| gateway.signal_charon(SIGSTOP))?;
    on_each(both, |gateway| {
        empty_nat_chain(gateway)?;
        let began = Instant::now();
        let report = refresh_with(gateway, &[], 3)?;
        let took = began.elapsed();
        println!("{}: refresh with a frozen charon took {took:?}", gateway.name);
        ensure!(took < FROZEN, "took {took:?}");
        ensure!(lines(&report, "unasked").concat().contains("no answer"), "{report:#}");
        ensure!(lines(&report, "steps").concat().contains("CROSSWAN-NAT"), "{report:#}");
        Ok(())
    })?;
    both.iter().try_for_each(|gateway| gateway.signal_charon(SIGCONT))?;
    all_well(&region, UP)?;
    both.iter().zip(&before).try_for_each(|(gateway, b)| Snapshot::of(gateway)?.must_be(b, "after a frozen charon"))?;

    // Missing.
    both.iter().try_for_each(|gateway| gateway.kill_charon(SIGKILL))?;
    on_each(both, |gateway| {
        empty_nat_chain(gateway)?;
        let report = refresh_with(gateway, &[], 3)?;
        let said = lines(&report, "unasked").concat();
        ensure!(said.contains("is strongswan running?") && said.contains("left as they are"), "{report:#}");
        ensure!(report["outcome"] == "changed", "{report:#}");
        ensure!(!rules(gateway, |line| line.starts_with("-A CROSSWAN-NAT"))?.is_empty());
        // Once more, with nothing to do: still not a success.
        let report = refresh_with(gateway, &[], 3)?;
        ensure!(report["outcome"] == "unchanged", "{report:#}");
        ensure!(lines(&status(gateway)?, "unasked").concat().contains("charon"));
        Ok(())
    })?;
    // The internet needs no tunnel; private packets do, and have none.
    let host = region.lab.host("a/host")?;
    ensure!(Some(host.whoami_tcp(region.lab.internet().address)?) == spoke.public());
    ensure!(!host.reaches(region.address("hub/host")?)?);
    for (gateway, before) in both.iter().zip(&before) {
        gateway.start_charon()?;
        refresh(gateway)?;
        Snapshot::of(gateway)?.must_be(before, "after charon was missing")?;
    }
    all_well(&region, UP)
}

/// The same on several gateways at once: most of it is waiting.
fn on_each(gateways: [&Gateway; 2], check: impl Fn(&Gateway) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let running = gateways.map(|gateway| scope.spawn(|| check(gateway)));
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a check panicked"))?)
    })
}

/// What another program might do: the next pass has rules to put back.
fn empty_nat_chain(gateway: &Gateway) -> Result<()> {
    gateway.run("iptables", &["-t", "nat", "-F", "CROSSWAN-NAT"], "")?.ok()?;
    eventually(UP, "the chain is empty", || Ok(rules(gateway, |line| line.starts_with("-A CROSSWAN-NAT"))?.is_empty()))
}
