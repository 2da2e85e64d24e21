//! Power on: nothing private gets out before the guard stands, each machine makes what must be its own, and the first refreshes end well.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crosswan_lab::Vm;
use crosswan_lab::internet::ECHO;
use serde_json::Value;

use crate::region::{BOOT, CLIENT, Region, UP, errors, wait_for_tunnel};
use crate::report::seconds;

/// Switches all machines on while private hosts send.
pub fn boot(region: &mut Region) -> Result<()> {
    region.power_on()?;
    let (a, hub) = (region.lab.host("a/host")?, region.lab.host("hub/host")?);
    let streams =
        [(&a, hub.address), (&hub, a.address), (&a, ECHO), (&hub, ECHO)].map(|(from, to)| from.ping_stream(to));
    wait_for_tunnel(region, BOOT)?;
    let age = region.vm(CLIENT)?.age();
    region.report.figure(format!(
        "power-on of {} new gateways at once to first packet through the tunnel, keys made and exchanged, under TCG: {}",
        region.vms.len(),
        seconds(age)
    ));
    for (name, vm) in &region.vms {
        let state = vm.wait_for_boot(BOOT)?;
        let shown = vm.ok("systemd-analyze time | head -n1")?;
        region.report.say(&format!("{name} is {state} {} after power-on: {}", seconds(vm.age()), shown.trim()));
    }
    let (passes, journals) = (region.on_all(first_passes)?, region.on_all(errors)?);
    for ((name, passes), (_, errors)) in passes.into_iter().zip(journals) {
        // 3: EC2 did not answer in time, as happens under TCG, or has not shown a key yet.
        let (last, early) = passes.split_last().context("no pass")?;
        let shown: Vec<String> = passes.iter().map(|(code, at)| format!("{code} at {at:.0} s")).collect();
        region.check(
            last.0 == 0 && early.iter().all(|(code, _)| *code == 3),
            &format!("{name}: its refreshes since the kernel started, by exit code: {}", shown.join(", ")),
        );
        region.check(errors.is_empty(), &format!("{name}: errors in its journal: {errors:?}"));
    }
    for stream in streams {
        let report = stream?.stop()?;
        let text = format!("a private host sent {} packets meanwhile, {} were answered", report.sent, report.received);
        region.report.say(&format!("{text}, {} refused", report.errors.len()));
    }
    let ids = region.on_all(|vm| vm.ok("cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub"))?;
    let different = ids.values().collect::<BTreeSet<_>>().len();
    region.check(different == ids.len(), "each machine made a machine-id and SSH host keys of its own");
    Ok(())
}

/// The passes since boot once one has done all there was, each by its exit code and when it ended, in seconds.
fn first_passes(vm: &Vm) -> Result<Vec<(i32, f64)>> {
    let started = Instant::now();
    while vm.ok("systemctl is-active crosswan-refresh.service || systemctl show -P Result crosswan-refresh.service")?
        != "inactive\nsuccess\n"
    {
        ensure!(started.elapsed() < UP * 2, "{}: its refresh does not come to an end", vm.gateway.name);
        std::thread::sleep(Duration::from_secs(1));
    }
    let mut passes = Vec::new();
    for line in vm.ok("journalctl -b -q --no-pager -o json -t systemd -u crosswan-refresh.service")?.lines() {
        let entry: Value = serde_json::from_str(line)?;
        let field = |key: &str| entry[key].as_str();
        // A success leaves no exit code in the journal, only a job that is done.
        let code = match (field("EXIT_STATUS"), field("JOB_RESULT")) {
            (Some(code), _) => code.parse()?,
            (None, Some("done")) => 0,
            _ => continue,
        };
        let at: f64 = field("__MONOTONIC_TIMESTAMP").context("no time in the journal")?.parse()?;
        passes.push((code, at / 1e6));
    }
    Ok(passes)
}
