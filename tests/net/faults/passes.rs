//! Passes and `keep` side by side: one at a time, with bounded waits, and an end within the time that systemd allows.

use std::{
    fs::File,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use crosswan_lab::{Fault, Gateway};
use nix::{
    fcntl::{Flock, FlockArg},
    libc::{SIGCONT, SIGKILL, SIGSTOP},
};

use super::look::{all_well, sas};
use crate::region::{Region, UP, eventually, lines, refresh};

/// The time in which `keep` must end.
const END: Duration = Duration::from_secs(2);

#[test]
fn one_at_a_time_and_keep_stands_back() -> Result<()> {
    let mut region = Region::standard()?;
    let (hub, spoke) = (region.gateway("hub/vpn-hub")?, region.gateway("a/nat-vpn")?);
    let nat = region.gateway("hub/nat-hub")?;

    // A pass that hangs: the next one waits 30 s and then reports it. This goes on beside the rest of the test.
    let held = hold(&nat, "/run/crosswan/refresh.lock")?;
    let patient = thread::spawn(move || nat.agent(&["refresh"]));

    // Two passes, and the first is slow: the second finds the work done.
    hub.run("iptables", &["-t", "nat", "-F", "CROSSWAN-NAT"], "")?.ok()?;
    region.lab.ec2_fault_times("*", "DescribeInstances", Fault::Slow(Duration::from_secs(2)), 3);
    let reports = thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| refresh(&hub)));
        both.map(|pass| pass.join().map_err(|_| anyhow!("a pass panicked"))?).into_iter().collect::<Result<Vec<_>>>()
    })?;
    let mut steps: Vec<usize> = reports.iter().map(|report| lines(report, "steps").len()).collect();
    steps.sort_unstable();
    ensure!(steps[0] == 0 && steps[1] > 0, "{reports:#?}");

    // A refresh is at charon, for three looks of keep: it does not interfere with a tunnel that goes.
    // The hub's is held longer: just after its boot it would initiate, too, and might be the first.
    let hub_quiet = hold(&hub, "/run/crosswan/charon.lock")?;
    let spoke_quiet = hold(&spoke, "/run/crosswan/charon.lock")?;
    let keeper = &region.keepers[&spoke.name];
    let (tried, since) = (keeper.log().matches("initiate").count(), Instant::now());
    spoke.swanctl(&["--terminate", "--ike", &sas(&spoke)?[0].conn, "--timeout", "5"])?;
    while since.elapsed() < Duration::from_secs(6) {
        ensure!(sas(&spoke)?.is_empty(), "initiated under the lock");
        thread::sleep(Duration::from_millis(200));
    }
    ensure!(keeper.log().matches("initiate").count() == tried, "{}", keeper.log());
    drop(spoke_quiet);
    eventually(UP, "keep initiates after the refresh", || Ok(keeper.log().matches("initiate").count() > tried))?;
    drop(hub_quiet);
    all_well(&region, UP)?;

    // keep ends at once: at rest, with charon gone, and with a charon that does not answer.
    for (gateway, state) in [("b/nat-vpn", "at rest"), ("a/nat-vpn", "frozen"), ("hub/vpn-hub", "gone")] {
        let gateway = region.gateway(gateway)?;
        let keeper = region.keepers.remove(&gateway.name).context("no keep")?;
        match state {
            "frozen" => gateway.signal_charon(SIGSTOP)?,
            "gone" => {
                gateway.kill_charon(SIGKILL)?;
                keeper.wait_for_log("charon is away", UP)?;
            }
            _ => {}
        }
        let began = Instant::now();
        let code = keeper.stop()?;
        let took = began.elapsed();
        println!("keep ended in {took:?}, charon {state}");
        ensure!(code == Some(0) && took < END, "charon {state}: {code:?} in {took:?}");
    }
    spoke.signal_charon(SIGCONT)?;

    let output = patient.join().map_err(|_| anyhow!("a pass panicked"))??;
    ensure!(output.code == 5 && output.stderr.contains("another refresh has held"), "{output:?}");
    ensure!((25..60).contains(&output.elapsed.as_secs()), "{:?}", output.elapsed);
    drop(held);
    Ok(())
}

/// Holds a lock as a refresh does.
fn hold(gateway: &Gateway, path: &str) -> Result<Flock<File>> {
    let until = Instant::now() + UP;
    let mut file = File::options().write(true).create(true).truncate(false).open(gateway.path(path))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((back, _)) if Instant::now() < until => file = back,
            Err((_, e)) => return Err(e).with_context(|| format!("lock {path}")),
        }
        thread::sleep(Duration::from_millis(5));
    }
}
